"""Scores: everything there is to say about one set of answers whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bertsmith.evaluation.intervals import Estimate, as_json, bootstrap, bootstrap_mean, wilson
from bertsmith.examples import LabelSet
from bertsmith.tasks import Task
from bertsmith.tasks.classification_metrics import Counts, confusion_matrix, row_losses

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ClassReport:
    """How well one label is answered; 0 where there is nothing to divide by.

    Attributes:
        label: Name of the label.
        precision: Share of the answers with this label that are right.
        recall: Share of the rows with this label that were answered right.
        f1: Their harmonic mean.
        support: Rows with this label.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """How good a set of answers is.

    Attributes:
        rows: Number of answers.
        metrics: Name → value and 95 % interval.
        per_class: One report a label, in the labels' order.
        confusion: Gold x guess, int64 `(labels, labels)`.
        labels: The labels.
    """

    rows: int
    metrics: Mapping[str, Estimate]
    per_class: tuple[ClassReport, ...]
    confusion: Array
    labels: LabelSet

    def as_json(self) -> dict[str, Any]:
        """Return the scores as `scores.json` has them."""
        return {
            "rows": self.rows,
            **as_json(self.metrics),
            "per_class": [asdict(report) for report in self.per_class],
            "confusion": self.confusion.tolist(),
        }


def score(task: Task, targets: Array, probabilities: Array, labels: LabelSet, *, seed: int) -> Scores:
    """Score answers: each metric with a 95 % interval, each label's own figures, and who is taken for whom.

    Accuracy has Wilson's interval, the rest a bootstrap that keeps the number of rows of each label.

    Args:
        task: Says which metrics there are, and computes them.
        targets: Positions of the right labels, int64 `(rows,)`; at least one row, not every label must occur.
        probabilities: float64 `(rows, labels)`.
        labels: The labels in the order of the columns.
        seed: The same seed gives the same intervals.

    Raises:
        ValueError: There are no rows.
    """
    values = task.measure(targets, probabilities)
    confusion = confusion_matrix(targets, probabilities.argmax(axis=1), len(labels))
    losses = row_losses(targets, probabilities)
    intervals = {
        **bootstrap(confusion, seed=seed),
        "accuracy": wilson(int(np.trace(confusion)), len(targets)),
        "log_loss": bootstrap_mean(losses, targets, seed=seed),
    }
    metrics = {name: _around(values[name], intervals[name]) for name in task.metrics}
    return Scores(len(targets), metrics, _per_class(confusion, labels), confusion, labels)


def _around(value: float, interval: Estimate) -> Estimate:
    """Keep the task's own value, whose last digit may differ from the interval's."""
    return Estimate(value, min(value, interval.low), max(value, interval.high))


def _per_class(confusion: Array, labels: LabelSet) -> tuple[ClassReport, ...]:
    counts = Counts.of(confusion)
    columns = (counts.precision, counts.recall, counts.f1, counts.support)
    rows = zip(labels.names, *(column.tolist() for column in columns), strict=True)
    return tuple(ClassReport(*row) for row in rows)
