"""Scores say everything about a set of answers, in the form that scripts read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import classification_report

from bertsmith.evaluation.scores import ClassReport, Scores, score
from bertsmith.examples import LabelSet
from bertsmith.tasks import SingleLabel

Array = np.ndarray[Any, Any]
LABELS = LabelSet(("billing", "café", "other"))
METRICS = ["accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc", "log_loss"]


def answers(rows: int, *, classes: int, seed: int = 0) -> tuple[Array, Array]:
    """Make targets (the last class never occurs) and probabilities that are mostly right."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(classes - 1, size=rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), targets] += 2
    exponentials = np.exp(logits)
    return targets, exponentials / exponentials.sum(axis=1, keepdims=True)


def scored(rows: int = 200) -> tuple[Scores, Array, Array]:
    """Score such answers."""
    targets, probabilities = answers(rows, classes=3)
    return score(SingleLabel(), targets, probabilities, LABELS, seed=17), targets, probabilities


def test_every_metric_of_the_task_has_its_value_inside_an_interval() -> None:
    """Values are the task's own to the last digit; intervals around them are neither empty nor all there is."""
    scores, targets, probabilities = scored()
    values = SingleLabel().measure(targets, probabilities)
    assert list(scores.metrics) == METRICS
    for name, estimate in scores.metrics.items():
        assert estimate.value == values[name]
        assert estimate.low < estimate.value < estimate.high < estimate.low + 0.5


def test_accuracy_has_the_wilson_interval() -> None:
    """Accuracy's interval is scipy's for as many right answers in as many rows."""
    scores, targets, probabilities = scored()
    right = int((probabilities.argmax(axis=1) == targets).sum())
    expected = binomtest(right, len(targets)).proportion_ci(method="wilson")
    found = scores.metrics["accuracy"]
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_each_label_has_its_report() -> None:
    """Precision, recall, F1 and support are scikit-learn's; a label without rows is there with zeros."""
    scores, targets, probabilities = scored()
    expected = classification_report(
        targets, probabilities.argmax(axis=1), labels=range(3), output_dict=True, zero_division=0
    )
    assert [report.label for report in scores.per_class] == ["billing", "café", "other"]
    for position, report in enumerate(scores.per_class):
        reference = expected[str(position)]
        assert report.precision == pytest.approx(reference["precision"])
        assert report.recall == pytest.approx(reference["recall"])
        assert report.f1 == pytest.approx(reference["f1-score"])
        assert report.support == reference["support"]
    assert scores.per_class[2].support == 0


def test_scores_as_json_is_the_contract() -> None:
    """The JSON has rows, each metric with value, low and high, per_class and confusion, all of plain numbers."""
    targets = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [0.1, 0.9, 0]])
    scores = score(SingleLabel(), targets, probabilities, LABELS, seed=1)
    found = json.loads(json.dumps(scores.as_json(), allow_nan=False))
    assert list(found) == ["rows", *METRICS, "per_class", "confusion"]
    assert found["rows"] == 4
    assert list(found["mcc"]) == ["value", "low", "high"]
    assert found["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert found["per_class"][2] == {"label": "other", "precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert scores.per_class[0] == ClassReport("billing", 1.0, 0.5, pytest.approx(2 / 3), 2)


def test_scores_are_seeded() -> None:
    """The same answers and seed give the same JSON."""
    assert scored()[0].as_json() == scored()[0].as_json()


def test_no_rows_are_refused() -> None:
    """An empty side is for the caller to leave out."""
    with pytest.raises(ValueError, match=r"^metrics need at least one row\.$"):
        score(SingleLabel(), np.zeros(0, np.int64), np.zeros((0, 3)), LABELS, seed=1)
