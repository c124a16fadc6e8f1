"""What one request may ask at most, checked before any of it is worked on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

from bertsmith.errors import UsageError
from bertsmith.serve.asked import Asked, Refused

_SURROGATE = re.compile("[\ud800-\udfff]")
TOO_LARGE, WRONG = "request too large", "wrong input"


@dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
        max_body: Bytes of a request's body.
        max_texts: Texts of a request.
        max_characters: Characters of a text, and of a second text.
        max_explained: Texts of a request whose words are to be explained; each is answered once for every word.
        max_depth: Levels of lists and objects inside each other in a request's JSON.

    Raises:
        UsageError: A limit is less than 1.
    """

    max_body: int = 16 << 20
    max_texts: int = 10_000
    max_characters: int = 100_000
    max_explained: int = 16
    max_depth: int = 16

    def __post_init__(self) -> None:
        for each in fields(self):
            if getattr(self, each.name) < 1:
                raise UsageError(f"'{each.name}' must be 1 or more. Got {getattr(self, each.name)} instead.")


def check(asked: Asked, limits: Limits, *, pair: bool) -> None:
    """Refuse a request that is larger than it may be, or that does not fit the model.

    Args:
        asked: The request.
        limits: What it may be.
        pair: Whether the model was trained on pairs of texts.

    Raises:
        Refused: 413 where there is too much, 422 where something is missing or not wanted.
    """
    check_shape(asked, pair=pair)
    if len(asked) > limits.max_texts:
        raise _too_many(f"{len(asked):,} texts", f"{limits.max_texts:,}", "Send them in several requests.")
    if asked.explain and len(asked) > limits.max_explained:
        raise _too_many(f"{len(asked):,} texts to explain", f"{limits.max_explained}", "Explain fewer at a time.")
    for what, texts in (("text", asked.texts), ("second text", asked.pairs or ())):
        _check_characters(what, texts, limits.max_characters)


def check_shape(asked: Asked, *, pair: bool) -> None:
    """Refuse a request without texts, or with second texts where none are wanted, or the other way round.

    Raises:
        Refused: 422.
    """
    if not asked.texts:
        raise Refused(422, WRONG, "There is no text. A request has one text at least.")
    if pair and asked.pairs is None:
        raise Refused(422, WRONG, "This model was trained on pairs of texts, and the second texts are missing.")
    if not pair and asked.pairs is not None:
        raise Refused(422, WRONG, "This model was trained on single texts, and takes no second texts.")
    if asked.pairs is not None and len(asked.pairs) != len(asked.texts):
        found = f"There are {len(asked.texts):,} texts but {len(asked.pairs):,} second texts"
        raise Refused(422, WRONG, f"{found}; the numbers must be equal.")


def readable(texts: Sequence[str]) -> list[str]:
    r"""Put the replacement character for halves of characters, which JSON can say and UTF-8 cannot.

    >>> readable(["a", "b\ud800"])
    ['a', 'b\ufffd']
    """
    return [text if text.isascii() else _SURROGATE.sub("\ufffd", text) for text in texts]


def _check_characters(what: str, texts: Sequence[str], most: int) -> None:
    longest = max(map(len, texts), default=0)
    if longest > most:
        number = next(place for place, text in enumerate(texts, 1) if len(text) > most)
        found = f"{what.capitalize()} {number} has {len(texts[number - 1]):,} characters"
        raise Refused(413, TOO_LARGE, f"{found}; {most:,} is the most it may have. Send it in parts.")


def _too_many(found: str, most: str, tip: str) -> Refused:
    return Refused(413, TOO_LARGE, f"There are {found}; {most} is the most of one request. {tip}")
