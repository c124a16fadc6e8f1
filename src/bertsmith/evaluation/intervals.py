"""Intervals: how far a score may be from what more test rows would have shown.

The share of rows that were answered right gets Wilson's interval. Everything else gets a percentile bootstrap
over rows, stratified as the task says, such as by class: each resample has as many rows of each gold class as
the test side has.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from bertsmith.evaluation.resampling import Counted, constant, drawn_means, drawn_sums
from bertsmith.tasks.protocol import Array, Statistics

CONFIDENCE = 0.95


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


def bootstrap(
    statistics: Statistics,
    counted: Counted,
    *,
    seed: int,
    confidence: float = CONFIDENCE,
    shares: Collection[str] = (),
    losses: Collection[str] = (),
) -> dict[str, Estimate]:
    """Estimate every metric that is counted or a mean over rows, each with its interval.

    Where all resamples agree (every answer right, or always the same answer) they would claim certainty. Then
    a share gets Wilson's interval of as many successes in as many rows. A metric of at most 1 that is no share
    (a correlation, which counts an error double) gets 1 - 2(1 - low) as its lower end where it is 1; a loss of
    0 over rows that are all right gets the upper end for no misses in as many rows, each by one.

    Args:
        statistics: The outcomes of at least one row.
        counted: Computes metrics from sums.
        seed: The same seed gives the same intervals.
        confidence: Share of such intervals that would hold the truth.
        shares: The metrics that are shares, between 0 and 1.
        losses: The metrics that are better when lower.
    """
    found = _Bootstrap(statistics, frozenset(shares), frozenset(losses), confidence)
    values = {name: float(value) for name, value in counted(statistics.sums).items()}
    drawn, right = found.drawn(counted, np.random.default_rng(seed))
    estimates = {name: found.interval(name, values[name], drawn[name], right) for name in values}
    for name, rows in statistics.means.items():
        generator = np.random.default_rng(seed)
        means = _unless_constant(drawn_means(rows, statistics.strata, generator), rows, generator)
        is_right = statistics.right is not None and np.array_equal(rows, statistics.right)
        estimates[name] = found.interval(name, float(np.mean(rows)), means, means if is_right else None)
    return estimates


def bootstrap_mean(values: Array, strata: Array, *, seed: int, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a mean over rows, such as the log loss.

    Args:
        values: float `(rows,)`.
        strata: The stratum of each row, such as its gold class, any integers, `(rows,)`.
        seed: The same seed gives the same interval.
        confidence: Share of such intervals that would hold the truth.
    """
    generator = np.random.default_rng(seed)
    drawn = _unless_constant(drawn_means(values, strata, generator), values, generator)
    return percentiles(float(np.mean(values)), drawn, confidence)


def percentiles(value: float | Array, drawn: Array, confidence: float = CONFIDENCE) -> Estimate:
    """Take the interval from resampled values, widened to hold the value itself where it does not."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return around(float(value), float(low), float(high))


def around(value: float, low: float, high: float) -> Estimate:
    """Widen an interval to hold the value itself where it does not."""
    return Estimate(value, min(low, value), max(high, value))


def as_json(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Return named estimates as `scores.json` has them."""
    return {name: estimate.as_json() for name, estimate in estimates.items()}


@dataclass(frozen=True)
class _Bootstrap:
    statistics: Statistics
    shares: frozenset[str]
    losses: frozenset[str]
    confidence: float

    @property
    def rows(self) -> int:
        return len(self.statistics.cells)

    def drawn(self, counted: Counted, generator: np.random.Generator) -> tuple[dict[str, Array], Array | None]:
        """Draw every counted metric, and the share of right answers, each `(resamples,)`."""
        drawn, right = _drawn(self.statistics, counted, generator)
        stuck = [name for name, each in drawn.items() if name in self.losses and constant(each)]
        if stuck:
            # Rows that differ by stratum alone: how many of each there are is then all that is uncertain.
            loose = replace(self.statistics, strata=np.zeros_like(self.statistics.strata))
            again = _drawn(loose, counted, generator)[0]
            drawn |= {name: again[name] for name in stuck}
        return drawn, right

    def interval(self, name: str, value: float, drawn: Array, right: Array | None) -> Estimate:
        """Take the interval of a metric; `right` is the share of right answers in the same resamples."""
        certain = constant(drawn)
        is_right = right is not None and right.shape == drawn.shape and np.allclose(drawn, right, rtol=0, atol=1e-9)
        if name in self.shares and (certain or is_right):
            share = wilson(round(value * self.rows), self.rows, confidence=self.confidence)
            return around(value, share.low, share.high)
        return self._beyond(name, value) if certain else percentiles(value, drawn, self.confidence)

    def _beyond(self, name: str, value: float) -> Estimate:
        """Doubt a perfect value that is no share; any other constant is what the metric is by definition."""
        if name not in self.losses and math.isclose(value, 1.0, abs_tol=1e-9):
            low = wilson(self.rows, self.rows, confidence=self.confidence).low
            return around(value, 2 * low - 1, 1.0)
        right = self.statistics.right
        if name in self.losses and value == 0 and right is not None and right.all():
            return around(value, 0.0, wilson(0, self.rows, confidence=self.confidence).high)
        return Estimate(value, value, value)


def _drawn(
    statistics: Statistics, counted: Counted, generator: np.random.Generator
) -> tuple[dict[str, Array], Array | None]:
    """Draw the counted metrics; the rows that are right are one sum more."""
    values, right = statistics.values, statistics.right
    if right is not None:
        values = np.column_stack([values, _rate(statistics.cells, right, len(values))])
    found: dict[str, list[Array]] = {}
    for sums in drawn_sums(statistics.cells, values, statistics.strata, generator):
        metrics = counted(sums if right is None else sums[:, :-1])
        shares = {} if right is None else {_RIGHT: sums[:, -1] / len(right)}
        for name, each in (metrics | shares).items():
            found.setdefault(name, []).append(np.broadcast_to(each, len(sums)))
    drawn = {name: np.concatenate(parts) for name, parts in found.items()}
    return drawn, drawn.pop(_RIGHT, None)


_RIGHT = "\0right"


def _rate(cells: Array, right: Array, count: int) -> Array:
    """Share of right rows of each outcome, `(cells,)`."""
    rows = np.bincount(cells, minlength=count)
    return np.asarray(np.bincount(cells, weights=right, minlength=count) / np.maximum(rows, 1))


def _unless_constant(drawn: Array, values: Array, generator: np.random.Generator) -> Array:
    """Draw without strata where rows differ by stratum alone: then how many of each there are is uncertain."""
    return drawn_means(values, np.zeros(len(values), np.int64), generator) if constant(drawn) else drawn
