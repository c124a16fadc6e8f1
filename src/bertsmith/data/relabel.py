"""Relabel: labels that a person has mended in `suspects.csv` replace those of the data, before it is split.

The file is found again row by row: by `file` and `row`, and where it has a `text`, that must be the same.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.files import read_table
from bertsmith.errors import DataError, UsageError
from bertsmith.examples import Examples

RELABEL = "relabel"
"""The column that a person fills in."""
DROP = "-"
"""Stands in it for: leave this row out."""
_FORMULA = re.compile(r"['\s\x00-\x1f\u200b\ufeff]*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How cells begin that a spreadsheet would take for a formula, or a text that was guarded: some pass over blanks and
take full-width signs. That a quote more or less in front changes nothing is what makes `unguarded` exact."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_ROW = re.compile(r"[0-9]{1,15}")
_COMPARED = 32_000
"""Characters of a text that are compared: a spreadsheet cuts cells after 32 767."""
_SHOWN = 60


def guarded(cell: str) -> str:
    """Put a quote before what a spreadsheet would take for a formula; numbers are left as they are.

    >>> guarded("=1+1"), guarded("-1"), guarded("good")
    ("'=1+1", '-1', 'good')
    """
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def unguarded(cell: str) -> str:
    """Take the quote away again.

    >>> unguarded("'=1+1"), unguarded("'tis"), unguarded("-1")
    ('=1+1', "'tis", '-1')
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def relabel(examples: Examples, path: str | Path, *, role: str = "label", encoding: str = "") -> Examples:
    """Replace labels by those of a file's column `relabel`; rows with `-` there are left out.

    Empty cells change nothing. A label that is really called - is written '- there.

    Args:
        examples: Rows with labels.
        path: `suspects.csv`, or any table with `row` and `relabel`, and `file` where there are several files.
        role: The canonical column of the gold answers of the task.
        encoding: Encoding of the file; "" is UTF-8.

    Returns:
        The examples, with a note of how many labels were changed and how many rows left out.

    Raises:
        UsageError: The path does not exist, or the task has no single labels.
        DataError: A column is missing, nothing is filled in, a row is not found, its text is another one, it stands
            there twice, or its label is none of the data's.
    """
    if role != "label" or "label" not in examples or "shares" in examples:
        raise UsageError("--relabel is for texts with one label each.", tip="Mend the labels in the data file itself.")
    table = _table(str(path), read_table(path, encoding=encoding))
    wanted = np.flatnonzero(pc.not_equal(table.column(RELABEL), "").to_numpy())
    if not len(wanted):
        raise DataError(
            f"{path}: nothing is filled in: the column '{RELABEL}' is empty in {_every(len(table))}.",
            tip=f"Write the right label there where one is wrong, or {DROP} to leave the row out; leave all others.",
        )
    table = table.take(pa.array(wanted))
    filled = _Filled(str(path), table, wanted + 1)
    rows = _found(filled, examples)
    _refuse_other_texts(filled, examples, rows)
    return _mended(filled, examples, rows)


@dataclass(frozen=True)
class _Filled:
    """The rows of the file in which something is filled in.

    Attributes:
        path: The file.
        table: Its columns as text: row and relabel, and file, text and text_pair where it has them.
        numbers: Where they stand in the file, counted from 1.
    """

    path: str
    table: pa.Table
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]]

    def where(self, place: int) -> str:
        return f"{self.path}: row {self.numbers[place]}"

    def column(self, name: str) -> list[str]:
        return [unguarded(cell) for cell in self.table.column(name).to_pylist()]

    @property
    def labels(self) -> list[str]:
        """What is filled in; "" where the row is to be left out."""
        cells = self.table.column(RELABEL).to_pylist()
        return ["" if cell == DROP else unguarded(cell) for cell in cells]


def _table(path: str, table: pa.Table) -> pa.Table:
    """Take the columns that are needed, as text without blanks around it."""
    missing = [name for name in ("row", RELABEL) if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: no column '{missing[0]}'. Its columns are {', '.join(table.column_names)}.",
            tip=f"Give the suspects.csv of a run, its column '{RELABEL}' filled in.",
        )
    names = [name for name in ("file", "row", "text", "text_pair", RELABEL) if name in table.column_names]
    columns = {name: pc.fill_null(table.column(name).cast(pa.string()), "") for name in names}
    columns |= {name: pc.utf8_trim_whitespace(columns[name]) for name in ("file", "row", RELABEL) if name in columns}
    return pa.table(columns)


