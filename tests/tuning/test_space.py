"""What may be chosen: only what was not given, and only what makes a recipe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.recipe import Recipe
from bertsmith.tuning.space import HALF, HIGHEST_RATE, LOWEST_RATE, NOTHING, SEARCHED, Choice, Space

BERT = {"model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536}
BASE = Recipe.of(epochs=3, learning_rate=2e-4)


def space(recipe: Recipe = BASE, *, encoders=("minilm",), rows=1000, fixed=(), config=None) -> Space:
    return Space.of(recipe, encoders=encoders, rows=rows, fixed=fixed, configs=[config or BERT])


@pytest.mark.parametrize(
    ("found", "searched"),
    [
        (space(), ("learning_rate", "epochs", "batch_size", "freeze")),
        (space(encoders=("a", "b")), SEARCHED),
        (space(fixed=("epochs", "freeze")), ("learning_rate", "batch_size")),
        (space(Recipe.of(epochs=3, learning_rate=2e-4, strategy="lora")), ("learning_rate", "epochs", "batch_size")),
        (space(Recipe.of(epochs=3, learning_rate=2e-4, strategy="head")), ("learning_rate", "epochs", "batch_size")),
        (space(config={**BERT, "model_type": "albert"}), ("learning_rate", "epochs", "batch_size")),
        (space(config={**BERT, "num_hidden_layers": 1}), ("learning_rate", "epochs", "batch_size")),
        (space(rows=20), ("learning_rate", "epochs", "freeze")),
    ],
)
def test_what_is_searched(found, searched):
    """What was given is not searched, nor is what has one value only or no meaning."""
    assert found.searched == searched
    assert [each.get("encoder") for each in found.first_parameters()] == (
        ["a", "b"] if searched == SEARCHED else [None]
    )
    assert set(found.first_parameters()[0]) == {"rate" if name == "learning_rate" else name for name in searched}


@pytest.mark.parametrize(
    ("rows", "accumulate", "sizes"),
    [(1000, 1, (8, 16, 32, 64)), (64, 1, (8, 16, 32)), (63, 1, (8, 32)), (20, 1, (32,)), (1000, 8, (8, 16, 32))],
)
def test_batches_leave_steps_in_an_epoch(rows, accumulate, sizes):
    """A batch size is tried where an epoch has four steps; the recipe's own is always among them."""
    recipe = Recipe.of(epochs=3, learning_rate=2e-4, accumulate=accumulate)
    assert space(recipe, rows=rows).batch_sizes == sizes


@given(
    st.floats(LOWEST_RATE, HIGHEST_RATE), st.integers(1, 20), st.sampled_from((8, 64)), st.sampled_from((NOTHING, HALF)),
    st.integers(2, 24), st.sets(st.sampled_from(SEARCHED)),
)  # fmt: skip
def test_every_choice_makes_a_recipe(rate, epochs, batch_size, freeze, layers, searched):
    """Choices become valid settings, and what is not searched stays as it was."""
    choice = Choice("minilm", rate, epochs, batch_size, freeze)
    recipe = BASE.changed(choice.settings(BASE, {**BERT, "num_hidden_layers": layers}, searched))
    assert recipe.fit.epochs == (epochs if "epochs" in searched else 3)
    assert recipe.fit.batch_size == (batch_size if "batch_size" in searched else 32)
    wanted = 2e-4 * (rate if "learning_rate" in searched else 1)
    assert recipe.fit.learning_rate == pytest.approx(wanted, rel=5e-3)
    frozen = recipe.fit.freeze.removeprefix("embeddings, ").split("-")[-1]
    assert frozen == (str(layers // 2 - 1) if freeze == HALF and "freeze" in searched else "")


def test_one_layer_is_a_number_and_several_are_a_range():
    """The lower half is named as `--freeze` takes it."""
    half = Choice("minilm", 1.0, 3, 32, HALF)
    for layers, frozen in ((2, "embeddings, 0"), (3, "embeddings, 0"), (6, "embeddings, 0-2"), (12, "embeddings, 0-5")):
        assert half.settings(BASE, {**BERT, "num_hidden_layers": layers}, ["freeze"]) == {"freeze": frozen}
