"""Tiny models of the families of encoders, with random weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers

LAYERS = 3
_SIZES = {
    "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64, "vocab_size": 100,
}  # fmt: skip
_OWN: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _SIZES),
    "distilbert": (
        "DistilBert",
        {"dim": 32, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64, "vocab_size": 100},
    ),
    "roberta": ("Roberta", _SIZES),
    "xlm-roberta": ("XLMRoberta", _SIZES),
    "electra": ("Electra", {**_SIZES, "embedding_size": 16}),
    "albert": ("Albert", {**_SIZES, "embedding_size": 16}),
    "mpnet": ("MPNet", _SIZES),
    "deberta-v2": (
        "DebertaV2",
        {
            **_SIZES, "relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"],
            "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_biased_input": False,
        },
    ),
    "modernbert": (
        "ModernBert",
        {**_SIZES, "eos_token_id": 1, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 1, "pad_token_id": 0},
    ),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64, "vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}),
}  # fmt: skip
FAMILIES = tuple(_OWN)


def tiny(family: str, *, dropout: float | None = None, **changes: Any) -> Any:
    """A text classifier of three labels; the same weights each time."""
    name, settings = _OWN[family]
    config = getattr(transformers, f"{name}Config")(**{**settings, "num_labels": 3, **changes})
    for each in vars(config):
        if dropout is not None and ("dropout" in each or each.endswith("_pdrop")):
            setattr(config, each, dropout)
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for name, parameter in model.named_parameters():
        # Fresh biases are all zero and would hide what is not run.
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def batch(rows: int = 4, tokens: int = 9, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random ids, some texts shorter than others."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 100, (rows, tokens), generator=generator)
    mask = (torch.arange(tokens) < torch.randint(3, tokens + 1, (rows, 1), generator=generator)).long()
    mask[0] = 1
    return {"input_ids": ids * mask, "attention_mask": mask}
