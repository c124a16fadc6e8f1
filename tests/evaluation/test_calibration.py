"""Temperature and calibration error: scikit-learn is the oracle where it has the same, known truths where not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss, log_loss

from bertsmith.evaluation.calibration import calibration_error, fit_temperature, measure, reliability
from bertsmith.evaluation.intervals import wilson
from bertsmith.examples import LabelSet
from bertsmith.tasks.multi_label import MultiLabel
from bertsmith.tasks.regression import Regression
from bertsmith.tasks.single_label import SingleLabel
from tests.evaluation.fakes import GoldRows, Numbers
from tests.tasks.made import rows_of, soft_of

Array = np.ndarray[Any, Any]
TASK: Any = SingleLabel()


def known(rows: int, *, classes: int = 3, temperature: float = 2.0, seed: int = 0) -> tuple[Any, Array]:
    """Draw rows whose right probabilities are softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=3, size=(rows, classes))
    chances = softmax(logits / temperature, axis=1)
    targets = (generator.random(rows)[:, None] > np.cumsum(chances, axis=1)).sum(axis=1).clip(0, classes - 1)
    return GoldRows(targets, LabelSet(tuple("abcdefgh"[:classes]))), logits.astype(np.float32)


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its logits."""

    def fit(self, inputs: Array, targets: Array) -> Logits:
        """Learn the labels."""
        self.classes_ = np.unique(targets)
        return self

    def predict(self, inputs: Array) -> Array:
        """Answer with the largest logit."""
        return self.classes_[inputs.argmax(axis=1)]

    def decision_function(self, inputs: Array) -> Array:
        """Give the logits back; of two labels the margin, which is all that scikit-learn takes."""
        return inputs if inputs.shape[1] > 2 else inputs[:, 1] - inputs[:, 0]


@pytest.mark.parametrize("classes", [2, 3])
def test_temperature_is_that_of_scikit_learn(classes: int) -> None:
    """On many rows the temperature is the one of CalibratedClassifierCV.

    Of two labels scikit-learn takes the margin, and puts it beside its negative: that doubles its temperature.
    """
    rows, logits = known(5000, classes=classes)
    logits = logits.astype(np.float64)
    model = FrozenEstimator(Logits().fit(logits, rows.targets))
    fitted = CalibratedClassifierCV(model, method="temperature", cv=2, ensemble=False).fit(logits, rows.targets)
    theirs = 1 / fitted.calibrated_classifiers_[0].calibrators[0].beta_ / (2 if classes == 2 else 1)
    assert fit_temperature(TASK, rows, logits) == pytest.approx(theirs, rel=2e-3)
    assert theirs == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("truth", [0.3, 1.0, 4.0])
def test_temperature_is_found(truth: float) -> None:
    """Rows drawn at a temperature give it back."""
    assert fit_temperature(TASK, *known(4000, temperature=truth)) == pytest.approx(truth, rel=0.08)


def test_temperature_of_nothing_is_one() -> None:
    """Without rows, and for tasks without a log loss, logits stay as they are."""
    rows, logits = known(10)
    assert fit_temperature(TASK, rows.take(np.arange(0)), logits[:0]) == 1.0
    numbers: Any = Numbers()
    assert fit_temperature(numbers, rows, logits) == 1.0
    assert fit_temperature(Regression(), rows, logits[:, :1]) == 1.0


@pytest.mark.parametrize("rows", [20, 200])
def test_rows_that_are_all_right_do_not_make_it_sure_of_everything(rows: int) -> None:
    """Of n rows without an error the model becomes about 1 - 1/n sure, not 1."""
    targets = np.arange(rows) % 3
    logits = 2.0 * np.eye(3)[targets]
    found: Any = GoldRows(targets, LabelSet(("a", "b", "c")))
    temperature = fit_temperature(TASK, found, logits)
    unsure = 1 - softmax(logits / temperature, axis=1).max(axis=1).mean()
    assert 0.1 / rows < unsure < 1 / rows * 3
    assert temperature < 1


def test_many_rows_are_thinned_out() -> None:
    """Above 20,000 rows evenly spaced ones are enough: the temperature is the same within its noise."""
    assert fit_temperature(TASK, *known(30_000)) == pytest.approx(2.0, rel=0.05)


def test_temperature_of_several_labels() -> None:
    """Labels that may come together share one temperature: the one at which sigmoids are right."""
    generator = np.random.default_rng(1)
    logits = generator.normal(scale=3, size=(3000, 4))
    truth = generator.random(logits.shape) < expit(logits / 2.5)
    rows: Any = GoldRows(truth.astype(np.float32), LabelSet(("a", "b", "c", "d")))
    found = fit_temperature(MultiLabel(), rows, logits)
    assert found == pytest.approx(2.5, rel=0.08)
    calibration = measure(MultiLabel(), rows, logits, temperature=found, seed=0)
    assert calibration is not None
    probabilities = expit(logits / found)
    assert calibration.after.brier == pytest.approx(
        np.mean([brier_score_loss(truth[:, label], probabilities[:, label]) for label in range(4)])
    )
    assert calibration.after.ece.value < 0.01
    assert calibration.before.ece.value > 0.05


def test_temperature_of_soft_labels() -> None:
    """Soft labels pull the model towards their shares."""
    shares = np.tile([[0.7, 0.3]], (400, 1))
    rows = rows_of(TASK, soft_of(shares, ["a", "b"]))
    logits = np.tile([[4.0, 0.0]], (400, 1))
    temperature = fit_temperature(TASK, rows, logits)
    assert softmax(logits[0] / temperature)[0] == pytest.approx(0.7, abs=0.01)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_those_of_scikit_learn(classes: int) -> None:
    """Brier score and log loss before and after are scikit-learn's."""
    rows, logits = known(500, classes=classes)
    found = measure(TASK, rows, logits, temperature=2.0, seed=0)
    assert found is not None
    for measured, temperature in ((found.before, 1.0), (found.after, 2.0)):
        probabilities = softmax(logits.astype(np.float64) / temperature, axis=1)
        theirs = brier_score_loss(rows.targets, probabilities if classes > 2 else probabilities[:, 1])
        assert measured.brier == pytest.approx(theirs)
        assert measured.log_loss == pytest.approx(log_loss(rows.targets, probabilities))


