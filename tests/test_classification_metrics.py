"""The metrics are scikit-learn's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as reference

from bertsmith.tasks.classification_metrics import (
    Counts,
    classification_metrics,
    confusion_matrix,
    counted_metrics,
    row_losses,
)

Array = np.ndarray[Any, Any]


def from_confusion(confusion: Array) -> tuple[Array, Array]:
    """Lay a confusion matrix out as rows: targets and guesses."""
    gold, guess = np.indices(confusion.shape)
    return np.repeat(gold.ravel(), confusion.ravel()), np.repeat(guess.ravel(), confusion.ravel())


def by_sklearn(targets: Array, guesses: Array) -> dict[str, float]:
    """Compute the counted metrics with scikit-learn, which warns where a label is answered but never right."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {
            "accuracy": reference.accuracy_score(targets, guesses),
            "macro_f1": reference.f1_score(targets, guesses, average="macro", zero_division=0),
            "weighted_f1": reference.f1_score(targets, guesses, average="weighted", zero_division=0),
            "balanced_accuracy": reference.balanced_accuracy_score(targets, guesses),
            "mcc": reference.matthews_corrcoef(targets, guesses),
        }


confusions = (
    st.integers(2, 6)
    .flatmap(lambda classes: hnp.arrays(np.int64, (classes, classes), elements=st.integers(0, 9)))
    .filter(lambda confusion: confusion.any())
)


@given(confusions)
def test_counted_metrics_are_those_of_scikit_learn(confusion: Array) -> None:
    """Whatever is taken for what, and whichever classes are absent, each metric equals scikit-learn's."""
    targets, guesses = from_confusion(confusion)
    found = {name: float(value) for name, value in counted_metrics(Counts.of(confusion)).items()}
    assert found == pytest.approx(by_sklearn(targets, guesses), abs=1e-12)


@given(confusions)
def test_confusion_matrix_is_that_of_scikit_learn(confusion: Array) -> None:
    """Rows laid out from a confusion matrix are counted back into it."""
    targets, guesses = from_confusion(confusion)
    expected = reference.confusion_matrix(targets, guesses, labels=range(len(confusion)))
    assert confusion_matrix(targets, guesses, len(confusion)).tolist() == expected.tolist()


@given(confusions)
def test_counts_give_precision_recall_and_f1_of_each_class(confusion: Array) -> None:
    """Per-class figures equal scikit-learn's with zero_division=0."""
    targets, guesses = from_confusion(confusion)
    counts = Counts.of(confusion)
    expected = reference.precision_recall_fscore_support(
        targets, guesses, labels=range(len(confusion)), zero_division=0
    )
    found = [counts.precision, counts.recall, counts.f1, counts.support]
    np.testing.assert_allclose(np.array(found, np.float64), np.array(expected, np.float64), atol=1e-12)


def test_counts_of_many_resamples_are_measured_one_by_one() -> None:
    """A leading axis of resamples gives the same values as each resample alone."""
    confusions = np.random.default_rng(0).integers(0, 5, (7, 4, 4))
    stacked = Counts(np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(axis=2), confusions.sum(axis=1))
    together = counted_metrics(stacked)
    alone = [counted_metrics(Counts.of(confusion)) for confusion in confusions]
    for name, values in together.items():
        assert values.tolist() == [float(each[name]) for each in alone]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 40))
def test_classification_metrics_of_probabilities_are_those_of_scikit_learn(seed: int, classes: int, rows: int) -> None:
    """Accuracy to log loss, from probabilities, equal scikit-learn's, also where a label never occurs."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.3), rows)
    targets = generator.integers(classes, size=rows)
    expected = by_sklearn(targets, probabilities.argmax(axis=1))
    expected["log_loss"] = reference.log_loss(targets, probabilities, labels=range(classes))
    assert classification_metrics(targets, probabilities) == pytest.approx(expected, abs=1e-9)


def test_log_loss_of_an_impossible_answer_is_finite() -> None:
    """A probability of 0 for the truth is clipped at float64's epsilon, as scikit-learn does it."""
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]])
    expected = reference.log_loss([1, 1], probabilities, labels=[0, 1])
    assert row_losses(np.array([1, 1]), probabilities).mean() == pytest.approx(expected, rel=1e-12)


def test_mcc_does_not_overflow_on_billions_of_rows() -> None:
    """Products of counts beyond int64 leave MCC as it is for the same shares of fewer rows."""
    confusion = np.array([[40, 10], [5, 45]])
    few, many = (counted_metrics(Counts.of(confusion * scale))["mcc"] for scale in (1, 10**9))
    assert many == pytest.approx(float(few), rel=1e-12)


def test_no_rows_are_refused() -> None:
    """Metrics of nothing are an error, not a NaN."""
    with pytest.raises(ValueError, match=r"^metrics need at least one row\.$"):
        classification_metrics(np.zeros(0, np.int64), np.zeros((0, 3)))
