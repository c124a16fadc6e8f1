"""Rows that cannot be read are set apart, each with its number, its reason and its raw text."""

from __future__ import annotations

import json
from pathlib import Path

from bertsmith.data.sieve import BadRow, sieve
from bertsmith.recipe import Read

_LONGEST = 10_000
"""Characters of a row's raw text that are kept."""


def set_apart(source: Path, clean: Path, bad: Path, *, settings: Read) -> int:
    r"""Copy the rows of a file that can be read to `clean`, and write what is wrong with the others to `bad`.

    Args:
        source: The file.
        clean: New file of the same format, in UTF-8.
        bad: New file, JSONL: `row` (from 1, a header not counted), `line` (where lines have a meaning), `reason`, `raw`
            (the row as it stands, at most 10 000 characters; bytes that are no text as `\xNN`).
        settings: The encoding, and the names of the columns of texts.

    Returns:
        Rows that were set apart; 0 where it is no single row that is broken.
    """
    count = 0
    with bad.open("w", encoding="utf-8", newline="\n") as file:

        def write(row: BadRow) -> None:
            nonlocal count
            count += 1
            file.write(_line(row))

        texts = (settings.text, settings.text_pair)
        done = sieve(source, clean, encoding=settings.encoding, texts=texts, bad=write)
    return count if done else 0


def _line(row: BadRow) -> str:
    raw = row.raw.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    short = raw if len(raw) <= _LONGEST else f"{raw[:_LONGEST]} … ({len(raw):,} characters)"
    line = {} if row.line is None else {"line": row.line}
    return json.dumps({"row": row.row, **line, "reason": row.reason, "raw": short}, ensure_ascii=False) + "\n"
