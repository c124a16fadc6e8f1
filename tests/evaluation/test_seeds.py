"""Spread over seeds: mean, deviation, and an interval that says how far luck goes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bertsmith.evaluation.seeds import SpreadOf, spread


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=20))
def test_the_interval_is_students(values: list[float]) -> None:
    """Mean, deviation and interval are those of scipy's t distribution."""
    found = SpreadOf.of(values)
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error) if error else [values[0]] * 2
    expected = (np.mean(values), np.std(values, ddof=1), low, high)
    assert (found.mean, found.sd, found.low, found.high) == pytest.approx(expected, abs=1e-9)


def test_the_interval_holds_the_mean_of_all_seeds() -> None:
    """Of 400 spreads over five seeds about 95 % hold the mean that endless seeds would have."""
    draws = np.random.default_rng(0).normal(0.8, 0.02, size=(400, 5))
    found = [SpreadOf.of(each.tolist()) for each in draws]
    assert 366 <= sum(each.low <= 0.8 <= each.high for each in found if each.low and each.high) <= 393


def test_spread_as_json() -> None:
    """Seeds keep their order, metrics that one seed lacks are left out, and the first one is told."""
    scores = {"accuracy": 0.8, "macro_f1": 0.7}
    found = spread({7: {**scores, "mcc": 0.1}, 3: {**scores, "accuracy": 0.9}, 5: {**scores, "accuracy": 0.85}})
    accuracy = SpreadOf.of([0.8, 0.9, 0.85])
    assert json.loads(json.dumps(found.as_json(), allow_nan=False)) == {
        "seeds": [7, 3, 5],
        "metrics": {
            "accuracy": {"values": [0.8, 0.9, 0.85], "mean": accuracy.mean, "sd": accuracy.sd, "low": accuracy.low, "high": accuracy.high},
            "macro_f1": {"values": [0.7, 0.7, 0.7], "mean": pytest.approx(0.7), "sd": pytest.approx(0), "low": pytest.approx(0.7), "high": pytest.approx(0.7)},
        },
        "sentence": "over 3 seeds accuracy is 0.850 on average [0.726, 0.974], from 0.800 to 0.900, standard deviation 0.050",
    }  # fmt: skip


def test_two_seeds_have_no_interval() -> None:
    """Of two trainings only the values, their mean and their deviation are told: Student's interval would say nothing."""
    found = spread({1: {"accuracy": 0.2857}, 2: {"accuracy": 0.5483}}, shares={"accuracy"})
    assert found.as_json()["metrics"]["accuracy"] == {
        "values": [0.2857, 0.5483], "mean": pytest.approx(0.417), "sd": pytest.approx(0.2626 / 2**0.5), "low": None, "high": None,
    }  # fmt: skip
    assert found.sentence == "over 2 seeds accuracy is 0.417 on average, from 0.286 to 0.548"


def test_the_interval_of_a_share_stays_a_share() -> None:
    """No interval of a share goes below 0 or above 1; that of a loss may be as wide as it is."""
    values = {seed: {"accuracy": each, "log_loss": each} for seed, each in enumerate((0.1, 0.9, 0.99))}
    found = spread(values, shares=frozenset({"accuracy"})).metrics
    assert (found["accuracy"].low, found["accuracy"].high) == (0.0, 1.0)
    losses = (0.1, 0.9, 0.99)
    whole = stats.t.interval(0.95, 2, loc=np.mean(losses), scale=stats.sem(losses))
    assert (found["log_loss"].low, found["log_loss"].high) == pytest.approx(whole)
    assert whole[0] < 0
    assert whole[1] > 1


def test_one_seed_has_no_spread() -> None:
    """A single training says nothing of the spread, and no figure pretends to."""
    found = spread({1: {"macro_f1": 0.8}})
    assert found.as_json()["metrics"] == {
        "macro_f1": {"values": [0.8], "mean": 0.8, "sd": None, "low": None, "high": None}
    }
    assert found.sentence == "one seed only (1), so nothing is known of the spread of macro-F1"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "a spread needs at least one seed."),
        ({1: {"accuracy": 0.5}, 2: {"mcc": 0.5}}, "a spread needs a metric that every seed has."),
    ],
)
def test_nothing_to_spread(values: dict[int, dict[str, float]], text: str) -> None:
    """No seed, or no metric in common, is an error."""
    with pytest.raises(ValueError, match=f"^{text}$"):
        spread(values)
