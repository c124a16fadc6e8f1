"""Gold answers that are all alike: nothing can be learned from them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.errors import DataError
from bertsmith.examples import Columns

_RIGHT = "Is it the right column? Name another with --label COLUMN."


def refuse_sameness(table: pa.Table, source: str, columns: Columns) -> None:
    """Refuse a table whose rows all have the same gold answer.

    Args:
        table: Canonical columns.
        source: What the table is called in messages.
        columns: What the canonical columns are called.

    Raises:
        DataError: One label, one number or one tag only; or no label, or no answer, at all.
    """
    role = next((each for each in ("label", "labels", "value", "tags", "answers") if each in table.column_names), None)
    if role is None:
        return
    column, name = table.column(role), columns.used().get(role, columns.used().get("annotators", role))
    if role == "answers":
        if not pc.sum(pc.list_value_length(column)).as_py():
            raise DataError(f"{source}: column '{name}' has no answer at all.", tip=_RIGHT)
        return
    distinct = _distinct(table, role)
    if role == "labels" and not len(distinct):
        raise DataError(f"{source}: column '{name}' has no label at all.", tip=_RIGHT)
    if role != "labels" and len(distinct) < 2:
        kind = {"label": "label", "value": "number", "tags": "tag"}[role]
        raise DataError(
            f"{source}: column '{name}' has one {kind} only, {distinct[0].as_py()!r}. At least two are needed.",
            tip=_RIGHT,
        )


def _distinct(table: pa.Table, role: str) -> pa.Array:
    """The different labels, numbers or tags; a soft label counts wherever it has a share."""
    column = table.column(role)
    if "shares" in table.column_names:
        shares = pc.list_flatten(table.column("shares"))
        return pc.struct_field(shares, "name").filter(pc.greater(pc.struct_field(shares, "share"), 0)).unique()
    return (pc.list_flatten(column) if role in {"labels", "tags"} else column).unique()


__all__ = ["refuse_sameness"]
