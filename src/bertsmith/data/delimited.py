"""CSV and TSV: Arrow reads them; when it fails, Python's csv module finds out where and why."""

from __future__ import annotations

import contextlib
import csv
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from bertsmith.data.batches import LONGEST_CELL, FileBatches, check_cells, check_names, long_cell
from bertsmith.data.text_encoding import first_wrong_byte, open_text, open_utf8, wrong_byte_error
from bertsmith.errors import BertsmithError, DataError

_CHUNK = 1 << 22
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
_RELEASED = 0.5
"""Seconds after which a stream is left to Arrow's thread."""
_BLOCKS = (4 << 20, 32 << 20, 256 << 20)
"""Bytes Arrow parses at once. A row has to fit, so a larger one is tried when one does not."""


@dataclass(frozen=True)
class Layout:
    """How a delimited file is laid out.

    Attributes:
        path: The file.
        encoding: Its encoding; "" is UTF-8.
        delimiter: Comma, semicolon or tab.
        quoted: False where quotes are plain characters.
        names: Its columns.
        header_bytes: Bytes of the header in UTF-8, without its line end.
    """

    path: Path
    encoding: str
    delimiter: str
    quoted: bool
    names: tuple[str, ...]
    header_bytes: int


def open_delimited(path: Path, *, delimiter: str, encoding: str = "") -> FileBatches:
    """Open a CSV or TSV file; every column is text, and nothing is taken for missing.

    The file is read once beforehand, to be sure of its encoding and of its quotes.

    Args:
        path: The file.
        encoding: Its encoding; "" is UTF-8.
        delimiter: The one that the file's ending promises; the header decides.

    Raises:
        DataError: It is no clean text, has no header, or a quote is out of place.
    """
    wrong = first_wrong_byte(path, encoding)
    if wrong is not None:
        row = _row_at(path, encoding, delimiter, wrong.characters)
        raise wrong_byte_error(path, encoding, wrong, row)
    found, raw, names = _header(path, encoding, delimiter)
    layout = Layout(path, encoding, found, True, _named(path, names), len(raw.rstrip("\r\n").encode()))
    notes = [f"{path}: columns are separated by {_NAMES[found]}."] if found != delimiter else []
    if not _quotes_are_plain(layout):
        layout, note = _with_odd_quotes(layout)
        notes += [note] if note else []
    schema = pa.schema([pa.field(name, pa.string()) for name in layout.names])
    return FileBatches(schema, lambda: _batches(layout), tuple(notes))


def loose_layout(path: Path, encoding: str, usual: str) -> Layout:
    """Find the layout of a file in which some rows are broken.

    Raises:
        DataError: It is empty, or its header is broken.
    """
    found, raw, names = _header(path, encoding, usual, errors="replace")
    layout = Layout(path, encoding, found, True, _named(path, names), len(raw.rstrip("\r\n").encode()))
    return replace(layout, quoted=found != "\t" or not _quotes_are_characters(layout, broken=True))


def _header(path: Path, encoding: str, usual: str, *, errors: str = "strict") -> tuple[str, str, list[str]]:
    """Find the delimiter, and read the header: as it stands, and its names."""
    tried = [usual, *(each for each in (",", ";", "\t") if each != usual)]
    headers = [(each, *_first_record(path, encoding, each, errors)) for each in tried]
    if not headers[0][2]:
        raise DataError(f"{path}: the file is empty.", tip="A header and at least two rows are needed.")
    if len(headers[0][2]) > 1:
        return headers[0]
    return max(headers, key=lambda header: len(header[2]))


def _first_record(path: Path, encoding: str, delimiter: str, errors: str) -> tuple[str, list[str]]:
    with open_text(path, encoding, errors=errors) as file:
        lines: list[str] = []
        reader = csv.reader(_kept(file, lines), delimiter=delimiter)
        try:
            names = next((record for record in reader if record), [])
        except csv.Error as error:
            raise DataError(
                f"{path}: the header is broken: {error}.", tip="The first line must name the columns."
            ) from error
    return "".join(lines), names


def _kept(lines: TextIO, kept: list[str]) -> Iterator[str]:
    for line in lines:
        kept.append(line)
        yield line


