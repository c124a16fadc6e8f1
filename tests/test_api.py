"""The Python face: the verbs of the command line, as functions."""

from __future__ import annotations

import pytest

import bertsmith
from bertsmith.errors import RecipeError, UsageError
from tests.cli.finished import finished_run
from tests.conftest import toy_rows


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv)


def test_a_run_knows_its_scores_and_its_model(run):
    """Training gives a Run: its folder, its scores, its predictor."""
    assert run.folder.scores == run.path / "scores.json"
    assert run.folder.is_whole
    texts = [text for text, _ in toy_rows(5, seed=7)]
    assert run.predictor(device="cpu").predict(texts) == bertsmith.load(str(run.path), device="cpu").predict(texts)


def test_the_run_learned_the_toy_task(run):
    """On unseen rows the model is well above the majority, and says so with an interval."""
    rows = toy_rows(60, seed=21)
    answers = bertsmith.load(run.path).predict([text for text, _ in rows])
    right = sum(answer.label == label for answer, (_, label) in zip(answers, rows, strict=True))
    assert right / 60 > 0.8
    assert run.scores["test"]["accuracy"]["value"] > run.scores["baselines"]["majority"]["accuracy"]["high"]


def test_nothing_is_printed(tiny_encoder, toy_csv, tmp_path, capfd):
    """The Python functions are silent: no stage lines, no bars, no reports of other libraries."""
    from tests.cli.finished import QUICK

    run = bertsmith.train(toy_csv, out=tmp_path / "run", encoder=str(tiny_encoder), **QUICK)
    bertsmith.load(run.path).predict(["good food"])
    bertsmith.check(toy_csv, encoder=str(tiny_encoder))
    assert capfd.readouterr() == ("", "")


def test_check_gives_findings(tiny_encoder):
    """It takes Python objects and gives Findings, errors first."""
    rows = [*toy_rows(60), *[(text, "positive") for text, _ in toy_rows(20)]]
    found = bertsmith.check(rows, encoder=str(tiny_encoder))
    assert isinstance(found, bertsmith.Findings)
    assert not found.passed
    assert found.items[0].kind == "conflicting-labels"
    assert bertsmith.check(toy_rows(60), encoder=str(tiny_encoder)).passed


def test_settings_win_over_the_recipe(tiny_encoder, tmp_path):
    """A setting by name replaces the recipe's."""
    recipe = bertsmith.Recipe.of(epochs=7, encoder=str(tiny_encoder), learning_rate=1e-3, precision="fp32", threads=1)
    run = bertsmith.train(toy_rows(60), out=tmp_path / "run", recipe=recipe, epochs=1)
    assert run.scores["training"]["epochs"] == 1


def test_unknown_settings_are_named_all_at_once(tmp_path):
    """A mistyped setting is refused with the nearest name, before anything is read."""
    with pytest.raises(RecipeError) as caught:
        bertsmith.train("nowhere.csv", out=tmp_path / "run", epoch=3, batchsize=8)
    assert str(caught.value) == (
        "unknown setting 'epoch'. Did you mean 'epochs'?\nunknown setting 'batchsize'. Did you mean 'batch_size'?"
    )


def test_data_must_be_given(tmp_path):
    """Neither data nor a data set's name: that is said."""
    with pytest.raises(UsageError) as caught:
        bertsmith.train(out=tmp_path / "run")
    assert str(caught.value) == "no data given.\n  Give a file, a folder, or --dataset NAME."
    with pytest.raises(UsageError) as caught:
        bertsmith.train(7, out=tmp_path / "run")
    assert str(caught.value) == (
        "int cannot be read as data.\n  Give a path, a list of (text, label) pairs, a list of dicts, a dict of lists, "
        "an Arrow, pandas or polars table, or a datasets.Dataset or DatasetDict."
    )


def test_one_string_is_no_list_of_texts(run):
    """A string would be read letter by letter; it is refused."""
    with pytest.raises(UsageError) as caught:
        bertsmith.load(run.path).predict("good food")
    assert str(caught.value) == "texts must be a list of strings. Got the string 'good food' instead.\n  Write [text]."
