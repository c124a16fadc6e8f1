"""Two models are told apart where they differ, and only there."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, pearsonr
from sklearn.metrics import f1_score

from bertsmith.evaluation.compare import Comparison, compare, mcnemar
from bertsmith.evaluation.intervals import Estimate, wilson
from bertsmith.tasks.single_label import SingleLabel
from tests.evaluation.fakes import GoldRows, LossFirst, MeanOf, Numbers, one_hot

Array = np.ndarray[Any, Any]


def guesses_with(targets: Array, accuracy: float, seed: int) -> Array:
    """Guess right with this probability."""
    generator = np.random.default_rng(seed)
    wrong = (targets + generator.integers(1, 3, len(targets))) % 3
    return np.where(generator.random(len(targets)) < accuracy, targets, wrong)


def right_on(rows: int, right: slice) -> Array:
    """Answer rows of class 0: right on a slice, else wrong."""
    guesses = np.ones(rows, np.int64)
    guesses[right] = 0
    return guesses


def compared(
    targets: Array, ours: Array, theirs: Array, *, name: str = "tfidf", seed: int = 1, **names: str
) -> Comparison:
    """Compare guesses of one label."""
    return compare(
        SingleLabel(), GoldRows(targets), one_hot(ours), one_hot(theirs), decision_ours={}, decision_theirs={},
        name=name, seed=seed, **names,
    )  # fmt: skip


def of_zeros(ours: Array, theirs: Array, **names: str) -> Comparison:
    """Compare guesses where every row is of class 0."""
    return compared(np.zeros(len(ours), np.int64), ours, theirs, **names)


def numbers(rows: int, ours: float, theirs: float, seed: int = 2) -> tuple[GoldRows, Array, Array]:
    """Make numbers and the answers of two models with so much noise."""
    generator = np.random.default_rng(seed)
    gold = generator.normal(size=rows)
    given_ = [(gold + noise * generator.normal(size=rows))[:, None] for noise in (ours, theirs)]
    return GoldRows(gold), given_[0], given_[1]


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_exact_test_of_scipy(only_ours: int, only_theirs: int) -> None:
    """The p-value equals scipy's exact binomial test of a fair coin over the rows that decide."""
    decided = only_ours + only_theirs
    expected = binomtest(only_ours, decided, 0.5).pvalue if decided else 1.0
    assert mcnemar(only_ours, only_theirs) == pytest.approx(expected, rel=1e-9)


def test_differences_equal_a_bootstrap_that_draws_rows() -> None:
    """Both intervals have the quantiles of a paired bootstrap row by row (macro-F1: within each class)."""
    generator = np.random.default_rng(1)
    targets = np.repeat([0, 1, 2], [90, 60, 30])
    ours, theirs = guesses_with(targets, 0.85, 2), guesses_with(targets, 0.7, 3)
    groups = [np.flatnonzero(targets == label) for label in range(3)]
    accuracy, macro = [], []
    for _ in range(600):
        rows = generator.integers(180, size=180)
        accuracy.append(float((ours[rows] == targets[rows]).mean() - (theirs[rows] == targets[rows]).mean()))
        rows = np.concatenate([generator.choice(group, len(group)) for group in groups])
        scores = [f1_score(targets[rows], guess[rows], average="macro") for guess in (ours, theirs)]
        macro.append(scores[0] - scores[1])
    found = compared(targets, ours, theirs, seed=4).differences
    assert list(found) == ["accuracy", "macro_f1"]
    assert found["accuracy"].value == pytest.approx((ours == targets).mean() - (theirs == targets).mean())
    expected = f1_score(targets, ours, average="macro") - f1_score(targets, theirs, average="macro")
    assert found["macro_f1"].value == pytest.approx(expected)
    for name, drawn in (("accuracy", accuracy), ("macro_f1", macro)):
        quantiles = np.quantile(drawn, [0.025, 0.975])
        assert (found[name].low, found[name].high) == pytest.approx(quantiles, abs=0.02)


def test_a_better_model_is_called_better() -> None:
    """More right answers than chance explains are better, in points, with the interval."""
    found = of_zeros(right_on(400, slice(0, 380)), right_on(400, slice(0, 300)))
    assert found.disagreement is not None
    assert (found.disagreement.only_ours, found.disagreement.only_theirs, found.verdict) == (80, 0, "better")
    low, high = 100 * found.differences["accuracy"].low, 100 * found.differences["accuracy"].high
    assert found.sentence == f"fine-tuning is better than tfidf by 20.0 points of accuracy [{low:.1f}, {high:.1f}]"
    assert 15 < low < 20 < high < 25


def test_a_worse_model_is_called_worse() -> None:
    """Turned round, the same rows give the same points and interval, and the verdict worse."""
    found = of_zeros(right_on(400, slice(0, 300)), right_on(400, slice(0, 380)), name="frozen", ours_name="run-b")
    low, high = -100 * found.differences["accuracy"].high, -100 * found.differences["accuracy"].low
    assert found.verdict == "worse"
    assert found.sentence == f"run-b is worse than frozen by 20.0 points of accuracy [{low:.1f}, {high:.1f}]"
    assert 15 < low < 20 < high < 25


def test_four_rows_are_not_proof() -> None:
    """Four rows to none do not differ by McNemar's test, whatever the bootstrap says."""
    found = of_zeros(right_on(30, slice(0, 14)), right_on(30, slice(0, 10)))
    assert found.disagreement is not None
    assert found.disagreement.p_value == 0.125
    assert found.verdict == "no difference"
    low, high = 100 * found.differences["accuracy"].low, 100 * found.differences["accuracy"].high
    assert low > 0
    assert found.sentence == (
        f"fine-tuning does not differ from tfidf: +13.3 points of accuracy [{low:.1f}, {high:.1f}]"
    )