def _named(path: Path, names: list[str]) -> tuple[str, ...]:
    """Give columns without a name (as pandas writes its index) a name by their place."""
    named = [name if name.strip() else f"column {place}" for place, name in enumerate(names, 1)]
    check_names(str(path), named)
    return tuple(named)


def _batches(layout: Layout) -> Iterator[pa.RecordBatch]:
    """Read with Arrow, in larger blocks when a row does not fit; explain what Arrow cannot read."""
    delivered = 0
    for block in _BLOCKS:
        try:
            for batch in _after(_arrow_batches(layout, block), delivered):
                check_cells(str(layout.path), batch, start=delivered)
                delivered += batch.num_rows
                yield batch
            return
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error) or block == _BLOCKS[-1]:
                raise _explained(layout, error) from error
            _refuse_long_cell(layout)


def _after(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Leave out the first rows."""
    for batch in batches:
        rest = batch.slice(min(rows, batch.num_rows))
        rows -= batch.num_rows - rest.num_rows
        if rest.num_rows:
            yield rest


def _arrow_batches(layout: Layout, block: int) -> Iterator[pa.RecordBatch]:
    released = threading.Event()
    try:
        yield from _read_by_arrow(layout, block, released)
    finally:
        # A thread of Arrow's drops the stream. Should Python end before it has, the whole process would abort.
        released.wait(_RELEASED)


def _read_by_arrow(layout: Layout, block: int, released: threading.Event) -> Iterator[pa.RecordBatch]:
    """Read batches; `released` is set once nothing holds the stream any more."""
    with open_utf8(layout.path, layout.encoding) as stream:
        weakref.finalize(stream, released.set)
        # The header's line end stays: Arrow would drop a byte order mark at the very start of what it gets.
        stream.read(layout.header_bytes)
        if not stream.peek(1):  # type: ignore[attr-defined]
            return
        yield from arrow_csv.open_csv(
            stream,
            # One thread keeps the row numbers of errors, and the memory small.
            read_options=arrow_csv.ReadOptions(column_names=layout.names, block_size=block, use_threads=False),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(layout.names, pa.string()),
                null_values=[],
                strings_can_be_null=False,
            ),
        )


def _quotes_are_plain(layout: Layout) -> bool:
    """Whether each quote opens at the start of a cell and closes at its end.

    Then every reader reads the file the same way. Looks at the quotes only: fast on large files.
    """
    before = [ord("\n"), ord("\r"), ord('"'), ord(layout.delimiter)]
    inside, carry, ended = False, b"\n", False
    with open_utf8(layout.path, layout.encoding) as stream:
        while not ended:
            chunk = stream.read(_CHUNK)
            ended = not chunk
            data = np.frombuffer(carry + (chunk or b"\n"), np.uint8)
            quotes = np.flatnonzero(data[1:-1] == ord('"')) + 1
            opening, closing = quotes[int(inside) :: 2], quotes[1 - int(inside) :: 2]
            if not (np.isin(data[opening - 1], before).all() and np.isin(data[closing + 1], before).all()):
                return False
            inside ^= bool(len(quotes) % 2)
            carry = data[-2:].tobytes()
    return not inside


def _with_odd_quotes(layout: Layout) -> tuple[Layout, str]:
    """Decide about a file with quotes inside cells: harmless, not meant as quotes (TSV), or broken.

    Raises:
        DataError: A quoted cell goes on after its closing quote, or is never closed.
    """
    problem = _first_problem(layout)
    if problem is None:
        return layout, ""
    if layout.delimiter == "\t" and _quotes_are_characters(layout):
        plain = Layout(layout.path, layout.encoding, "\t", False, layout.names, layout.header_bytes)
        return plain, f"{layout.path}: quotes are read as plain characters, since cells are not quoted."
    raise problem


def _quotes_are_characters(layout: Layout, *, broken: bool = False) -> bool:
    """Whether quotes at the edge of a cell are mostly without a partner at the other edge; not if the header is quoted.

    Args:
        layout: Of the file.
        broken: True where rows with another number of cells say nothing; else such a row says that quotes hold cells.
    """
    both = one = records = 0
    errors = "replace" if broken else "strict"
    with open_text(layout.path, layout.encoding, errors=errors) as file, long_fields():
        for record in csv.reader(file, delimiter=layout.delimiter, quoting=csv.QUOTE_NONE):
            if record and len(record) != len(layout.names):
                if broken:
                    continue
                return False
            edges = [(cell[:1] == '"') + (cell[-1:] == '"' and len(cell) > 1) for cell in record]
            if record and not records and edges.count(2) == len(edges):
                return False
            records += bool(record)
            both, one = both + edges.count(2), one + edges.count(1)
    return one >= both and (one > 0 or not broken)


def _explained(layout: Layout, error: pa.ArrowInvalid) -> BertsmithError:
    problem = _first_problem(layout)
    return problem or DataError(f"{layout.path}: cannot be read as a table: {str(error).splitlines()[0]}.")


def _refuse_long_cell(layout: Layout) -> None:
    """Look for a cell that explains why a row does not fit into a block."""
    problem = _first_problem(layout)
    if problem is not None:
        raise problem


def _first_problem(layout: Layout) -> DataError | None:
    """Read the file with Python's csv module, strictly, and word the first thing that is wrong."""
    quoting: Any = csv.QUOTE_MINIMAL if layout.quoted else csv.QUOTE_NONE
    row, line = 0, 1
    with open_text(layout.path, layout.encoding) as file, long_fields():
        reader = csv.reader(file, delimiter=layout.delimiter, quoting=quoting, strict=True)
        try:
            for record in reader:
                problem = _problem_of(layout, record, row, line) if record and row else None
                if problem is not None:
                    return problem
                row, line = row + bool(record), reader.line_num + 1
        except csv.Error as error:
            return _quote_problem(layout, str(error), row=row, line=line, ended=reader.line_num)
    return None


def record_problem(layout: Layout, record: list[str]) -> str:
    """Say what is wrong with a row: the number of its cells, or the length of one; "" where nothing is."""
    where = "row"
    problem = _problem_at(where, layout, record)
    return "" if problem is None else problem.message.removeprefix(f"{where}: ")


def _problem_of(layout: Layout, record: list[str], row: int, line: int) -> DataError | None:
    return _problem_at(f"{layout.path}: row {row} (line {line})", layout, record)


def _problem_at(where: str, layout: Layout, record: list[str]) -> DataError | None:
    if len(record) != len(layout.names):
        return DataError(
            f"{where}: {len(record)} cell{'s' * (len(record) != 1)} found, {len(layout.names)} expected "
            f"({', '.join(layout.names)}).",
            tip='A cell that holds the separator or a line end must stand in quotes: "like, this".',
        )
    for name, cell in zip(layout.names, record, strict=True):
        if len(cell) > LONGEST_CELL:
            return long_cell(where, name, len(cell))
    return None


def _quote_problem(layout: Layout, message: str, *, row: int, line: int, ended: int) -> DataError:
    where = f"{layout.path}: row {row} (line {line})"
    if "unexpected end" in message:
        found = 'a quote (") is opened here and never closed.'
    elif "field larger" in message:
        found = f"a cell has more than {_LONGEST_READ:,} characters. At most {LONGEST_CELL:,} are read."
    else:
        found = f'a quoted cell goes on after its closing quote (") in line {ended}.'
    return DataError(f"{where}: {found}", tip='Inside a quoted cell each quote is doubled: "she said ""no""".')


_LONGEST_READ = 1 << 28


@contextlib.contextmanager
def long_fields() -> Iterator[None]:
    """Lift the csv module's own limit of 131 072 characters for a while."""
    usual = csv.field_size_limit(_LONGEST_READ)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def _row_at(path: Path, encoding: str, delimiter: str, characters: int) -> int | None:
    """Return the row in which a character lies; None in the header, or where quotes are broken."""
    seen = 0

    def counted(lines: TextIO) -> Iterator[str]:
        nonlocal seen
        for line in lines:
            seen += len(line)
            yield line

    with open_text(path, encoding, errors="replace") as file, long_fields():
        records = (record for record in csv.reader(counted(file), delimiter=delimiter) if record)
        for row, _ in enumerate(records):
            if seen > characters:
                return row or None
    return None


__all__ = ["Layout", "long_fields", "loose_layout", "open_delimited", "record_problem"]
