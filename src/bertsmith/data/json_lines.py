"""JSON, one object a line or one list of objects: Arrow reads it, Python's json where Arrow cannot."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from bertsmith.data.batches import NESTED, FileBatches, check_cells
from bertsmith.data.text_encoding import first_wrong_byte, open_text, open_utf8, wrong_byte_error
from bertsmith.data.values import arrow_array, arrow_type, joined_kind, kind_of
from bertsmith.errors import DataError

_BLOCK = 4 << 20
_ROWS = 10_000
_EXACT = 2.0**53
_TIP = 'Each line is one object, such as {"text": "so good", "label": "positive"}.'


@dataclass
class _Block:
    """Some whole lines, or some objects of a list; `start` rows came before."""

    start: int
    line: int
    lines: bytes = b""
    objects: list[dict[str, Any]] | None = None


@dataclass
class _Column:
    """What is known about a column: its kind, and the first row that holds a list or an object."""

    kind: str = "null"
    nested_row: int = 0

    def add(self, kind: str, row: int) -> None:
        self.kind = joined_kind(self.kind, kind)
        if kind == "nested" and not self.nested_row:
            self.nested_row = row


def open_json(path: Path, *, encoding: str = "") -> FileBatches:
    """Open a file of JSON objects.

    It is read once beforehand, to learn its columns: a column of texts stays text though they look like
    dates, and one that mixes texts and numbers becomes text. Lists and objects are delivered as JSON.

    Raises:
        DataError: A line is no JSON object, or the file is no clean text.
    """
    wrong = first_wrong_byte(path, encoding)
    if wrong is not None:
        raise wrong_byte_error(path, encoding, wrong, None)
    columns: dict[str, _Column] = {}
    blocks = _list_blocks if _is_list(path, encoding) else _line_blocks
    for block in blocks(path, encoding):
        _survey(path, block, columns)
    schema = pa.schema([_field(name, column) for name, column in columns.items()])
    return FileBatches(schema, lambda: _batches(path, blocks(path, encoding), columns, schema))


def _field(name: str, column: _Column) -> pa.Field:
    found = {NESTED: str(column.nested_row)} if column.nested_row else None
    return pa.field(name, arrow_type(column.kind), metadata=found)


def _is_list(path: Path, encoding: str) -> bool:
    with open_utf8(path, encoding) as stream:
        start = b""
        while not start:
            piece = stream.read(4096)
            if not piece:
                raise DataError(f"{path}: the file is empty.", tip=_TIP)
            start = piece.strip()
    return start.startswith(b"[")


def _line_blocks(path: Path, encoding: str) -> Iterator[_Block]:
    """Give blocks of whole lines."""
    with open_utf8(path, encoding) as stream:
        row, line = 0, 1
        while lines := _whole_lines(stream):
            yield _Block(row, line, lines)
            row += _filled(lines)
            line += lines.count(b"\n")


def _whole_lines(stream: BinaryIO) -> bytes:
    block = stream.read(_BLOCK)
    return block + stream.readline() if block else b""


def _filled(lines: bytes) -> int:
    """Count the lines that are not blank: the rows."""
    return sum(1 for text in lines.split(b"\n") if text and not text.isspace())


def _list_blocks(path: Path, encoding: str) -> Iterator[_Block]:
    """Give the objects of a list in blocks; the text is held in memory, the objects are not."""
    with open_text(path, encoding) as file:
        text = file.read()
    objects: list[dict[str, Any]] = []
    row = 0
    for row, value in enumerate(_list_items(path, text), 1):
        objects.append(_object(f"{path}: row {row}", value))
        if len(objects) == _ROWS:
            yield _Block(row - _ROWS, 0, objects=objects)
            objects = []
    if objects:
        yield _Block(row - len(objects), 0, objects=objects)


def _list_items(path: Path, text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(object_pairs_hook=_pairs)
    place = _skip_blanks(text, text.index("[") + 1)
    row = 0
    while text[place : place + 1] != "]" or row:
        row += 1
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, getattr(error, "pos", place)) + 1
            raise _broken(f"{path}: row {row} (line {line})", error, text[place : place + 60]) from error
        yield value
        place = _skip_blanks(text, place)
        mark = text[place : place + 1]
        if mark not in {",", "]"}:
            line = text.count("\n", 0, place) + 1
            found = repr(text[place : place + 20]) if mark else "the end of the file"
            raise DataError(f"{path}: line {line}: broken JSON: ',' or ']' expected, {found} found.", tip=_TIP)
        if mark == "]":
            return
        place = _skip_blanks(text, place + 1)


def _skip_blanks(text: str, place: int) -> int:
    while text[place : place + 1] in {" ", "\n", "\r", "\t"}:
        place += 1
    return place


def _survey(path: Path, block: _Block, columns: dict[str, _Column]) -> None:
    """Learn the columns of one block."""
    table = None if block.objects is not None else _by_arrow(block, None)
    if table is None:
        for row, value in enumerate(_objects(path, block), block.start + 1):
            for name, cell in value.items():
                columns.setdefault(name, _Column()).add(kind_of(cell), row)
        return
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = _arrow_kind(column.type)
        row = block.start + 1 + (_first_valid(column) if kind == "nested" else 0)
        columns.setdefault(name, _Column()).add(kind, row)


def _batches(
    path: Path, blocks: Iterator[_Block], columns: dict[str, _Column], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    plain = pa.schema([pa.field(name, arrow_type(column.kind)) for name, column in columns.items()])
    exact = any(column.kind == "nested" for column in columns.values())
    for block in blocks:
        table = None if exact or block.objects is not None else _by_arrow(block, plain)
        if table is None:
            table = _table(path, _objects(path, block), columns, start=block.start)
        for batch in table.select(schema.names).cast(schema).combine_chunks().to_batches():
            check_cells(str(path), batch, start=block.start)
            yield batch


def _by_arrow(block: _Block, schema: pa.Schema | None) -> pa.Table | None:
    """Parse lines with Arrow; None when it cannot, or when it would lose something."""
    count = _filled(block.lines)
    if not count:
        return None
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error" if schema else "infer")
    reading = arrow_json.ReadOptions(block_size=len(block.lines) + 1, use_threads=False)
    try:
        table = arrow_json.read_json(io.BytesIO(block.lines), read_options=reading, parse_options=options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        return None
    whole = table.num_rows == count and all(_is_exact(column) for column in table.columns)
    return table if whole else None


def _is_exact(column: pa.ChunkedArray) -> bool:
    """Whether Arrow's numbers are what the file says: it reads very large whole numbers as floats."""
    if not pa.types.is_floating(column.type):
        return True
    largest = pc.max(pc.abs(column)).as_py()
    return largest is None or largest < _EXACT


