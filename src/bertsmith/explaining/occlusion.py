"""Occlusion: how much a label's log odds fall when a word is left out. It needs nothing but probabilities.

Zeiler and Fergus 2014, arXiv 1311.2901, section 3.2, with words in place of pixels. Words are left out, not masked:
any engine can do it, and it was more faithful where words are taken away by leaving them out, though on BANKING77 less
so where they are masked (docs/how-to/explain-an-answer.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from bertsmith.examples import LabelSet
from bertsmith.explaining.words import Span

Array = np.ndarray[Any, Any]
MOST = 256
"""Answers that an explanation may ask for; in texts with more words, neighbours are left out together."""
_ROUNDING = 1e-6
_TINY = 1e-300


class Answers(Protocol):
    """What occlusion needs of an engine: labels, and their probabilities for texts."""

    @property
    def labels(self) -> LabelSet:
        """The labels in the order of the columns."""
        ...

    def probabilities(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Array:
        """Return the probability of each label, float64 `(texts, labels)`."""
        ...


def log_odds(probabilities: Array, label: int) -> Array:
    """Turn probabilities into a label's log odds, log p / (1 - p), float64 `(texts,)`.

    Args:
        probabilities: `(texts, labels)`.
        label: Position of the label.
    """
    mine = probabilities[:, label].astype(np.float64)
    others = np.delete(probabilities, label, axis=1).sum(axis=1, dtype=np.float64)
    # Where the labels share one whole, the others' shares still say how sure it is when 1 - p is lost to rounding.
    rest = np.where(np.abs(mine + others - 1) < _ROUNDING, others, 1 - mine)
    return np.asarray(np.log(np.maximum(mine, _TINY)) - np.log(np.maximum(rest, _TINY)))


def occlude(engine: Answers, texts: tuple[str, ...], words: Sequence[tuple[int, Span]], label: int) -> Array:
    """Say what each word adds to a label's log odds: how far they fall without it, float64 `(words,)`.

    Args:
        engine: What answers.
        texts: The text, or the two texts of a pair.
        words: Of each word to leave out, the text (0 or 1) and its characters there, in order.
        label: Position of the label.
    """
    if not words:
        return np.zeros(0)
    groups = np.array_split(np.arange(len(words)), min(MOST, len(words)))
    versions = [texts, *(without(texts, [words[place] for place in group]) for group in groups)]
    firsts, *seconds = (list(side) for side in zip(*versions, strict=True))
    found = log_odds(engine.probabilities(firsts, *seconds), label)
    falls = found[0] - found[1:]
    return np.concatenate([np.full(len(group), fall / len(group)) for group, fall in zip(groups, falls, strict=True)])


def without(texts: tuple[str, ...], words: Sequence[tuple[int, Span]]) -> tuple[str, ...]:
    """Leave some words out, given in order; blanks stay.

    >>> without(("not bad", "yes"), [(0, (0, 3))])
    (' bad', 'yes')
    """
    parts = list(texts)
    for text, (start, end) in reversed(words):
        parts[text] = parts[text][:start] + parts[text][end:]
    return tuple(parts)
