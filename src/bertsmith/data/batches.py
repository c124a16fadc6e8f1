"""What every file format gives: batches of rows with a schema, and the rules that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.errors import DataError

LONGEST_CELL = 5_000_000
"""Characters a cell may have; more is a broken file (all of War and Peace has 3.2 million)."""

NESTED = b"bertsmith.nested_row"
"""Metadata of a field whose values are lists or objects: the first row where one is."""


@dataclass(frozen=True)
class FileBatches:
    """The rows of one file, read in batches as often as wanted, in constant memory.

    Attributes:
        schema: The user's columns as they are delivered.
        batches: Starts reading; each call reads the file anew.
        notes: What was chosen on the user's behalf, one sentence each.
    """

    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.batches()

    def table(self) -> pa.Table:
        """Read all of it."""
        return pa.Table.from_batches(self, schema=self.schema)


def check_names(where: str, names: list[str]) -> None:
    """Refuse a table in which two columns have the same name.

    Raises:
        DataError: It has.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        places = ", ".join(str(place) for place, name in enumerate(names, 1) if name == twice[0])
        raise DataError(
            f"{where}: {names.count(twice[0])} columns are named '{twice[0]}' (columns {places}).",
            tip="Give every column a name of its own.",
        )


def check_cells(where: str, batch: pa.RecordBatch, *, start: int) -> None:
    """Refuse a cell that is far too long; `start` rows came before this batch.

    Raises:
        DataError: Such a cell is there.
    """
    for field, column in zip(batch.schema, batch.columns, strict=True):
        is_string = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if not is_string or NESTED in (field.metadata or {}):
            continue
        if (pc.max(pc.binary_length(column)).as_py() or 0) > LONGEST_CELL:
            lengths = pc.fill_null(pc.utf8_length(column), 0).to_numpy(zero_copy_only=False)
            if lengths.max() > LONGEST_CELL:
                raise long_cell(f"{where}: row {start + int(lengths.argmax()) + 1}", field.name, int(lengths.max()))


def long_cell(where: str, column: str, length: int) -> DataError:
    """Word the error for a cell that is far too long."""
    return DataError(
        f"{where}: the cell in column '{column}' has {length:,} characters. At most {LONGEST_CELL:,} are read.",
        tip='Drop or cut the row. In a CSV the usual cause is a quote (") that is opened and never closed.',
    )
