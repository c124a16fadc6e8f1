"""The rows of a file that cannot be read, one by one, with the reason; and a copy of the file without them.

It is for files that `open_batches` refused: everything here is read row by row, in constant memory.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsmith.data.batches import LONGEST_CELL
from bertsmith.data.delimited import Layout, long_fields, loose_layout, record_problem
from bertsmith.data.json_lines import object_problem
from bertsmith.data.parquet import BUFFER, not_utf8, rows_at_once
from bertsmith.data.text_encoding import first_wrong_byte, open_bytes

Bad = Callable[["BadRow"], object]
_LONGEST_RECORD = LONGEST_CELL + (1 << 20)
_MOSTLY = 0.75
_ODD = re.compile("[\ud800-\udfff\0]")
"""A byte that is no text (as `surrogateescape` gives it), or a NUL."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read.

    Attributes:
        row: Its number, from 1; a header is not counted.
        line: The line where it begins, from 1; None where the format has no lines.
        reason: What is wrong.
        raw: The row as it stands; bytes that are no text are lone surrogates (`surrogateescape`).
    """

    row: int
    line: int | None
    reason: str
    raw: str


def sieve(source: Path, clean: Path, *, encoding: str, texts: tuple[str, ...], bad: Bad) -> bool:
    """Copy the rows of a CSV, TSV, JSONL or Parquet file that can be read, and hand over the others.

    In a CSV a quote that is never closed makes everything after it one cell. Where the lines after it are rows by
    themselves, only the line with the quote is bad; else all of what the cell swallowed is one bad row.

    Args:
        source: The file, perhaps packed.
        clean: The copy, in UTF-8, not packed.
        encoding: Encoding of the file; "" is UTF-8.
        texts: Columns whose cells must be texts: a list or an object there makes a row of JSON bad.
        bad: Gets each row that cannot be read, in their order.

    Returns:
        False where the file is of a format that has no rows to be told apart, or its header is broken.

    Raises:
        DataError: It is no text, or its gzip is broken.
    """
    if source.suffix.lower() == ".parquet":
        return _sieve_parquet(source, clean, bad)
    first_wrong_byte(source, encoding)
    ending = Path(source.name.removesuffix(".gz")).suffix.lower()
    rows = {".csv": _csv_rows, ".tsv": _tsv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}.get(ending)
    if rows is None:
        return False
    try:
        with _loose(source, encoding) as file, clean.open("wb") as out:
            for each in rows(file, source, encoding, texts):
                _pass_on(each, out, bad)
    except (UnicodeError, _HeaderError):
        return False
    return True


class _HeaderError(Exception):
    """The header cannot be read, so there are no rows."""


@dataclass(frozen=True)
class _Row:
    """A row as it stands, and what is wrong with it."""

    row: int
    line: int
    raw: str
    reason: str = ""


def _pass_on(row: _Row, out: BinaryIO, bad: Bad) -> None:
    reason = row.reason or _odd_byte(row.raw)
    if not reason:
        out.write(row.raw.encode())
        return
    if not row.row:
        raise _HeaderError
    bad(BadRow(row.row, row.line, reason, row.raw.rstrip("\r\n")))


def _odd_byte(raw: str) -> str:
    found = _ODD.search(raw)
    if found is None:
        return ""
    code = ord(found[0])
    return f"byte 0x{code - 0xDC00:02x} is no text in this encoding." if code else "there is a NUL byte."


def _loose(path: Path, encoding: str) -> TextIO:
    """Open a text file whose wrong bytes become lone surrogates; line ends are kept as they are."""
    lines = "\n" if ".csv" not in path.name.lower() and ".tsv" not in path.name.lower() else ""
    return io.TextIOWrapper(open_bytes(path), encoding or "utf-8-sig", errors="surrogateescape", newline=lines)


class _Lines:
    """The lines of a file for csv.reader: it knows those of the record under way, and takes lines back."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self._size = 0
        self.taken: list[str] = []
        self.line = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        # A cell that is longer than any may be ends here: its quote was never closed.
        if self._size > _LONGEST_RECORD:
            raise StopIteration
        text = self._again.popleft() if self._again else next(self._file)
        if not self.line:
            text = text.removeprefix("\ufeff")
        self.taken.append(text)
        self._size += len(text)
        self.line += 1
        return text

    def begin(self) -> int:
        """Begin a record; return the number of its first line."""
        self.taken, self._size = [], 0
        return self.line + 1

    def give_back(self, lines: list[str]) -> None:
        """Take lines back, to be read again."""
        self._again.extendleft(reversed(lines))
        self.line -= len(lines)


def _csv_rows(file: TextIO, source: Path, encoding: str, texts: tuple[str, ...]) -> Iterator[_Row]:
    return _delimited_rows(file, loose_layout(source, encoding, ","))


def _tsv_rows(file: TextIO, source: Path, encoding: str, texts: tuple[str, ...]) -> Iterator[_Row]:
    return _delimited_rows(file, loose_layout(source, encoding, "\t"))


