"""The noun of feedback: one text, what a model answered, and what a person said of it."""

from __future__ import annotations

import datetime
import secrets
from dataclasses import dataclass, field, fields

from bertsmith.errors import DataError

LONGEST_NAME = 500
"""Characters that a guess, or the name or version of a model may have."""
LONGEST_COMMENT = 2_000
LONGEST_TEXT = 200_000
"""Characters that a text may have, whatever the server itself takes."""
LONGEST_ANSWER = 10_000
"""Characters that an answer or a correction may have: with several labels, it is a list of them."""
_LONGEST = {
    "text": LONGEST_TEXT,
    "text_pair": LONGEST_TEXT,
    "comment": LONGEST_COMMENT,
    "label": LONGEST_ANSWER,
    "correction": LONGEST_ANSWER,
}


@dataclass(frozen=True)
class Entry:
    """What one person said of one answer.

    Attributes:
        text: The text.
        model: Name of the model that answered.
        right: True where the answer was confirmed; else it was called wrong.
        correction: What is right: a label, for several labels a JSON list of them, for numbers a number; None where
            that was not said.
        text_pair: The second text, for a model of pairs.
        version: Version of the model.
        label: What was answered, written as a correction is; None where that was not said.
        guess: The most probable label; None where the task has none.
        score: Its probability, in [0, 1]; None likewise.
        unknown: Whether the model declined.
        comment: What else was said.
        id: 32 hexadecimal digits that cannot be guessed: who knows them may delete the entry.
        created: When, in UTC.

    Raises:
        DataError: A text is empty, too long, or holds what no database can store; or the entry contradicts itself.
    """

    text: str
    model: str
    right: bool = False
    correction: str | None = None
    text_pair: str | None = None
    version: str = ""
    label: str | None = None
    guess: str | None = None
    score: float | None = None
    unknown: bool = False
    comment: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    created: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, str):
                _check_text(each.name, value)
        if not self.text.strip():
            raise DataError("'text' is empty. The text that was answered is expected.")
        if self.right and self.correction is not None:
            raise DataError("'right' is true, and there is a correction. Only one of them can be meant.")
        if self.score is not None and not 0 <= self.score <= 1:
            raise DataError(f"'score' is {self.score}. A probability from 0 to 1 is expected.")


def _check_text(name: str, value: str) -> None:
    longest = _LONGEST.get(name, LONGEST_NAME)
    if len(value) > longest:
        raise DataError(f"'{name}' has {len(value):,} characters. At most {longest:,} are kept.")
    if "\0" in value:
        raise DataError(f"'{name}' holds the character U+0000, which a database cannot store.")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(f"'{name}' holds half a character (a lone surrogate), which is no text.")


__all__ = ["LONGEST_ANSWER", "LONGEST_COMMENT", "LONGEST_NAME", "LONGEST_TEXT", "Entry"]
