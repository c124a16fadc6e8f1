"""Exact match and F1 of answer texts, as the SQuAD 2.0 scorer defines them.

Rajpurkar, Zhang, Lopyrev and Liang, SQuAD: 100,000+ Questions (2016), section 6.1; Rajpurkar, Jia and Liang,
Know What You Don't Know (2018), section 5. Lower case, no ASCII punctuation, no English articles, single
blanks; the best of several gold answers counts. Shares are between 0 and 1 here, not percent.

For questions that have an answer the scorer of SQuAD 1.1 gives the same, except where a gold answer is nothing
but articles and punctuation: 2.0 leaves such a gold answer out.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from bertsmith.tasks.protocol import Array

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def normalised(answer: str) -> str:
    """Leave what counts of an answer.

    >>> normalised(" The  U.S. Army's ")
    'us armys'
    """
    return " ".join(_ARTICLE.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(guess: str, golds: Sequence[str]) -> float:
    """Return 1.0 where the guess is a gold answer after normalisation, else 0.0.

    Args:
        guess: The answer; "" for none.
        golds: The gold answers; none for a question that has no answer.
    """
    return float(normalised(guess) in _wanted(golds))


def f1(guess: str, golds: Sequence[str]) -> float:
    """Return the F1 of the guess's words against the gold answer that it is nearest to.

    Args:
        guess: The answer; "" for none.
        golds: The gold answers; none for a question that has no answer.

    >>> round(f1("the big red fox", ["red fox", "dog"]), 3)
    0.8
    """
    words = normalised(guess).split()
    return max(_overlap(words, gold.split()) for gold in _wanted(golds))


def answer_scores(guesses: Iterable[str], golds: Iterable[Sequence[str]]) -> Array:
    """Score answers: exact match and F1 of each, float64 `(rows, 2)`."""
    pairs = zip(guesses, golds, strict=True)
    scores = [(exact_match(guess, gold), f1(guess, gold)) for guess, gold in pairs]
    return np.array(scores, dtype=np.float64).reshape(-1, 2)


def _wanted(golds: Sequence[str]) -> list[str]:
    """Normalise gold answers; where nothing is left of any, the right answer is none."""
    return [gold for gold in map(normalised, golds) if gold] or [""]


def _overlap(guess: list[str], gold: list[str]) -> float:
    if not guess or not gold:
        return float(guess == gold)
    shared = (Counter(guess) & Counter(gold)).total()
    return 2 * shared / (len(guess) + len(gold))
