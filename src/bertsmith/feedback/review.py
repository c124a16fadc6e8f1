"""Feedback as CSV, for people and their spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from bertsmith.data.relabel import guarded

if TYPE_CHECKING:
    from bertsmith.feedback.entry import Entry

COLUMNS = (
    "id",
    "created",
    "model",
    "version",
    "text",
    "text_pair",
    "label",
    "guess",
    "score",
    "unknown",
    "right",
    "correction",
    "comment",
)


def write_csv(entries: Iterable[Entry], out: TextIO) -> int:
    """Write entries as CSV, and count them.

    Cells that a spreadsheet would run as formulas get an apostrophe in front; `train --add` takes it away again.

    Args:
        entries: Read as they are written, so that any number of them fits into memory.
        out: Open for text, with newline="".
    """
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for entry in entries:
        writer.writerow([_cell(getattr(entry, name)) for name in COLUMNS])
        count += 1
    return count


def _cell(value: object) -> str:
    """Write a value.

    >>> _cell(True), _cell(None), _cell("=1+1"), _cell(0.25)
    ('true', '', "'=1+1", '0.25')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return guarded(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


__all__ = ["COLUMNS", "write_csv"]
