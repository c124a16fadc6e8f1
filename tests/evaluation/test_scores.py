"""Scores say everything about a set of answers, in the form that scripts read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, pearsonr, spearmanr
from sklearn.metrics import classification_report, mean_squared_error

from bertsmith.evaluation import scores
from bertsmith.evaluation.scores import score
from bertsmith.tasks.single_label import SingleLabel
from tests.evaluation.fakes import GoldRows, Numbers

Array = np.ndarray[Any, Any]
METRICS = ["accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc", "log_loss"]


def answers(rows: int, *, classes: int, seed: int = 0) -> tuple[GoldRows, Array]:
    """Make rows (the last class never occurs) and probabilities that are mostly right."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(classes - 1, size=rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), targets] += 2
    exponentials = np.exp(logits)
    return GoldRows(targets), exponentials / exponentials.sum(axis=1, keepdims=True)


def scored(rows: int = 200) -> tuple[dict[str, Any], GoldRows, Array]:
    """Score such answers."""
    gold, probabilities = answers(rows, classes=3)
    return score(SingleLabel(), gold, probabilities, {}, seed=17), gold, probabilities


def numbers(rows: int = 300) -> tuple[GoldRows, Array]:
    """Make numbers, and answers that follow them."""
    generator = np.random.default_rng(9)
    gold = generator.normal(size=rows)
    return GoldRows(gold), (gold + generator.normal(size=rows))[:, None]


def test_every_metric_of_the_task_has_its_value_inside_an_interval() -> None:
    """Values are the task's own; intervals around them are neither empty nor all there is."""
    found, gold, probabilities = scored()
    values = SingleLabel().measure(gold, probabilities)
    assert list(found)[:7] == ["rows", *METRICS]
    for name in METRICS:
        assert found[name]["value"] == pytest.approx(values[name], rel=1e-12)
        assert found[name]["low"] < found[name]["value"] < found[name]["high"] < found[name]["low"] + 0.5


def test_accuracy_has_the_wilson_interval() -> None:
    """Accuracy's interval is scipy's for as many right answers in as many rows."""
    found, gold, probabilities = scored()
    right = int((probabilities.argmax(axis=1) == gold.targets).sum())
    expected = binomtest(right, len(gold)).proportion_ci(method="wilson")
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


def test_each_label_has_its_report() -> None:
    """Precision, recall, F1 and support are scikit-learn's; a label without rows is there with zeros."""
    found, gold, probabilities = scored()
    expected = classification_report(
        gold.targets, probabilities.argmax(axis=1), labels=range(3), output_dict=True, zero_division=0
    )
    assert [report["label"] for report in found["per_class"]] == ["billing", "café", "other"]
    for position, report in enumerate(found["per_class"]):
        reference = expected[str(position)]
        assert report["precision"] == pytest.approx(reference["precision"])
        assert report["recall"] == pytest.approx(reference["recall"])
        assert report["f1"] == pytest.approx(reference["f1-score"])
        assert report["support"] == reference["support"]
    assert found["per_class"][2]["support"] == 0


def test_scores_are_the_contract() -> None:
    """The JSON has rows, each metric with value, low and high, per_class and confusion, all of plain numbers."""
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [0.1, 0.9, 0]])
    found = score(SingleLabel(), GoldRows(np.array([0, 0, 1, 1])), probabilities, {}, seed=1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == ["rows", *METRICS, "per_class", "confusion"]
    assert found["rows"] == 4
    assert list(found["mcc"]) == ["value", "low", "high"]
    assert found["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert found["per_class"][2] == {"label": "other", "precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_scores_of_numbers() -> None:
    """A task with other metrics has them, whether sums suffice for them or not, and says what was tuned."""
    rows, given = numbers()
    found = score(Numbers(), rows, given, {"shift": 0.0}, seed=1)
    assert list(found) == ["rows", "pearson", "mse", "spearman", "shift"]
    for name, expected in (
        ("pearson", pearsonr(rows.targets, given[:, 0]).statistic),
        ("mse", mean_squared_error(rows.targets, given[:, 0])),
        ("spearman", spearmanr(rows.targets, given[:, 0]).statistic),
    ):
        assert found[name]["value"] == pytest.approx(expected)
        assert found[name]["low"] < expected < found[name]["high"]


def test_what_is_tuned_counts() -> None:
    """Counted metrics are those of the tuned answers."""
    rows, given = numbers()
    found = score(Numbers(), rows, given, {"shift": 0.7}, seed=1)
    assert found["mse"]["value"] == pytest.approx(mean_squared_error(rows.targets, given[:, 0] + 0.7))


def test_a_measured_metric_has_the_interval_of_a_bootstrap() -> None:
    """What no sums suffice for is measured on resamples of the rows: Fisher's interval, up to their small number."""
    rows, given = numbers(1000)
    found = score(Numbers(), rows, given, {}, seed=1)["spearman"]
    # Fieller, Hartley & Pearson 1957: the standard error of Fisher's z of a rank correlation.
    ends = np.tanh(np.arctanh(found["value"]) + np.array([-1.96, 1.96]) * np.sqrt(1.06 / 997))
    assert (found["low"], found["high"]) == pytest.approx(ends, abs=0.02)


def test_a_measured_metric_of_many_rows_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where measuring again takes too long, the interval is null and the value stays."""
    monkeypatch.setattr(scores, "MEASURED_ROWS", 299)
    rows, given = numbers(300)
    found = score(Numbers(), rows, given, {}, seed=1)
    expected = float(spearmanr(rows.targets, given[:, 0]).statistic)
    assert found["spearman"] == {"value": pytest.approx(expected), "low": None, "high": None}
    assert found["pearson"]["low"] is not None


def test_scores_are_seeded() -> None:
    """The same answers and seed give the same JSON."""
    assert scored()[0] == scored()[0]
    rows, given = numbers()
    assert score(Numbers(), rows, given, {}, seed=2) == score(Numbers(), rows, given, {}, seed=2)


def test_no_rows_are_refused() -> None:
    """An empty side is for the caller to leave out."""
    with pytest.raises(ValueError, match=r"^metrics need at least one row\.$"):
        score(SingleLabel(), GoldRows(np.zeros(0, np.int64)), np.zeros((0, 3)), {}, seed=1)
