"""Python objects become Arrow tables: lists, dicts, Arrow, pandas, polars, and `datasets` with splits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.batches import NESTED, check_names
from bertsmith.data.lists import Flat
from bertsmith.data.values import arrow_array, arrow_type, joined_kind, kind_of
from bertsmith.errors import DataError, UsageError

ACCEPTED = (
    "a path, a list of (text, label) pairs, a list of dicts, a dict of lists, an Arrow, pandas or polars "
    "table, or a datasets.Dataset or DatasetDict"
)
MEMORY = "data"
"""What a Python object is called in messages."""

_SIDES: dict[str, Literal["validation", "test"]] = {
    "validation": "validation",
    "dev": "validation",
    "val": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Part:
    """One table of the user's.

    Attributes:
        table: Its columns as they are.
        name: What it is called in messages.
        given: The side that it was given for, or None.
        files: In a folder of texts, the file of each row (inside that folder), string; else None.
    """

    table: pa.Table
    name: str
    given: Literal["validation", "test"] | None = None
    files: pa.ChunkedArray | None = None

    def where(self, place: int) -> str:
        """Name the row at a position (from 0) for people."""
        if self.files is not None:
            return f"{self.name}/{self.files[place].as_py()}"
        return f"{self.name}: row {place + 1}"


@dataclass(frozen=True)
class Parts:
    """All tables of one source, the one to be split first, and notes about the others."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()


def as_parts(data: Any, *, labelled: bool = True, name: str = MEMORY) -> Parts:
    """Turn a Python object into tables.

    Args:
        data: A list of (text, label) pairs, of dicts, or (without labels) of texts; a dict of lists; an
            Arrow, pandas or polars table; a `datasets.Dataset`, or a `DatasetDict`, whose splits `validation`
            (also `dev`, `val`) and `test` become given sides.
        labelled: False when texts alone are enough.
        name: What it is called in messages.

    Raises:
        UsageError: It is something else.
        DataError: Its rows do not fit together.
    """
    if _is_from(data, "datasets") and isinstance(data, Mapping):
        return _splits(data, name)
    return Parts((Part(as_table(data, labelled=labelled, name=name), name),))


def as_table(data: Any, *, labelled: bool = True, name: str = MEMORY) -> pa.Table:
    """Turn one Python object into a table; arguments and errors as in `as_parts`."""
    if isinstance(data, pa.Table | pa.RecordBatch):
        table = data if isinstance(data, pa.Table) else pa.Table.from_batches([data])
    elif _is_from(data, "pandas", "polars", "datasets"):
        table = _from_library(data, name)
    elif isinstance(data, Mapping):
        table = _from_dict(data, name)
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
        table = _from_rows(data, labelled=labelled, name=name)
    else:
        raise UsageError(f"{type(data).__name__} cannot be read as data.", tip=f"Give {ACCEPTED}.")
    check_names(name, table.column_names)
    return table


def _is_from(data: Any, *packages: str) -> bool:
    """Whether an object is a library's own, without importing that library."""
    return any(each.__module__.partition(".")[0] in packages for each in type(data).__mro__)


def _from_rows(rows: Sequence[Any], *, labelled: bool, name: str) -> pa.Table:
    if not len(rows):
        raise DataError(f"{name}: no rows.", tip="At least two rows with different labels are needed.")
    first = rows[0]
    if isinstance(first, Mapping):
        _check_rows(rows, Mapping, "a dict", name)
        columns = dict.fromkeys(key for row in rows for key in row)
        return _from_dict({key: [row.get(key) for row in rows] for key in columns}, name)
    if isinstance(first, str) and not labelled:
        _check_rows(rows, str, "a text", name)
        return _from_dict({"text": rows}, name)
    return _from_pairs(rows, name)


def _from_pairs(rows: Sequence[Any], name: str) -> pa.Table:
    for row, pair in enumerate(rows, 1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            found = f"{type(pair).__name__} of {len(pair)}" if isinstance(pair, tuple | list) else type(pair).__name__
            raise DataError(
                f"{name}: row {row}: a pair (text, label) is expected, {found} found.",
                tip=f"Give {ACCEPTED}.",
            )
    return _from_dict({"text": [pair[0] for pair in rows], "label": [pair[1] for pair in rows]}, name)


def _check_rows(rows: Iterable[Any], kind: type, called: str, name: str) -> None:
    for row, value in enumerate(rows, 1):
        if not isinstance(value, kind):
            raise DataError(f"{name}: row {row}: {called} is expected, {type(value).__name__} found.")


def _from_dict(columns: Mapping[Any, Any], name: str) -> pa.Table:
    lengths = {str(key): len(values) for key, values in columns.items() if _is_list(values)}
    wrong = [str(key) for key, values in columns.items() if not _is_list(values)]
    if wrong:
        raise DataError(f"{name}: '{wrong[0]}' must be a list of values, one a row.", tip=f"Give {ACCEPTED}.")
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"'{key}' has {length}" for key, length in lengths.items())
        raise DataError(f"{name}: the columns differ in length: {shown}.")
    made = [_column(str(key), values, name) for key, values in columns.items()]
    return pa.Table.from_arrays([array for _, array in made], schema=pa.schema([field for field, _ in made]))


