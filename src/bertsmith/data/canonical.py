"""The user's columns become canonical ones: the text, the gold answers, weight, id, group, time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.batches import LONGEST_CELL, NESTED, long_cell
from bertsmith.data.cells import Cells
from bertsmith.data.columns import no_column
from bertsmith.data.gold import GOLD_PARTS, Gold, gold_arrays
from bertsmith.data.labels_column import Arrays
from bertsmith.data.roles import Shape
from bertsmith.data.token_columns import from_tokens
from bertsmith.errors import DataError
from bertsmith.examples import Columns


def canonical(
    table: pa.Table,
    columns: Columns,
    *,
    where: Callable[[int], str],
    source: str,
    labelled: bool = True,
    shape: Shape | None = None,
) -> tuple[pa.Table, tuple[str, ...]]:
    """Pick the columns that play a part, under their canonical names and types.

    Args:
        table: The user's columns.
        columns: Which plays which part.
        where: Names the row at a position (from 0), such as `reviews.csv: row 1`.
        source: What the table is called in messages.
        labelled: True when every row needs a gold answer.
        shape: How the gold answers stand in their columns; None for the plain way.

    Returns:
        The table, and notes about what was mended.

    Raises:
        DataError: A column is missing or of the wrong type, or a row has no gold answer or a wrong weight.
    """
    notes: list[str] = []
    arrays: Arrays = {}
    parts = {part: [_cells(table, name, where, source) for name in names] for part, names in columns.names().items()}
    for part, cells in parts.items():
        if part == "tokens":
            arrays |= from_tokens(cells[0], labelled=labelled)
        elif part in GOLD_PARTS:
            arrays |= gold_arrays(Gold(cells, arrays, shape or _plain(part, columns), notes, labelled, columns))
        else:
            arrays[part] = _CONVERSIONS.get(part, _Part.untouched)(cells[0], notes)
    return pa.table(arrays), tuple(notes)


def _cells(table: pa.Table, name: str, where: Callable[[int], str], source: str) -> _Part:
    if name not in table.column_names:
        raise DataError(no_column(source, name, table.column_names), tip="It needs the same columns as DATA.")
    return _Part(table, name, where, source)


def _plain(part: str, columns: Columns) -> Shape:
    """The way in which gold answers stand in their columns where no one said it."""
    forms = {
        "label": "plain",
        "labels": "columns" if isinstance(columns.labels, tuple) else "lists",
        "value": "numbers",
        "tags": "spans" if columns.tokens is None else "tags",
        "answers": "answers",
        "annotators": "votes",
    }
    return Shape("label" if part == "annotators" else part, forms[part])


class _Part(Cells):
    """One column on its way to its canonical type."""

    def untouched(self, notes: list[str]) -> pa.ChunkedArray:
        """The column as it is."""
        return self.column

    def text(self, notes: list[str]) -> pa.ChunkedArray:
        """Texts; a missing one is empty, and noted."""
        self._refuse_nested()
        if not self.is_text and not pa.types.is_null(self.type):
            raise DataError(
                f"{self.source}: column '{self.name}' holds {self.type}, not text.",
                tip="Name the column of texts with --text COLUMN.",
            )
        missing = np.flatnonzero(pc.is_null(self.column).to_numpy())
        texts = pc.fill_null(self.column.cast(pa.string()), "")
        if len(missing):
            verb = "text is" if len(missing) == 1 else "texts are"
            some = self.named(missing)
            notes.append(
                f"{self.source}: {len(missing)} {verb} missing in column '{self.name}' and read as empty (row {some})."
            )
        self._refuse_long(texts)
        return texts

    def weight(self, notes: list[str]) -> pa.ChunkedArray:
        """Weights as float64: finite, none below 0, not all 0."""
        values = self.numbers()
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(wrong):
            place = int(wrong[0])
            found = self.column[place].as_py()
            raise DataError(
                f"{self.where(place)}: column '{self.name}' must be a number of at least 0. Got {found!r} instead.",
                tip="A weight says how much a row counts; 1 is usual. Rename the column if it is no weight.",
            )
        if len(values) and not values.any():
            raise DataError(
                f"{self.source}: every weight in column '{self.name}' is 0.",
                tip="Nothing could be learned from it.",
            )
        return pa.chunked_array([pa.array(values, pa.float64())])

    def _refuse_nested(self) -> None:
        row = (self.field.metadata or {}).get(NESTED)
        if row is None and not pa.types.is_nested(self.type):
            return
        first = self.first_valid() if row is None else int(row) - 1
        raise DataError(
            f"{self.where(first)}: column '{self.name}' holds a list or an object, where one text is expected.",
            tip="Join its parts into one text, or name another column with --text.",
        )

    def _refuse_long(self, texts: pa.ChunkedArray) -> None:
        if (pc.max(pc.binary_length(texts)).as_py() or 0) <= LONGEST_CELL:
            return
        lengths = pc.utf8_length(texts).to_numpy()
        if lengths.max() > LONGEST_CELL:
            place = int(lengths.argmax())
            raise long_cell(self.where(place), self.name, int(lengths.max()))


_CONVERSIONS: dict[str, Callable[[_Part, list[str]], pa.ChunkedArray]] = {
    "text": _Part.text,
    "text_pair": _Part.text,
    "weight": _Part.weight,
}


__all__ = ["canonical"]
