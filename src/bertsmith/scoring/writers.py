"""Files of answers: CSV, TSV, JSONL and Parquet, written batch by batch; there when they are whole."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from bertsmith.atomic import replacing
from bertsmith.data.batches import NESTED
from bertsmith.errors import UsageError

Write = Callable[[pa.RecordBatch], object]
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@contextlib.contextmanager
def open_writer(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Open a file for batches of `schema`; it appears under its name when the block ends well.

    Raises:
        UsageError: The ending is unknown, or the folder cannot be written to.
    """
    ending = check_ending(path)
    try:
        with replacing(path) as temporary:
            if ending == ".parquet":
                with pq.ParquetWriter(temporary, schema) as writer:
                    yield writer.write_batch
            elif ending in {".jsonl", ".ndjson"}:
                with temporary.open("w", encoding="utf-8", newline="\n") as file:
                    nested = {each.name for each in schema if NESTED in (each.metadata or {})}
                    yield lambda batch: file.writelines(_as_lines(batch, nested))
            else:
                options = csv.WriteOptions(delimiter="\t" if ending == ".tsv" else ",", quoting_style="needed")
                flat = pa.schema([pa.field(each.name, _flat_type(each.type)) for each in schema])
                with csv.CSVWriter(temporary, flat, write_options=options) as writer:
                    yield lambda batch: writer.write_batch(_flattened(batch, flat))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {error.strerror or error}.", tip="Choose another --out."
        ) from error


def check_ending(path: Path) -> str:
    """Return the ending of a file that can be written.

    Raises:
        UsageError: It is none of those.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        found = f"Got {ending!r} instead." if ending else "The name has none."
        raise UsageError(f"{path}: the ending must be one of {', '.join(ENDINGS)}. {found}")
    return ending


def _as_lines(batch: pa.RecordBatch, nested: set[str]) -> Iterator[str]:
    for row in batch.to_pylist():
        # Lists and objects of a JSON file come as JSON text; they are written as what they were.
        for name in nested:
            with contextlib.suppress(TypeError, ValueError):
                row[name] = json.loads(row[name])
        # JSON has no NaN: what is no number is null.
        clean = {name: None if value != value else value for name, value in row.items()}  # noqa: PLR0124
        yield json.dumps(clean, ensure_ascii=False, default=str) + "\n"


def _flat_type(kind: pa.DataType) -> pa.DataType:
    """CSV holds flat values only; lists and objects are written as JSON text."""
    return pa.string() if pa.types.is_nested(kind) or pa.types.is_dictionary(kind) else kind


def _flattened(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        if pa.types.is_nested(column.type):
            texts = [
                None if value is None else json.dumps(value, ensure_ascii=False, default=str)
                for value in column.to_pylist()
            ]
            columns.append(pa.array(texts, pa.string()))
        else:
            columns.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
