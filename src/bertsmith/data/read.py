"""Read: a file, a folder, a Hub data set or a Python object becomes Examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from bertsmith.data import hub
from bertsmith.data.canonical import canonical
from bertsmith.data.columns import find_columns, match_column, no_column
from bertsmith.data.files import open_batches, read_folder
from bertsmith.data.sameness import refuse_sameness
from bertsmith.data.tables import Part, Parts, as_parts
from bertsmith.errors import DataError, UsageError
from bertsmith.examples import Columns, Examples
from bertsmith.recipe import Read


def read(data: Any, settings: Read, *, labelled: bool = True) -> Examples:
    """Read labelled texts, or texts alone.

    Nothing is guessed about values: "NA", "null" and "1.0" are text, labels are kept as they are written.

    Args:
        data: A path, or a Python object (see `bertsmith.data.tables.as_parts`); ignored when
            `settings.dataset` names a data set of the Hub.
        settings: Which column is which, files of given sides, encoding.
        labelled: True when every row needs a label. Otherwise a column of labels is kept when found by name.

    Raises:
        UsageError: A path, a column or a data set is not there.
        DataError: The data is broken, empty, or has rows without a label or labels of one kind only.
    """
    gathered = _with_given_files(_main(data, settings, labelled=labelled), settings)
    main = gathered.parts[0]
    if not main.table.num_rows:
        raise DataError(f"{main.name}: no rows, only column names.", tip="Is it the right file?")
    found = find_columns(main.table, settings, source=main.name, labelled=labelled)
    columns = found.columns
    placed = [_columns_in(part, columns) for part in gathered.parts]
    tables, notes = [], [*gathered.notes, f"{found.note}.", *([found.told] if found.told else [])]
    for part, here in zip(gathered.parts, placed, strict=True):
        table, more = canonical(
            part.table, here, where=part.where, source=part.name, labelled=labelled, shape=found.shape
        )
        tables.append(table)
        notes += more
    table = _joined(tables)
    if labelled:
        refuse_sameness(table, main.name, columns)
    if "answers" in table.column_names and "group" not in table.column_names:
        # Questions about one context stay on one side of the split: to have learned from one is to know the others'.
        table = table.append_column("group", table.column("text_pair"))
    extra = _extra(gathered.parts, placed)
    return Examples(_with_places(table, gathered.parts), columns, main.name, extra, tuple(notes))


def _main(data: Any, settings: Read, *, labelled: bool) -> Parts:
    """Read DATA, wherever it is."""
    if settings.dataset:
        if data is not None and data != "":
            raise UsageError("DATA and --dataset are both given.", tip="Give one of them.")
        return as_parts(hub.load(settings.dataset), labelled=labelled, name=settings.dataset)
    if data is None or data == "" if isinstance(data, str | None) else False:
        raise UsageError("no data given.", tip="Give a file, a folder, or --dataset NAME.")
    if isinstance(data, str | Path):
        return _from_path(Path(data), settings)
    return as_parts(data, labelled=labelled)


def _from_path(path: Path, settings: Read, given: Literal["validation", "test"] | None = None) -> Parts:
    if path.is_dir():
        table, notes = read_folder(path, encoding=settings.encoding)
        return Parts((Part(table.drop_columns("file"), str(path), given, table.column("file")),), notes)
    batches = open_batches(path, encoding=settings.encoding, task=settings.task)
    return Parts((Part(batches.table(), str(path), given),), batches.notes)


def _with_given_files(main: Parts, settings: Read) -> Parts:
    """Add the files of given sides; they take the place of splits that the data has itself."""
    parts, notes = list(main.parts), list(main.notes)
    for side, path in (("validation", settings.validation), ("test", settings.test)):
        if not path:
            continue
        notes += [f"{part.name}: left out for {path}." for part in parts if part.given == side]
        parts = [part for part in parts if part.given != side]
        added = _from_path(Path(path), settings, "validation" if side == "validation" else "test")
        parts += added.parts
        notes += added.notes
    return Parts(tuple(parts), tuple(notes))


def _columns_in(part: Part, columns: Columns) -> Columns:
    """Find the same columns in another table.

    Raises:
        DataError: One is missing, or the table has no rows.
    """
    if not part.table.num_rows:
        raise DataError(f"{part.name}: no rows, only column names.", tip="Is it the right file?")
    names: dict[str, Any] = {}
    for role, wanted in columns.names().items():
        found = tuple(_same_column(part, name) for name in wanted)
        names[role] = found if isinstance(getattr(columns, role), tuple) else found[0]
    return dataclasses.replace(columns, **names)


def _same_column(part: Part, name: str) -> str:
    found = match_column(name, part.table.column_names)
    if found is None:
        raise DataError(
            no_column(part.name, name, part.table.column_names), tip="It needs the same columns as the other rows."
        )
    return found


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables below each other; a column whose type differs from one to the next becomes text."""
    types: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            types.setdefault(field.name, set()).add(field.type)
    mixed = {name for name, found in types.items() if len(found - {pa.null()}) > 1}
    aligned = [_as_text(table, mixed) for table in tables]
    return pa.concat_tables(aligned, promote_options="default")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in names:
            table = table.set_column(place, name, _written(table.column(name)))
    return table


def _written(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return pa.chunked_array([[None if each is None else str(each) for each in column.to_pylist()]], pa.string())
    return column.cast(pa.string())


def _extra(parts: Sequence[Part], placed: Sequence[Columns]) -> pa.Table | None:
    """Collect the user's other columns."""
    tables = [
        part.table.drop_columns([*dict.fromkeys(name for names in columns.names().values() for name in names)])
        for part, columns in zip(parts, placed, strict=True)
    ]
    if not any(table.num_columns for table in tables):
        return None
    # A table without columns forgets how many rows it has.
    first = next(field for table in tables for field in table.schema)
    filled = [
        table if table.num_columns else pa.table({first.name: pa.nulls(part.table.num_rows, first.type)})
        for table, part in zip(tables, parts, strict=True)
    ]
    return _joined(filled)


def _with_places(table: pa.Table, parts: Sequence[Part]) -> pa.Table:
    """Add where each row comes from: `file`, `row` and `given`."""
    names: list[str] = []
    indices, rows, given = [], [], []
    for part in parts:
        count = part.table.num_rows
        files = pa.chunked_array([[part.name]]) if part.files is None else part.files
        indices.append(np.arange(count if part.files is not None else 1, dtype=np.int32) + len(names))
        if part.files is None:
            indices[-1] = np.repeat(indices[-1], count)
        rows.append(np.arange(1, count + 1) if part.files is None else np.ones(count, np.int64))
        given.append(pa.array([part.given], pa.string()).take(pa.array(np.zeros(count, np.int64))))
        names += files.to_pylist()
    file = pa.DictionaryArray.from_arrays(pa.array(np.concatenate(indices)), pa.array(names, pa.string()))
    table = table.append_column("file", file)
    table = table.append_column("row", pa.array(np.concatenate(rows), pa.int64()))
    return table.append_column("given", pa.chunked_array(given))


__all__ = ["read"]
