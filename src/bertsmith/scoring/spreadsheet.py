"""Cells that a spreadsheet would run as a formula get an apostrophe in front (OWASP, *CSV Injection*)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_RUNS = "^[=+\\-@\t\r\n＝＋－＠]"  # noqa: RUF001 - spreadsheets of East Asia take the wide ones for the narrow
_NUMBER = r"^[+-]?(\d+([.,]\d+)*|[.,]\d+)([eE][+-]?\d+)?\s?%?$"


def safe_name(name: str) -> str:
    """Make the name of a column safe.

    >>> safe_name("=cmd"), safe_name("text")
    ("'=cmd", 'text')
    """
    return str(_safe(pa.array([name])).to_pylist()[0])


def safe_schema(schema: pa.Schema) -> pa.Schema:
    """Make the names of columns safe."""
    return pa.schema([field.with_name(safe_name(field.name)) for field in schema])


def safe_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Make the texts of a batch safe; numbers, also those that stand as text, are left as they are."""
    columns = [_safe(column) if _is_text(column.type) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=safe_schema(batch.schema))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _safe(column: pa.Array) -> pa.Array:
    runs = pc.match_substring_regex(column, _RUNS)
    if not pc.any(runs).as_py():
        return column
    wanted = pc.and_(runs, pc.invert(pc.match_substring_regex(column, _NUMBER)))
    marked = pc.binary_join_element_wise(pa.scalar("'", column.type), column, pa.scalar("", column.type))
    return pc.if_else(wanted, marked, column)
