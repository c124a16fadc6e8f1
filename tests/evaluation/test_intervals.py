"""Intervals hold the truth as often as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef

from bertsmith.evaluation.intervals import Estimate, as_json, bootstrap, bootstrap_mean, percentiles, wilson
from bertsmith.evaluation.resampling import drawn_sums, resamples
from bertsmith.tasks.protocol import Statistics
from bertsmith.tasks.single_label import SingleLabel
from tests.evaluation.fakes import GoldRows, MeanOf, Numbers, rows_of

Array = np.ndarray[Any, Any]
CONFUSION = np.array([[50, 8, 2], [6, 30, 4], [1, 9, 10]])
TASK = SingleLabel()


def of_confusion(confusion: Array, *, seed: int) -> dict[str, Estimate]:
    """Estimate the metrics of single-label answers with this confusion matrix."""
    statistics = TASK.statistics(*rows_of(confusion), {})
    return bootstrap(statistics, TASK.counted, seed=seed, shares=TASK.shares, losses=TASK.loss_metrics)


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
    rows, probabilities = rows_of(CONFUSION)
    targets, guesses = rows.targets, probabilities.argmax(axis=1)
    generator = np.random.default_rng(1)
    groups = [np.flatnonzero(targets == label) for label in range(3)]
    slow: dict[str, list[float]] = {"macro_f1": [], "mcc": []}
    for _ in range(1000):
        picked = np.concatenate([generator.choice(group, len(group)) for group in groups])
        slow["macro_f1"].append(f1_score(targets[picked], guesses[picked], average="macro", zero_division=0))
        slow["mcc"].append(matthews_corrcoef(targets[picked], guesses[picked]))
    fast = of_confusion(CONFUSION, seed=2)
    for name, drawn in slow.items():
        expected = np.quantile(drawn, [0.025, 0.975])
        assert (fast[name].low, fast[name].high) == pytest.approx(expected, abs=0.012)


@given(
    hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 6)).filter(lambda confusion: confusion.any()),
    st.integers(0, 2**32 - 1),
)
def test_bootstrap_holds_the_value_itself(confusion: Array, seed: int) -> None:
    """Whatever the confusion, classes without rows included, each value is scikit-learn's and inside its interval."""
    rows, probabilities = rows_of(confusion)
    guesses = probabilities.argmax(axis=1)
    found = of_confusion(confusion, seed=seed)
    assert found["accuracy"].value == pytest.approx((rows.targets == guesses).mean())
    assert found["macro_f1"].value == pytest.approx(f1_score(rows.targets, guesses, average="macro", zero_division=0))
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_bootstrap_is_seeded() -> None:
    """The same seed gives the same intervals, another seed others."""
    assert of_confusion(CONFUSION, seed=5) == of_confusion(CONFUSION, seed=5)
    assert of_confusion(CONFUSION, seed=5) != of_confusion(CONFUSION, seed=6)


