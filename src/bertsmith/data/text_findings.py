"""What is wrong inside texts: nothing there, broken characters, markup, a script the encoder cannot read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.encoders import Encoder
from bertsmith.examples import Examples
from bertsmith.findings import Finding
from bertsmith.tasks.label_wording import finding_at, of_rows

Array = np.ndarray[Any, Any]

MANY_EMPTY = 0.05
MANY_BROKEN = 0.01
LONG_TEXT = 20_000
"""Characters above which a text is longer than any encoder of this kind reads: about ten pages."""

_CP1252_TAIL = r"\x{80}-\x{BF}€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"  # noqa: RUF001 - what Windows shows for 0x80 to 0x9F
MOJIBAKE = rf"[ÃÂ][{_CP1252_TAIL}]|â€|ï»¿|\x{{FFFD}}"
"""UTF-8 that was read as Windows-1252 (letters, quotes, byte order mark), and the replacement character."""
_TAGS = "a|b|br|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|script|span|strong|style|table|td|th|tr|u|ul"
MARKUP = rf"(?i)</?(?:{_TAGS})(?:\s[^<>]*)?/?>|&(?:amp|apos|gt|lt|nbsp|quot|#\d{{1,6}}|#x[0-9a-f]{{1,6}});"
_OTHER_LETTERS = r"[^\PL\p{Latin}]"
_ALL_BUT_LETTERS = r"\PL+"
_ALL_BUT_OTHER_LETTERS = r"[\PL\p{Latin}]+"


def text_findings(examples: Examples, *, blank: Array, encoder: Encoder | None) -> Iterator[Finding]:
    """Look into the texts (of pairs: into both).

    Args:
        examples: The rows.
        blank: True where a row has no text, `(rows,)`.
        encoder: The encoder that is to learn; without one nothing is said about scripts.
    """
    yield from _empty(examples, np.flatnonzero(blank))
    yield from _mojibake(examples, _rows_that_match(examples, MOJIBAKE))
    yield from _markup(examples, _rows_that_match(examples, MARKUP))
    yield from _very_long(examples)
    if encoder is not None and reads_only_latin(encoder):
        yield from _other_script(examples, encoder)


def blank_rows(examples: Examples) -> Array:
    """Say which rows have a text (or second text) without any visible character, bool `(rows,)`."""
    blank = np.zeros(len(examples), dtype=bool)
    for column in _columns(examples):
        blank |= pc.equal(pc.utf8_trim_whitespace(pc.fill_null(column, "")), "").to_numpy()
    return blank


def reads_only_latin(encoder: Encoder) -> bool:
    """True for encoders that are known or named to have learned English only."""
    name = encoder.name.lower()
    if "xlm" in name or "multilingual" in name:
        return False
    return encoder.known is not None or "uncased" in name or "english" in name


def _columns(examples: Examples) -> list[pa.ChunkedArray]:
    return [examples.column(name) for name in ("text", "text_pair") if name in examples]


def _rows_that_match(examples: Examples, pattern: str) -> Array:
    matching = np.zeros(len(examples), dtype=bool)
    for column in _columns(examples):
        matching |= pc.fill_null(pc.match_substring_regex(column, pattern), False).to_numpy()
    return np.flatnonzero(matching)


def _empty(examples: Examples, rows: Array) -> Iterator[Finding]:
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="empty-text",
            severity="error" if len(rows) > MANY_EMPTY * len(examples) else "warning",
            message=f"No text, or nothing but blanks: {of_rows(len(rows), len(examples))}.",
            remedy="Fill the texts in or remove these rows; a label without a text teaches nothing.",
        )


def _mojibake(examples: Examples, rows: Array) -> Iterator[Finding]:
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="broken-characters",
            severity="warning" if len(rows) > MANY_BROKEN * len(examples) else "note",
            message="Characters that look wrongly decoded (such as Ã©, â€™, \ufffd): "
            f"{of_rows(len(rows), len(examples))}.",
            remedy="Export the file as UTF-8 again, or name its character set with --encoding.",
        )


def _markup(examples: Examples, rows: Array) -> Iterator[Finding]:
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="markup",
            severity="note",
            message=f"HTML tags or escaped characters (such as <br />, &amp;): {of_rows(len(rows), len(examples))}.",
            remedy="Strip them here and in real use alike, or leave them in both; they take up tokens.",
        )


def _very_long(examples: Examples) -> Iterator[Finding]:
    longest = np.zeros(len(examples), dtype=np.int64)
    for column in _columns(examples):
        longest = np.maximum(longest, pc.fill_null(pc.utf8_length(column), 0).to_numpy())
    rows = np.flatnonzero(longest > LONG_TEXT)
    if len(rows):
        yield finding_at(
            examples,
            rows[np.argsort(-longest[rows], kind="stable")],
            kind="very-long-text",
            severity="note",
            message=f"Texts of more than {LONG_TEXT:,} characters (the longest has {longest.max():,}): "
            f"{of_rows(len(rows), len(examples))}.",
            remedy="Give the model the part that decides, such as the abstract or the first page.",
        )


def _other_script(examples: Examples, encoder: Encoder) -> Iterator[Finding]:
    """Find texts with more than half of their letters outside the Latin script."""
    suspects = _rows_that_match(examples, _OTHER_LETTERS)
    letters, others = np.zeros((2, len(suspects)), dtype=np.int64)
    for column in _columns(examples):
        texts = column.take(pa.array(suspects, pa.int64()))
        letters += _length_without(texts, _ALL_BUT_LETTERS)
        others += _length_without(texts, _ALL_BUT_OTHER_LETTERS)
    rows = suspects[2 * others > letters]
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="other-script",
            severity="warning",
            message=f"Most letters are not Latin, but the encoder {encoder.name} has learned English: "
            f"{of_rows(len(rows), len(examples))}.",
            remedy="Use an encoder of many languages, such as --encoder FacebookAI/xlm-roberta-base.",
        )


def _length_without(texts: pa.ChunkedArray, pattern: str) -> Array:
    """Count the characters left of each text once `pattern` is taken out."""
    left = pc.utf8_length(pc.replace_substring_regex(pc.fill_null(texts, ""), pattern, ""))
    return np.asarray(left.to_numpy(), dtype=np.int64)