def test_json_holds_what_scripts_rely_on() -> None:
    """`calibration` has its keys; the temperature that rows were drawn at makes every figure better."""
    rows, logits = known(2000)
    found = measure(TASK, rows, logits, temperature=2.0, seed=0)
    assert found is not None
    told = found.as_json()
    assert list(told) == [
        "temperature", "fitted_on", "rows", "ece_before", "ece_after", "ece_after_low", "ece_after_high", "brier_before",
        "brier_after", "log_loss_before", "log_loss_after", "reliability",
    ]  # fmt: skip
    assert (told["temperature"], told["fitted_on"], told["rows"]) == (2.0, "validation", 2000)
    for name in ("ece", "brier", "log_loss"):
        assert told[f"{name}_after"] < told[f"{name}_before"]
    assert told["ece_after_low"] == 0.0 <= told["ece_after"] <= told["ece_after_high"] < told["ece_before"]
    assert set(told["reliability"]["after"][0]) == {
        "low", "high", "rows", "confidence", "right", "right_low", "right_high"
    }  # fmt: skip


def test_nothing_to_measure() -> None:
    """Without rows, and for answers that are no labels, there is no calibration."""
    rows, logits = known(10)
    assert measure(TASK, rows.take(np.arange(0)), logits[:0], temperature=1.0, seed=0) is None
    assert measure(Regression(), rows, logits[:, :1], temperature=1.0, seed=0) is None


def plain_error(confidence: Array, right: Array, bins: int = 15) -> float:
    """Compute the usual estimate, which chance alone makes too large."""
    parts = np.array_split(np.argsort(confidence), bins)
    return float(sum(abs((right[part] - confidence[part]).mean()) * len(part) for part in parts) / len(right))


def test_no_error_is_seen_where_there_is_none() -> None:
    """Perfectly calibrated answers have a debiased error near 0 where the plain one is four times as large."""
    generator = np.random.default_rng(2)
    found, plain, zeros = [], [], 0
    for seed in range(40):
        confidence = generator.beta(4, 1, size=800)
        right = generator.random(800) < confidence
        error = calibration_error(confidence[:, None], right[:, None], seed=seed)
        found.append(error.value)
        plain.append(plain_error(confidence, right))
        zeros += error.low == 0
    assert np.mean(plain) > 0.02
    assert np.mean(found) < 0.3 * np.mean(plain)
    assert zeros >= 36


def test_interval_holds_the_true_error() -> None:
    """Where answers are less often right than they are sure, about 95 of 100 intervals hold by how much."""
    generator = np.random.default_rng(3)
    sure = generator.beta(4, 1, size=400_000)
    truth = float(np.mean(sure - sure**1.5))
    inside = []
    for seed in range(40):
        confidence = generator.beta(4, 1, size=800)
        right = generator.random(800) < confidence**1.5
        error = calibration_error(confidence[:, None], right[:, None], seed=seed)
        inside.append(error.low <= truth <= error.high)
        assert 0 <= error.low <= error.value <= error.high <= 1
    assert np.mean(inside) >= 0.875


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.55, 0.9, 1.0]), st.booleans()), min_size=1, max_size=70))
def test_any_answers_have_an_error(answers: list[tuple[float, bool]]) -> None:
    """Ties, single rows and certainty give a finite error inside its interval."""
    confidence, right = (np.array(part)[:, None] for part in zip(*answers, strict=True))
    error = calibration_error(confidence, right, seed=0)
    assert 0 <= error.low <= error.value <= error.high <= 1


def test_diagram_sorts_answers_into_tenths() -> None:
    """Bins have equal width, their means and shares; empty ones are left out, and 1 belongs to the last."""
    confidence, right = np.array([[0.91], [0.99], [1.0], [0.55]]), np.array([[True], [False], [True], [True]])
    half, last = (each.as_json() for each in reliability(confidence, right))
    share, one = wilson(2, 3), wilson(1, 1)
    assert half == {
        "low": 0.5, "high": 0.6, "rows": 1, "confidence": 0.55, "right": 1.0, "right_low": one.low, "right_high": 1.0
    }  # fmt: skip
    assert last == {
        "low": 0.9, "high": 1.0, "rows": 3, "confidence": pytest.approx(2.9 / 3),
        "right": share.value, "right_low": share.low, "right_high": share.high,
    }  # fmt: skip
