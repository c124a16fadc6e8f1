"""The metrics of one answer out of K, from three counts a class, so that thousands of resamples cost no more.

Definitions are scikit-learn's with `zero_division=0`. Macro- and weighted-F1 run over the labels that occur
among targets or answers (scikit-learn's default); balanced accuracy over those that occur among targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.examples import LabelSet
from bertsmith.tasks.protocol import Array

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Counts:
    """What the counted metrics need to know of some answers, or of many resamples of them.

    Attributes:
        right: Rows of each class that were answered right, `(..., classes)`.
        support: Rows of each class, `(classes,)` or `(..., classes)`.
        guessed: Rows that were answered with each class, `(..., classes)`.
    """

    right: Array
    support: Array
    guessed: Array

    @classmethod
    def of(cls, confusion: Array) -> Counts:
        """Count from a confusion matrix, gold x guess, `(classes, classes)`."""
        return cls(np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))

    @property
    def precision(self) -> Array:
        """Share of the answers with a class that are right, `(..., classes)`."""
        return ratio(self.right, self.guessed)

    @property
    def recall(self) -> Array:
        """Share of a class's rows that were answered right, `(..., classes)`."""
        return ratio(self.right, self.support)

    @property
    def f1(self) -> Array:
        """Harmonic mean of precision and recall, `(..., classes)`."""
        return ratio(2 * self.right, self.support + self.guessed)


def confusion_matrix(targets: Array, guesses: Array, classes: int) -> Array:
    """Count gold x guess: int64 `(classes, classes)`."""
    cells = np.asarray(targets, np.int64) * classes + guesses
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def counted_metrics(counts: Counts) -> dict[str, Array]:
    """Compute every metric that counts suffice for, over all leading axes at once."""
    occurs = (counts.support + counts.guessed) > 0
    return {
        "accuracy": counts.right.sum(-1) / counts.support.sum(-1),
        "macro_f1": counts.f1.sum(-1) / occurs.sum(-1),
        "weighted_f1": (counts.f1 * counts.support).sum(-1) / counts.support.sum(-1),
        "balanced_accuracy": counts.recall.sum(-1) / (counts.support > 0).sum(-1),
        "mcc": _mcc(counts),
    }


def row_losses(targets: Array, probabilities: Array) -> Array:
    """Return each row's cross-entropy (natural log) against its target, probabilities clipped at float64's epsilon.

    Args:
        targets: Positions of the right labels, int64 `(rows,)`, or their shares, `(rows, classes)`.
        probabilities: `(rows, classes)`.
    """
    if targets.ndim == 2:
        return np.asarray(-(targets * np.log(np.clip(probabilities, _EPS, 1 - _EPS))).sum(axis=1))
    chosen = np.take_along_axis(probabilities.astype(np.float64), targets[:, None], axis=1)[:, 0]
    return np.asarray(-np.log(np.clip(chosen, _EPS, 1 - _EPS)))


def class_reports(counts: Counts, labels: LabelSet) -> list[dict[str, Any]]:
    """Give label, precision, recall, f1 and support of each label, in their order; 0 where nothing divides."""
    columns = (counts.precision, counts.recall, counts.f1, np.asarray(counts.support, np.int64))
    keys = ("label", "precision", "recall", "f1", "support")
    rows = zip(labels.names, *(column.tolist() for column in columns), strict=True)
    return [dict(zip(keys, row, strict=True)) for row in rows]


def classification_metrics(targets: Array, probabilities: Array, *, shares: Array | None = None) -> dict[str, float]:
    """Compute accuracy, macro_f1, weighted_f1, balanced_accuracy, mcc and log_loss.

    Args:
        targets: Positions of the right labels, int64 `(rows,)`; at least one row.
        probabilities: `(rows, classes)`; the most probable label is the answer, the first one of equals.
        shares: Shares of the labels, `(rows, classes)`, where labels are soft: the log loss is that against them.

    Raises:
        ValueError: There are no rows.
    """
    if not len(targets):
        raise ValueError("metrics need at least one row.")
    confusion = confusion_matrix(targets, probabilities.argmax(axis=1), probabilities.shape[1])
    metrics = {name: float(value) for name, value in counted_metrics(Counts.of(confusion)).items()}
    return {**metrics, "log_loss": float(row_losses(targets if shares is None else shares, probabilities).mean())}


def _mcc(counts: Counts) -> Array:
    """Matthews correlation for K classes (Gorodkin 2004); 0 where only one class occurs on a side."""
    # Floats: products of counts overflow int64 from 3 000 000 000 rows on.
    right, support, guessed = (np.asarray(part, np.float64) for part in (counts.right, counts.support, counts.guessed))
    rows = support.sum(-1)
    covariance = right.sum(-1) * rows - (support * guessed).sum(-1)
    spread = (rows**2 - (support**2).sum(-1)) * (rows**2 - (guessed**2).sum(-1))
    return ratio(covariance, np.sqrt(spread))


def ratio(part: Array, whole: Array) -> Array:
    """Divide; 0 where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    out = np.zeros(part.shape)
    np.divide(part, whole, out=out, where=whole != 0)
    return out
