"""Corrections to learn from: of a feedback store, or of the CSV that `review` wrote and a person filled in."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.added_rows import Corrections
from bertsmith.data.files import read_table, require_there
from bertsmith.data.relabel import unguarded
from bertsmith.errors import DataError
from bertsmith.feedback.opening import open_store
from bertsmith.feedback.places import holds_sqlite, is_url, without_password

_NAMES = ("text", "text_pair", "correction")
_SCHEMA = pa.schema([(name, pa.string()) for name in _NAMES])


def corrections(place: str, *, before: str = "", encoding: str = "") -> Corrections:
    """Read what people said is right, oldest first.

    Args:
        place: A feedback store (an SQLite file, or a URL of PostgreSQL), or a file with columns `text`, `text_pair`
            where the model wants pairs, and `correction`: the CSV of `bertsmith review`. Empty corrections are
            passed over.
        before: A moment as ISO 8601: what came into a store later is not read, so that a run can be repeated while
            the store grows. "" reads all.
        encoding: Character encoding of such a file; "" is UTF-8.

    Raises:
        UsageError: There is no such store or file.
        DataError: It cannot be read, or a column is missing.
    """
    if is_url(place) or holds_sqlite(Path(place)):
        return _of_store(place, before)
    require_there(Path(place))
    return _of_file(place, encoding)


def now() -> str:
    """Say the present moment as `before` takes it."""
    return datetime.datetime.now(datetime.UTC).isoformat()


def _of_store(place: str, before: str) -> Corrections:
    with open_store(place) as store:
        from bertsmith.feedback.store import Wanted

        wanted = Wanted(corrected=True, before=datetime.datetime.fromisoformat(before) if before else None)
        rows = [(each.text, each.text_pair, each.correction) for each in store.entries(wanted)]
    columns = [pa.array(values, pa.string()) for values in zip(*rows, strict=True)] or [[], [], []]
    table = pa.table(dict(zip(_NAMES, columns, strict=True)), schema=_SCHEMA)
    return Corrections(table, without_password(place), pa.array(range(1, len(rows) + 1), pa.int64()))


def _of_file(place: str, encoding: str) -> Corrections:
    found = read_table(place, encoding=encoding)
    missing = [name for name in ("text", "correction") if name not in found.column_names]
    if missing:
        raise DataError(
            f"{place}: no column '{missing[0]}'. Its columns are {', '.join(found.column_names)}.",
            tip="Give a feedback store, or the CSV of bertsmith review, its column 'correction' filled in.",
        )
    columns = {name: _unguarded(found, name) for name in _NAMES}
    rows = pa.array(range(1, found.num_rows + 1), pa.int64())
    filled = pc.not_equal(pc.utf8_trim_whitespace(columns["correction"]), "")
    filled = pc.and_(filled, pc.not_equal(pc.utf8_trim_whitespace(columns["text"]), ""))
    return Corrections(pa.table(columns, schema=_SCHEMA).filter(filled), place, rows.filter(filled))


def _unguarded(table: pa.Table, name: str) -> pa.Array:
    """Take a column as text, without the quotes that keep a spreadsheet from running it."""
    if name not in table.column_names:
        return pa.array([""] * table.num_rows, pa.string())
    cells = pc.fill_null(table.column(name).cast(pa.string()), "").to_pylist()
    return pa.array([unguarded(cell) for cell in cells], pa.string())


__all__ = ["corrections", "now"]
