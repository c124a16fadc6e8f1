"""SQuAD's JSON, versions 1.1 and 2: articles, their paragraphs, and the questions to each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bertsmith.data.answer_column import ANSWERS
from bertsmith.data.batches import FileBatches
from bertsmith.data.text_encoding import first_wrong_byte, open_text, open_utf8, wrong_byte_error
from bertsmith.errors import DataError

_HEAD = re.compile(rb'\s*\{\s*("\w+"\s*:\s*("[^"]*"|[\d.]+)\s*,\s*)*"data"\s*:\s*\[\s*(\{|\])')
_ROWS = 10_000
_TIP = 'SQuAD looks like {"data": [{"paragraphs": [{"context": "…", "qas": [{"question": "…", "answers": []}]}]}]}.'
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("title", pa.string()),
        ("question", pa.string()),
        ("context", pa.string()),
        ("answers", ANSWERS),
    ]
)


def is_squad(path: Path, encoding: str = "") -> bool:
    """Whether a file begins as SQuAD's JSON does: one object with a list called `data`."""
    with open_utf8(path, encoding, errors="replace") as stream:
        return _HEAD.match(stream.read(4096)) is not None


def open_squad(path: Path, *, encoding: str = "") -> FileBatches:
    """Open a file of questions: one row a question, with all its answers; none where `is_impossible` is true.

    Raises:
        DataError: The file is no clean text or no JSON, or a part of it is missing.
    """
    wrong = first_wrong_byte(path, encoding)
    if wrong is not None:
        raise wrong_byte_error(path, encoding, wrong, None)
    with open_text(path, encoding) as file:
        text = file.read()
    try:
        articles = json.loads(text)["data"]
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(f"{path}: line {line}: broken JSON: {getattr(error, 'msg', error)}.", tip=_TIP) from error
    has_answers = any("answers" in question for question in _first_questions(articles))
    schema = _SCHEMA if has_answers else _SCHEMA.remove(_SCHEMA.get_field_index("answers"))
    return FileBatches(schema, lambda: _batches(path, articles, schema))


def _first_questions(articles: Any) -> Iterator[dict[str, Any]]:
    """Give the questions of the first paragraph that has some; nothing where the file is laid out otherwise."""
    for article in articles:
        for paragraph in article.get("paragraphs") or () if isinstance(article, dict) else ():
            if paragraph.get("qas"):
                yield from paragraph["qas"]
                return


def _batches(path: Path, articles: list[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    held: list[dict[str, Any]] = []
    for row in _rows(path, articles):
        held.append(row)
        if len(held) == _ROWS:
            yield pa.RecordBatch.from_pylist(held, schema=schema)
            held = []
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=schema)


def _rows(path: Path, articles: list[Any]) -> Iterator[dict[str, Any]]:
    row = 0
    for number, article in enumerate(articles, 1):
        for paragraph in _part(article, "paragraphs", list, f"{path}: article {number}"):
            for asked in _part(paragraph, "qas", list, f"{path}: article {number}"):
                row += 1
                where = f"{path}: row {row}"
                yield {
                    "id": str(asked.get("id", row)) if isinstance(asked, dict) else None,
                    "title": article.get("title"),
                    "question": _part(asked, "question", str, where),
                    "context": _part(paragraph, "context", str, where),
                    "answers": _answers(asked, where),
                }


def _answers(asked: dict[str, Any], where: str) -> list[dict[str, Any]] | None:
    if asked.get("is_impossible"):
        return []
    if "answers" not in asked:
        return None
    found = []
    for answer in _part(asked, "answers", list, where):
        start = answer.get("answer_start") if isinstance(answer, dict) else None
        if start is not None and (not isinstance(start, int) or isinstance(start, bool)):
            raise DataError(f"{where}: 'answer_start' must be a whole number. Got {start!r} instead.", tip=_TIP)
        found.append({"text": _part(answer, "text", str, where), "start": start})
    return found


def _part(value: Any, name: str, kind: type, where: str) -> Any:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        called = {"list": "a list", "str": "a text"}[kind.__name__]
        raise DataError(f"{where}: '{name}' is missing, or is not {called}.", tip=_TIP)
    return found


__all__ = ["is_squad", "open_squad"]