def _arrow_kind(data_type: pa.DataType) -> str:
    tests: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
        (pa.types.is_null, "null"),
        (pa.types.is_boolean, "bool"),
        (pa.types.is_integer, "int"),
        (pa.types.is_floating, "float"),
        (pa.types.is_nested, "nested"),
    )
    return next((kind for test, kind in tests if test(data_type)), "text")


def _first_valid(column: pa.ChunkedArray) -> int:
    return int(pc.index(pc.is_valid(column), True).as_py())


def _table(path: Path, objects: Iterator[dict[str, Any]], columns: dict[str, _Column], *, start: int) -> pa.Table:
    rows = list(objects)
    return pa.table(
        {
            name: arrow_array([row.get(name) for row in rows], column.kind, source=str(path), name=name, start=start)
            for name, column in columns.items()
        }
    )


def _objects(path: Path, block: _Block) -> Iterator[dict[str, Any]]:
    """Parse the objects of a block exactly, and say which line is broken."""
    if block.objects is not None:
        yield from block.objects
        return
    row = block.start
    for line, text in enumerate(block.lines.split(b"\n"), block.line):
        if not text or text.isspace():
            continue
        row += 1
        where = f"{path}: row {row} (line {line})"
        try:
            value = json.loads(text, object_pairs_hook=_pairs)
        except (ValueError, RecursionError) as error:
            raise _broken(where, error, text.decode()) from error
        yield _object(where, value)


def object_problem(text: str) -> tuple[str, dict[str, Any]]:
    """Say what is wrong with a line of JSON objects ("" where nothing is), and return its object."""
    where = "row"
    try:
        return "", _object(where, json.loads(text, object_pairs_hook=_pairs))
    except DataError as error:
        problem = error
    except (ValueError, RecursionError) as error:
        problem = _broken(where, error, text)
    return problem.message.removeprefix(f"{where}: "), {}


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        found = json.dumps(value, ensure_ascii=False)
        raise DataError(f"{where}: an object is expected, {_cut(found)} found.", tip=_TIP)
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name '{twice}' is there twice")
    return found


def _broken(where: str, error: Exception, text: str) -> DataError:
    if isinstance(error, json.JSONDecodeError):
        return DataError(f"{where}: broken JSON: {error.msg} at character {error.colno} of {_cut(text)}", tip=_TIP)
    return DataError(f"{where}: broken JSON: {error}.", tip=_TIP)


def _cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= 60 else f"{text[:60]} …"
