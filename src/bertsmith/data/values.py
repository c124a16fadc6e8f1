"""Python values become Arrow columns: one type where there is one, else text; never a guess about dates."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bertsmith.errors import DataError

_ARROW = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64()}
_INT64 = 1 << 63
_HALF_PAIR = re.compile("[\ud800-\udfff]")


def kind_of(value: Any) -> str:
    """Say what a value that JSON can hold is; whole numbers beyond 64 bits are kept as text.

    >>> [kind_of(value) for value in (None, True, 7, 0.5, "7", [7], 2**64)]
    ['null', 'bool', 'int', 'float', 'text', 'nested', 'text']
    """
    if value is None or isinstance(value, str):
        return "null" if value is None else "text"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -_INT64 <= value < _INT64 else "text"
    return "float" if isinstance(value, float) else "nested"


def joined_kind(left: str, right: str) -> str:
    """Say what a column is that holds both kinds; what does not fit together becomes text.

    >>> joined_kind("int", "float"), joined_kind("bool", "int"), joined_kind("null", "int")
    ('float', 'text', 'int')
    """
    kinds = {left, right} - {"null"}
    if "nested" in kinds:
        return "nested"
    if kinds == {"int", "float"}:
        return "float"
    return kinds.pop() if len(kinds) == 1 else "text" if kinds else "null"


def arrow_type(kind: str) -> pa.DataType:
    """Return the Arrow type of a kind."""
    return _ARROW.get(kind, pa.string())


def as_text(value: Any) -> str | None:
    """Write a value as a label is written: 1 as "1", True as "true", lists as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def arrow_array(values: Sequence[Any], kind: str, *, source: str, name: str, start: int = 0) -> pa.Array:
    """Make a column of one kind.

    Args:
        values: One a row.
        kind: The kind of the column, as `joined_kind` has it.
        source: What the values come from, for messages.
        name: The column's name, for messages.
        start: How many rows came before.

    Raises:
        DataError: A text holds half of a surrogate pair.
    """
    if kind == "float":
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kind in _ARROW:
        return pa.array(values, _ARROW[kind])
    texts = [as_text(value) for value in values]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError as error:
        bad = next(place for place, text in enumerate(texts) if text is not None and _HALF_PAIR.search(text))
        raise DataError(
            f"{source}: row {start + bad + 1}: column '{name}' holds half of a surrogate pair, which is no character.",
            tip="The text was cut within an emoji, or decoded wrongly. Mend or drop it.",
        ) from error
