"""Mistakes: the rows where the model is furthest off, and which labels it takes for which.

Both are lists of rows for people to look at: a wrong answer is the model's mistake, or the label's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.examples import Examples
from bertsmith.tasks.protocol import Answer, Array, Decision, Rows, Task

MOST = 20
"""Rows, and pairs of labels, that are listed."""
MOST_EXAMPLES = 3
"""Rows that are shown of each pair of labels."""
NO_LABEL = "(none)"
"""Stands in a pair where a label is missed and no other given for it, or given where none was missed."""


def find_mistakes(
    task: Task, rows: Rows, probabilities: Array, answers: Sequence[Answer], *, decision: Decision, texts: bool
) -> dict[str, list[dict[str, Any]]]:
    """Find the worst rows and the confused pairs of labels.

    Args:
        task: Says which rows are right, and how much each one loses.
        rows: Rows with gold answers.
        probabilities: What the task decides by, one row a unit.
        answers: The answers that these make, one a row.
        decision: What was tuned.
        texts: False where texts may not be kept.

    Returns:
        `worst` and `confused`, as `scores.json` has them; empty lists for tasks without a loss of each row, and
        for those without labels of whole rows.
    """
    if not len(rows):
        return {"worst": [], "confused": []}
    statistics = task.statistics(rows, probabilities, decision)
    losses = statistics.means.get("log_loss")
    right = statistics.right
    found = [] if losses is None else worst(rows, losses, answers, role=task.role, texts=texts, right=right)
    return {"worst": found, "confused": confused(rows, answers, role=task.role, texts=texts)}


def worst(  # noqa: PLR0913 - rows and three things about each of them
    rows: Rows,
    losses: Array,
    answers: Sequence[Answer],
    *,
    role: str,
    texts: bool,
    right: Array | None = None,
    most: int = MOST,
) -> list[dict[str, Any]]:
    """List the rows with the highest loss, the highest first.

    Args:
        rows: Rows with gold answers.
        losses: Log loss of each row, `(rows,)`.
        answers: One a row.
        role: The canonical column of the gold answers.
        texts: False where texts may not be kept.
        right: Rows that were answered right, bool `(rows,)`; they are left out. None leaves out none.
        most: Rows that are listed.
    """
    order = np.argsort(-np.asarray(losses, np.float64), kind="stable")
    if right is not None:
        order = order[~np.asarray(right, bool)[order]]
    picked = order[:most]
    gold = rows.examples.column(role).take(pa.array(picked)).to_pylist()
    places = _places(rows.examples, picked, texts=texts)
    return [
        {**place, "gold": label, **_told(answers[row]), "loss": float(losses[row])}
        for row, label, place in zip(picked.tolist(), gold, places, strict=True)
    ]


def confused(
    rows: Rows, answers: Sequence[Answer], *, role: str, texts: bool, most: int = MOST
) -> list[dict[str, Any]]:
    """List the pairs of labels that are taken for each other most often, each with its surest rows.

    Of several labels a pair is one that was missed and one that was given instead; `(none)` stands where there
    was nothing to miss, or nothing was given instead.

    Args:
        rows: Rows with gold answers.
        answers: One a row.
        role: The canonical column of the gold answers.
        texts: False where texts may not be kept.
        most: Pairs that are listed, the most frequent first.

    Returns:
        Of each pair the gold label, the one given (`guess`), the rows where it is so, their share of the rows of
        the gold label (null for `(none)`), and at most three of these rows, the surest first. Nothing for numbers,
        tags and spans.
    """
    if role not in {"label", "labels"}:
        return []
    gold = [_as_set(each) for each in rows.examples.column(role).to_pylist()]
    pairs: dict[tuple[str, str], list[int]] = {}
    for row, labels in enumerate(gold):
        for pair in _pairs(labels, _given(answers[row])):
            pairs.setdefault(pair, []).append(row)
    sizes = _sizes(gold)
    ranked = sorted(pairs, key=lambda pair: (-len(pairs[pair]), pair))[:most]
    return [_pair(rows.examples, pair, pairs[pair], answers, sizes=sizes, texts=texts) for pair in ranked]


def _pair(
    examples: Examples,
    pair: tuple[str, str],
    found: Sequence[int],
    answers: Sequence[Answer],
    *,
    sizes: Mapping[str, int],
    texts: bool,
) -> dict[str, Any]:
    scores = np.array([_score(answers[row], pair[1]) for row in found])
    picked = np.array(found)[np.argsort(-scores, kind="stable")[:MOST_EXAMPLES]]
    places = _places(examples, picked, texts=texts)
    shown = [
        {**place, "score": _score(answers[row], pair[1])} for row, place in zip(picked.tolist(), places, strict=True)
    ]
    size = sizes.get(pair[0])
    share = None if size is None else len(found) / size
    return {"gold": pair[0], "guess": pair[1], "rows": len(found), "share": share, "examples": shown}


def _sizes(gold: Sequence[frozenset[str]]) -> dict[str, int]:
    """Count the rows of each gold label."""
    sizes: dict[str, int] = {}
    for labels in gold:
        for label in labels:
            sizes[label] = sizes.get(label, 0) + 1
    return sizes


def _pairs(gold: frozenset[str], given: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Pair what was missed with what was given instead."""
    if gold == given:
        return
    for label in sorted(gold - given) or [NO_LABEL]:
        for other in sorted(given - gold) or [NO_LABEL]:
            yield label, other


def _as_set(value: Any) -> frozenset[str]:
    return frozenset([value]) if isinstance(value, str) else frozenset(value or ())


def _given(answer: Answer) -> frozenset[str]:
    """Return the labels that an answer gives; of one that declines, its guess."""
    found = answer.as_json()
    return _as_set(found["guess"] if "guess" in found else found["labels"])


def _told(answer: Answer) -> dict[str, Any]:
    """Return the guess and its score, where the answer has one."""
    found = answer.as_json()
    guess = found["guess"] if "guess" in found else next(iter(found.values()))
    return {"guess": guess, "score": found.get("score")}


def _score(answer: Answer, label: str) -> float:
    """Return how probable the answer says a label is; 0 where it says nothing of it."""
    scores = answer.as_json(scores=True).get("scores") or {}
    return float(scores.get(label, 0.0))


def _places(examples: Examples, picked: Array, *, texts: bool) -> list[dict[str, Any]]:
    """Say where rows stand, and their texts where these may be kept."""
    names = ["file", "row", *(name for name in ("text", "text_pair") if texts and name in examples)]
    found: list[dict[str, Any]] = examples.table.select(names).take(pa.array(picked, pa.int64())).to_pylist()
    return found