def _delimited_rows(file: TextIO, layout: Layout) -> Iterator[_Row]:
    """Give the header as row 0, then the rows."""
    lines, row = _Lines(file), 0
    with long_fields():
        reader = _reader(lines, layout)
        while True:
            begin = lines.begin()
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                kept = 1 if _are_rows(lines.taken[1:], layout) else len(lines.taken)
                raw = "".join(lines.taken[:kept])
                lines.give_back(lines.taken[kept:])
                yield _Row(row, begin, raw, _quote_reason(str(error)))
                reader, row = _reader(lines, layout), row + 1
                continue
            if record:
                yield _Row(row, begin, "".join(lines.taken), record_problem(layout, record) if row else "")
                row += 1


def _reader(lines: _Lines, layout: Layout) -> Any:
    quoting: Any = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=layout.delimiter, quoting=quoting, strict=True)


def _are_rows(lines: list[str], layout: Layout) -> bool:
    """Whether lines that a quote swallowed are rows by themselves: cells as there are names, in three of four."""
    if not lines or len(layout.names) < 2:
        return False
    *middle, last = lines
    cells = [next(csv.reader([line], delimiter=layout.delimiter, quoting=csv.QUOTE_NONE), []) for line in middle]
    right = sum(len(each) == len(layout.names) for each in cells)
    quote = last.find('"')
    return right >= _MOSTLY * len(middle) and (quote < 1 or last[quote - 1] == layout.delimiter)


def _quote_reason(message: str) -> str:
    if "unexpected end" in message:
        return 'a quote (") is opened here and never closed.'
    if "field larger" in message:
        return f"a cell has more than {LONGEST_CELL:,} characters."
    return 'a quoted cell goes on after its closing quote (").'


def _json_rows(file: TextIO, source: Path, encoding: str, texts: tuple[str, ...]) -> Iterator[_Row]:
    row = 0
    for line, raw in enumerate(file, 1):
        text = raw.removeprefix("\ufeff") if line == 1 else raw
        if not text.strip():
            continue
        if not row and text.lstrip().startswith("["):
            raise _HeaderError
        row += 1
        yield _Row(row, line, text, _odd_byte(text) or _json_problem(text, texts))


def _json_problem(text: str, texts: tuple[str, ...]) -> str:
    problem, value = object_problem(text.rstrip("\r\n"))
    if problem:
        return problem
    half = _ODD.search(json.dumps(value, ensure_ascii=False))
    if half is not None:
        return "there is half of a surrogate pair, which is no character."
    for name, cell in value.items():
        if name in texts and isinstance(cell, list | dict):
            return f"column '{name}' holds a list or an object, where one text is expected: {json.dumps(cell)[:60]}"
        if isinstance(cell, str) and len(cell) > LONGEST_CELL:
            return _too_long(name, len(cell))
    return ""


def _too_long(name: str, length: int) -> str:
    return f"the cell in column '{name}' has {length:,} characters. At most {LONGEST_CELL:,} are read."


def _sieve_parquet(source: Path, clean: Path, bad: Bad) -> bool:
    """Set the rows apart whose texts are no UTF-8 or far too long."""
    start = 0
    try:
        with pq.ParquetFile(source, buffer_size=BUFFER) as file, pq.ParquetWriter(clean, file.schema_arrow) as out:
            for batch in file.iter_batches(rows_at_once(file.metadata)):
                out.write_batch(_good_rows(batch, start, bad))
                start += batch.num_rows
    except (pa.ArrowInvalid, OSError):
        return False
    return True


def _good_rows(batch: pa.RecordBatch, start: int, bad: Bad) -> pa.RecordBatch:
    wrong = _wrong_cells(batch)
    for place, reason in sorted(wrong.items()):
        bad(BadRow(start + place + 1, None, reason, _raw(batch.slice(place, 1))))
    kept = np.ones(batch.num_rows, dtype=bool)
    kept[list(wrong)] = False
    return batch.filter(pa.array(kept))


def _wrong_cells(batch: pa.RecordBatch) -> dict[int, str]:
    """Give the rows of a batch that cannot be read, and why."""
    wrong: dict[int, str] = {}
    for name, column in _texts(batch):
        lengths = pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
        for place in np.flatnonzero(lengths > LONGEST_CELL).tolist():
            length = len(_bytes(column)[place].as_py().decode(errors="replace"))
            if length > LONGEST_CELL:
                wrong.setdefault(place, _too_long(name, length))
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            found = enumerate(_bytes(column))
            odd = [place for place, value in found if not_utf8(value.as_py())]
            wrong = dict.fromkeys(odd, f"the cell in column '{name}' is not UTF-8.") | wrong
    return wrong


def _texts(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            yield field.name, column


def _bytes(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_binary())


def _raw(row: pa.RecordBatch) -> str:
    """Show a row as JSON; bytes that are no text are lone surrogates."""
    texts = {name: _bytes(column)[0].as_py() for name, column in _texts(row)}
    shown = {name: None if value is None else value.decode(errors="surrogateescape") for name, value in texts.items()}
    others = row.drop_columns(list(texts)).to_pylist()[0] if row.num_columns > len(texts) else {}
    return json.dumps({name: {**shown, **others}[name] for name in row.schema.names}, ensure_ascii=False, default=str)
