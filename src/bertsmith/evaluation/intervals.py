"""Intervals: how far a score may be from what more test rows would have shown.

Shares get Wilson's interval. Everything else gets a percentile bootstrap, stratified by class: each resample
has as many rows of each gold class as the test side has. A resample of the rows of one gold class is a
multinomial draw of that class's row of the confusion matrix, so thousands of resamples never touch the rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from bertsmith.tasks.classification_metrics import Counts, counted_metrics

Array = np.ndarray[Any, Any]
CONFIDENCE = 0.95
RESAMPLES = 2000
_EXACT_ROWS = 2000
"""A class with more rows than this has the mean of its losses drawn from the normal distribution."""


@dataclass(frozen=True)
class Estimate:
    """A value and the interval around it; the value always lies inside."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """Return the estimate as `scores.json` has it."""
        return {"value": self.value, "low": self.low, "high": self.high}


def wilson(successes: int, total: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """Return a share with Wilson's score interval (Wilson 1927).

    >>> wilson(9, 10).low < 0.9 < wilson(9, 10).high
    True

    Raises:
        ValueError: `total` is 0.
    """
    if total < 1:
        raise ValueError("a share needs at least one row.")
    z = float(ndtri((1 + confidence) / 2))
    share = successes / total
    centre = share + z * z / (2 * total)
    margin = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # The ends are exact at 0 and 1, where rounding would put the value outside.
    low = 0.0 if successes == 0 else (centre - margin) / scale
    high = 1.0 if successes == total else (centre + margin) / scale
    return Estimate(share, low, high)


def bootstrap(confusion: Array, *, seed: int, confidence: float = CONFIDENCE) -> dict[str, Estimate]:
    """Estimate every counted metric (accuracy, F1s, balanced accuracy, MCC) with its interval.

    Resamples of answers that are all right are all right, and would claim certainty; then Wilson's interval
    of as many successes in as many rows stands in (for MCC, which counts an error double, 1 - 2(1 - low)).

    Args:
        confusion: Gold x guess, int64 `(classes, classes)`.
        seed: The same seed gives the same intervals.
        confidence: Share of such intervals that would hold the truth.
    """
    counts = Counts.of(confusion)
    values = counted_metrics(counts)
    total = int(counts.support.sum())
    if int(counts.right.sum()) == total:
        low = wilson(total, total, confidence=confidence).low
        lows = {name: 2 * low - 1 if name == "mcc" else low for name in values}
        return {name: Estimate(float(value), min(lows[name], float(value)), 1.0) for name, value in values.items()}
    resampled = counted_metrics(_resampled_counts(confusion, np.random.default_rng(seed)))
    return {name: percentiles(values[name], drawn, confidence) for name, drawn in resampled.items()}


def bootstrap_mean(values: Array, classes: Array, *, seed: int, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a mean over rows, such as the log loss, stratified by class.

    Classes of more than 2 000 rows have their mean drawn from its normal limit.

    Args:
        values: float `(rows,)`.
        classes: The gold class of each row, int64 `(rows,)`.
        seed: The same seed gives the same interval.
        confidence: Share of such intervals that would hold the truth.
    """
    generator = np.random.default_rng(seed)
    values = np.asarray(values, np.float64)[np.argsort(classes, kind="stable")]
    ends = np.cumsum(np.bincount(classes))
    sums = np.zeros(RESAMPLES)
    for part in np.split(values, ends[:-1]):
        sums += _resampled_sums(part, generator)
    return percentiles(values.mean(), sums / len(values), confidence)


def percentiles(value: float | Array, drawn: Array, confidence: float = CONFIDENCE) -> Estimate:
    """Take the interval from resampled values, widened to hold the value itself where it does not."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(value), min(float(low), float(value)), max(float(high), float(value)))


def as_json(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Return named estimates as `scores.json` has them."""
    return {name: estimate.as_json() for name, estimate in estimates.items()}


def _resampled_counts(confusion: Array, generator: np.random.Generator) -> Counts:
    """Draw each gold class's row of the confusion matrix anew: counts of `(RESAMPLES, classes)`."""
    classes = len(confusion)
    support = confusion.sum(axis=1)
    right, guessed = np.zeros((2, RESAMPLES, classes), np.int64)
    for gold in np.flatnonzero(support):
        cells = np.flatnonzero(confusion[gold])
        drawn = generator.multinomial(support[gold], confusion[gold, cells] / support[gold], size=RESAMPLES)
        guessed[:, cells] += drawn
        right[:, gold] = drawn[:, cells == gold].sum(axis=1)
    return Counts(right, support, guessed)


def _resampled_sums(values: Array, generator: np.random.Generator) -> Array:
    """Sum `len(values)` draws with replacement, `(RESAMPLES,)`."""
    rows = len(values)
    if rows > _EXACT_ROWS:
        return np.asarray(generator.normal(values.sum(), values.std() * math.sqrt(rows), size=RESAMPLES))
    if rows == 0:
        return np.zeros(RESAMPLES)
    picks = generator.integers(rows, size=(RESAMPLES, rows), dtype=np.int32)
    return np.asarray(values[picks].sum(axis=1))
