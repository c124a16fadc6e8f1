"""Integrated gradients: against closed forms, on every family of encoders, and complete."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bertsmith.errors import MissingExtraError
from bertsmith.explaining.attribution import Attribution, Question, integrate, log_odds
from bertsmith.inference.first_token import leave_out_other_tokens
from tests.training.families import tiny

FAMILIES = ("bert", "distilbert", "roberta", "electra", "mpnet", "deberta-v2", "albert", "modernbert")
MASK, SPECIAL = 4, 3
pytestmark = pytest.mark.usefixtures("one_thread")


def question(*lengths: int, label: int = 1, pooling: str = "mean") -> Question:
    """Made-up windows of one row: the first and the last token of each are special."""
    width = max(lengths)
    ids, mask = np.zeros((len(lengths), width), np.int64), np.zeros((len(lengths), width), np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = (np.arange(length) * 7 + row * 13) % 90 + 5
        ids[row, [0, length - 1]] = SPECIAL
        mask[row, :length] = 1
    blank = np.where((ids != SPECIAL) & (mask > 0), MASK, ids)
    return Question({"input_ids": ids, "attention_mask": mask}, blank, label, pooling)


class Additive(torch.nn.Module):
    """Logits are sums over tokens, and so are two labels' log odds: every weight is known."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(problem_type="single_label_classification")
        self.words = torch.nn.Embedding(100, 8)
        self.head = torch.nn.Linear(8, 2)

    def get_input_embeddings(self):  # noqa: D102 - transformers' name
        return self.words

    def forward(self, input_ids, attention_mask):  # noqa: D102 - torch's name
        return {"logits": (self.head(self.words(input_ids)) * attention_mask.unsqueeze(-1)).sum(1)}


@pytest.mark.parametrize("lengths", [(6,), (6, 4)])
def test_weights_of_a_model_that_adds_words_up_are_known(lengths):
    """A word's weight is what its embedding adds to the log odds, less what the mask's adds; two steps find it."""
    model = Additive()
    asked = question(*lengths)
    slope = (model.head.weight[1] - model.head.weight[0]).detach()
    table = (model.words.weight @ slope).detach().numpy()
    wanted = (table[asked.batch["input_ids"]] - table[asked.blank]) * asked.batch["attention_mask"] / len(lengths)
    found = integrate(model, asked, steps=2)
    np.testing.assert_allclose(found.weights, wanted, atol=1e-5)
    assert found.error == pytest.approx(0, abs=1e-5)


class OnApple(torch.Tensor):
    """A tensor on a GPU that has no float64."""

    def double(self):  # noqa: D102 - torch's name
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self):  # noqa: D102 - torch's name
        return self.as_subclass(torch.Tensor)


def test_weights_are_summed_where_there_is_float64(monkeypatch):
    """A GPU without float64 gives the same weights: what it found is summed on the CPU."""
    from captum.attr import LayerIntegratedGradients

    wanted = integrate(Additive(), question(6), steps=2)
    plain = LayerIntegratedGradients.attribute
    monkeypatch.setattr(LayerIntegratedGradients, "attribute", lambda *a, **k: plain(*a, **k).as_subclass(OnApple))
    np.testing.assert_array_equal(integrate(Additive(), question(6), steps=2).weights, wanted.weights)


def test_log_odds_are_those_of_the_probability():
    """Softmax: log p / (1 - p) over the other labels; a sigmoid each: the logit."""
    logits = torch.tensor([[1.0, -2.0, 0.5], [40.0, 0.0, 0.0]], dtype=torch.float64)
    shares = logits.softmax(1)
    wanted = torch.log(shares[:1, 2] / (1 - shares[:1, 2]))
    assert torch.allclose(log_odds(logits, 2, is_one_of_many=True)[:1], wanted)
    # Where 1 - p is lost to rounding, the log odds are not.
    assert float(log_odds(logits, 0, is_one_of_many=True)[1]) == pytest.approx(40 - np.log(2))
    assert log_odds(logits, 1, is_one_of_many=False).tolist() == [-2.0, 0.0]


