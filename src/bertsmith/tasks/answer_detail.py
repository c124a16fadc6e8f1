"""How well each kind of question is answered."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from bertsmith.examples import Examples
from bertsmith.tasks.answer_spans import answerable, gold_texts
from bertsmith.tasks.protocol import Array

OTHER = "other"
_QUESTION_WORD = re.compile(r"\b(what|which|who|whom|whose|when|where|why|how)\b", re.IGNORECASE)
_SPELLINGS = {"whom": "who", "whose": "who"}
_LENGTHS = ((1, "1 word"), (3, "2 to 3 words"), (7, "4 to 7 words"))
_LONGER = "8 words or more"


def answer_detail(examples: Examples, scores: Array, declined: Array) -> dict[str, Any]:
    """Give rows, exact match and F1 by whether there is an answer, by its length, and by question word.

    Args:
        examples: Questions with gold answers.
        scores: Exact match and F1 of each, `(rows, 2)`.
        declined: Which were answered with "no answer", bool `(rows,)`.

    Returns:
        `by_answer`, `by_answer_length` (blank-separated words of the first gold answer), `by_question_word` (the
        first English one; left out where no question has any), and, where questions without an answer occur,
        `no_answer_accuracy`: the share of all questions that were rightly answered or declined to be answered.
    """
    has_answer = answerable(examples)
    kinds = [_length(golds) for golds in gold_texts(examples)]
    words = [question_word(text) for text in examples.column("text").to_pylist()]
    detail: dict[str, Any] = {
        "by_answer": _by(["answerable" if each else "unanswerable" for each in has_answer.tolist()], scores),
        "by_answer_length": _by(kinds, scores),
    }
    if set(words) != {OTHER}:
        detail["by_question_word"] = _by(words, scores)
    if not has_answer.all():
        detail["no_answer_accuracy"] = float((declined != has_answer).mean())
    return detail


def question_word(question: str) -> str:
    """Find a question's word.

    >>> question_word("In what year?"), question_word("Whose is it?"), question_word("Name it.")
    ('what', 'who', 'other')
    """
    found = _QUESTION_WORD.search(question)
    word = found[1].lower() if found else OTHER
    return _SPELLINGS.get(word, word)


def _length(golds: list[str]) -> str:
    if not golds:
        return "no answer"
    words = len(golds[0].split())
    return next((name for most, name in _LENGTHS if words <= most), _LONGER)


def _by(kinds: list[str], scores: Array) -> dict[str, dict[str, float]]:
    """Average over the rows of each kind, the most frequent kind first."""
    names, which, sizes = np.unique(np.array(kinds), return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(which, weights=column) for column in scores.T], axis=1) / sizes[:, None]
    order = np.lexsort((names, -sizes))
    return {
        str(names[kind]): {
            "rows": int(sizes[kind]),
            "exact_match": float(means[kind, 0]),
            "f1": float(means[kind, 1]),
        }
        for kind in order
    }
