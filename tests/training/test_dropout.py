"""Cheap dropout against what dropout promises: probability, scale, independence, gradient, the seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig

from bertsmith.training.dropout import CheapDropout, cheap_dropout, keep_mask

MANY = 2**20


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("probability", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_share_of_zeros_and_scale_are_right(probability, dtype):
    """As many elements are dropped as asked for (within 4.5 standard errors), and the others are scaled to make up."""
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(MANY, dtype=dtype), probability)
    zeros = float((mask == 0).double().mean())
    assert abs(zeros - probability) < 4.5 * math.sqrt(probability * (1 - probability) / MANY) + 1 / 65536
    kept = mask[mask != 0].double().unique()
    assert kept.tolist() == pytest.approx([1 / (1 - probability)], rel=4e-3 if dtype != torch.float32 else 2e-3)


@settings(max_examples=60, deadline=None)
@given(probability=st.floats(0.001, 0.999), size=st.integers(0, 67))
def test_scale_times_probability_is_one(probability, size):
    """Whatever the probability, it is rounded by 1/131072 at most and the scale belongs to the rounded one."""
    mask = keep_mask(torch.empty(size, 3), probability)
    assert mask.shape == (size, 3)
    for scale in mask[mask != 0].double().unique().tolist():
        assert abs(1 / scale - (1 - probability)) < 1 / 131072 + 1e-7
        assert round(65536 / scale) / 65536 == pytest.approx(1 / scale, rel=1e-6)


@pytest.mark.parametrize("place", range(4))
def test_every_quarter_of_a_random_word_is_uniform(place):
    """Each of the four elements that share a word is dropped as often as the others (a top bit is not always zero)."""
    torch.manual_seed(1)
    zeros = float((keep_mask(torch.empty(MANY), 0.1).view(-1, 4)[:, place] == 0).double().mean())
    assert abs(zeros - 0.1) < 4.5 * math.sqrt(0.09 / (MANY / 4))


@pytest.mark.parametrize("distance", [1, 2, 3, 4, 5, 7, 8, 64, 384])
def test_elements_are_independent(distance):
    """Whether an element is dropped says nothing about its neighbours: chi-square of the four outcomes of pairs."""
    torch.manual_seed(2)
    zeros = (keep_mask(torch.empty(MANY), 0.25) == 0).numpy()
    one, other = zeros[: MANY - distance], zeros[distance:]
    found = np.bincount(2 * one + other, minlength=4)
    wanted = np.outer([0.75, 0.25], [0.75, 0.25]).ravel() * len(one)
    assert ((found - wanted) ** 2 / wanted).sum() < chi2.ppf(1 - 1e-5, 3)


def test_draws_differ_from_call_to_call():
    """Two masks in a row agree no more often than chance has it."""
    torch.manual_seed(3)
    one, other = (keep_mask(torch.empty(MANY), 0.5) == 0 for _ in range(2))
    agree = float((one == other).double().mean())
    assert abs(agree - 0.5) < 4.5 * 0.5 / math.sqrt(MANY)


def test_gradient_is_the_mask():
    """What was dropped gets no gradient, what was kept gets it scaled."""
    torch.manual_seed(4)
    inputs = torch.randn(64, 32, requires_grad=True)
    output = CheapDropout(0.3)(inputs)
    above = torch.randn(64, 32)
    output.backward(above)
    mask = torch.where(output == 0, 0.0, 65536 / round(0.7 * 65536))
    torch.testing.assert_close(output, inputs * mask)
    torch.testing.assert_close(inputs.grad, above * mask)
    assert 0 < float((mask == 0).float().mean()) < 1


def test_the_seed_decides():
    """The same state of torch's generator gives the same mask, and each mask moves it on."""
    dropout, inputs = CheapDropout(0.5), torch.ones(100)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second = dropout(inputs), dropout(inputs)
    torch.set_rng_state(state)
    assert torch.equal(dropout(inputs), first)
    assert torch.equal(dropout(inputs), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_evaluation_is_the_identity(probability):
    """Outside of training nothing is dropped and no random number is drawn."""
    inputs, state = torch.randn(50), torch.get_rng_state()
    assert torch.equal(CheapDropout(probability).eval()(inputs), inputs)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("probability", "wanted"), [(0.0, 1.0), (1.0, 0.0)])
def test_nothing_and_everything_can_be_dropped(probability, wanted):
    """The ends of the range are torch's own."""
    assert torch.equal(CheapDropout(probability)(torch.ones(20)), torch.full((20,), wanted))


class Other(nn.Dropout):
    """A dropout of somebody else's."""


def test_swaps_exactly_the_plain_ones_and_puts_them_back():
    """Every plain dropout is cheap meanwhile, with its probability and mode; subclasses and in-place ones stay."""
    model = nn.Sequential(nn.Dropout(0.2), Other(0.3), nn.Dropout(0.4, inplace=True), nn.Sequential(nn.Dropout(0.5)))
    model[3].eval()
    before = list(model.modules())
    with cheap_dropout(model):
        assert [type(each) for each in model] == [CheapDropout, Other, nn.Dropout, nn.Sequential]
        assert (model[0].p, model[0].training, model[3][0].p, model[3][0].training) == (0.2, True, 0.5, False)
        model.eval()
    assert list(model.modules()) == before
    assert not any(each.training for each in model.modules())


def test_a_shared_dropout_is_swapped_in_every_place():
    """One module at two places is cheap at both, and the same again afterwards."""
    shared = nn.Dropout(0.5)
    model = nn.ModuleDict({"one": shared, "two": nn.Sequential(shared, shared)})
    with cheap_dropout(model):
        assert isinstance(model["one"], CheapDropout)
        assert all(isinstance(each, CheapDropout) for each in model["two"])
    assert model["one"] is model["two"][0] is model["two"][1] is shared


def test_a_model_comes_back_whole_after_an_error():
    """The plain modules return however the training ends."""
    model = nn.Sequential(nn.Dropout(0.5))

    def broken() -> None:
        with cheap_dropout(model):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match=r"^stop$"):
        broken()
    assert type(model[0]) is nn.Dropout


def test_a_model_trains_with_the_same_mean_and_spread():
    """BERT's logits in training mode vary as with torch's dropout: mean and spread of 2,000 draws, within chance."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.2,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_config(config).train()
    inputs = {"input_ids": torch.arange(5, 17).expand(2000, -1)}

    def draws() -> torch.Tensor:
        with torch.no_grad():
            return model(**inputs).logits.double()

    plain = draws()
    with cheap_dropout(model):
        cheap = draws()
    error = (plain.var(0) / 1000).sqrt()
    assert ((cheap.mean(0) - plain.mean(0)).abs() < 4.5 * error).all()
    assert (cheap.std(0) / plain.std(0) - 1).abs().max() < 4.5 / 2000**0.5
