"""Compact embeddings against the full matrix: the same training, row by row."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    RobertaConfig,
)

from bertsmith import encoders
from bertsmith.data.encode import TokenEncoder
from bertsmith.training.compact_embeddings import Compact, compact_embeddings, occurring
from tests.conftest import toy_rows

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY = 60
IDS = np.array([2, 3, 5, 8, 13, 21, 34, 55])
SIZES = {"vocab_size": VOCABULARY, "num_labels": 3}
CONFIGS = {
    "bert": BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, **SIZES),
    "roberta": RobertaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, **SIZES),
    "distilbert": DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=32, **SIZES),
}


def made(family: str = "bert"):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(CONFIGS[family]).eval()


def batch(seed: int, ids=IDS) -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(seed)
    chosen = generator.choice(ids, (4, 7))
    return {
        "input_ids": torch.from_numpy(chosen),
        "attention_mask": torch.ones(4, 7, dtype=torch.int64),
        "labels": torch.from_numpy(generator.integers(0, 3, 4)),
    }


def learn(model, steps: int, *, compact: Compact | None = None, rates=None, clip: float = 1.0) -> list[float]:
    """Plain AdamW with clipping; dropout is off, so that both sides can be compared."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    norms = []
    for step in range(steps):
        rate = rates[step] if rates else 0.01 * (steps - step) / steps
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        model(**batch(step)).loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), clip)))
        optimizer.step()
        if compact is not None:
            compact.step(1 - rate * 0.1)
    return norms


@pytest.mark.parametrize("family", CONFIGS)
def test_training_is_the_same_in_every_row(family):
    """AdamW with decay, schedule and clipping moves every parameter and every embedding row as without compacting."""
    full, small = made(family), made(family)
    wanted = learn(full, 30)
    with compact_embeddings(small, IDS) as compact:
        assert small.get_input_embeddings() is compact
        assert len(compact.weight) < 12
        found = learn(small, 30, compact=compact)
    assert found == pytest.approx(wanted, rel=1e-5)
    assert type(small.get_input_embeddings()) is torch.nn.Embedding
    assert small.state_dict().keys() == full.state_dict().keys()
    for name, value in full.state_dict().items():
        assert (small.state_dict()[name] - value).abs().max() < 1e-6, name
    assert (full.get_input_embeddings().weight - made(family).get_input_embeddings().weight)[9].abs().max() > 1e-4


@settings(max_examples=25, deadline=None)
@given(
    ids=st.sets(st.integers(0, VOCABULARY - 1), min_size=1, max_size=30).map(sorted),
    rates=st.lists(st.floats(0, 0.5), max_size=4),
)
def test_any_choice_of_rows_comes_back_whole(ids, rates):
    """Whatever rows are kept and however often it decays, the full matrix is that of the closed form."""
    model = made()
    before = model.get_input_embeddings().weight.detach().clone()
    with compact_embeddings(model, np.array(ids)) as compact:
        for rate in rates:
            compact.step(1 - rate * 0.1)
            with torch.no_grad():
                compact.weight.mul_(1 - rate * 0.1)
    factor = np.prod([1 - rate * 0.1 for rate in rates])
    torch.testing.assert_close(model.get_input_embeddings().weight.detach(), before * factor, rtol=1e-6, atol=1e-8)


def test_evaluation_knows_every_token():
    """Meanwhile, in evaluation mode, rows that do not occur answer as decayed, and the logits are the full model's."""
    model, other = made(), made()
    with compact_embeddings(model, IDS) as compact:
        learn(model, 5, compact=compact)
        inside = model(**batch(0, np.arange(VOCABULARY))).logits
    learn(other, 5)
    torch.testing.assert_close(inside, other(**batch(0, np.arange(VOCABULARY))).logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(inside, model(**batch(0, np.arange(VOCABULARY))).logits, rtol=0, atol=1e-6)


def test_training_refuses_tokens_that_do_not_occur():
    """In training mode a row that was left out is an error, not a silent wrong vector."""
    model = made()
    with compact_embeddings(model, IDS):
        model.train()
        with pytest.raises(IndexError):
            model(**batch(0, np.array([4])))


def test_padding_row_is_kept():
    """Padded batches can be trained although no training row holds the padding token, and its row learns nothing."""
    model = made()
    inputs = batch(0)
    inputs["input_ids"][:, 5:], inputs["attention_mask"][:, 5:] = 0, 0
    with compact_embeddings(model, IDS) as compact:
        model.train()
        model(**inputs).loss.backward()
        assert compact.ids[0] == 0
        assert compact.weight.grad[0].abs().max() == 0
        assert compact.weight.grad[1:].abs().max() > 0


def test_what_is_saved_meanwhile_is_plain_transformers(tmp_path):
    """A model saved inside is a whole one, and loading a state dict inside takes every row."""
    model = made()
    with compact_embeddings(model, IDS) as compact:
        learn(model, 3, compact=compact)
        model.save_pretrained(tmp_path)
        state = copy.deepcopy(model.state_dict())
        learn(model, 3, compact=compact)
        model.load_state_dict(state)
        assert compact.decay == 1.0
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0)


def test_goes_on_from_a_checkpoint_bit_by_bit():
    """The kept rows and the decay are all the state there is."""
    straight, resumed = made(), made()
    with compact_embeddings(straight, IDS) as compact:
        learn(straight, 6, compact=compact, rates=[0.01] * 6)
        kept, decay = {name: each.detach().clone() for name, each in straight.named_parameters()}, compact.decay
        wanted = compact.full()
    with compact_embeddings(resumed, IDS) as compact, torch.no_grad():
        for name, each in resumed.named_parameters():
            each.copy_(kept[name])
        compact.decay = decay
    assert torch.equal(resumed.get_input_embeddings().weight, wanted)
    assert torch.equal(straight.get_input_embeddings().weight, wanted)


def test_an_error_inside_leaves_a_whole_model():
    """The full matrix comes back however the training ends."""
    model = made()

    def broken() -> None:
        with compact_embeddings(model, IDS) as compact:
            learn(model, 2, compact=compact)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match=r"^stop$"):
        broken()
    assert model.get_input_embeddings().weight.shape == (VOCABULARY, 16)


def tied():
    torch.manual_seed(0)
    return BertForMaskedLM(CONFIGS["bert"])


def frozen():
    model = made()
    model.get_input_embeddings().weight.requires_grad_(False)
    return model


def special():
    model = made()
    model.get_input_embeddings().max_norm = 1.0
    return model


@pytest.mark.parametrize(("make", "ids"), [(made, np.arange(40)), (tied, IDS), (frozen, IDS), (special, IDS)])
def test_leaves_alone_what_it_cannot_help(make, ids):
    """Where most rows occur, and for tied, frozen and special embeddings, nothing is changed."""
    model = make()
    embedding = model.get_input_embeddings()
    with compact_embeddings(model, ids) as compact:
        assert compact is None
        assert model.get_input_embeddings() is embedding
    assert model.get_input_embeddings() is embedding


def test_occurring_ids_are_those_of_the_rows(tiny_encoder):
    """Every id of every row is listed once, in ascending order."""
    encoder = encoders.find(str(tiny_encoder))
    encoded = TokenEncoder(encoder.tokenizer(), 32, encoder.pad_id).encode([text for text, _ in toy_rows(30)])
    wanted = sorted({token for row in encoded.table.column("input_ids").to_pylist() for token in row})
    assert occurring(encoded).tolist() == wanted
