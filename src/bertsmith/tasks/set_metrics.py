"""The metrics of sets of labels, from three counts a label and two a row.

Definitions are scikit-learn's for indicator matrices with `zero_division=0`: macro-F1 runs over all labels,
those that occur nowhere included; a row without labels that was answered with none has a samples-F1 of 0.
"""

from __future__ import annotations

import numpy as np

from bertsmith.tasks.classification_metrics import Counts, ratio
from bertsmith.tasks.protocol import Array

_EPS = float(np.finfo(np.float64).eps)
RESAMPLES = 200
"""Resamples for the interval of mean average precision, each of which ranks all rows anew."""
BLOCKS = 20
MANY = 10_000
"""Rows above which the interval comes from blocks of rows, not from resamples."""


def set_terms(truth: Array, guesses: Array) -> Array:
    """Say what rows add to the sums.

    Args:
        truth: Which labels are right, bool `(rows, labels)`.
        guesses: Which labels were given, bool `(rows, labels)`.

    Returns:
        float64 `(rows, 3 labels + 2)`: rightly given, right and given labels, whether all were right, and 1.
    """
    exact = (truth == guesses).all(axis=1, keepdims=True)
    return np.concatenate([truth & guesses, truth, guesses, exact, np.ones_like(exact)], axis=1).astype(np.float64)


def set_counts(sums: Array) -> Counts:
    """Take the counts of each label out of the sums `(..., 3 labels + 2)`."""
    return Counts(*np.split(sums[..., :-2], 3, axis=-1))


def set_counted(sums: Array) -> dict[str, Array]:
    """Compute micro_f1, macro_f1 and subset_accuracy from sums `(..., 3 labels + 2)`."""
    counts = set_counts(sums)
    micro = ratio(2 * counts.right.sum(-1), counts.support.sum(-1) + counts.guessed.sum(-1))
    return {"micro_f1": micro, "macro_f1": counts.f1.mean(-1), "subset_accuracy": sums[..., -2] / sums[..., -1]}


def samples_f1(truth: Array, guesses: Array) -> Array:
    """Compute each row's own F1, float64 `(rows,)`."""
    return ratio(2 * (truth & guesses).sum(axis=1), truth.sum(axis=1) + guesses.sum(axis=1))


def set_losses(truth: Array, probabilities: Array) -> Array:
    """Compute each row's mean binary cross-entropy over the labels (natural log), float64 `(rows,)`."""
    clipped = np.clip(probabilities, _EPS, 1 - _EPS)
    return np.asarray(-np.where(truth, np.log(clipped), np.log1p(-clipped)).mean(axis=1))


def average_precision(truth: Array, scores: Array, weights: Array | None = None) -> Array:
    """Compute the average precision of one label, as scikit-learn defines it; 0 without a positive row.

    Args:
        truth: bool `(rows,)`.
        scores: `(rows,)`; equal scores are one step.
        weights: How often each row counts, `(..., rows)`; once where left out.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    counted = np.ones(len(order)) if weights is None else weights[..., order]
    found = (counted * truth[order]).cumsum(-1)[..., ends]
    precision = ratio(found, counted.cumsum(-1)[..., ends])
    gained = np.diff(found, axis=-1, prepend=0.0)
    return ratio((gained * precision).sum(-1), found[..., -1])


def average_precisions(truth: Array, probabilities: Array) -> Array:
    """Compute the average precision of each label, float64 `(labels,)`; 0 for those without a positive row."""
    columns = zip(truth.T, probabilities.T, strict=True)
    return np.array([float(average_precision(right, scores)) for right, scores in columns])


def mean_average_precision(truth: Array, probabilities: Array) -> float:
    """Average the average precision of the labels that have a positive row; 0 where none has."""
    occurs = truth.any(axis=0)
    return float(average_precisions(truth[:, occurs], probabilities[:, occurs]).mean()) if occurs.any() else 0.0


def map_estimate(truth: Array, probabilities: Array, *, seed: int = 0) -> dict[str, float]:
    """Estimate the mean average precision: value, and low and high of a 95 % interval around it.

    A percentile bootstrap over rows (200 resamples). On very many rows a normal interval from the spread of
    20 blocks of rows stands in.
    """
    value = mean_average_precision(truth, probabilities)
    generator = np.random.default_rng(seed)
    if len(truth) > MANY:
        blocks = np.array_split(generator.permutation(len(truth)), BLOCKS)
        found = [mean_average_precision(truth[rows], probabilities[rows]) for rows in blocks]
        margin = 1.96 * float(np.std(found, ddof=1)) / BLOCKS**0.5
        return {"value": value, "low": max(0.0, value - margin), "high": min(1.0, value + margin)}
    drawn = np.asarray(_resampled(truth, probabilities, generator))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}


def _resampled(truth: Array, probabilities: Array, generator: np.random.Generator) -> Array:
    """Compute the mean average precision of resamples, float64 `(RESAMPLES,)`."""
    rows = len(truth)
    weights = generator.multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES).astype(np.float32)
    total, occurring = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for right, scores in zip(truth.T, probabilities.T, strict=True):
        if right.any():
            total += average_precision(right, scores, weights)
            occurring += (weights @ right.astype(np.float32)) > 0
    return ratio(total, occurring)
