"""Lean attention against torch's own: values, gradients, dropout, and when it steps aside."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    ModernBertConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from bertsmith.inference.first_token import first_token_only
from bertsmith.training import attention
from bertsmith.training.attention import FAMILIES, attend, lean_attention

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "num_labels": 3,
}  # fmt: skip
SMALL = {"vocab_size": 90, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "num_labels": 3}
KNOWN = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "xlm-roberta": XLMRobertaConfig(**SIZES),
    "camembert": CamembertConfig(**SIZES),
    "electra": ElectraConfig(**SIZES, embedding_size=16),
    "ernie": ErnieConfig(**SIZES),
    "distilbert": DistilBertConfig(**SMALL),
}


def inputs(tokens: int, *, queries: int | None = None, dtype=torch.float64, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = (queries or tokens, tokens, tokens)
    made = (torch.randn(3, 2, length, 8, generator=generator, dtype=torch.float64) for length in lengths)
    return [each.to(dtype).requires_grad_() for each in made]


def padding(tokens: int) -> torch.Tensor:
    lengths = torch.tensor([tokens, max(1, tokens // 2), 1])
    return (torch.arange(tokens) < lengths[:, None])[:, None, None, :]


def results(function, made: list[torch.Tensor]) -> list[torch.Tensor]:
    output = function(*made)
    weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view(output.shape)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), made)]


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(1, 20), first=st.booleans(), padded=st.booleans(), scale=st.floats(0.05, 2.0))
def test_values_and_gradients_are_those_of_torch(tokens, first, padded, scale):
    """For any number of tokens, one query or all, padded or not: output and all three gradients agree in fp64."""
    made = inputs(tokens, queries=1 if first else None)
    mask = padding(tokens) if padded else None
    found = results(lambda q, k, v: attend(q, k, v, mask, dropout=0.0, scale=scale), made)
    wanted = results(lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale), made)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_gradient_with_dropout_is_right():
    """With the same masks again, the gradients are those of finite differences."""

    def dropped(query, key, value):
        torch.manual_seed(1)
        return attend(query, key, value, padding(6), dropout=0.4, scale=0.5)

    assert torch.autograd.gradcheck(dropped, inputs(6))


def test_dropout_keeps_the_mean():
    """Over 4,000 draws the output's mean is that without dropout, and the spread is that of torch's dropout."""
    query, key, value = (each[:1].detach().expand(4000, -1, -1, -1) for each in inputs(9))
    torch.manual_seed(2)
    found = attend(query, key, value, None, dropout=0.3, scale=0.4)
    wanted = scaled_dot_product_attention(query, key, value, dropout_p=0.3, scale=0.4)
    plain = scaled_dot_product_attention(query[:1], key[:1], value[:1], scale=0.4)
    error = wanted.std(0) / 4000**0.5
    assert ((found.mean(0) - plain[0]).abs() < 5 * error).all()
    assert ((found.std(0) / wanted.std(0) - 1).abs() < 0.15).all()


def test_bf16_is_as_near_as_other_ways_to_bf16():
    """In bf16, output and gradients are within 2 % of fp64's largest, as rounding of the inputs alone nearly is."""
    made = inputs(18)
    wanted = results(lambda q, k, v: attend(q, k, v, padding(18), dropout=0.0, scale=0.35), made)
    rounded = [each.detach().bfloat16().requires_grad_() for each in made]
    found = results(lambda q, k, v: attend(q, k, v, padding(18), dropout=0.0, scale=0.35), rounded)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.bfloat16
        assert (one.double() - other).abs().max() < 0.02 * other.abs().max()


def made(config, implementation: str = "sdpa"):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=implementation)
    for each in model.parameters():  # nothing at rest at zero or one, or a wrong scale would not show
        torch.nn.init.normal_(each, std=0.2)
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 90, (4, 11), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[1, 4:], mask[2, 9:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 2, 1])}


def learned(model) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    output = model(**batch())
    output.loss.backward()
    return output.logits.detach(), {name: each.grad.clone() for name, each in model.named_parameters()}


def test_the_list_of_families_is_tested_whole():
    """Every family on the list is held against plain transformers below."""
    assert set(KNOWN) == FAMILIES


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("family", KNOWN)
def test_models_learn_the_same(family, together, monkeypatch):
    """Logits and the gradient of every parameter are the plain model's, alone and with a last layer for one token."""
    model = made(KNOWN[family])
    logits, gradients = learned(model)
    calls, original = [], attention.attend
    monkeypatch.setattr(attention, "attend", lambda *args, **settings: calls.append(1) or original(*args, **settings))
    with lean_attention(model) as done, first_token_only(model) if together else nullcontext(True) as short:
        assert (done, short) == (True, True)
        calls.clear()
        found, lean = learned(model)
    assert len(calls) == 2
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5)
    largest = max(float(each.abs().max()) for each in gradients.values())
    for name, gradient in gradients.items():
        assert (lean[name] - gradient).abs().max() < 1e-5 * largest, name
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("reason", ["no gradient", "too long"])
def test_steps_aside(reason, monkeypatch):
    """Without gradients and for long texts torch's own attention answers, to the bit."""
    model = made(KNOWN["bert"])
    monkeypatch.setattr(attention, "attend", None)
    if reason == "too long":
        monkeypatch.setattr(attention, "LONGEST", 10)
    with torch.set_grad_enabled(reason != "no gradient"):
        wanted = model(**batch()).logits
        with lean_attention(model):
            assert torch.equal(model(**batch()).logits, wanted)


def test_dropout_inside_attention_is_applied_in_training_mode():
    """The model's own probability is used, and only while it trains."""
    model = made(BertConfig(**SIZES, hidden_dropout_prob=0.0, classifier_dropout=0.0, attention_probs_dropout_prob=0.5))
    with lean_attention(model):
        assert torch.equal(model(**batch()).logits, model(**batch()).logits)
        model.train()
        assert not torch.equal(model(**batch()).logits, model(**batch()).logits)


@pytest.mark.parametrize(
    "config",
    [ModernBertConfig(**SIZES, pad_token_id=0, cls_token_id=1, sep_token_id=2), BertConfig(**SIZES, is_decoder=True)],
)
def test_other_models_stay_as_they_are(config):
    """A family that is not on the list, and a decoder, keep their attention."""
    model = made(config)
    with lean_attention(model) as done:
        assert done is False
        assert model.config._attn_implementation == "sdpa"


def test_the_setting_comes_back_after_an_error():
    """The kind of attention is the model's own again, however the training ends."""
    model = made(KNOWN["bert"], "eager")

    def broken() -> None:
        with lean_attention(model):
            assert model.config._attn_implementation == "lean"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match=r"^stop$"):
        broken()
    assert model.config._attn_implementation == "eager"


def test_a_model_saved_meanwhile_says_nothing_of_it(tmp_path):
    """What is saved inside loads in plain transformers, with its own attention."""
    model = made(KNOWN["bert"])
    with lean_attention(model):
        model.save_pretrained(tmp_path)
    assert "lean" not in (tmp_path / "config.json").read_text(encoding="utf-8")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
