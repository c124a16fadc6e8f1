"""Two rows of counts: SciPy's tests as the oracle, and what chance alone may do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, hypergeom

from bertsmith.drift.shifts import DRAWS, g_statistic, p_value, psi, rows_needed, total_variation

COUNTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=8)


@given(COUNTS)
def test_g_is_that_of_scipy(pairs):
    """The statistic is SciPy's log-likelihood ratio of the same table, bins without rows left out."""
    then, now = np.array(pairs).T
    used = (then + now) > 0
    if used.sum() < 2 or not then.any() or not now.any():
        assert p_value(then, now) == 1.0
        return
    table = np.stack([then, now])[:, used]
    oracle = chi2_contingency(table, correction=False, lambda_="log-likelihood")
    assert g_statistic(then, now) == pytest.approx(oracle.statistic, abs=1e-9)
    if oracle.expected_freq.min() >= 10:
        assert p_value(then, now) == pytest.approx(oracle.pvalue)


@pytest.mark.parametrize("table", [[[9, 1], [2, 7]], [[30, 2], [12, 5]], [[5, 5], [5, 5]], [[0, 8], [3, 1]]])
def test_few_rows_get_a_permutation_test(table):
    """Of two bins with few rows p is the hypergeometric share of tables as far apart, as near as the draws get."""
    then, now = np.array(table)
    both, size = then + now, int(now.sum())
    firsts = np.arange(max(0, size - both[1]), min(size, both[0]) + 1)
    tables = np.stack([firsts, size - firsts], axis=1)
    as_far = g_statistic(both - tables, tables) >= g_statistic(then, now) - 1e-9
    exact = hypergeom(both.sum(), both[0], size).pmf(firsts)[as_far].sum()
    draws = DRAWS[0] if exact > 0.08 else sum(DRAWS)
    assert p_value(then, now) == pytest.approx(exact, abs=4 * np.sqrt(exact / draws) + 1 / draws)


def test_equal_shares_never_differ():
    """Counts in the same proportions have p 1, no index and no variation, with few rows and with a billion."""
    for factor in (1, 7, 10**8):
        then, now = np.array([1, 2, 3]), np.array([1, 2, 3]) * factor
        assert p_value(then, now) == pytest.approx(1)
        assert psi(then, now) == 0
        assert total_variation(then, now) == pytest.approx(0)


def test_the_index_is_the_textbooks_where_rows_are_many():
    """With a hundred million rows the index is the sum of (now - then) · ln(now / then)."""
    then, now = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])
    textbook = ((now - then) * np.log(now / then)).sum()
    assert psi((then * 1e8).astype(int), (now * 1e8).astype(int)) == pytest.approx(textbook, abs=1e-6)
    assert total_variation((then * 1e8).astype(int), (now * 1e8).astype(int)) == pytest.approx(0.1)


def test_chance_is_taken_off_the_index():
    """Between 100 and 100 rows of one distribution in ten bins the plain index is 0.18 on average; ours is near 0."""
    generator = np.random.default_rng(0)
    pairs = generator.multinomial(100, [0.1] * 10, size=(2, 400))
    shares = (pairs + 0.5) / 105
    plain = ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum(axis=1).mean()
    ours = np.mean([psi(then, now) for then, now in zip(*pairs, strict=True)])
    assert plain > 0.16
    assert ours < 0.05


@pytest.mark.parametrize("then", [400, 2_000])
def test_the_rows_that_are_needed_are_enough(then):
    """With as many new rows a change of that size is found in about the promised four of five cases."""
    before = np.full(10, 0.1)
    after = np.array([0.03, *[0.1] * 8, 0.17])
    size = float(((after - before) * np.log(after / before)).sum())
    needed = rows_needed(then, 10, effect=size, level=0.01)
    generator = np.random.default_rng(1)
    found = [
        p_value(generator.multinomial(then, before), generator.multinomial(needed, after), seed=seed) <= 0.01
        for seed in range(300)
    ]
    assert 0.7 < np.mean(found) < 0.92


def test_a_reference_of_few_rows_is_never_enough():
    """With 30 rows of its own no number of new ones shows a large change in ten bins."""
    assert rows_needed(30, 10, effect=0.25, level=0.01) is None
    assert rows_needed(10_000, 10, effect=0.25, level=0.01) == 87