def lively(family: str):
    """A tiny model whose answers depend on its words: fresh weights are so small that they hardly do."""
    model = tiny(family, dropout=0.1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(6)
    return model.eval()


def by_hand(model, asked: Question, points: int = 100) -> np.ndarray:
    """The integral as a plain mean over many middle points, through `inputs_embeds`."""
    table = model.get_input_embeddings()
    ids, blank, mask = (
        torch.from_numpy(each) for each in (asked.batch["input_ids"], asked.blank, asked.batch["attention_mask"])
    )
    text, empty = table(ids).detach(), table(blank).detach()
    way = ((torch.arange(points) + 0.5) / points).view(-1, 1, 1, 1)
    at = (empty + way * (text - empty)).requires_grad_()
    logits = model(inputs_embeds=at.flatten(0, 1), attention_mask=mask.repeat(points, 1)).logits
    pooled = logits.view(points, len(ids), -1).mean(1)
    [gradients] = torch.autograd.grad(log_odds(pooled, asked.label, is_one_of_many=True).sum(), at)
    return ((text - empty) * gradients.mean(0)).sum(-1).numpy()


def test_weights_are_those_of_the_definition():
    """The weights are a plain mean of gradients along the way, for two windows that are pooled by mean."""
    model = lively("bert")
    asked = question(9, 7)
    found = integrate(model, asked, steps=64)
    assert np.abs(found.weights).max() > 0.01
    np.testing.assert_allclose(found.weights, by_hand(model, asked), atol=1e-3 * np.abs(found.weights).max())


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_complete_for_every_family(family, pooling):
    """They add up to the difference of the log odds, and special tokens and padding have none."""
    model = lively(family).train()
    asked = question(9, 6, pooling=pooling)
    found = integrate(model, asked)
    assert found.is_close
    assert np.abs(found.weights).sum() > 0.01
    assert found.error <= 0.01 * max(1, abs(found.value - found.base))
    same = asked.blank == asked.batch["input_ids"]
    assert np.abs(found.weights[same]).max() == 0
    assert np.abs(found.weights[~same]).min() > 0
    assert model.training
    assert all(each.requires_grad for each in model.parameters())


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_a_last_layer_of_the_first_token_alone_changes_nothing(family):
    """The Predictor's shortcut gives the same weights."""
    model = lively(family)
    asked = question(9, 6)
    wanted = integrate(model, asked, steps=16)
    assert leave_out_other_tokens(model)
    found = integrate(model, asked, steps=16)
    np.testing.assert_allclose(found.weights, wanted.weights, atol=1e-5)
    assert (found.value, found.base) == pytest.approx((wanted.value, wanted.base), abs=1e-5)


def test_base_and_value_are_what_the_model_says():
    """The two ends of the way are the log odds of the text and of the blank text, whose padding id is no padding."""
    model = lively("roberta")
    asked = question(9)
    found = integrate(model, asked, steps=16)
    for ids, said in ((asked.batch["input_ids"], found.value), (asked.blank, found.base)):
        with torch.no_grad():
            logits = model(torch.from_numpy(ids), attention_mask=torch.ones(1, 9, dtype=torch.long)).logits
        assert float(log_odds(logits, 1, is_one_of_many=True)) == pytest.approx(said, abs=1e-5)


def test_steps_are_doubled_until_the_error_is_small(monkeypatch):
    """16, 32, … and no further than 512; the error is said as it is."""
    asked, tried = question(6), []
    rough = Attribution(np.ones((1, 6)), value=3.0, base=1.0, steps=0)
    assert (rough.error, rough.relative_error, rough.is_close) == (4.0, 2.0, False)

    def never(self, steps):
        tried.append(steps)
        return dataclasses.replace(rough, steps=steps)

    monkeypatch.setattr("bertsmith.explaining.attribution._Path.integrate", never)
    assert integrate(Additive(), asked).steps == 512
    assert tried == [16, 32, 64, 128, 256, 512]
    assert integrate(Additive(), asked, steps=5).steps == 5


def test_captum_is_asked_for_when_it_is_missing(monkeypatch):
    """The error names the package and how to get it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        integrate(Additive(), question(6))
    assert str(caught.value) == (
        "explaining by gradients needs the package 'captum', which is not installed.\n"
        "  Install it with: pip install 'bertsmith[explain]'"
    )
