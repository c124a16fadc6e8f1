"""Calibration: are 9 of 10 answers right where the model is 90 % sure? One number, the temperature, mends most of it.

The temperature is fitted on validation rows and folded into the head (`training/temperature.py`), so that every program
that loads the model gives the same probabilities. What it did is measured on test rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

from bertsmith.evaluation.intervals import Estimate, wilson
from bertsmith.evaluation.resampling import drawn_sums
from bertsmith.tasks.protocol import Array, Rows, Task

BOUNDS = (0.05, 20.0)
"""Temperatures are sought between these."""
FITTED_ROWS = 20_000
"""Rows that one number is fitted on, at most: evenly spaced among all."""
BINS = 15
BIN_ROWS = 20
"""Answers that a bin of the calibration error has, at least."""
DIAGRAM_BINS = 10


@dataclass(frozen=True)
class Reliability:
    """One bin of a reliability diagram: answers of about the same confidence.

    Attributes:
        low: Least confidence of the bin.
        high: Greatest confidence of the bin.
        rows: Answers in it.
        confidence: Their mean confidence.
        right: Share of them that is right, with Wilson's interval.
    """

    low: float
    high: float
    rows: int
    confidence: float
    right: Estimate

    def as_json(self) -> dict[str, float]:
        """Return the bin as `scores.json` has it."""
        ends = {"right": self.right.value, "right_low": self.right.low, "right_high": self.right.high}
        return {"low": self.low, "high": self.high, "rows": self.rows, "confidence": self.confidence, **ends}


@dataclass(frozen=True)
class Measured:
    """How well the probabilities of some answers are calibrated.

    Attributes:
        ece: Expected calibration error, debiased, with its 95 % interval.
        brier: Brier score, as scikit-learn defines it.
        log_loss: Mean log loss of the rows.
        reliability: Bins of equal width, those that have answers.
    """

    ece: Estimate
    brier: float
    log_loss: float
    reliability: tuple[Reliability, ...]


@dataclass(frozen=True)
class Calibration:
    """What the temperature did, on rows that had no part in fitting it."""

    temperature: float
    rows: int
    before: Measured
    after: Measured

    def as_json(self) -> dict[str, Any]:
        """Return `calibration` of scores.json."""
        before, after = self.before, self.after
        return {
            "temperature": self.temperature,
            "fitted_on": "validation",
            "rows": self.rows,
            "ece_before": before.ece.value,
            "ece_after": after.ece.value,
            "ece_after_low": after.ece.low,
            "ece_after_high": after.ece.high,
            "brier_before": before.brier,
            "brier_after": after.brier,
            "log_loss_before": before.log_loss,
            "log_loss_after": after.log_loss,
            "reliability": {
                "before": [each.as_json() for each in before.reliability],
                "after": [each.as_json() for each in after.reliability],
            },
        }


def fit_temperature(task: Task, rows: Rows, logits: Array) -> float:
    """Fit the temperature T by which logits are divided: the one that gives these rows the least log loss.

    Guo, Pleiss, Sun and Weinberger 2017 (arXiv 1706.04599). To the sum of the rows' log losses (log T)² / 2 is added,
    as if T was known beforehand within a factor of e. A thousand rows outweigh it by far; a few, or rows that are all
    right and would have the model infinitely sure, do not: of n rows that are all right, T makes it about 1 - 1/n sure.

    Args:
        task: Turns logits into probabilities, and knows the log loss; soft labels and several labels have one too.
        rows: Validation rows with gold answers; each counts once, whatever its weight.
        logits: float `(units, outputs)`.

    Returns:
        Between 0.05 and 20; exactly 1 without rows, and for a task without a log loss (numbers, questions).
    """
    if not len(rows) or not has_log_loss(task):
        return 1.0
    if len(rows) > FITTED_ROWS:
        picked = np.linspace(0, len(rows) - 1, FITTED_ROWS).round().astype(np.int64)
        rows, logits = rows.take(picked), logits[rows.encoded.flat(picked)]
    logits = logits.astype(np.float64)

    def cost(log_temperature: float) -> float:
        probabilities = task.probabilities(logits / math.exp(log_temperature))
        losses = task.statistics(rows, probabilities, {}).means["log_loss"]
        return float(losses.sum()) + log_temperature**2 / 2

    ends = (math.log(BOUNDS[0]), math.log(BOUNDS[1]))
    return math.exp(minimize_scalar(cost, bounds=ends, method="bounded", options={"xatol": 1e-5}).x)


def has_log_loss(task: Task) -> bool:
    """Say whether a task's answers have a log loss, and so a temperature."""
    return "log_loss" in task.metrics


