"""Figures of a scope against scikit-learn and counting by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from bertsmith.evaluation.intervals import wilson
from bertsmith.evaluation.out_of_scope import auroc, measure_scope
from bertsmith.inference.engine import HeadPass
from bertsmith.inference.scope import Scope

SCORES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=25).map(np.array)
NOTHING = HeadPass(np.zeros((2, 2), np.float32), np.eye(2))
BLANK = Scope.fit(NOTHING, np.arange(2), NOTHING)


@given(SCORES, SCORES)
def test_auroc_is_that_of_scikit_learn(own, foreign):
    """Ties count half; the value lies in its interval, and the interval between 0 and 1."""
    found = auroc(own, foreign)
    labels = np.repeat([0, 1], [len(own), len(foreign)])
    assert found.value == pytest.approx(roc_auc_score(labels, np.concatenate([own, foreign])))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_the_interval_of_auroc_covers_the_truth():
    """For two normal distributions, whose AUROC is known, some 95 of 100 intervals hold it."""
    generator, truth = np.random.default_rng(0), norm.cdf(1.5 / np.sqrt(2))
    found = [auroc(generator.normal(size=120), generator.normal(1.5, 1, size=90)) for _ in range(600)]
    assert 0.925 < np.mean([each.low <= truth <= each.high for each in found]) < 0.975


def test_figures_are_counts():
    """Shares are counted with Wilson's interval; what is asked for and what was chosen stand beside them."""
    scope = replace(BLANK, threshold=2.0, chosen_from="validation")
    found = measure_scope(
        scope,
        validation=np.array([0.0, 1.0, 2.0, 3.0]),
        test=np.array([1.0, 1.0, 2.0, 5.0, 9.0]),
        foreign=np.array([3.0, 9.0, 10.0]),
        alarms=0.02,
    )
    written = found.as_json()
    assert {name: written[name] for name in ("score", "threshold", "chosen_from", "alarms_wanted")} == {
        "score": "energy+mahalanobis",
        "threshold": 2.0,
        "chosen_from": "validation",
        "alarms_wanted": 0.02,
    }
    quarter, fifths, all_three = wilson(1, 4), wilson(2, 5), wilson(3, 3)
    assert written["validation"] == {
        "rows": 4, "alarms": 0.25, "alarms_low": quarter.low, "alarms_high": quarter.high,
    }  # fmt: skip
    assert written["test"] == {"rows": 5, "alarms": 0.4, "alarms_low": fifths.low, "alarms_high": fifths.high}
    assert written["foreign"] == {
        "rows": 3, "recall": 1.0, "recall_low": all_three.low, "recall_high": 1.0,
        "auroc": pytest.approx(13 / 15 - 0.5 / 15), "auroc_low": pytest.approx(0.47, abs=0.1), "auroc_high": 1.0,
    }  # fmt: skip
    assert found.sentence == "40.0% of the test rows are called foreign, and 100.0% of 3 foreign ones (AUROC 0.833)."
    json.dumps(written, allow_nan=False)


def test_without_foreign_rows_their_share_is_not_known():
    """None are labelled, so nothing is claimed about them."""
    scope = BLANK.allowing(np.arange(100.0), alarms=0.05)
    found = measure_scope(scope, validation=np.arange(100.0), test=np.arange(50.0), alarms=0.05)
    assert found.as_json()["foreign"] is None
    assert found.sentence == (
        "0.0% of the test rows are called foreign; how many foreign texts are found is not known, as none are labelled."
    )


def test_labelled_rows_ask_for_no_share():
    """Where labelled rows chose the threshold, no share of alarms was wanted."""
    scope = BLANK.separating(np.zeros(4), np.ones(4))
    found = measure_scope(scope, validation=np.zeros(4), test=np.zeros(4), foreign=np.ones(4), alarms=0.05)
    assert (found.alarms_wanted, found.chosen_from) == (None, "labelled")
    assert found.auroc == wilson(4, 4)


def test_too_few_rows_are_named():
    """It says that the validation rows are too few for the share of alarms that was asked for."""
    found = measure_scope(BLANK, validation=np.zeros(70), test=np.zeros(3), alarms=0.01)
    assert found.sentence == (
        "text from elsewhere is not told: 70 validation rows are too few to be wrong about at most 1 % of your own rows."
    )


def test_without_a_threshold_nothing_is_told():
    """Nothing is foreign, and the threshold is null, not a number that JSON lacks."""
    found = measure_scope(BLANK, validation=np.zeros(0), test=np.zeros(0))
    assert found.sentence == "text from elsewhere is not told."
    assert found.as_json() == {
        "score": "energy+mahalanobis",
        "threshold": None,
        "sentence": "text from elsewhere is not told.",
        "chosen_from": "",
        "alarms_wanted": None,
        "validation": {"rows": 0, "alarms": None, "alarms_low": None, "alarms_high": None},
        "test": {"rows": 0, "alarms": None, "alarms_low": None, "alarms_high": None},
        "foreign": None,
    }
