"""Tests of two rows of counts: whether they differ more than by chance, how much, and how many rows that takes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import xlogy
from scipy.stats import chi2, ncx2

Array = np.ndarray[Any, Any]
FEWEST = 10.0
"""Rows expected in a bin below which the chi-square distribution is not trusted: with five, G is above it too often."""
DRAWS = (199, 1_800)
"""How often a permutation test draws; the second time only where the first shows p below 0.1 or so."""
_ENOUGH = 20
_MOST_DRAWN = 10**9


def g_statistic(then: Array, now: Array) -> Array:
    """Return twice the log likelihood ratio of "two distributions" against "one", over the last axis.

    Args:
        then: Counts, `(..., bins)`.
        now: Counts of the other rows, `(..., bins)`.
    """
    then, now = np.asarray(then, np.float64), np.asarray(now, np.float64)
    both = then + now
    sums = [xlogy(each, each).sum(axis=-1) - xlogy(each.sum(axis=-1), each.sum(axis=-1)) for each in (then, now, both)]
    return np.asarray(2 * (sums[0] + sums[1] - sums[2]))


def p_value(then: Array, now: Array, *, seed: int = 0) -> float:
    """Say how probable counts as different as these are if all rows come from one distribution.

    By the G-test (Sokal & Rohlf 1981); where a bin is expected to hold fewer than 10 rows, by a permutation test of
    the same statistic: who is then and who is now is drawn anew up to 1,999 times, with all rows of a bin kept.
    """
    both = then + now
    used = both > 0
    then, now, both = then[used], now[used], both[used]
    total = int(both.sum())
    if len(both) < 2 or not then.any() or not now.any():
        return 1.0
    found = g_statistic(then, now)
    fewest = both.min() * min(then.sum(), now.sum()) / total
    if fewest >= FEWEST or total >= _MOST_DRAWN:
        return float(chi2.sf(found, len(both) - 1))
    return _permuted(both, int(now.sum()), float(found), seed=seed)


def _permuted(both: Array, size: int, found: float, *, seed: int) -> float:
    """Say how often `size` rows drawn from all differ from the others by as much as was found."""
    generator = np.random.default_rng(seed)
    hits = draws = 0
    for number in DRAWS:
        drawn = generator.multivariate_hypergeometric(both, size, size=number, method="marginals")
        # Equal tables may differ in their last digits.
        hits += int((g_statistic(both - drawn, drawn) >= found - 1e-9 * max(1.0, found)).sum())
        draws += number
        if hits >= _ENOUGH:
            break
    return (1 + hits) / (1 + draws)


def psi(then: Array, now: Array) -> float:
    """Return the population stability index without what chance adds to it; 0 where that leaves nothing.

    The index is Jeffreys' divergence of the shares of the bins (Kullback & Leibler 1951), half a row added to each bin.
    Between samples of one distribution its mean is (bins - 1)(1/n + 1/m) (Yurdakul 2018), which is taken off.
    """
    used = (then + now) > 0
    then, now = then[used], now[used]
    bins = len(then)
    if bins < 2 or not then.any() or not now.any():
        return 0.0
    before = (then + 0.5) / (then.sum() + 0.5 * bins)
    after = (now + 0.5) / (now.sum() + 0.5 * bins)
    index = float(((after - before) * np.log(after / before)).sum())
    return max(0.0, index - (bins - 1) * (1 / int(then.sum()) + 1 / int(now.sum())))


def total_variation(then: Array, now: Array) -> float:
    """Return the share of the rows that would have to lie in another bin for the shares to be equal."""
    if not then.any() or not now.any():
        return 0.0
    return float(np.abs(now / now.sum() - then / then.sum()).sum() / 2)


def rows_needed(rows_then: int, bins: int, *, effect: float, level: float, power: float = 0.8) -> int | None:
    """Say how many new rows a change takes to be found, by the noncentral chi-square distribution (Cohen 1988).

    Args:
        rows_then: Rows of the reference.
        bins: Bins that are in use.
        effect: The change, as a population stability index.
        level: p-value below which a change is called one.
        power: Share of the cases in which it should be found.

    Returns:
        None where the reference has so few rows that no number of new ones would do.
    """
    needed = _noncentrality(max(1, bins - 1), level, power) / effect
    return int(np.ceil(needed * rows_then / (rows_then - needed))) if rows_then > needed else None


@cache
def _noncentrality(freedom: int, level: float, power: float) -> float:
    """Say how far from chance the statistic must lie on average to be found that often."""
    bound = float(chi2.isf(level, freedom))
    return float(brentq(lambda away: ncx2.sf(bound, freedom, away) - power, 1e-6, 10.0 * bound + 100.0))
