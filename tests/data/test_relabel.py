"""Mended labels come back: found row by row, checked by text, refused in one clear sentence."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.data.relabel import guarded, relabel, unguarded
from bertsmith.errors import DataError, UsageError
from bertsmith.examples import Columns, Examples

TEXTS = ["it is good", "it is bad", "=1+1 is\ntwo", "fine", "good, no?"]
LABELS = ["good", "good", "sum", "good", "bad"]


@pytest.fixture
def examples() -> Examples:
    table = pa.table(
        {
            "text": TEXTS, "label": LABELS, "row": pa.array([1, 2, 3, 1, 2], pa.int64()),
            "file": pa.array(["data/a.csv"] * 3 + ["data/b.csv"] * 2).dictionary_encode(),
        }
    )  # fmt: skip
    halves = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    return Examples(halves, Columns("text", "label"), "data/a.csv", pa.table({"n": [1, 2, 3, 4, 5]}), ("a note",))


def filled(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(file: str, number: str, label: str, text: str | None = None) -> dict[str, str]:
    return {"file": file, "row": number, **({} if text is None else {"text": text}), "relabel": label}


@pytest.mark.parametrize(("cells", "every"), [([""], "its only row"), (["", "  ", ""], "all 3 rows")])
def test_a_file_in_which_nothing_is_filled_in_is_refused(examples, tmp_path, cells, every):
    """A suspects.csv as train wrote it would change nothing; the error says what to write and where."""
    rows = [row("data/a.csv", str(number), cell) for number, cell in enumerate(cells, start=1)]
    with pytest.raises(DataError) as error:
        relabel(examples, filled(tmp_path / "s.csv", rows))
    assert str(error.value) == (
        f"{tmp_path / 's.csv'}: nothing is filled in: the column 'relabel' is empty in {every}.\n"
        "  Write the right label there where one is wrong, or - to leave the row out; leave all others."
    )


def test_labels_are_replaced_and_rows_left_out(examples, tmp_path):
    """A label takes the old one's place, - leaves the row out, an empty cell and the same label change nothing."""
    rows = [
        row("data/a.csv", "2", "bad", "it is bad"),
        row("data/a.csv", "1", "", "whatever stands here"),
        row("data/b.csv", "1", "-", "fine"),
        row("data/b.csv", "2", "bad", "good, no?"),
    ]
    mended = relabel(examples, filled(tmp_path / "s.csv", rows))
    assert mended.column("text").to_pylist() == ["it is good", "it is bad", "=1+1 is\ntwo", "good, no?"]
    assert mended.column("label").to_pylist() == ["good", "bad", "sum", "bad"]
    assert mended.extra is not None
    assert mended.extra.column("n").to_pylist() == [1, 2, 3, 5]
    assert mended.notes == ("a note", f"{tmp_path / 's.csv'}: 1 label changed, 1 row left out.")
    assert examples.column("label").to_pylist() == LABELS


def test_what_a_spreadsheet_does_to_texts_is_no_difference(examples, tmp_path):
    """A guarded formula, other line ends and blanks are the same text."""
    path = filled(tmp_path / "s.csv", [row("data/a.csv", "3", "good", "'=1+1  is\r\ntwo ")])
    assert relabel(examples, path).column("label").to_pylist()[2] == "good"


def test_a_file_is_found_from_another_folder(examples, tmp_path):
    """A path that is written otherwise is found by its name, where only one file has it."""
    path = filled(tmp_path / "s.csv", [row("/elsewhere/b.csv", "1", "bad", "fine")])
    assert relabel(examples, path).column("label").to_pylist()[3] == "bad"


