"""Ordered labels: each text has one of K labels that go from least to most, such as stars."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bertsmith.errors import DataError
from bertsmith.examples import Examples, LabelSet
from bertsmith.tasks.protocol import Array, Metrics, Rows
from bertsmith.tasks.single_label import SingleLabel


class Ordered(SingleLabel):
    """Softmax over K ordered labels, cross-entropy; how far off answers are counts in the scores."""

    name = "ordered"
    metrics: tuple[str, ...] = (*SingleLabel.metrics, "mae", "quadratic_kappa")
    loss_metrics: frozenset[str] = SingleLabel.loss_metrics | {"mae"}
    stop_metric = "quadratic_kappa"
    compared: tuple[str, ...] = ("accuracy", "macro_f1", "quadratic_kappa")

    def __init__(self, levels: tuple[str, ...] = ()) -> None:
        """Take the labels from least to most; none where they are numbers."""
        self.levels = levels

    def labels(self, examples: Examples) -> LabelSet:
        """Collect the labels in their order: that of the levels, else that of the numbers they are.

        Raises:
            DataError: A label is no level, or there are no levels and a label is no number.
        """
        names = super().labels(examples).names
        if self.levels:
            strange = [name for name in names if name not in self.levels]
            if strange:
                raise DataError(
                    f"{examples.source}: the label {strange[0]!r} is none of the levels {', '.join(self.levels)}.",
                    tip="Name every label once, from least to most: --levels low,medium,high.",
                )
            return LabelSet(self.levels)
        numbers = [_number(name) for name in names]
        if any(number is None for number in numbers):
            word = names[numbers.index(None)]
            raise DataError(
                f"{examples.source}: the label {word!r} is no number, so the order of the labels is not known.",
                tip="Say it, from least to most: --levels low,medium,high.",
            )
        return LabelSet(tuple(sorted(names, key=lambda name: (_number(name), name))))

    def measure(self, rows: Rows, probabilities: Array) -> Metrics:
        """Compute every metric: scikit-learn's definitions; `mae` in steps, or in the numbers that labels are."""
        counted = self.counted(self.statistics(rows, probabilities, {}).sums)
        found = {**super().measure(rows, probabilities), **{name: float(value) for name, value in counted.items()}}
        return {name: found[name] for name in self.metrics}

    def terms(self, gold: Array, guess: Array, labels: LabelSet) -> Array:
        """Add how far off each pair is, in places (squared) and in `distances`: `(pairs, 3 labels + 2)`."""
        places = (gold - guess).astype(np.float64) ** 2
        scale = label_values(labels)
        off = np.abs(scale[gold] - scale[guess])
        return np.concatenate([super().terms(gold, guess, labels), places[:, None], off[:, None]], axis=1)

    def counted(self, sums: Array) -> dict[str, Array]:
        """Compute all metrics but the log loss from sums `(..., 3 labels + 2)`."""
        _, support, guessed = np.split(sums[..., :-2], 3, axis=-1)
        return {
            **super().counted(sums[..., :-2]),
            "mae": sums[..., -1] / support.sum(-1),
            "quadratic_kappa": _kappa(support, guessed, sums[..., -2]),
        }

    def detail(self, rows: Rows, probabilities: Array, decision: Any) -> dict[str, Any]:
        """Add the values of the labels, in which `mae` is told."""
        return super().detail(rows, probabilities, decision) | {"values": label_values(rows.labels).tolist()}


def label_values(labels: LabelSet) -> Array:
    """Return what labels are worth: the numbers that they are, or else their places; float64 `(labels,)`."""
    numbers = [_number(name) for name in labels.names]
    if any(number is None for number in numbers):
        return np.arange(len(labels), dtype=np.float64)
    return np.array(numbers, np.float64)


def _kappa(support: Array, guessed: Array, squares: Array) -> Array:
    """Compute Cohen's kappa with quadratic weights (Cohen 1968), 0 where all rows and answers are one label.

    Args:
        support: Rows of each label, `(..., labels)`.
        guessed: Answers of each label, `(..., labels)`.
        squares: Sum over rows of the squared distance in places, `(...)`.
    """
    from bertsmith.tasks.classification_metrics import ratio

    places = np.arange(support.shape[-1], dtype=np.float64)
    rows = support.sum(-1)
    # The mean of (i - j)^2 over all pairs of a row and an answer, from the moments of both sides.
    second = (support * places**2).sum(-1) + (guessed * places**2).sum(-1)
    by_chance = second - 2 * (support * places).sum(-1) * (guessed * places).sum(-1) / rows
    some = by_chance > 1e-9 * rows
    return np.where(some, 1 - ratio(squares, np.where(some, by_chance, 1.0)), 0.0)


def _number(name: str) -> float | None:
    """Read a label as a number; None where it is none.

    >>> _number("10"), _number("-2.5"), _number("good")
    (10.0, -2.5, None)
    """
    if not any(character.isdigit() for character in name) or "_" in name:
        return None
    try:
        number = float(name)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
