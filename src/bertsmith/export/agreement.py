"""When two engines give a text the same answer, and how far apart their answers are, for every kind of task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bertsmith.tasks.protocol import Array, Decision, Rows, Task

SAME_NUMBER = 0.05
"""Standard deviations of the gold numbers by which two answers may differ and still be the same."""
_Measure = Callable[[Task, Rows, Array, Array, Decision], Array]


def agreement(task: Task, rows: Rows, ours: Array, theirs: Array, *, decision: Decision) -> Array:
    """Say how far two engines give the same answers, float64 in [0, 1], one entry a unit.

    A unit is a row; a word where words have tags. One label (or tag) is the same or not, whatever UNKNOWN makes of it.
    Of several labels it is the share that both give of those that one of them gives (Jaccard's index; 1 where both
    give none). Numbers are the same within `SAME_NUMBER` standard deviations, answers to questions where they are the
    same characters of the context.

    Args:
        task: The model's.
        rows: With targets.
        ours: What the task decides by, `(units, outputs)`.
        theirs: The same of the other engine.
        decision: The thresholds, the same for both.
    """
    return _AGREEMENT[task.role](task, rows, ours, theirs, decision)


def distance(task: Task, rows: Rows, ours: Array, theirs: Array, *, decision: Decision) -> Array:
    """Say how far apart the answers of two engines are, float64, one entry a unit.

    For labels and tags it is the largest difference of a probability. Of numbers it is their difference in standard
    deviations of the gold numbers; of questions the difference of the answers' scores. Arguments as for `agreement`.
    """
    return _DISTANCE[task.role](task, rows, ours, theirs, decision)


def _same_label(_task: Task, _rows: Rows, ours: Array, theirs: Array, _decision: Decision) -> Array:
    return np.asarray(ours.argmax(axis=1) == theirs.argmax(axis=1), np.float64)


def _same_labels(task: Task, rows: Rows, ours: Array, theirs: Array, decision: Decision) -> Array:
    both = [[set(each.labels) for each in _decoded(task, rows, given, decision)] for given in (ours, theirs)]
    return np.array([len(a & b) / len(a | b) if a | b else 1.0 for a, b in zip(*both, strict=True)])


def _same_number(_task: Task, rows: Rows, ours: Array, theirs: Array, _decision: Decision) -> Array:
    return np.asarray(_in_deviations(rows, ours, theirs) <= SAME_NUMBER, np.float64)


def _same_span(task: Task, rows: Rows, ours: Array, theirs: Array, decision: Decision) -> Array:
    both = [[(each.start, each.end) for each in _decoded(task, rows, given, decision)] for given in (ours, theirs)]
    return np.array([float(a == b) for a, b in zip(*both, strict=True)])


def _largest(_task: Task, _rows: Rows, ours: Array, theirs: Array, _decision: Decision) -> Array:
    return np.asarray(np.abs(ours - theirs).max(axis=1, initial=0.0))


def _number_apart(_task: Task, rows: Rows, ours: Array, theirs: Array, _decision: Decision) -> Array:
    return _in_deviations(rows, ours, theirs)


def _scores_apart(task: Task, rows: Rows, ours: Array, theirs: Array, decision: Decision) -> Array:
    both = [np.array([each.score for each in _decoded(task, rows, given, decision)]) for given in (ours, theirs)]
    return np.asarray(np.abs(both[0] - both[1]))


def _in_deviations(rows: Rows, ours: Array, theirs: Array) -> Array:
    spread = float(np.std(rows.targets)) if len(rows.targets) else 0.0
    return np.asarray(np.abs(ours - theirs)[:, 0] / (spread or 1.0))


def _decoded(task: Task, rows: Rows, given: Array, decision: Decision) -> list[Any]:
    return list(task.decode(rows, given, decision))


_AGREEMENT: dict[str, _Measure] = {
    "label": _same_label,
    "labels": _same_labels,
    "value": _same_number,
    "tags": _same_label,
    "answers": _same_span,
}
_DISTANCE: dict[str, _Measure] = {
    "label": _largest,
    "labels": _largest,
    "value": _number_apart,
    "tags": _largest,
    "answers": _scores_apart,
}