def test_a_label_named_like_the_mark_is_written_with_a_quote(tmp_path):
    """'- is the label -, and - alone leaves the row out."""
    table = pa.table({"text": ["x", "y", "z"], "label": ["-", "+", "+"], "file": ["a.csv"] * 3, "row": [1, 2, 3]})
    given_rows = [row("a.csv", "2", "'-"), row("a.csv", "1", "-")]
    mended = relabel(Examples(table, Columns("text", "label"), "a.csv"), filled(tmp_path / "s.csv", given_rows))
    assert mended.column("label").to_pylist() == ["-", "+"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [row("data/a.csv", "2", "baad", "it is bad")],
            "{path}: row 1: 'baad' is no label of the data. Its labels are bad, good, sum.\n"
            "  Write it as the data does, or - to leave the row out.",
        ),
        (
            [row("data/a.csv", "1", ""), row("data/a.csv", "9", "bad")],
            "{path}: row 2: data/a.csv:9 is no row of the data.\n  Train on the data that the list was made from.",
        ),
        (
            [row("data/a.csv", "two", "bad")],
            "{path}: row 1: data/a.csv:two is no row of the data.\n  Train on the data that the list was made from.",
        ),
        (
            [row("data/c.csv", "1", "bad")],
            "{path}: row 1: 'data/c.csv' is no file of the data.\n  Its files are data/a.csv, data/b.csv.",
        ),
        (
            [row("data/a.csv", "2", "bad"), row("a.csv", "2", "good")],
            "{path}: row 2: data/a.csv:2 stands there already, in row 1.\n  Keep one of the two.",
        ),
        (
            [row("data/a.csv", "2", "bad", "it was bad")],
            "{path}: row 1: the text is 'it was bad', but data/a.csv:2 has 'it is bad'.\n"
            "  The data has changed since the list was made: train without --relabel, and mend the new list.",
        ),
        (
            [{"file": "data/a.csv", "row": "1", "label": "bad"}],
            "{path}: no column 'relabel'. Its columns are file, row, label.\n"
            "  Give the suspects.csv of a run, its column 'relabel' filled in.",
        ),
        (
            [{"row": "1", "relabel": "bad"}],
            "{path}: no column 'file', and the data has 2 files.\n  Keep the column 'file' of suspects.csv.",
        ),
    ],
)
def test_what_cannot_be_mended_is_refused(examples, tmp_path, rows, message):
    """An unknown label, row or file, a row twice, another text, a missing column: one clear error each."""
    path = filled(tmp_path / "s.csv", rows)
    with pytest.raises(DataError) as error:
        relabel(examples, path)
    assert str(error.value) == message.format(path=path)


def test_two_files_of_one_name_are_not_guessed(tmp_path):
    """A name that two files have does not tell which is meant."""
    table = pa.table({"text": ["x", "y"], "label": ["a", "b"], "file": ["m/a.csv", "n/a.csv"], "row": [1, 1]})
    path = filled(tmp_path / "s.csv", [row("a.csv", "1", "a")])
    with pytest.raises(DataError) as error:
        relabel(Examples(table, Columns("text", "label"), "m/a.csv"), path)
    assert str(error.value) == (
        f"{path}: row 1: 'a.csv' is one of several files of the data.\n  Its files are m/a.csv, n/a.csv."
    )


def test_only_single_labels_are_mended(examples, tmp_path):
    """Numbers, tags and sets of labels are mended in the data file itself."""
    with pytest.raises(UsageError) as error:
        relabel(examples, tmp_path / "s.csv", role="labels")
    assert str(error.value) == (
        "--relabel is for texts with one label each.\n  Mend the labels in the data file itself."
    )


@pytest.mark.parametrize(
    "start", ["", " ", "\n", "\r\n", "\u3000", "\xa0", "\x1f", "\x00", "\ufeff", "\u200b", " ' \t"]
)
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_blank_or_wide_sign_hides_a_formula(start, sign):
    """What a spreadsheet passes over before a formula, or takes for its sign, is guarded too."""
    cell = f"{start}{sign}cmd|'/c calc'!A1"
    assert guarded(cell) == f"'{cell}"
    assert unguarded(guarded(cell)) == cell


@pytest.mark.parametrize("cell", ["good", "it's = to", "'tis", " a - b", "-1", "+2.5", "", "5 = 5", "\u2014 so"])
def test_texts_and_numbers_stay_as_they_are(cell):
    """Nothing is put before a cell that is no formula."""
    assert guarded(cell) == cell == unguarded(cell)


@given(st.text() | st.text(alphabet="'=+-@\t\r\n \u3000\ufeff\uff1d\uff0d1.ab", max_size=8))
def test_every_text_comes_back_as_it_was(cell):
    """Whatever a cell holds, it is read back unchanged, and guarding twice is undone twice."""
    assert unguarded(guarded(cell)) == cell
    assert unguarded(unguarded(guarded(guarded(cell)))) == cell


@given(st.text(alphabet="='+-@\t\r\n1.ab", max_size=8))
def test_every_cell_comes_back_as_it_was(cell):
    """What is guarded for a spreadsheet is read back unchanged, and no cell begins like a formula."""
    kept = guarded(cell)
    assert unguarded(kept) == cell
    assert not kept.startswith(("=", "@", "\t", "\r"))
    assert not kept.startswith(("+", "-")) or float(kept) is not None