def test_equal_answers_are_no_proof_of_equality() -> None:
    """Models that never disagreed on 20 rows may still differ by what 20 rows cannot show."""
    ours = right_on(20, slice(0, 10))
    found = of_zeros(ours, ours)
    missed = wilson(0, 20).high
    assert found.differences["accuracy"] == found.differences["macro_f1"] == Estimate(0.0, -missed, missed)
    assert found.disagreement is not None
    assert (found.disagreement.p_value, found.verdict) == (1.0, "no difference")


def test_equal_models_are_told_apart_in_at_most_one_trial_in_20() -> None:
    """Over 200 pairs of equally good models, at most about 5 % are called better or worse."""
    targets = np.random.default_rng(5).integers(3, size=150)
    wrong = sum(
        compared(
            targets, guesses_with(targets, 0.8, 2 * trial), guesses_with(targets, 0.8, 2 * trial + 1), seed=trial
        ).verdict
        != "no difference"
        for trial in range(200)
    )
    assert wrong <= 18  # 10 expected at most; 18 is 2.6 standard deviations above


def test_comparison_as_json() -> None:
    """The JSON carries the differences, the deciding rows, the p-value, the verdict and the sentence."""
    found = of_zeros(right_on(40, slice(0, 30)), right_on(40, slice(0, 10)))
    as_json = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert found.disagreement is not None
    assert as_json == {
        "name": "tfidf",
        "rows": 40,
        "accuracy": found.differences["accuracy"].as_json(),
        "macro_f1": found.differences["macro_f1"].as_json(),
        "only_ours_right": 20,
        "only_theirs_right": 0,
        "mcnemar_p": found.disagreement.p_value,
        "verdict": "better",
        "sentence": found.sentence,
    }


def test_numbers_are_compared_by_their_own_metrics() -> None:
    """Without right and wrong rows there is no McNemar's test; the better correlation is told in plain numbers."""
    rows, ours, theirs = numbers(500, 0.5, 1.0)
    found = compare(
        Numbers(), rows, ours, theirs, decision_ours={}, decision_theirs={}, name="frozen", seed=1
    )  # fmt: skip
    each = found.differences["pearson"]
    expected = pearsonr(rows.targets, ours[:, 0]).statistic - pearsonr(rows.targets, theirs[:, 0]).statistic
    assert each.value == pytest.approx(expected)
    assert found.sentence == (
        f"fine-tuning is better than frozen by {each.value:.3f} of pearson [{each.low:.3f}, {each.high:.3f}]"
    )
    assert list(found.as_json()) == ["name", "rows", "pearson", "mse", "verdict", "sentence"]


def test_paired_differences_of_numbers_equal_a_bootstrap_that_draws_rows() -> None:
    """The interval of two correlations' difference has the quantiles of a paired bootstrap row by row."""
    rows, ours, theirs = numbers(200, 0.8, 0.9)
    generator = np.random.default_rng(3)
    drawn = []
    for _ in range(1000):
        picked = generator.integers(200, size=200)
        gold = rows.targets[picked]
        drawn.append(np.corrcoef(gold, ours[picked, 0])[0, 1] - np.corrcoef(gold, theirs[picked, 0])[0, 1])
    found = compare(
        Numbers(), rows, ours, theirs, decision_ours={}, decision_theirs={}, name="frozen", seed=1
    ).differences["pearson"]  # fmt: skip
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)


def test_a_lower_loss_is_better() -> None:
    """Where a loss decides, less of it is better, and the sentence gives its size without a sign."""
    rows, ours, theirs = numbers(500, 0.5, 1.0)
    better = compare(LossFirst(), rows, ours, theirs, decision_ours={}, decision_theirs={}, name="b", seed=1)
    worse = compare(LossFirst(), rows, theirs, ours, decision_ours={}, decision_theirs={}, name="b", seed=1)
    assert better.differences["mse"].value < 0 < better.gain
    assert (better.verdict, worse.verdict) == ("better", "worse")
    each = better.differences["mse"]
    assert better.sentence == (
        f"fine-tuning is better than b by {-each.value:.3f} of MSE [{-each.high:.3f}, {-each.low:.3f}]"
    )


def test_each_model_has_its_own_decision() -> None:
    """What was tuned for one model is not used for the other."""
    rows, ours, _ = numbers(300, 0.5, 0.5)
    found = compare(
        LossFirst(), rows, ours, ours, decision_ours={"shift": 2.0}, decision_theirs={}, name="b", seed=1
    )  # fmt: skip
    assert found.verdict == "worse"
    error = ours[:, 0] - rows.targets
    assert found.differences["mse"].value == pytest.approx(((error + 2) ** 2).mean() - (error**2).mean())


def test_plain_means_are_compared_too() -> None:
    """A metric that is a mean over rows has the interval of the paired differences' mean."""
    generator = np.random.default_rng(4)
    ours, theirs = generator.normal(size=(2, 400, 1)) + np.array([1.0, 0.0])[:, None, None]
    found = compare(
        MeanOf(), GoldRows(np.zeros(400)), ours, theirs, decision_ours={}, decision_theirs={}, name="b", seed=1
    ).differences["plain"]  # fmt: skip
    half = 1.96 * (ours - theirs).std() / 20
    assert found.value == pytest.approx((ours - theirs).mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=half / 8)


def test_comparison_is_seeded() -> None:
    """The same answers and seed give the same comparison."""
    targets = np.random.default_rng(6).integers(3, size=100)
    ours, theirs = (guesses_with(targets, 0.8, seed) for seed in (1, 2))
    assert compared(targets, ours, theirs, seed=3) == compared(targets, ours, theirs, seed=3)
