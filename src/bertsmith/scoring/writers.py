"""Files of answers: CSV, TSV, JSONL and Parquet, written batch by batch; there when they are whole."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from bertsmith.atomic import replacing
from bertsmith.data.batches import NESTED
from bertsmith.errors import UsageError
from bertsmith.scoring.spreadsheet import safe_batch, safe_schema

Write = Callable[[pa.RecordBatch], object]
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@contextlib.contextmanager
def open_writer(path: Path, schema: pa.Schema, *, spreadsheet_safe: bool = False) -> Iterator[Write]:
    """Open a file for batches of `schema`; it appears under its name when the block ends well.

    Raises:
        UsageError: The ending is unknown, or the folder cannot be written to.
    """
    check_ending(path, spreadsheet_safe=spreadsheet_safe)
    with (
        cannot_be_written(path),
        replacing(path) as temporary,
        writing(temporary, schema, name=path.name, spreadsheet_safe=spreadsheet_safe) as write,
    ):
        yield write


@contextlib.contextmanager
def cannot_be_written(path: Path) -> Iterator[None]:
    """Word the system's reason where a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written: {error.strerror or error}.", tip="Choose another --out."
        ) from error


@contextlib.contextmanager
def writing(path: Path, schema: pa.Schema, *, name: str, spreadsheet_safe: bool = False) -> Iterator[Write]:
    """Write batches of `schema` to a file, in the format that the ending of `name` tells; same rows, same bytes.

    Args:
        path: The file; what it holds is replaced.
        schema: Of the batches.
        name: Its ending tells the format, and whether it is packed.
        spreadsheet_safe: True to keep cells of CSV and TSV from running as formulas.
    """
    ending = _ending(Path(name))
    if ending == ".parquet":
        with pq.ParquetWriter(path, schema) as writer:
            yield writer.write_batch
        return
    with _opened(path, packed=name.lower().endswith(".gz")) as file:
        if ending in {".jsonl", ".ndjson"}:
            nested = {each.name for each in schema if NESTED in (each.metadata or {})}
            yield lambda batch: file.writelines(line.encode() for line in _as_lines(batch, nested))
            return
        options = csv.WriteOptions(delimiter="\t" if ending == ".tsv" else ",", quoting_style="needed")
        flat = pa.schema([pa.field(each.name, _flat_type(each.type)) for each in schema])
        safe = safe_batch if spreadsheet_safe else _untouched
        with csv.CSVWriter(file, safe_schema(flat) if spreadsheet_safe else flat, write_options=options) as writer:
            yield lambda batch: writer.write_batch(safe(_flattened(batch, flat)))


@contextlib.contextmanager
def _opened(path: Path, *, packed: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as file:
        if not packed:
            yield file
            return
        # Without a name and a time in its head, a packed file is the same whenever it is written.
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as inside:
            yield cast(BinaryIO, inside)


def check_ending(path: Path, *, spreadsheet_safe: bool = False) -> str:
    """Return the ending of a file that can be written.

    Raises:
        UsageError: It is none of those, or no spreadsheet's where one is meant.
    """
    ending = _ending(path)
    if ending not in ENDINGS:
        found = f"Got {ending!r} instead." if ending else "The name has none."
        raise UsageError(f"{path}: the ending must be one of {', '.join(ENDINGS)}. {found}")
    if spreadsheet_safe and ending not in {".csv", ".tsv"}:
        raise UsageError(
            f"{path}: --spreadsheet-safe is for .csv and .tsv; no spreadsheet runs what a {ending} file holds.",
            tip="Leave the flag out, or choose another --out.",
        )
    return ending


def _ending(path: Path) -> str:
    packed = path.suffix.lower() == ".gz"
    ending = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    return path.suffix.lower() if packed and ending in {"", ".parquet"} else ending


def _untouched(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


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
