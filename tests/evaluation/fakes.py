"""Small stand-ins: rows without texts, and tasks whose every number can be worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from bertsmith.examples import LabelSet
from bertsmith.tasks.protocol import Statistics

Array = np.ndarray[Any, Any]
LABELS = LabelSet(("billing", "café", "other"))


@dataclass(frozen=True)
class Whole:
    """Units are rows."""

    def flat(self, rows: Array) -> Array:
        """Give the units of rows: themselves."""
        return rows


@dataclass(frozen=True)
class GoldRows:
    """Rows of which only the gold answer is known."""

    targets: Array
    labels: LabelSet = LABELS
    encoded: Whole = Whole()
    examples: None = None

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Array) -> GoldRows:
        """Return these rows."""
        return GoldRows(self.targets[rows], self.labels)


class Numbers:
    """A task with numbers as answers; every row is an outcome of its own. `answers` holds what was asked of it."""

    metrics = ("pearson", "mse", "spearman")
    loss_metrics = frozenset({"mse"})
    shares: frozenset[str] = frozenset()
    compared: tuple[str, ...] = ("pearson", "mse")

    def statistics(self, rows: GoldRows, probabilities: Array, decision: dict[str, Any]) -> Statistics:
        """Reduce to moments; the decision may shift the answers."""
        gold, given = rows.targets, probabilities[:, 0] + decision.get("shift", 0.0)
        values = np.column_stack([np.ones(len(gold)), gold, given, gold**2, given**2, gold * given])
        zeros = np.zeros(len(gold), np.int64)
        return Statistics(np.arange(len(gold)), values, zeros)

    def counted(self, sums: Array) -> dict[str, Array]:
        """Compute from moments."""
        n, gold, given, gold2, given2, both = np.moveaxis(np.asarray(sums, np.float64), -1, 0)
        spread = np.sqrt((n * gold2 - gold**2) * (n * given2 - given**2))
        covariance = n * both - gold * given
        pearson = np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)
        return {"pearson": pearson, "mse": (gold2 + given2 - 2 * both) / n}

    def measure(self, rows: GoldRows, probabilities: Array) -> dict[str, float]:
        """Measure the rank correlation, for which no sums suffice."""
        given = probabilities[:, 0]
        return {"spearman": float(spearmanr(rows.targets, given).statistic) if np.ptp(given) else 0.0}

    def detail(self, rows: GoldRows, probabilities: Array, decision: dict[str, Any]) -> dict[str, Any]:
        """Say what was tuned."""
        return dict(decision)


class LossFirst(Numbers):
    """The same, judged by a loss."""

    compared = ("mse", "pearson")


class MeanOf:
    """The mean of some numbers, as a counted metric or as a plain mean."""

    metrics = ("mean", "plain")
    loss_metrics: frozenset[str] = frozenset()
    shares: frozenset[str] = frozenset()
    compared = ("mean", "plain")

    def statistics(self, rows: GoldRows, probabilities: Array, decision: dict[str, Any]) -> Statistics:
        """Take the answers themselves, in strata of the gold numbers."""
        x = probabilities[:, 0]
        return Statistics(
            np.arange(len(x)), np.column_stack([x, np.ones(len(x))]), rows.targets.astype(np.int64), {"plain": x}
        )

    def counted(self, sums: Array) -> dict[str, Array]:
        """Divide."""
        return {"mean": sums[..., 0] / sums[..., 1]}


def one_hot(guesses: Array, classes: int = 3) -> Array:
    """Make probabilities whose best label is the guess."""
    return np.eye(classes)[guesses]


def rows_of(confusion: Array) -> tuple[GoldRows, Array]:
    """Lay a confusion matrix out as rows and probabilities."""
    gold, guess = np.indices(confusion.shape)
    labels = LabelSet(tuple(f"l{each}" for each in range(len(confusion))))
    guesses = np.repeat(guess.ravel(), confusion.ravel())
    return GoldRows(np.repeat(gold.ravel(), confusion.ravel()), labels), one_hot(guesses, len(confusion))