def _found(filled: _Filled, examples: Examples) -> list[int]:
    """Return the position in `examples` of each row of the file."""
    known = _known_files(filled, examples)
    places = _places(examples, filled.column("row"))
    found: dict[int, int] = {}
    for place, (file, row) in enumerate(zip(known, filled.column("row"), strict=True)):
        position = places.get((file, int(row))) if _ROW.fullmatch(row) else None
        if position is None:
            raise DataError(
                f"{filled.where(place)}: {file}:{row} is no row of the data.",
                tip="Train on the data that the list was made from.",
            )
        if position in found:
            raise DataError(
                f"{filled.where(place)}: {file}:{row} stands there already, in row {filled.numbers[found[position]]}.",
                tip="Keep one of the two.",
            )
        found[position] = place
    return list(found)


def _places(examples: Examples, wanted: Sequence[str]) -> dict[tuple[str, int], int]:
    """Return file and row → position, for the rows that have one of these numbers."""
    numbers = [int(row) for row in set(wanted) if _ROW.fullmatch(row)]
    some = np.flatnonzero(np.isin(examples.column("row").to_numpy(), numbers))
    table = examples.table.select(["file", "row"]).take(pa.array(some, pa.int64()))
    named = zip(table.column("file").to_pylist(), table.column("row").to_pylist(), strict=True)
    return dict(zip(named, some.tolist(), strict=True))


def _known_files(filled: _Filled, examples: Examples) -> list[str]:
    """Name the file of each row as the examples do: the same path, else the only file of that name."""
    names: list[str] = pc.unique(examples.column("file").cast(pa.string())).to_pylist()
    if "file" not in filled.table.column_names:
        if len(names) > 1:
            raise DataError(
                f"{filled.path}: no column 'file', and the data has {len(names)} files.",
                tip="Keep the column 'file' of suspects.csv.",
            )
        return names * len(filled.table)
    by_name: dict[str, list[str]] = {}
    for name in names:
        by_name.setdefault(PurePath(name).name, []).append(name)
    found = []
    for place, file in enumerate(filled.column("file")):
        alike = [file] if file in names else by_name.get(PurePath(file).name, [])
        if len(alike) != 1:
            raise DataError(
                f"{filled.where(place)}: '{file}' is {'one of several files' if alike else 'no file'} of the data.",
                tip=f"Its files are {_listed(names)}.",
            )
        found += alike
    return found


def _refuse_other_texts(filled: _Filled, examples: Examples, rows: Sequence[int]) -> None:
    for name in ("text", "text_pair"):
        if name not in filled.table.column_names or name not in examples:
            continue
        texts = examples.column(name).take(pa.array(rows, pa.int64())).to_pylist()
        for place, (cell, text) in enumerate(zip(filled.column(name), texts, strict=True)):
            if _plain(cell) != _plain(text or ""):
                where = examples.where([rows[place]], 1)[0]
                raise DataError(
                    f"{filled.where(place)}: the text is {_short(cell)}, but {where} has {_short(text or '')}.",
                    tip="The data has changed since the list was made: train without --relabel, and mend the new list.",
                )


def _mended(filled: _Filled, examples: Examples, rows: Sequence[int]) -> Examples:
    """Put the labels in and leave rows out."""
    column = examples.column("label")
    labels = np.array(filled.labels, dtype=object)
    _refuse_unknown(filled, pc.unique(column.drop_null()).to_pylist())
    kept = np.flatnonzero(labels != "")
    places = np.array(rows, np.int64)[kept]
    changed = int((np.array(column.take(pa.array(places)).to_pylist(), dtype=object) != labels[kept]).sum())
    # The new labels stand below the old ones, and are taken in their place.
    source = np.arange(len(examples))
    source[places] = len(examples) + np.arange(len(kept))
    both = pa.chunked_array([*column.chunks, pa.array(labels[kept], pa.string())], pa.string())
    place = examples.table.column_names.index("label")
    table = examples.table.set_column(place, "label", both.take(pa.array(source)))
    dropped = np.array(rows, np.int64)[labels == ""]
    note = f"{filled.path}: {_rows(changed, 'label')} changed, {_rows(len(dropped), 'row')} left out."
    mended = dataclasses.replace(examples, table=table, notes=(*examples.notes, note))
    return mended.take(np.setdiff1d(np.arange(len(examples)), dropped)) if len(dropped) else mended


def _refuse_unknown(filled: _Filled, known: Sequence[str]) -> None:
    for place, label in enumerate(filled.labels):
        if label and label not in known:
            raise DataError(
                f"{filled.where(place)}: {label!r} is no label of the data. Its labels are {_listed(sorted(known))}.",
                tip=f"Write it as the data does, or {DROP} to leave the row out.",
            )


def _plain(text: str) -> str:
    """Put a text as a spreadsheet may have left it: line ends and blanks are all one."""
    return " ".join(text[:_COMPARED].split())


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _rows(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _every(count: int) -> str:
    return f"all {count:,} rows" if count > 1 else "its only row"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown


__all__ = ["DROP", "RELABEL", "guarded", "relabel", "unguarded"]
