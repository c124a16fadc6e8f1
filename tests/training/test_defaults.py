"""Defaults that depend on other settings: the learning rate of a strategy."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertsmith import encoders
from bertsmith.recipe import Recipe
from bertsmith.training.defaults import rate_for, resolve

SLOW = encoders.Encoder("bert-base-uncased", Path())


def rate(**settings: object) -> object:
    recipe = Recipe.of(device="cpu", precision="fp32", threads=1, **settings)
    encoder = encoders.find("minilm")
    return resolve(recipe, encoder, epochs=3, max_length=64, metric="accuracy").fit.learning_rate


@pytest.mark.parametrize("strategy", ["full", "two-stage", "lora"])
def test_encoders_rate_is_for_all_that_train_the_encoder(strategy):
    """The embedded encoder's is 2e-4, whatever part of it is trained."""
    assert rate(strategy=strategy) == 2e-4


def test_head_that_starts_from_a_probe_learns_slowly():
    """At 6e-5 for the embedded encoder, whose own rate is 2e-4; where that is lower, it is taken."""
    assert rate(strategy="head") == 6e-5
    assert rate_for(SLOW, strategy="head", head_start="linear-probe") == 2e-5


def test_random_head_learns_at_the_full_rate():
    """There is nothing in it yet that large steps could spoil."""
    assert rate(strategy="head", head_start="random") == 2e-4


def test_rate_that_was_asked_for_stays():
    """Only `auto` is chosen."""
    assert rate(strategy="head", learning_rate=1e-3) == 1e-3
