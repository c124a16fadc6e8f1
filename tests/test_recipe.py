"""Settings: one meaning from Python, TOML and the command line, and mistakes in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.errors import RecipeError, UsageError
from bertsmith.recipe import Recipe, settings

rates = st.floats(1e-7, 0.99, allow_nan=False)


@given(
    learning_rate=rates | st.just("auto"),
    epochs=st.integers(1, 50) | st.just("auto"),
    text=st.text(max_size=20).filter(lambda text: "\r" not in text and text.isprintable()),
    shares=st.sampled_from(["70/10/10/10", "80/20/0/0", "100/0/0/0"]),
    texts=st.booleans(),
)
def test_a_recipe_survives_toml(tmp_path_factory, **changes):
    """Written and read again, a recipe is the same."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    recipe = Recipe.of(**changes)
    path.write_text(recipe.dumps(), encoding="utf-8")
    assert Recipe.load(path) == recipe


def test_text_values_are_read_as_numbers():
    """Flags are text; the recipe makes numbers of them."""
    recipe = Recipe.of(epochs="4", learning_rate="3e-5", shares="80/10/5/5", texts="false", batch_size="16")
    assert recipe.fit.epochs == 4
    assert recipe.fit.learning_rate == 3e-5
    assert recipe.split.shares == (0.8, 0.1, 0.05, 0.05)
    assert recipe.run.texts is False


def test_every_setting_has_one_name_and_a_help():
    """Names are unique over the stages, and every one says what it does."""
    fields = [name for stage in Recipe.model_fields.values() for name in stage.annotation.model_fields]
    assert len(fields) == len(set(fields)) == len(settings())
    assert all(setting.help.endswith((".", "].")) for setting in settings().values())


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"epocs": 3}, "unknown setting 'epocs'. Did you mean 'epochs'?"),
        ({"zzz": 3}, "unknown setting 'zzz'."),
        ({"learning_rate": 3}, "'learning_rate' must be a number above 0 and below 1, or auto. Got 3 instead. 2e-5 is a usual value."),
        ({"learning_rate": float("nan")}, "'learning_rate' must be a number above 0 and below 1, or auto. Got nan instead. 2e-5 is a usual value."),
        ({"epochs": 0}, "'epochs' must be a whole number of at least 1, or auto. Got 0 instead. 3 is a usual value."),
        ({"epochs": 2.5}, "'epochs' must be a whole number of at least 1, or auto. Got 2.5 instead. 3 is a usual value."),
        ({"batch_size": "many"}, "'batch_size' must be a whole number of at least 1. Got 'many' instead. 32 is a usual value."),
        ({"accumulate": -1}, "'accumulate' must be a whole number of at least 1. Got -1 instead. 1 is a usual value."),
        ({"warmup": 1}, "'warmup' must be a share of at least 0 and below 1. Got 1 instead. 0.1 is a usual value."),
        ({"weight_decay": -0.1}, "'weight_decay' must be a number of at least 0 and below 1. Got -0.1 instead. 0.01 is a usual value."),
        ({"dropout": 1.0}, "'dropout' must be a share of at least 0 and below 1, or auto. Got 1.0 instead. 0.1 is a usual value."),
        ({"max_length": 4}, "'max_length' must be a whole number of at least 8, or auto. Got 4 instead. 128 is a usual value."),
        ({"padding": "left"}, "'padding' must be longest or max-length. Got 'left' instead."),
        ({"head_start": "warm"}, "'head_start' must be linear-probe or random. Got 'warm' instead."),
        ({"seed": -1}, "'seed' must be a whole number from 0 to 4294967295. Got -1 instead. 17 is a usual value."),
        ({"device": "gpu"}, "'device' must be auto, cpu, mps, cuda or cuda:N. Got 'gpu' instead."),
        ({"threads": 0}, "'threads' must be a whole number of at least 1, or auto. Got 0 instead. 2 is a usual value."),
        ({"patience": "x"}, "'patience' must be a whole number of at least 0. Got 'x' instead. 2 is a usual value."),
        ({"shares": "70/30"}, "'shares' must be four numbers that add up to 100: train/validation/calibration/test. Got '70/30' instead. 70/10/10/10 is a usual value."),
        ({"shares": "70/10/10/20"}, "'shares' must be four numbers that add up to 100: train/validation/calibration/test. Got '70/10/10/20' instead. 70/10/10/10 is a usual value."),
        ({"shares": "a/b/c/d"}, "'shares' must be four numbers that add up to 100: train/validation/calibration/test. Got 'a/b/c/d' instead. 70/10/10/10 is a usual value."),
    ],
)  # fmt: skip
def test_a_wrong_setting_says_what_it_must_be(given_settings, message):
    """The whole text: what it must be, what it is, what is usual."""
    with pytest.raises(RecipeError) as caught:
        Recipe.of(**given_settings)
    assert str(caught.value) == message


def test_all_mistakes_are_named_at_once():
    """Two wrong values and a wrong name: one error with three lines."""
    with pytest.raises(RecipeError) as caught:
        Recipe.of(epochs=0, sed=1, warmup=2)
    assert str(caught.value).splitlines() == [
        "unknown setting 'sed'. Did you mean 'seed'?",
        "'epochs' must be a whole number of at least 1, or auto. Got 0 instead. 3 is a usual value.",
        "'warmup' must be a share of at least 0 and below 1. Got 2 instead. 0.1 is a usual value.",
    ]


def test_mistakes_in_a_file_name_the_file_and_the_stage(tmp_path):
    """TOML mistakes say where they stand."""
    path = tmp_path / "recipe.toml"
    path.write_text("[fit]\nbathc_size = 3\nepochs = 0\n[trian]\nx = 1\n")
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    assert str(caught.value).splitlines() == [
        f"{path}: unknown setting 'fit.bathc_size'. Did you mean 'fit.batch_size'?",
        f"{path}: unknown setting '[trian]'. Did you mean '[run]'?",
        f"{path}: 'fit.epochs' must be a whole number of at least 1, or auto. Got 0 instead. 3 is a usual value.",
    ]


def test_a_broken_or_missing_file_is_named(tmp_path):
    """No traceback for what is no TOML, or not there."""
    path = tmp_path / "recipe.toml"
    with pytest.raises(UsageError) as caught:
        Recipe.load(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory.\n  --recipe takes a TOML file."
    path.write_text("[fit\n")
    with pytest.raises(UsageError, match="not a TOML file"):
        Recipe.load(path)


def test_a_recipe_cannot_be_changed_in_place():
    """A recipe is a value."""
    with pytest.raises(ValueError, match="frozen"):
        Recipe().fit.epochs = 5  # type: ignore[misc]