def measure(task: Task, rows: Rows, logits: Array, *, temperature: float, seed: int) -> Calibration | None:
    """Measure what the temperature did.

    Args:
        task: What was answered.
        rows: Rows with gold answers that had no part in fitting.
        logits: Before the temperature, float `(units, outputs)`.
        temperature: As `fit_temperature` gives it.
        seed: The same seed gives the same intervals.

    Returns:
        None without rows, and for a task that has no log loss or does not answer texts with labels.
    """
    if not len(rows) or not has_log_loss(task) or task.role not in {"label", "labels"}:
        return None
    before, after = (
        _measured(task, rows, task.probabilities(logits.astype(np.float64) / each), seed=seed)
        for each in (1.0, temperature)
    )
    return Calibration(temperature, len(rows), before, after)


def _measured(task: Task, rows: Rows, probabilities: Array, *, seed: int) -> Measured:
    found = task.statistics(rows, probabilities, {})
    truth = _truth(rows, probabilities)
    if task.role == "label":
        assert found.right is not None
        confidence, right = probabilities.max(axis=1)[:, None], found.right[:, None]
    else:
        confidence, right = probabilities, truth > 0.5
    return Measured(
        calibration_error(confidence, right, seed=seed),
        _brier(truth, probabilities, exclusive=task.role == "label"),
        float(found.means["log_loss"].mean()),
        reliability(confidence, right),
    )


def _truth(rows: Rows, probabilities: Array) -> Array:
    """Return what the probabilities should be: 0 and 1, or the shares of soft labels; float64 `(rows, labels)`."""
    if rows.targets.ndim == 2:
        return rows.targets.astype(np.float64)
    return np.eye(probabilities.shape[1])[rows.targets]


def _brier(truth: Array, probabilities: Array, *, exclusive: bool) -> float:
    """Return the Brier score (Brier 1950), with the scale of scikit-learn: halved where there are two labels.

    Labels that exclude each other add up; labels that may come together are a question each, and have their mean.
    """
    squares = (probabilities - truth) ** 2
    if not exclusive:
        return float(squares.mean())
    return float(squares.sum(axis=1).mean()) / (2 if squares.shape[1] == 2 else 1)


def reliability(confidence: Array, right: Array) -> tuple[Reliability, ...]:
    """Sort answers into ten bins of equal width by their confidence; bins without answers are left out.

    Args:
        confidence: Probabilities of answers, `(rows, answers)`.
        right: Which are right, bool, of the same shape.
    """
    sure, hit = confidence.ravel(), right.ravel()
    places = np.minimum((sure * DIAGRAM_BINS).astype(np.int64), DIAGRAM_BINS - 1)
    rows, hits = (np.bincount(places, weights=each, minlength=DIAGRAM_BINS) for each in (np.ones(len(sure)), hit))
    sums = np.bincount(places, weights=sure, minlength=DIAGRAM_BINS)
    return tuple(
        Reliability(
            each / DIAGRAM_BINS,
            (each + 1) / DIAGRAM_BINS,
            int(rows[each]),
            float(sums[each] / rows[each]),
            wilson(int(hits[each]), int(rows[each])),
        )
        for each in np.flatnonzero(rows)
    )


