"""Intervals hold the truth as often as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest
from sklearn.metrics import f1_score, matthews_corrcoef

from bertsmith.evaluation.intervals import Estimate, as_json, bootstrap, bootstrap_mean, percentiles, wilson
from bertsmith.tasks.classification_metrics import Counts, confusion_matrix, counted_metrics

Array = np.ndarray[Any, Any]
CONFUSION = np.array([[50, 8, 2], [6, 30, 4], [1, 9, 10]])


def rows_of(confusion: Array) -> tuple[Array, Array]:
    """Lay a confusion matrix out as rows: targets and guesses."""
    gold, guess = np.indices(confusion.shape)
    return np.repeat(gold.ravel(), confusion.ravel()), np.repeat(guess.ravel(), confusion.ravel())


@given(st.data(), st.integers(1, 5000), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_that_of_scipy(data: st.DataObject, total: int, confidence: float) -> None:
    """Every count of successes has scipy's Wilson interval, and its share lies inside."""
    successes = data.draw(st.integers(0, total))
    expected = binomtest(successes, total).proportion_ci(confidence, method="wilson")
    found = wilson(successes, total, confidence=confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= found.value == successes / total <= found.high


def test_wilson_of_nothing_is_refused() -> None:
    """A share of no rows is an error, not a NaN."""
    with pytest.raises(ValueError, match=r"^a share needs at least one row\.$"):
        wilson(0, 0)


def test_bootstrap_equals_one_that_draws_rows() -> None:
    """The multinomial draws give the quantiles of a stratified bootstrap that resamples row by row."""
    targets, guesses = rows_of(CONFUSION)
    generator = np.random.default_rng(1)
    groups = [np.flatnonzero(targets == label) for label in range(3)]
    slow: dict[str, list[float]] = {"macro_f1": [], "mcc": []}
    for _ in range(1000):
        rows = np.concatenate([generator.choice(group, len(group)) for group in groups])
        slow["macro_f1"].append(f1_score(targets[rows], guesses[rows], average="macro", zero_division=0))
        slow["mcc"].append(matthews_corrcoef(targets[rows], guesses[rows]))
    fast = bootstrap(CONFUSION, seed=2)
    for name, drawn in slow.items():
        expected = np.quantile(drawn, [0.025, 0.975])
        assert (fast[name].low, fast[name].high) == pytest.approx(expected, abs=0.012)


@given(
    hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 6)).filter(lambda confusion: confusion.any()),
    st.integers(0, 2**32 - 1),
)
def test_bootstrap_holds_the_value_itself(confusion: Array, seed: int) -> None:
    """Whatever the confusion, classes without rows included, each value is exact and inside its interval."""
    values = counted_metrics(Counts.of(confusion))
    for name, estimate in bootstrap(confusion, seed=seed).items():
        assert estimate.low <= estimate.value == float(values[name]) <= estimate.high


def test_bootstrap_is_seeded() -> None:
    """The same seed gives the same intervals, another seed others."""
    assert bootstrap(CONFUSION, seed=5) == bootstrap(CONFUSION, seed=5)
    assert bootstrap(CONFUSION, seed=5) != bootstrap(CONFUSION, seed=6)


def test_answers_that_are_all_right_are_not_certain() -> None:
    """Ten right answers of ten leave as much room as Wilson's interval does."""
    low = wilson(10, 10).low
    found = bootstrap(np.diag([5, 5, 0]), seed=1)
    assert found["macro_f1"] == found["balanced_accuracy"] == Estimate(1.0, low, 1.0)
    assert found["mcc"] == Estimate(1.0, 2 * low - 1, 1.0)


def test_answers_of_one_class_alone_have_no_mcc_to_doubt() -> None:
    """Where only one class occurs MCC is 0, and its interval holds 0."""
    found = bootstrap(np.diag([7, 0]), seed=1)["mcc"]
    assert found.low <= found.value == 0.0 <= found.high


def test_bootstrap_of_150_classes_takes_little_memory_and_keeps_every_metric() -> None:
    """A large label set has an interval for each metric, narrower than 10 points at 4 500 rows."""
    generator = np.random.default_rng(3)
    targets = np.repeat(np.arange(150), 30)
    guesses = np.where(generator.random(4500) < 0.9, targets, generator.integers(150, size=4500))
    found = bootstrap(confusion_matrix(targets, guesses, 150), seed=1)
    assert set(found) == {"accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc"}
    assert all(0 < each.high - each.low < 0.1 for each in found.values())


def test_bootstrap_mean_equals_one_that_draws_rows() -> None:
    """The mean's interval is that of a stratified bootstrap that resamples row by row."""
    generator = np.random.default_rng(4)
    classes = generator.integers(3, size=200)
    losses = generator.exponential(size=200) + 5 * classes
    groups = [losses[classes == label] for label in range(3)]
    slow = [sum(generator.choice(group, len(group)).sum() for group in groups) / 200 for _ in range(3000)]
    found = bootstrap_mean(losses, classes, seed=1)
    assert found.value == pytest.approx(losses.mean(), rel=1e-12)
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.02)


def test_bootstrap_mean_of_a_large_class_is_normal() -> None:
    """Classes too large to draw have the standard error of their mean; classes without rows add nothing."""
    losses = np.random.default_rng(5).exponential(2.0, 40_000)
    found = bootstrap_mean(losses, np.full(40_000, 3), seed=1)
    half = 1.96 * losses.std() / 200
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=half / 10)


def test_percentiles_are_widened_to_hold_the_value() -> None:
    """A value outside of what was drawn becomes the interval's end."""
    assert percentiles(0.5, np.full(100, 0.4)) == Estimate(0.5, 0.4, 0.5)
    assert percentiles(0.3, np.full(100, 0.4)) == Estimate(0.3, 0.3, 0.4)


def test_estimates_as_json() -> None:
    """Estimates become plain numbers under the names that scripts read."""
    assert as_json({"mcc": Estimate(0.5, 0.25, 0.75)}) == {"mcc": {"value": 0.5, "low": 0.25, "high": 0.75}}


def test_intervals_hold_the_truth_19_times_in_20() -> None:
    """Over 300 samples from a known confusion, accuracy's and macro-F1's intervals miss the truth in about 5 %."""
    generator = np.random.default_rng(6)
    rates = CONFUSION / CONFUSION.sum(axis=1, keepdims=True)
    support = np.array([180, 120, 60])
    truth = counted_metrics(Counts.of(rates * support[:, None]))
    hits = {"accuracy": 0, "macro_f1": 0}
    for trial in range(300):
        sample = np.stack([generator.multinomial(n, rate) for n, rate in zip(support, rates, strict=True)])
        found = bootstrap(sample, seed=trial)
        found["accuracy"] = wilson(int(np.trace(sample)), int(support.sum()))
        for name in hits:
            hits[name] += found[name].low <= truth[name] <= found[name].high
    # 300 trials at 95 %: 285 expected, standard deviation 3.8.
    assert 270 <= hits["accuracy"] <= 300
    assert 270 <= hits["macro_f1"] <= 298
