"""Corrections become training rows, and nothing that is held out is learned from."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertsmith.data.added_rows import Corrections, add_rows
from bertsmith.data.split import Splits
from bertsmith.errors import DataError
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.feedback.corrections import corrections
from bertsmith.feedback.entry import Entry
from bertsmith.feedback.opening import open_store
from bertsmith.feedback.review import write_csv

TEXTS = ["the film was good", "the film was bad", "soup is kind", "soup is rude today and all of the other days"]
LABELS = ["good", "bad", "good", "bad"]


def examples() -> Examples:
    table = pa.table(
        {"text": TEXTS, "label": LABELS, "file": pa.array(["a.csv"] * 4).dictionary_encode(),
         "row": pa.array([1, 2, 3, 4], pa.int64()), "given": pa.nulls(4, pa.string())}
    )  # fmt: skip
    return Examples(table, Columns("text", "label"), "a.csv", pa.table({"n": [1, 2, 3, 4]}))


def splits() -> Splits:
    """Two rows to train with, one to validate, one to test; none to calibrate."""
    sides = {"train": [0, 1], "validation": [2], "calibration": [], "test": [3]}
    return Splits({side: np.array(rows, np.int64) for side, rows in sides.items()}, ("a note",), np.arange(4))


def said(*rows: tuple[str, str]) -> Corrections:
    table = pa.table({
        "text": [text for text, _ in rows], "text_pair": pa.nulls(len(rows), pa.string()),
        "correction": [label for _, label in rows],
    })  # fmt: skip
    return Corrections(table, "f.db", pa.array(range(1, len(rows) + 1), pa.int64()))


def test_only_what_is_new_and_not_held_out_is_learned_from():
    """Held-out texts (nearly equal ones too), older corrections, known rows and unknown labels are left out and said."""
    given = said(
        ("a new text", "bad"), ("Soup  is KIND", "bad"), ("Soup is rude today, and all of the other days!", "good"),
        ("the film was good", "good"), ("the film was bad", "good"), ("a new text", "good"), ("what", "ugly"),
    )  # fmt: skip
    added = add_rows(examples(), splits(), given, labels=LabelSet(("bad", "good")), seed=1)
    new = added.examples.take(np.arange(4, len(added.examples)))
    assert new.column("text").to_pylist() == ["the film was bad", "a new text"]
    assert new.column("label").to_pylist() == ["good", "good"]
    assert new.where([0, 1], 2) == ("f.db:5", "f.db:6")
    assert new.extra is not None
    assert new.extra.to_pylist() == [{"n": None}, {"n": None}]
    assert added.examples.table.slice(0, 4).column("text").to_pylist() == TEXTS
    assert {side: rows.tolist() for side, rows in added.splits.sides.items()} == {
        "train": [0, 1, 4, 5], "validation": [2], "calibration": [], "test": [3],
    }  # fmt: skip
    assert added.splits.notes == (
        "a note",
        "f.db: 2 corrections were added to train. 5 were left out: 1 no label of the data ('ugly'); "
        "2 with a text of held-out rows (or nearly so); 1 corrected again later; 1 already in a training row.",
    )
    assert (len(added.groups.exact), len(added.splits.together), added.count) == (6, 6, 2)


def test_no_corrections_change_nothing_but_are_said():
    """An empty store gives the rows as they were."""
    added = add_rows(examples(), splits(), said(), labels=LabelSet(("bad", "good")), seed=1)
    assert added.examples.column("text").to_pylist() == TEXTS
    assert added.splits.notes[-1] == "f.db: 0 corrections were added to train."


def test_a_store_and_the_list_of_it_say_the_same(tmp_path):
    """Review writes formulas with a quote in front; read back, texts and corrections are those of the store."""
    place = str(tmp_path / "f.db")
    entries = [Entry("=1+1", "m", correction="-x"), Entry("b\r\nc", "m"), Entry("'=quoted, too", "m", correction="y")]
    with open_store(place, create=True) as store:
        for each in entries:
            store.add(each)
        with (tmp_path / "list.csv").open("w", encoding="utf-8-sig", newline="") as file:
            assert write_csv(store.entries(), file) == 3
    with (tmp_path / "list.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = [row["text"] for row in csv.DictReader(file)]
    assert cells == ["'=1+1", "b\r\nc", "''=quoted, too"]
    of_store, of_list = corrections(place), corrections(str(tmp_path / "list.csv"))
    wanted = [("=1+1", "-x"), ("'=quoted, too", "y")]
    for found in (of_store, of_list):
        table = found.table
        assert list(zip(table["text"].to_pylist(), table["correction"].to_pylist(), strict=True)) == wanted
    assert of_list.rows.to_pylist() == [1, 3]
    assert len(corrections(place, before=entries[0].created.isoformat()).table) == 1


def test_a_table_without_corrections_is_refused(tmp_path: Path):
    """Another CSV is told from the list by its columns."""
    path = tmp_path / "other.csv"
    path.write_text("text,label\na,b\n")
    with pytest.raises(DataError) as error:
        corrections(str(path))
    assert str(error.value) == (
        f"{path}: no column 'correction'. Its columns are text, label.\n"
        "  Give a feedback store, or the CSV of bertsmith review, its column 'correction' filled in."
    )