def _is_list(values: Any) -> TypeGuard[Sequence[Any]]:
    return hasattr(values, "__len__") and hasattr(values, "__iter__") and not isinstance(values, str | bytes | Mapping)


def _column(key: str, values: Sequence[Any], name: str) -> tuple[pa.Field, pa.Array]:
    """Make a column from Python values; numpy's numbers and arrays count as Python's."""
    plain = [value.tolist() if _is_from(value, "numpy") and hasattr(value, "tolist") else value for value in values]
    kind, nested_row = "null", 0
    for row, value in enumerate(plain, 1):
        found = kind_of(value)
        kind = joined_kind(kind, found)
        nested_row = nested_row or (row if found == "nested" else 0)
    if kind == "nested":
        return _odd_column(key, plain, name, nested_row)
    array = arrow_array(plain, kind, source=name, name=key)
    return pa.field(key, arrow_type(kind)), array


def _odd_column(key: str, values: list[Any], name: str, row: int) -> tuple[pa.Field, pa.Array]:
    """Keep dates and the like as Arrow has them; lists and unlike objects are kept as words, and marked."""
    try:
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        array = arrow_array([_as_words(value) for value in values], "text", source=name, name=key)
        return pa.field(key, array.type, metadata={NESTED: str(row)}), array
    return pa.field(key, array.type), array


def _as_words(value: Any) -> str | None:
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return None if value is None else str(value)


def _from_library(data: Any, name: str) -> pa.Table:
    """Turn a table of pandas, polars or datasets into Arrow's."""
    if _is_from(data, "datasets"):
        return _from_dataset(data, name)
    if type(data).__name__ != "DataFrame":
        raise UsageError(f"{type(data).__name__} cannot be read as data.", tip="Give a DataFrame with its columns.")
    if _is_from(data, "polars"):
        return data.to_arrow()
    columns = [str(column) for column in data.columns]
    check_names(name, columns)
    try:
        return pa.Table.from_pandas(data, preserve_index=False).rename_columns(columns).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, UnicodeEncodeError):
        # A column of objects of several types: value by value, NaN and None being missing.
        cleaned = data.astype(object).where(data.notna(), None)
        return _from_dict({column: cleaned.iloc[:, place].tolist() for place, column in enumerate(columns)}, name)


def _from_dataset(data: Any, name: str) -> pa.Table:
    if type(data).__name__ != "Dataset":
        raise UsageError(
            f"{name}: {type(data).__name__} cannot be read as data.",
            tip="Load the data set without streaming=True.",
        )
    table = data.with_format("arrow")[:].replace_schema_metadata(None)
    for place, (column, feature) in enumerate(data.features.items()):
        if _is_class(feature):
            table = table.set_column(place, column, _class_names(table.column(column), feature.names))
        elif _is_class(getattr(feature, "feature", None)):
            table = table.set_column(place, column, _class_name_lists(table.column(column), feature.feature.names))
    return table


def _class_names(ids: pa.ChunkedArray, names: Sequence[str]) -> pa.ChunkedArray:
    """Turn a ClassLabel's ids into names; -1 is `datasets`' way to say that there is no label."""
    known = pc.if_else(pc.greater_equal(ids, 0), ids, pa.scalar(None, ids.type))
    return pc.take(pa.array(list(names), pa.string()), known)


def _class_name_lists(lists: pa.ChunkedArray, names: Sequence[str]) -> pa.ChunkedArray:
    """Turn lists of a ClassLabel's ids into lists of names."""
    kind = pa.list_(pa.string())
    flat = [Flat.of(chunk.cast(pa.list_(chunk.type.value_type))) for chunk in lists.chunks]
    named = [Flat(pa.array(list(names), pa.string()).take(each.values), each.parents, each.missing) for each in flat]
    return pa.chunked_array([each.lists() for each in named], kind)


def _hides_labels(dataset: Any) -> bool:
    """Whether every row has class -1, as the test rows of contests have."""
    classes = [column for column, feature in dataset.features.items() if _is_class(feature)]
    return any(set(dataset.unique(column)) == {-1} for column in classes)


def _is_class(feature: Any) -> bool:
    return hasattr(feature, "names") and hasattr(feature, "int2str")


def _splits(data: Mapping[str, Any], name: str) -> Parts:
    """Make `train` (or the only split) the table to be split; validation and test are given sides."""
    main = "train" if "train" in data else next(iter(data)) if len(data) == 1 else None
    if main is None:
        raise DataError(
            f"{name}: no split 'train'. Its splits are {', '.join(data)}.",
            tip="Give one of them: data['NAME'].",
        )
    parts = [Part(_from_dataset(data[main], name), f"{name}/{main}")]
    notes = []
    for split in data:
        side = _SIDES.get(split)
        taken = {part.given for part in parts}
        if split == main:
            continue
        if side is None or side in taken:
            count = len(data[split])
            notes.append(f"{name}: the split '{split}' ({count} row{'s' * (count != 1)}) was left out.")
        elif _hides_labels(data[split]):
            notes.append(f"{name}: the split '{split}' was left out, since its labels are kept secret (-1).")
        else:
            parts.append(Part(_from_dataset(data[split], name), f"{name}/{split}", side))
    return Parts(tuple(parts), tuple(notes))


__all__ = ["ACCEPTED", "MEMORY", "Part", "Parts", "as_parts", "as_table"]