def test_accuracy_has_the_wilson_interval() -> None:
    """The share of right answers has scipy's Wilson interval; no other metric of the same answers has it."""
    found = of_confusion(CONFUSION, seed=1)
    expected = binomtest(90, 120).proportion_ci(method="wilson")
    assert (found["accuracy"].low, found["accuracy"].high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found["weighted_f1"].low != pytest.approx(expected.low, abs=1e-6)


def test_answers_that_are_all_right_are_not_certain() -> None:
    """Ten right answers of ten leave as much room as Wilson's interval does."""
    low = wilson(10, 10).low
    found = of_confusion(np.diag([5, 5, 0]), seed=1)
    assert found["accuracy"] == found["macro_f1"] == found["balanced_accuracy"] == Estimate(1.0, low, 1.0)
    assert found["mcc"] == Estimate(1.0, pytest.approx(2 * low - 1), 1.0)


def test_always_the_same_answer_is_not_certain() -> None:
    """Where resamples cannot differ, a share has the room of Wilson's interval of as large a share."""
    confusion = np.array([[60, 0], [40, 0]])
    rows, probabilities = rows_of(confusion)
    guesses = probabilities.argmax(axis=1)
    found = of_confusion(confusion, seed=1)
    macro = f1_score(rows.targets, guesses, average="macro", zero_division=0)
    around = wilson(round(macro * 100), 100)
    assert found["macro_f1"] == Estimate(pytest.approx(macro), around.low, around.high)
    half = wilson(50, 100)
    assert balanced_accuracy_score(rows.targets, guesses) == 0.5
    assert found["balanced_accuracy"] == Estimate(0.5, half.low, half.high)


def test_answers_of_one_class_alone_have_no_mcc_to_doubt() -> None:
    """Where only one class occurs MCC is 0, and its interval holds 0."""
    found = of_confusion(np.diag([7, 0]), seed=1)["mcc"]
    assert found.low <= found.value == 0.0 <= found.high


def test_losses_that_differ_by_class_alone_are_not_certain() -> None:
    """The log loss of mere label shares is as uncertain as how many rows of each class there are."""
    losses, classes = np.repeat([0.2, 1.6], [80, 20]), np.repeat([0, 1], [80, 20])
    found = bootstrap_mean(losses, classes, seed=1)
    half = 1.96 * losses.std() / 10
    assert (found.low, found.high) == pytest.approx((0.48 - half, 0.48 + half), abs=0.015)


def test_a_counted_loss_of_nothing_leaves_room_for_a_miss() -> None:
    """All levels right: the mean distance may still be what as many right rows cannot rule out."""
    statistics = Statistics(
        np.zeros(20, np.int64), np.array([[0.0, 1.0]]), np.zeros(20, np.int64), {}, np.ones(20, bool)
    )
    found = bootstrap(statistics, lambda sums: {"mae": sums[..., 0] / sums[..., 1]}, seed=1, losses={"mae"})
    assert found == {"mae": Estimate(0.0, 0.0, wilson(0, 20).high)}


def test_bootstrap_of_150_classes_keeps_every_metric() -> None:
    """A large label set has an interval for each metric, narrower than 10 points at 4 500 rows."""
    generator = np.random.default_rng(3)
    targets = np.repeat(np.arange(150), 30)
    guesses = np.where(generator.random(4500) < 0.9, targets, generator.integers(150, size=4500))
    confusion = np.zeros((150, 150), np.int64)
    np.add.at(confusion, (targets, guesses), 1)
    found = of_confusion(confusion, seed=1)
    assert set(found) == {"accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc", "log_loss"}
    assert all(0 < each.high - each.low < 0.1 for name, each in found.items() if name != "log_loss")


def test_sums_come_in_pieces_that_keep_the_rows_of_each_stratum() -> None:
    """However many outcomes there are, each resample has as many rows of each stratum, and pieces stay small."""
    generator = np.random.default_rng(8)
    cells, strata = np.arange(60_000), generator.integers(-1, 2, size=60_000)
    values = np.column_stack([strata == each for each in (-1, 0, 1)]).astype(np.float64)
    pieces = list(drawn_sums(cells, values, strata, generator))
    assert {len(piece) for piece in pieces[:-1]} == {66}
    assert sum(len(piece) for piece in pieces) == resamples(60_000) == 1666
    counts = np.unique(strata, return_counts=True)[1]
    assert all((piece == counts).all() for piece in pieces)


def test_never_fewer_than_200_resamples() -> None:
    """The number of resamples falls with the outcomes from 50 000 on, to 200."""
    assert [resamples(outcomes) for outcomes in (1, 50_000, 100_000, 10**7)] == [2000, 2000, 1000, 200]


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
    """Over 120 samples from a known confusion, accuracy's and macro-F1's intervals miss the truth in about 5 %."""
    generator = np.random.default_rng(6)
    rates = CONFUSION / CONFUSION.sum(axis=1, keepdims=True)
    support = np.array([180, 120, 60])
    expected = rates * support[:, None]
    truth = TASK.counted(np.concatenate([np.diag(expected), support, expected.sum(axis=0)]))
    hits = {"accuracy": 0, "macro_f1": 0}
    for trial in range(120):
        sample = np.stack([generator.multinomial(n, rate) for n, rate in zip(support, rates, strict=True)])
        found = of_confusion(sample, seed=trial)
        for name in hits:
            hits[name] += found[name].low <= truth[name] <= found[name].high
    # 120 trials at 95 %: 114 expected, standard deviation 2.4.
    assert 107 <= hits["accuracy"] <= 120
    assert 107 <= hits["macro_f1"] <= 119


def test_intervals_of_numbers_hold_the_truth_19_times_in_20() -> None:
    """Over 120 samples the mean of some numbers, and the correlation of two, miss the truth in about 5 %."""
    generator = np.random.default_rng(7)
    hits = {"mean": 0, "plain": 0, "pearson": 0}
    for trial in range(120):
        gold = generator.normal(size=150)
        given_ = 0.6 * gold + 0.8 * generator.normal(size=150)
        found = bootstrap(Numbers().statistics(GoldRows(gold), given_[:, None], {}), Numbers().counted, seed=trial)
        x = generator.exponential(2.0, size=(150, 1))
        found |= bootstrap(MeanOf().statistics(GoldRows(np.zeros(150)), x, {}), MeanOf().counted, seed=trial)
        for name, truth in (("mean", 2.0), ("plain", 2.0), ("pearson", 0.6)):
            hits[name] += found[name].low <= truth <= found[name].high
    # 114 expected, standard deviation 2.4; skewed numbers are held a little less often.
    assert all(105 <= held <= 119 for held in hits.values()), hits
