"""Which threshold keeps a promise about the answers that reach it: Learn-then-Test with a fixed sequence.

Angelopoulos, Bates, Candès, Jordan and Lei 2021 (arXiv 2110.01052). For each threshold the claim "of the answers that
reach it, more than `risk` are wrong" is tested on calibration rows. How many of the answers that reach a threshold are
wrong is binomial, so the test is exact. The thresholds, their order (strict to loose) and the one to start with come
from validation rows; testing stops at the first claim that cannot be refuted. So at most one claim that is true has to
be feared (the first one in that order), and the whole errs with a probability of at most `delta`, however many
thresholds there are. Trying all thresholds with the same bound would break a 5 % promise in 11 to 13 % of trials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, betainc
from scipy.stats import binom

from bertsmith.tasks.protocol import Array

CANDIDATES = 100
"""Thresholds that are tried: with 25 coverage is the same within its noise, and so it is with 400."""
ACCEPT_ALL = 0.0
POWER = 0.8
"""With as many rows as are said to be needed, the promise can be kept in so many of such trainings."""
_SIZES = np.concatenate([np.arange(1, 400), np.geomspace(400, 1_000_000, 250).round().astype(np.int64)])
"""Numbers of answers that are thought through for `rows_needed`."""
_SPACED = 4


@dataclass(frozen=True)
class Scored:
    """Answers with a score that are right or wrong: `score` float `(rows,)`, `right` bool `(rows,)`."""

    score: Array
    right: Array

    def __len__(self) -> int:
        return len(self.score)

    def take(self, rows: Array) -> Scored:
        """Return these answers; a mask or positions."""
        return Scored(self.score[rows], self.right[rows])

    def above(self, thresholds: Array) -> tuple[Array, Array]:
        """Count the answers that reach each threshold, and the wrong ones among them, int64 `(thresholds,)` each."""
        order = np.argsort(-self.score, kind="stable")
        reached = np.searchsorted(-self.score[order], -thresholds, side="right")
        wrong = np.concatenate([[0], np.cumsum(~self.right[order])])
        return reached.astype(np.int64), wrong[reached].astype(np.int64)


@dataclass(frozen=True)
class Plan:
    """The thresholds to be tested, in their order: from the one that is likeliest to pass, ever looser.

    Attributes:
        thresholds: float64 `(candidates,)`, descending; the last one is 0 and accepts every answer.
        chance: What the p-value of the first one is expected to be.
    """

    thresholds: Array
    chance: float

    def passed(self, calibration: Scored, *, risk: float, level: float) -> int:
        """Say how many thresholds pass one after the other; 0 where the first one fails."""
        accepted, wrong = calibration.above(self.thresholds)
        failed = np.flatnonzero(p_values(wrong, accepted, risk=risk) > level)
        return int(failed[0]) if len(failed) else len(self.thresholds)


def p_values(wrong: Array, accepted: Array, *, risk: float) -> Array:
    """Return the chance of at most so many wrong answers if a share of `risk` were wrong, float64; 1 of no answers."""
    return np.where(accepted > 0, bdtr(wrong, np.maximum(accepted, 1), risk), 1.0)


def plan(validation: Scored, rows: float, *, risk: float) -> Plan:
    """Fix the sequence before any calibration row is looked at.

    Starting at the strictest threshold wastes the test on a handful of answers; it starts where the validation rows
    say that so many calibration rows would give the smallest p-value.

    Args:
        validation: Answers to validation rows; without any, thresholds from the promise down are taken.
        rows: How many calibration rows there are for each validation row.
        risk: The share of wrong answers that is promised not to be exceeded.
    """
    if not len(validation):
        start = 1 - risk / 2
        return Plan(np.append(np.linspace(start, 0, CANDIDATES, endpoint=False), ACCEPT_ALL), 1.0)
    thresholds = candidates(validation.score)
    accepted, wrong = validation.above(thresholds)
    expected = accepted * rows
    errors = (wrong + 0.5) / (accepted + 1) * expected
    # The binomial distribution function at a number that need not be whole.
    chances = betainc(np.maximum(expected - errors, 1e-9), errors + 1, 1 - risk)
    first = int(np.argmin(chances))
    return Plan(thresholds[first:], float(chances[first]))


def candidates(scores: Array) -> Array:
    """Return thresholds between distinct scores, evenly spaced among the rows, descending to 0.

    They lie halfway to the next lower score, so that no answer hangs on the last digit of its score.
    """
    distinct, rows = np.unique(scores, return_counts=True)
    reached = np.cumsum(rows[::-1])[::-1]
    wanted = len(scores) * np.arange(1, CANDIDATES + 1) / CANDIDATES
    places = np.unique(np.searchsorted(-reached, -wanted, side="right") - 1)
    places = places[places > 0]
    return np.append(((distinct[places - 1] + distinct[places]) / 2)[::-1], ACCEPT_ALL)


def rows_needed(known: Scored, share: float, *, risk: float, delta: float) -> int | None:
    """Estimate how many calibration rows would carry the promise, with a chance of 80 %.

    Args:
        known: Answers whose truth is known, as many as there are.
        share: How many of the rows these answers are; the others were refused already.
        risk: The share of wrong answers that is promised not to be exceeded.
        delta: The chance that the promise may be broken with.

    Returns:
        Rows, told to two digits; None where too many answers are wrong however few are given, or without answers.
    """
    if not len(known) or share <= 0:
        return None
    accepted, wrong = known.above(candidates(known.score)[::-_SPACED])
    risks = (wrong + 0.5) / (accepted + 1)
    hopeful = risks < risk
    allowed = binom.ppf(delta, _SIZES, risk)
    allowed -= bdtr(allowed, _SIZES, risk) > delta
    power = bdtr(np.maximum(allowed, 0), _SIZES, risks[hopeful][:, None])
    # From the last number on that does not do: one more answer may need fewer errors, so power goes up in a saw.
    failing = (power < POWER) | (allowed < 0)
    first = len(_SIZES) - failing[:, ::-1].argmax(axis=1)
    known_size = first < len(_SIZES)
    if not known_size.any():
        return None
    sizes = _SIZES[first[known_size]] * len(known) / accepted[hopeful][known_size]
    return _rounded_up(float(sizes.min()) / share)


def _rounded_up(number: float) -> int:
    step: int = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return math.ceil(number / step) * step
