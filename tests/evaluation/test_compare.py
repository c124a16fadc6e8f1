"""Two models are told apart where they differ, and only there."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from bertsmith.evaluation.compare import compare, mcnemar
from bertsmith.evaluation.intervals import Estimate, wilson

Array = np.ndarray[Any, Any]


def one_hot(guesses: Array, classes: int = 3) -> Array:
    """Make probabilities whose best label is the guess."""
    return np.eye(classes)[guesses]


def guesses_with(targets: Array, accuracy: float, seed: int) -> Array:
    """Guess right with this probability."""
    generator = np.random.default_rng(seed)
    wrong = (targets + generator.integers(1, 3, len(targets))) % 3
    return np.where(generator.random(len(targets)) < accuracy, targets, wrong)


def right_on(rows: int, right: slice) -> Array:
    """Answer rows of class 0: right on a slice, else wrong."""
    guesses = np.ones(rows, np.int64)
    guesses[right] = 0
    return one_hot(guesses)


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
    for _ in range(1000):
        rows = generator.integers(180, size=180)
        accuracy.append(float((ours[rows] == targets[rows]).mean() - (theirs[rows] == targets[rows]).mean()))
        rows = np.concatenate([generator.choice(group, len(group)) for group in groups])
        scores = [f1_score(targets[rows], guess[rows], average="macro") for guess in (ours, theirs)]
        macro.append(scores[0] - scores[1])
    found = compare(targets, one_hot(ours), one_hot(theirs), name="tfidf", seed=4)
    assert found.accuracy.value == pytest.approx((ours == targets).mean() - (theirs == targets).mean())
    expected = f1_score(targets, ours, average="macro") - f1_score(targets, theirs, average="macro")
    assert found.macro_f1.value == pytest.approx(expected)
    for estimate, drawn in ((found.accuracy, accuracy), (found.macro_f1, macro)):
        quantiles = np.quantile(drawn, [0.025, 0.975])
        assert (estimate.low, estimate.high) == pytest.approx(quantiles, abs=0.015)


def test_a_better_model_is_called_better() -> None:
    """More right answers than chance explains are better, in points, with the interval."""
    found = compare(np.zeros(400, np.int64), right_on(400, slice(0, 380)), right_on(400, slice(0, 300)),
                    name="tfidf", seed=1)  # fmt: skip
    assert (found.only_ours, found.only_theirs, found.verdict) == (80, 0, "better")
    low, high = 100 * found.accuracy.low, 100 * found.accuracy.high
    assert found.sentence == (f"fine-tuning is better than tfidf by 20.0 points of accuracy [{low:.1f}, {high:.1f}]")
    assert 15 < low < 20 < high < 25


def test_a_worse_model_is_called_worse() -> None:
    """Turned round, the same rows give the same points and interval, and the verdict worse."""
    found = compare(np.zeros(400, np.int64), right_on(400, slice(0, 300)), right_on(400, slice(0, 380)),
                    name="frozen", seed=1, ours_name="run-b")  # fmt: skip
    low, high = -100 * found.accuracy.high, -100 * found.accuracy.low
    assert found.verdict == "worse"
    assert found.sentence == f"run-b is worse than frozen by 20.0 points of accuracy [{low:.1f}, {high:.1f}]"
    assert 15 < low < 20 < high < 25


def test_four_rows_are_not_proof() -> None:
    """Four rows to none do not differ by McNemar's test, whatever the bootstrap says."""
    found = compare(np.zeros(30, np.int64), right_on(30, slice(0, 14)), right_on(30, slice(0, 10)),
                    name="tfidf", seed=1)  # fmt: skip
    assert found.p_value == 0.125
    assert found.verdict == "no difference"
    low, high = 100 * found.accuracy.low, 100 * found.accuracy.high
    assert found.sentence == (
        f"fine-tuning does not differ from tfidf: +13.3 points of accuracy [{low:.1f}, {high:.1f}]"
    )


def test_equal_answers_are_no_proof_of_equality() -> None:
    """Models that never disagreed on 20 rows may still differ by what 20 rows cannot show."""
    ours = right_on(20, slice(0, 10))
    found = compare(np.zeros(20, np.int64), ours, ours, name="frozen", seed=1)
    missed = wilson(0, 20).high
    assert found.accuracy == found.macro_f1 == Estimate(0.0, -missed, missed)
    assert (found.p_value, found.verdict) == (1.0, "no difference")


def test_equal_models_are_told_apart_in_at_most_one_trial_in_20() -> None:
    """Over 300 pairs of equally good models, at most about 5 % are called better or worse."""
    targets = np.random.default_rng(5).integers(3, size=150)
    wrong = sum(
        compare(
            targets,
            one_hot(guesses_with(targets, 0.8, 2 * trial)),
            one_hot(guesses_with(targets, 0.8, 2 * trial + 1)),
            name="other",
            seed=trial,
        ).verdict
        != "no difference"
        for trial in range(300)
    )
    assert wrong <= 24  # 15 expected at most; 24 is 2.4 standard deviations above


def test_comparison_as_json() -> None:
    """The JSON carries the differences, the deciding rows, the p-value, the verdict and the sentence."""
    found = compare(np.zeros(40, np.int64), right_on(40, slice(0, 30)), right_on(40, slice(0, 10)),
                    name="tfidf", seed=1)  # fmt: skip
    as_json = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert as_json == {
        "name": "tfidf",
        "rows": 40,
        "accuracy": found.accuracy.as_json(),
        "macro_f1": found.macro_f1.as_json(),
        "only_ours_right": 20,
        "only_theirs_right": 0,
        "mcnemar_p": found.p_value,
        "verdict": "better",
        "sentence": found.sentence,
    }


def test_comparison_is_seeded() -> None:
    """The same answers and seed give the same comparison."""
    targets = np.random.default_rng(6).integers(3, size=100)
    ours, theirs = (one_hot(guesses_with(targets, 0.8, seed)) for seed in (1, 2))
    assert compare(targets, ours, theirs, name="a", seed=3) == compare(targets, ours, theirs, name="a", seed=3)
