"""One column of the user's: its cells, its name, and words for where they stand."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.batches import NESTED
from bertsmith.errors import DataError

FLOAT = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_SHOWN = 5
_PIECE = 50_000
_SAMPLE = 200
_LISTED = re.compile(r"\s*(\[.*\]|\{.*\})\s*", re.DOTALL)
_NO_ARRAY = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, UnicodeEncodeError, OverflowError)


class Cells:
    """One column on its way to its canonical type.

    Args:
        table: The user's columns.
        name: The one that is meant.
        where: Names the row at a position (from 0) for people.
        source: What the table is called in messages.
    """

    def __init__(self, table: pa.Table, name: str, where: Callable[[int], str], source: str) -> None:
        self.name = name
        self.where = where
        self.source = source
        self.field = table.schema.field(name)
        column = table.column(name)
        is_dictionary = pa.types.is_dictionary(column.type)
        self.column: pa.ChunkedArray = column.cast(column.type.value_type) if is_dictionary else column
        self.type: pa.DataType = self.column.type

    def __len__(self) -> int:
        return len(self.column)

    @property
    def is_text(self) -> bool:
        """Whether the cells are strings."""
        kind = self.type
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))

    @property
    def is_nested(self) -> bool:
        """Whether the cells hold lists or objects: as such, as JSON, or as Python prints them (in a CSV)."""
        if pa.types.is_nested(self.type) or NESTED in (self.field.metadata or {}):
            return True
        if not self.is_text:
            return False
        cells = [cell for cell in self.column.slice(0, _SAMPLE).to_pylist() if cell]
        return bool(cells) and all(_LISTED.fullmatch(cell) and not isinstance(_value(cell), str) for cell in cells)

    def nested(self, rows: int | None = None) -> pa.ChunkedArray:
        """Read the cells as Arrow's lists or structs.

        Args:
            rows: Only the first so many; None for all.

        Raises:
            DataError: Cells hold neither, or are unlike each other.
        """
        column = self.column if rows is None else self.column.slice(0, rows)
        if pa.types.is_nested(self.type):
            return _as_lists(column)
        pieces = [self._piece(column, start) for start in range(0, len(column), _PIECE)]
        tables = [pa.table({"cells": piece}) for piece in pieces or [pa.array([], pa.list_(pa.null()))]]
        try:
            whole = pa.concat_tables(tables, promote_options="permissive").column("cells")
        except _NO_ARRAY as error:
            raise self._unlike([_value(cell) for cell in column.to_pylist()], 0) from error
        if not pa.types.is_nested(whole.type) and not pa.types.is_null(whole.type):
            self.refuse_plain()
        return whole if pa.types.is_nested(whole.type) else whole.cast(pa.list_(pa.null()))

    def lists(self) -> pa.ListArray:
        """Read the cells as lists.

        Raises:
            DataError: They are something else.
        """
        found = self.nested() if self.is_nested else self.column
        if pa.types.is_null(found.type):
            found = found.cast(pa.list_(pa.null()))
        if not pa.types.is_list(found.type):
            self.refuse_plain()
        return as_array(found)

    def refuse_plain(self) -> None:
        """Refuse cells that are no lists."""
        place = self.first_valid()
        raise DataError(
            f"{self.where(place)}: column '{self.name}' holds {shown(self.column[place].as_py())}, "
            "where a list is expected.",
            tip="Write lists as JSON, Parquet or Python have them.",
        )

    def first_valid(self) -> int:
        """The position of the first cell that is there; 0 where none is."""
        return max(0, int(pc.index(pc.is_valid(self.column), True).as_py()))

    def named(self, places: np.ndarray[Any, Any]) -> str:
        """Name the first few rows."""
        names = (self.where(int(place)) for place in places[:_SHOWN])
        some = ", ".join(name.removeprefix(f"{self.source}: row ") for name in names)
        return f"{some}, …" if len(places) > _SHOWN else some

    def refuse_missing(self, missing: np.ndarray[Any, np.dtype[np.bool_]], expected: str) -> None:
        """Refuse rows without a gold answer.

        Args:
            missing: Which rows have none, `(rows,)`.
            expected: What a row needs, as a sentence without its full stop.
        """
        places = np.flatnonzero(missing)
        if len(places):
            verb = "row is" if len(places) == 1 else "rows are"
            raise DataError(
                f"{self.where(int(places[0]))}: column '{self.name}' is empty. {expected}.",
                tip=f"{len(places)} {verb} so: {self.named(places)}. Fill them in, or drop them.",
            )

    def numbers(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Read the cells as float64; NaN where one is no number."""
        if self.is_text:
            text = self.column.cast(pa.string())
            usable = pc.fill_null(pc.match_substring_regex(text, FLOAT), False)
            text = pc.utf8_trim_whitespace(pc.if_else(usable, text, pa.scalar(None, pa.string())))
            return np.asarray(text.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        kind = self.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            return np.full(len(self.column), np.nan)
        numbers = self.column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return np.asarray(numbers, dtype=np.float64)

    def _piece(self, column: pa.ChunkedArray, start: int) -> pa.Array:
        values = [_value(cell) for cell in column.slice(start, _PIECE).to_pylist()]
        try:
            return pa.array(values)
        except _NO_ARRAY as error:
            raise self._unlike(values, start) from error

    def _unlike(self, values: Sequence[Any], start: int) -> DataError:
        """Word the error for cells of several kinds: the first that is not like the first."""
        kinds = [_kind(value) for value in values]
        first = next(place for place, kind in enumerate(kinds) if kind)
        other = next((place for place, kind in enumerate(kinds) if kind not in {"", kinds[first]}), first)
        return DataError(
            f"{self.where(start + other)}: column '{self.name}' holds {shown(values[other])}, {kinds[other]}, "
            f"where {kinds[first]} is expected, as in the rows before.",
            tip="Give every row of the column the same kind of value.",
        )


def as_array(column: pa.ChunkedArray) -> pa.Array:
    """Put the chunks of a column into one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def shown(value: Any) -> str:
    """Show a value in a message, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _as_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return column.cast(pa.list_(kind.value_type))
    return column


def _value(cell: str | None) -> Any:
    """Read a cell as JSON, or as Python prints lists; what is neither stays text."""
    if cell is None or not cell.strip():
        return None
    try:
        return _with_objects(json.loads(cell))
    except (ValueError, RecursionError):
        pass
    try:
        return _with_objects(ast.literal_eval(cell.strip()))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return cell


def _with_objects(value: Any) -> Any:
    """Name the parts of spans that are written as [start, end, label]."""
    if isinstance(value, list) and value and all(_is_triple(each) for each in value):
        return [dict(zip(("start", "end", "label"), each, strict=True)) for each in value]
    return value


def _is_triple(value: Any) -> bool:
    return isinstance(value, list | tuple) and [type(each) for each in value] == [int, int, str]


def _kind(value: Any) -> str:
    """Say what a value is; "" for what goes with any list."""
    if value is None or value == []:
        return ""
    if isinstance(value, list | tuple):
        kinds = {_kind(each).split(" ")[1] for each in value if _kind(each)}
        return f"a list of {kinds.pop()}s" if len(kinds) == 1 else "a list of unlike values"
    if isinstance(value, bool | str):
        return "a text" if isinstance(value, str) else "a flag"
    return "an object" if isinstance(value, dict) else "a number"


__all__ = ["FLOAT", "Cells", "as_array", "shown"]
