"""Parquet: a column is read piece by piece, in batches of so many bytes, and its texts are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bertsmith.data.batches import FileBatches, check_cells, check_names
from bertsmith.errors import DataError, UsageError

_BATCH, _BATCH_BYTES = 16_384, 8 << 20
"""Rows of a batch, and the bytes they may have."""
BUFFER = 1 << 20
"""Bytes of a column that are read at once; without a buffer all of a row group would lie in memory."""


def open_parquet(path: Path) -> FileBatches:
    """Open a Parquet file.

    Raises:
        DataError: It is no whole Parquet file, or two columns have one name; while it is read, a text is no UTF-8.
        UsageError: It may not be read.
    """
    schema = _parquet(path, lambda file: file.schema_arrow)
    check_names(str(path), schema.names)
    return FileBatches(schema.remove_metadata(), lambda: _parquet_batches(path))


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path, buffer_size=BUFFER) as file:
            start = 0
            for batch in file.iter_batches(rows_at_once(file.metadata)):
                _check_utf8(path, batch, start=start)
                check_cells(str(path), batch, start=start)
                start += batch.num_rows
                yield batch.replace_schema_metadata(None)
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken_parquet(path, error) from error


def rows_at_once(metadata: pq.FileMetaData) -> int:
    """Say how many rows fit into a batch, by the size that rows of the largest row group have on average."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    largest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1.0)
    return max(1, min(_BATCH, int(_BATCH_BYTES / max(1.0, largest))))


def _check_utf8(path: Path, batch: pa.RecordBatch, *, start: int) -> None:
    """Refuse texts that are no UTF-8: Parquet takes any bytes for text, and Arrow does not look."""
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            wrong = next(place for place, value in enumerate(column.cast(pa.large_binary())) if not_utf8(value.as_py()))
            raise DataError(
                f"{path}: row {start + wrong + 1}: the cell in column '{field.name}' is not UTF-8.",
                tip="Write the file again from its source, with texts and not bytes.",
            ) from error


def not_utf8(value: bytes | None) -> bool:
    """Whether bytes are no text."""
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return True
    return False


def _parquet(path: Path, ask: Callable[[pq.ParquetFile], pa.Schema]) -> pa.Schema:
    try:
        with pq.ParquetFile(path) as file:
            return ask(file)
    except PermissionError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken_parquet(path, error) from error


def _broken_parquet(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0].rstrip(".")
    return DataError(f"{path}: no whole Parquet file: {reason}.", tip="Copy or download it again.")
