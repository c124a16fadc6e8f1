"""Reading the `time` column: numbers or dates that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.errors import DataError
from bertsmith.examples import Examples

Ints = np.ndarray[Any, np.dtype[np.int64]]


def read_times(examples: Examples, rows: Ints) -> np.ndarray[Any, Any]:
    """Read the `time` column of some rows as numbers that can be compared, `(rows,)`.

    Strings are numbers or ISO 8601 dates; a date without a zone counts as UTC.

    Raises:
        DataError: A time is empty, or is neither.
    """
    column = examples.column("time").take(pa.array(rows))
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
        column = pc.if_else(pc.equal(column, ""), None, column)
    _refuse_empty(examples, rows, column)
    if not pa.types.is_large_string(column.type):
        return _comparable(column)
    if _fits(column.slice(0, 1), pa.float64()):
        kind = pa.int64() if _fits(column, pa.int64()) else pa.float64()
        return _read(examples, rows, column, kind)
    return _read(examples, rows, _zoned(column), pa.timestamp("us", "UTC"))


def _refuse_empty(examples: Examples, rows: Ints, column: pa.ChunkedArray) -> None:
    empty = rows[pc.is_null(column, nan_is_null=True).to_numpy()]
    if len(empty):
        raise DataError(
            f"{_where(examples, empty[0])} is empty. Every row needs a time.",
            tip=f"{len(empty)} rows are so. Fill them in, or leave the column out for a split by chance.",
        )


def _read(examples: Examples, rows: Ints, column: pa.ChunkedArray, kind: pa.DataType) -> np.ndarray[Any, Any]:
    """Cast strings to `kind`, or name the first that cannot be."""
    if _fits(column, kind):
        return _comparable(column.cast(kind))
    first, end = 0, len(column)
    while end - first > 1:
        middle = (first + end) // 2
        first, end = (middle, end) if _fits(column.slice(first, middle - first), kind) else (first, middle)
    expected = "an ISO date such as 2026-11-21 or 2026-11-21T09:30Z" if pa.types.is_timestamp(kind) else "a number"
    found = examples.column("time")[int(rows[first])].as_py()
    raise DataError(
        f"{_where(examples, rows[first])} is {found!r}. Expected {expected}.",
        tip="All times must be numbers, or all ISO dates, as in the first row.",
    )


def _fits(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    try:
        read = column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return not pa.types.is_floating(kind) or bool(pc.all(pc.is_finite(read)).as_py())


def _zoned(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Complete ISO dates to a form that Arrow reads: day, time, at most microseconds, and a zone."""
    days = pc.replace_substring_regex(column, r"^(\d{4}-\d{2})$", r"\1-01")
    moments = pc.replace_substring_regex(days, r"^(\d{4}-\d{2}-\d{2})$", r"\1T00:00Z")
    short = pc.replace_substring_regex(moments, r"(\.\d{6})\d+", r"\1")
    return pc.replace_substring_regex(short, r"([T ][\d:.]+)$", r"\1Z")


def place(examples: Examples, position: int) -> str:
    """Name one row for a message: `reviews.csv: row 118`."""
    file, _, row = examples.where([int(position)], 1)[0].rpartition(":")
    return f"{file}: row {row}"


def source_name(examples: Examples, part: str) -> str:
    """Return what the user's file calls a canonical column."""
    return str(getattr(examples.columns, part) or part)


def _where(examples: Examples, position: int) -> str:
    return f"{place(examples, position)}: column '{source_name(examples, 'time')}'"


def _comparable(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    return np.asarray(column.to_numpy())
