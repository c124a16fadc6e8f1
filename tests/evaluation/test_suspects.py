"""Suspects: planted wrong labels come first, and the file goes there and back."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertsmith.data.read import read
from bertsmith.data.relabel import relabel
from bertsmith.errors import MissingExtraError
from bertsmith.evaluation.suspects import find_suspects, held_out
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.recipe import Recipe

LABELS = LabelSet(("-1", "=good", "plain"))
ROWS = 300


def made(*, seed: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray, np.ndarray, Examples]:
    """Make features whose classes lie apart, and a tenth of wrong labels: features, labels, what is wrong, rows."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, rows)
    features = (2 * np.eye(8)[truth] + generator.normal(0, 0.7, (rows, 8))).astype(np.float32)
    wrong = np.zeros(rows, bool)
    wrong[generator.choice(rows, rows // 10, replace=False)] = True
    given = np.where(wrong, (truth + generator.integers(1, 3, rows)) % 3, truth)
    texts = [f"+{word} and\n{place}" for place, word in enumerate(generator.choice(["the", "a", "of"], rows))]
    table = pa.table(
        {
            "text": texts, "label": np.array(LABELS.names)[given], "file": pa.array(["t.csv"] * rows),
            "row": np.arange(1, rows + 1),
        }
    )  # fmt: skip
    return features, given, wrong, Examples(table, Columns("text", "label"), "t.csv")


@pytest.fixture(scope="module")
def found():
    features, given, wrong, examples = made()
    suspects = find_suspects(features, given, LABELS, examples, seed=1)
    assert suspects is not None
    return suspects, wrong, features


def test_planted_noise_comes_first(found):
    """Of the first 5 % of the rows at least nine in ten are wrong, and nearly all that is wrong is flagged."""
    suspects, wrong, _ = found
    assert wrong[suspects.rows[: ROWS // 20]].mean() >= 0.9
    assert wrong[suspects.rows].sum() >= 0.8 * wrong.sum()
    assert np.all(np.diff(suspects.quality) >= 0)
    assert all(0 <= quality <= 1 for quality in suspects.quality)


def test_another_label_is_suggested(found):
    """What is suggested is never the label that is given, and mostly what was there before."""
    suspects, wrong, features = found
    given = suspects.examples.column("label").take(pa.array(suspects.rows)).to_pylist()
    assert all(old != new for old, new in zip(given, suspects.suggested, strict=True))
    truth = np.array(LABELS.names)[features[:, :3].argmax(axis=1)]
    planted = [(row, new) for row, new in zip(suspects.rows.tolist(), suspects.suggested, strict=True) if wrong[row]]
    assert np.mean([truth[row] == new for row, new in planted]) > 0.8


def test_the_same_seed_gives_the_same_suspects(found):
    """Folds and models come from the seed."""
    features, given, _, examples = made()
    again = find_suspects(features, given, LABELS, examples, seed=1)
    assert again is not None
    assert np.array_equal(again.rows, found[0].rows)
    assert np.array_equal(again.quality, found[0].quality)


def test_the_file_opens_in_a_spreadsheet_and_comes_back(found, tmp_path):
    """suspects.csv has a row a suspect, no formulas, and goes back through relabel once it is filled in."""
    suspects, _, _ = found
    path = tmp_path / "suspects.csv"
    suspects.write(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "row", "text", "label", "suggested", "quality", "relabel"]
    assert len(rows) == len(suspects)
    assert [int(each["row"]) - 1 for each in rows] == suspects.rows.tolist()
    assert {each["relabel"] for each in rows} == {""}
    assert all(each["text"].startswith("'+") for each in rows)
    assert {each["label"] for each in rows} <= {"-1", "'=good", "plain"}
    for each in rows:
        each["relabel"] = each["suggested"]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    mended = relabel(suspects.examples, path).column("label").take(pa.array(suspects.rows)).to_pylist()
    assert tuple(mended) == suspects.suggested


def test_the_list_of_a_real_file_is_found_again(tmp_path):
    """Rows that were read from a CSV are found in it again by file, row and text."""
    features, _, _, made_rows = made()
    source = tmp_path / "data.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(*(made_rows.column(name).to_pylist() for name in ("text", "label")), strict=True))
    settings = Recipe().read
    examples = read(str(source), settings)
    given = LABELS.ids(examples.column("label"))
    suspects = find_suspects(features, given, LABELS, examples, seed=1)
    assert suspects is not None
    path = tmp_path / "suspects.csv"
    suspects.write(path)
    path.write_text(path.read_text(encoding="utf-8").replace(",\n", ",-\n"), encoding="utf-8")
    mended = relabel(read(str(source), settings), path)
    assert mended.notes[-1] == f"{path}: 0 labels changed, {len(suspects)} rows left out."
    assert len(mended) == ROWS - len(suspects)


def test_scores_json_shows_the_worst(found):
    """The part of scores.json counts all, and shows the first twenty with their texts."""
    suspects, _, _ = found
    shown = suspects.as_json()
    assert (shown["rows"], shown["flagged"], shown["file"]) == (ROWS, len(suspects), "suspects.csv")
    assert len(shown["worst"]) == min(20, len(suspects))
    assert list(shown["worst"][0]) == ["file", "row", "text", "label", "suggested", "quality"]
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_no_text_is_written_where_none_may_be_kept(tmp_path):
    """With texts=False neither the file nor scores.json has a text, and the file can still be filled in and taken back."""
    features, given, _, examples = made()
    suspects = find_suspects(features, given, LABELS, examples, seed=1, texts=False)
    assert suspects is not None
    suspects.write(tmp_path / "s.csv")
    assert " and" not in (tmp_path / "s.csv").read_text(encoding="utf-8") + json.dumps(suspects.as_json())
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as file:
        filled = list(csv.DictReader(file))
    filled[0]["relabel"] = "-"
    with (tmp_path / "s.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(filled[0]))
        writer.writeheader()
        writer.writerows(filled)
    assert len(relabel(examples, tmp_path / "s.csv")) == ROWS - 1


def test_no_row_explains_itself():
    """Changing a row's label does not change what the models that answer it say, and copies of it do not either."""
    features, given, _, examples = made(rows=60)
    twice = examples.take(np.concatenate([np.arange(60), np.arange(60)]))
    features, given = np.concatenate([features, features]), np.concatenate([given, given])
    before = held_out(features, given, twice, outputs=3, seed=1)
    changed = given.copy()
    # The copy's label is what changes: folds go by the first of equal texts.
    changed[60] = (given[60] + 1) % 3
    after = held_out(features, changed, twice, outputs=3, seed=1)
    assert np.allclose(before[[0, 60]], after[[0, 60]])
    assert not np.allclose(before, after)


@pytest.mark.parametrize(
    "targets",
    [np.zeros((ROWS, 3)), np.zeros(ROWS), np.zeros(ROWS, np.int64), np.zeros(2 * ROWS, np.int64)],
    ids=["soft", "numbers", "one label", "tokens"],
)
def test_without_single_labels_nothing_is_looked_for(targets):
    """Shares, numbers, words and a single label have no suspects."""
    features, _, _, examples = made()
    assert find_suspects(features, targets, LABELS, examples, seed=1) is None


def test_a_rare_label_breaks_nothing():
    """A label with a single row, and one without any, are no error."""
    features, given, _, examples = made()
    given = np.where(given == 2, 1, given)
    given[0] = 3
    suspects = find_suspects(features, given, LabelSet(("a", "b", "nowhere", "once")), examples, seed=1)
    assert suspects is not None
    assert "nowhere" not in suspects.suggested


def test_texts_without_a_word_are_judged_by_features_alone():
    """Where no text has a word, the features are enough."""
    features, given, wrong, examples = made()
    table = examples.table.set_column(0, "text", pa.array(["?" * (1 + place) for place in range(ROWS)]))
    suspects = find_suspects(features, given, LABELS, Examples(table, Columns("text"), "t.csv"), seed=1)
    assert suspects is not None
    assert wrong[suspects.rows[: ROWS // 20]].mean() >= 0.9


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    """Without cleanlab one error names the extra."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    features, given, _, examples = made()
    with pytest.raises(MissingExtraError) as error:
        find_suspects(features, given, LABELS, examples, seed=1)
    assert str(error.value) == (
        "looking for wrong labels needs the package 'cleanlab', which is not installed.\n"
        "  Install it with: pip install 'bertsmith[noise]'"
    )


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["banking77", "sst2"])
def test_noise_in_real_data_is_found(name, shared_data, monkeypatch):
    """Of the first 5 % of the rows of a real set with a tenth of wrong labels, at least seven in ten are wrong."""
    monkeypatch.setenv("BERTSMITH_DATA", str(shared_data))
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    noise = importlib.import_module("trust_noise")
    assert noise.noise_precision(name, draws=2)["precision"] >= 0.7
