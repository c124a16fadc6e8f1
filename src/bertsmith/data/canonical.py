"""The user's columns become canonical ones: text, label, text_pair, weight, id, group, time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.batches import LONGEST_CELL, NESTED, long_cell
from bertsmith.data.columns import no_column
from bertsmith.errors import DataError
from bertsmith.examples import Columns

_FLOAT = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_WHOLE = r"^[+-]?\d+$"
_SHOWN = 5
_SEVERAL = "One label a row is needed; rows with several labels cannot be learned from yet."


def canonical(
    table: pa.Table, columns: Columns, *, where: Callable[[int], str], source: str, labelled: bool = True
) -> tuple[pa.Table, tuple[str, ...]]:
    """Pick the columns that play a part, under their canonical names and types.

    Args:
        table: The user's columns.
        columns: Which plays which part.
        where: Names the row at a position (from 0), such as `reviews.csv: row 1`.
        source: What the table is called in messages.
        labelled: True when every row needs a label.

    Returns:
        The table, and notes about what was mended.

    Raises:
        DataError: A column is missing or of the wrong type, or a row has no label or a wrong weight.
    """
    notes: list[str] = []
    parts: dict[str, Any] = {}
    for part, name in columns.used().items():
        if name not in table.column_names:
            raise DataError(no_column(source, name, table.column_names), tip="It needs the same columns as DATA.")
        parts[part] = _Part(table, name, where, source)
    arrays = {part: _CONVERSIONS.get(part, _Part.untouched)(found, notes) for part, found in parts.items()}
    if "label" in parts and labelled:
        parts["label"].check_labels(arrays["label"])
    return pa.table(arrays), tuple(notes)


class _Part:
    """One column on its way to its canonical type."""

    def __init__(self, table: pa.Table, name: str, where: Callable[[int], str], source: str) -> None:
        self.name = name
        self.where = where
        self.source = source
        self.field = table.schema.field(name)
        column = table.column(name)
        is_dictionary = pa.types.is_dictionary(column.type)
        self.column: pa.ChunkedArray = column.cast(column.type.value_type) if is_dictionary else column
        self.type: pa.DataType = self.column.type

    def untouched(self, notes: list[str]) -> pa.ChunkedArray:
        """The column as it is."""
        return self.column

    def text(self, notes: list[str]) -> pa.ChunkedArray:
        """Texts; a missing one is empty, and noted."""
        self._refuse_nested("text")
        if not _is_string(self.type) and not pa.types.is_null(self.type):
            raise DataError(
                f"{self.source}: column '{self.name}' holds {self.type}, not text.",
                tip="Name the column of texts with --text COLUMN.",
            )
        missing = np.flatnonzero(pc.is_null(self.column).to_numpy())
        texts = pc.fill_null(self.column.cast(pa.string()), "")
        if len(missing):
            verb = "text is" if len(missing) == 1 else "texts are"
            some = self._named(missing)
            notes.append(
                f"{self.source}: {len(missing)} {verb} missing in column '{self.name}' and read as empty (row {some})."
            )
        self._refuse_long(texts)
        return texts

    def label(self, notes: list[str]) -> pa.ChunkedArray:
        """Labels as text: 1 is "1", true is "true", an empty cell is missing."""
        self._refuse_nested("label")
        if pa.types.is_boolean(self.type):
            return pc.if_else(self.column, "true", "false").cast(pa.string())
        if pa.types.is_floating(self.type) or pa.types.is_decimal(self.type):
            return self._float_labels()
        if pa.types.is_binary(self.type) or pa.types.is_large_binary(self.type):
            raise DataError(f"{self.source}: column '{self.name}' holds bytes, not labels.")
        labels = self.column.cast(pa.string())
        empty = pc.fill_null(pc.equal(labels, ""), False)
        return pc.if_else(empty, pa.scalar(None, pa.string()), labels)

    def weight(self, notes: list[str]) -> pa.ChunkedArray:
        """Weights as float64: finite, none below 0, not all 0."""
        values = self._numbers()
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

    def check_labels(self, labels: pa.ChunkedArray) -> None:
        """Refuse rows without a label, and labels that are measurements."""
        missing = np.flatnonzero(pc.is_null(labels).to_numpy())
        if len(missing):
            verb = "row is" if len(missing) == 1 else "rows are"
            some = self._named(missing)
            raise DataError(
                f"{self.where(int(missing[0]))}: column '{self.name}' is empty. Every row needs a label.",
                tip=f"{len(missing)} {verb} so: {some}. Fill them in, or drop them.",
            )
        floats = pc.match_substring_regex(labels, _FLOAT)
        broken = pc.invert(pc.match_substring_regex(labels, _WHOLE))
        if len(labels) and pc.all(floats).as_py() and pc.any(broken).as_py():
            place = int(pc.index(broken, True).as_py())
            raise self._floats(f"{self.where(place)}: label {labels[place].as_py()!r} in column '{self.name}'")

    def _float_labels(self) -> pa.ChunkedArray:
        place = int(pc.index(pc.is_valid(self.column), True).as_py())
        if place < 0:
            return self.column.cast(pa.string())
        raise self._floats(f"{self.where(place)}: label {self.column[place].as_py()} in column '{self.name}'")

    def _floats(self, found: str) -> DataError:
        return DataError(
            f"{found} is a number with a fraction or a point. Labels must be classes: names or whole numbers.",
            tip='Write classes as 0, 1, 2 (not 1.0), or put ranges into classes such as "low" and "high".',
        )

    def _numbers(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The values as float64; NaN where one is no number."""
        if _is_string(self.type):
            text = self.column.cast(pa.string())
            usable = pc.fill_null(pc.match_substring_regex(text, _FLOAT), False)
            text = pc.utf8_trim_whitespace(pc.if_else(usable, text, pa.scalar(None, pa.string())))
            return np.asarray(text.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        if not (pa.types.is_integer(self.type) or pa.types.is_floating(self.type)):
            return np.full(len(self.column), np.nan)
        numbers = self.column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return np.asarray(numbers, dtype=np.float64)

    def _refuse_nested(self, part: str) -> None:
        row = (self.field.metadata or {}).get(NESTED)
        if row is None and not pa.types.is_nested(self.type):
            return
        first = pc.index(pc.is_valid(self.column), True).as_py() if row is None else int(row) - 1
        tip = _SEVERAL if part == "label" else "Join its parts into one text, or name another column with --text."
        raise DataError(
            f"{self.where(max(0, int(first)))}: column '{self.name}' holds a list or an object, "
            f"where one {part} is expected.",
            tip=tip,
        )

    def _named(self, places: np.ndarray[Any, Any]) -> str:
        """Name the first few rows."""
        names = (self.where(int(place)) for place in places[:_SHOWN])
        some = ", ".join(name.removeprefix(f"{self.source}: row ") for name in names)
        return f"{some}, …" if len(places) > _SHOWN else some

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
    "label": _Part.label,
    "weight": _Part.weight,
}


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


__all__ = ["canonical"]