def calibration_error(confidence: Array, right: Array, *, seed: int) -> Estimate:
    """Estimate the expected calibration error: how far confidence and share of right answers lie apart, on average.

    In bins of equally many answers (15, fewer where a bin would have less than 20), the plain estimate is the mean
    distance |right - confidence|. Chance alone makes it too large, the more so the fewer answers a bin has. As in
    Kumar, Liang and Ma 2019 (arXiv 1909.10155, section 5 and appendix) what the noise adds is taken off, assuming that
    a bin's distance errs normally. They compute the addition at the distance that was seen, which already has it; here
    it is computed at that distance less its noise, which leaves less of it: at a true error of 0, 5,000 answers give
    0.015 plainly, 0.009 with theirs, 0.004 with this.

    The interval is a basic bootstrap over rows: resamples stand to the plain estimate of these rows as these rows do
    to the truth. It begins at 0 where so large an error is no surprise for a confidence that is right in every bin.

    Args:
        confidence: Probabilities of answers, `(rows, answers)`; those of one row are resampled together.
        right: Which are right, bool, of the same shape.
        seed: The same seed gives the same interval.
    """
    places, count = _equal_bins(confidence)
    sums = _bin_sums(places, right - confidence, count)
    cells = np.arange(len(confidence))
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(list(drawn_sums(cells, sums, np.zeros(len(cells), np.int64), generator)))
    found = _Binned.of(sums.sum(axis=0))
    value = float(found.debiased)
    high, low = (value + float(found.plain - each) for each in np.quantile(_Binned.of(drawn).debiased, (0.025, 0.975)))
    if value <= np.quantile(found.by_chance(len(drawn), generator).debiased, 0.975):
        low = 0.0
    return Estimate(value, float(np.clip(low, 0, value)), float(np.clip(high, value, 1)))


def _equal_bins(confidence: Array) -> tuple[Array, int]:
    """Number the bin of each answer, of equally many answers where ties allow; and say how many bins there are."""
    bins = int(np.clip(confidence.size // BIN_ROWS, 1, BINS))
    edges = np.unique(np.quantile(confidence, np.arange(1, bins) / bins))
    return np.searchsorted(edges, confidence, side="right"), len(edges) + 1


def _bin_sums(places: Array, distances: Array, bins: int) -> Array:
    """Return what each row adds to each bin: answers, distances and squared distances, `(rows, 3 bins)`."""
    rows, answers = places.shape
    cells = (np.arange(rows)[:, None] * bins + places).ravel()
    size = rows * bins
    parts = (np.ones(rows * answers), distances.ravel(), distances.ravel() ** 2)
    return np.concatenate([np.bincount(cells, each, size).reshape(rows, bins) for each in parts], axis=1)


@dataclass(frozen=True)
class _Binned:
    """Bins of a calibration error, each array `(..., bins)`.

    Attributes:
        share: Share of the answers that are in each bin.
        distance: How far confidence and share of right answers lie apart.
        variance: That of the distance.
    """

    share: Array
    distance: Array
    variance: Array

    @classmethod
    def of(cls, sums: Array) -> _Binned:
        """Compute them from sums `(..., 3 bins)`."""
        rows, distances, squares = np.split(sums, 3, axis=-1)
        distance = np.abs(distances) / np.maximum(rows, 1)
        spread = np.maximum(squares / np.maximum(rows, 1) - distance**2, 0)
        return cls(rows / rows.sum(axis=-1, keepdims=True), distance, spread / np.maximum(rows - 1, 1))

    @property
    def plain(self) -> Array:
        """The calibration error that is seen, `(...)`."""
        return np.asarray((self.share * self.distance).sum(axis=-1))

    @property
    def debiased(self) -> Array:
        """The same less what noise adds to it, `(...)`."""
        true = np.sqrt(np.maximum(self.distance**2 - self.variance, 0))
        added = _folded_mean(true, np.sqrt(self.variance)) - true
        return np.asarray(np.maximum((self.share * (self.distance - added)).sum(axis=-1), 0))

    def by_chance(self, draws: int, generator: np.random.Generator) -> _Binned:
        """Draw what these bins would show if the confidence was right in all of them."""
        noise = generator.normal(size=(draws, len(self.share))) * np.sqrt(self.variance)
        return _Binned(self.share, np.abs(noise), self.variance)


def _folded_mean(mean: Array, deviation: Array) -> Array:
    """Return the mean of |x| where x is normal."""
    ratio = np.divide(mean, deviation, out=np.full_like(mean, np.inf), where=deviation > 0)
    density = np.exp(-np.square(ratio) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(np.where(deviation > 0, mean * (2 * ndtr(ratio) - 1) + 2 * deviation * density, mean))
