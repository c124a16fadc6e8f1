"""Tiny models that have learned something: random ones would pass where a part of the graph is missing."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from tests.training.families import tiny

MARKS = (3, 4, 5)
"""Which of these tokens a text holds is its label; it comes once, at any place but the first."""
LAYERS = {"distilbert": "n_layers"}
ENOUGH = 0.9


def texts(rows: int, *, seed: int, tokens: int = 9) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Texts, a part of them padded; and the place of each text's mark."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(10, 100, (rows, tokens), generator=generator)
    lengths = torch.randint(4, tokens + 1, (rows, 1), generator=generator)
    mask = (torch.arange(tokens) < lengths).long()
    marks = torch.randint(0, len(MARKS), (rows,), generator=generator)
    ids[:, 0] = 9
    places = 1 + torch.randint(0, 3, (rows,), generator=generator)
    ids[torch.arange(rows), places] = torch.tensor(MARKS)[marks]
    return {"input_ids": ids * mask + (1 - mask), "attention_mask": mask}, marks


def learned(family: str, *, layers: int = 1) -> Any:
    """A classifier of a family, right on at least 90 % of texts that it has not seen."""
    name = LAYERS.get(family, "num_hidden_layers")
    model = tiny(family, dropout=0.0, pad_token_id=1, eos_token_id=2, **{name: layers})
    # Deeper ones fall into giving every text the same label at such a rate.
    train(model, rate=5e-3 / layers, steps=150 * layers)
    return model


def train(model: Any, *, rate: float = 5e-3, steps: int = 150) -> None:
    """Teach a classifier which mark a text holds."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for step in range(steps):
        inputs, marks = texts(32, seed=step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(**inputs).logits, marks).backward()
        optimizer.step()
        if step % 20 == 19 and share_right(model) >= 0.97:
            break
    model.eval()
    assert share_right(model) >= ENOUGH


def share_right(model: Any) -> float:
    """Share of 200 unseen texts whose mark the model tells."""
    inputs, marks = texts(200, seed=10_000)
    with torch.no_grad():
        return float((model(**inputs).logits.argmax(-1) == marks).float().mean())


def of_class(name: str, **changes: Any) -> Any:
    """A tiny BERT with another head, its weights far from zero."""
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, max_position_embeddings=64,
        vocab_size=100, **changes,
    )  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, name).from_config(config)
    for each in model.parameters():
        torch.nn.init.normal_(each, std=0.2)
    return model.eval()
