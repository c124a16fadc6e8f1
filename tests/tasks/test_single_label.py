"""One label a text, plain and soft: loss, metrics, statistics, linear models, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import entropy
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression
from transformers.loss.loss_utils import ForSequenceClassificationLoss

from bertsmith.errors import DataError
from bertsmith.examples import LabelSet, Prediction
from bertsmith.tasks import task_named
from tests.tasks.made import examples_of, rows_of, soft_of

TASK = task_named("single-label")
NAMES = ["bad", "fair", "good"]


def windows(rows: int) -> torch.Tensor:
    return torch.arange(rows)


def in_parts(task, logits, targets, weights, cuts):
    """Sum the losses of micro-batches and divide by the denominator of the whole batch."""
    parts = np.split(np.arange(len(logits)), cuts)
    total = sum(
        task.loss(logits[part], torch.tensor(targets[part]), torch.tensor(weights[part]), windows(len(part)))
        for part in parts
        if len(part)
    )
    return float(total) / task.denominator(targets, weights)


@pytest.mark.parametrize("soft", [False, True])
def test_unequal_micro_batches_give_the_whole_batchs_cross_entropy(soft):
    """Summed losses over the denominator are torch's mean loss of the whole batch, for labels and for shares."""
    generator = np.random.default_rng(0)
    logits = torch.tensor(generator.normal(size=(17, 3)))
    targets = generator.dirichlet(np.ones(3), 17) if soft else generator.integers(0, 3, 17)
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(targets))
    assert in_parts(TASK, logits, targets, np.ones(17), [1, 4, 13]) == pytest.approx(float(expected), abs=1e-6)


def test_the_loss_is_that_of_transformers():
    """Equal weights give the loss that transformers computes for a single-label model."""
    generator = np.random.default_rng(1)
    logits, targets = torch.tensor(generator.normal(size=(9, 3))).float(), generator.integers(0, 3, 9)
    config = type("Config", (), {"problem_type": TASK.problem_type, "num_labels": 3})()
    expected = ForSequenceClassificationLoss(torch.tensor(targets), logits, config)
    assert in_parts(TASK, logits, targets, np.ones(9), [2, 7]) == pytest.approx(float(expected), abs=1e-6)


def test_a_row_of_weight_0_changes_nothing():
    """Rows count by their weight, and so does the denominator."""
    logits, targets = torch.tensor(np.random.default_rng(2).normal(size=(4, 3))), np.array([0, 1, 2, 0])
    weighted = in_parts(TASK, logits, targets, np.array([1.0, 2.0, 1.0, 0.0]), [2])
    twice = in_parts(TASK, logits[[0, 1, 1, 2]], targets[[0, 1, 1, 2]], np.ones(4), [1])
    assert weighted == pytest.approx(twice, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_statistics_hold_all_that_the_metrics_need(seed, count):
    """What is counted from the cells is what is measured from the rows, and a resample's is that of its rows."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(4), count)
    rows = rows_of(TASK, examples_of(label=generator.choice(list("abcd"), count)), LabelSet(tuple("abcd")))
    found = TASK.statistics(rows, probabilities, {})
    counted = {name: float(value) for name, value in TASK.counted(found.sums).items()}
    measured = TASK.measure(rows, probabilities)
    assert counted | {"log_loss": found.means["log_loss"].mean()} == pytest.approx(measured, abs=1e-12)
    drawn = generator.integers(0, count, count)
    again = TASK.counted(found.values[found.cells[drawn]].sum(axis=0))
    resampled = TASK.measure(rows.take(drawn), probabilities[drawn])
    assert {name: float(value) for name, value in again.items()} == pytest.approx(
        {name: resampled[name] for name in again}, abs=1e-12
    )
    assert found.right.sum() == round(measured["accuracy"] * count)
    assert len(found.values) <= min(count, 16)
    assert set(TASK.compared) | {"log_loss"} <= set(TASK.metrics) == set(measured)


def test_detail_names_each_label_and_who_is_taken_for_whom():
    """Per-class figures and the confusion matrix are scikit-learn's."""
    generator = np.random.default_rng(3)
    probabilities = generator.dirichlet(np.ones(3), 40)
    rows = rows_of(TASK, examples_of(label=generator.choice(NAMES, 40)))
    detail, guesses = TASK.detail(rows, probabilities, {}), probabilities.argmax(axis=1)
    assert detail["confusion"] == reference.confusion_matrix(rows.targets, guesses).tolist()
    expected = np.transpose(reference.precision_recall_fscore_support(rows.targets, guesses, zero_division=0))
    keys = ("precision", "recall", "f1", "support")
    np.testing.assert_allclose([[each[key] for key in keys] for each in detail["per_class"]], expected)
    assert [each["label"] for each in detail["per_class"]] == NAMES
    assert set(detail) == {"per_class", "confusion"}


def test_soft_labels_are_measured_by_their_largest_share_and_their_cross_entropy():
    """Accuracy is that of the largest share, the log loss that against all shares; detail says how soft they are."""
    generator = np.random.default_rng(4)
    shares, probabilities = generator.dirichlet(np.ones(3), 30), generator.dirichlet(np.ones(3), 30)
    rows = rows_of(TASK, soft_of(shares, NAMES))
    np.testing.assert_allclose(rows.targets, shares)
    found = TASK.measure(rows, probabilities)
    assert found["accuracy"] == (shares.argmax(1) == probabilities.argmax(1)).mean()
    assert found["log_loss"] == pytest.approx(-(shares * np.log(probabilities)).sum(axis=1).mean())
    soft = TASK.detail(rows, probabilities, {})["soft"]
    assert soft == {"rows": 30, "mean_entropy": pytest.approx(entropy(shares, axis=1).mean())}


def test_votes_are_reported():
    """With annotators' votes, detail tells how far they agree."""
    votes = pa.array([["bad", "bad", None], ["good", "bad", "good"], ["good", "good", "good"]])
    rows = rows_of(TASK, soft_of(np.array([[1, 0, 0], [1 / 3, 0, 2 / 3], [0, 0, 1]]), NAMES, votes=votes))
    agreement = TASK.detail(rows, np.eye(3)[[0, 2, 2]], {})["soft"]["agreement"]
    assert (agreement["rows"], agreement["votes"]) == (3, pytest.approx(8 / 3))
    assert agreement["pairwise"] == pytest.approx((1 + 1 / 3 + 1) / 3)


def test_a_label_that_has_but_shares_is_a_label():
    """A class that is nowhere the largest has its place among the labels."""
    examples = soft_of(np.array([[0.6, 0.0, 0.4], [0.4, 0.6, 0.0]]), NAMES)
    assert TASK.labels(examples).names == ("bad", "fair", "good")


def test_soft_labels_teach_the_linear_model_as_weighted_rows():
    """A row with shares is learned from as one row a label, weighted by the share: scikit-learn is the oracle."""
    generator = np.random.default_rng(5)
    inputs, shares = generator.normal(size=(50, 4)), generator.dirichlet(np.ones(3), 50)
    shares[:10] = np.eye(3)[generator.integers(0, 3, 10)]
    weights = generator.uniform(0.5, 2, 50)
    model = TASK.fit_linear(inputs, shares, weights, strength=1.0, seed=0)
    places = np.tile(np.arange(3), 50)
    expected = LogisticRegression(C=1.0, max_iter=1000).fit(
        np.repeat(inputs, 3, axis=0), places, sample_weight=(shares * weights[:, None]).ravel() + 1e-300
    )
    np.testing.assert_allclose(
        TASK.linear_probabilities(model, inputs, outputs=3), expected.predict_proba(inputs), atol=1e-3
    )
    constant = TASK.fit_constant(shares, weights)
    prior = (shares * weights[:, None]).sum(axis=0) / weights.sum()
    np.testing.assert_allclose(TASK.linear_probabilities(constant, inputs[:2], outputs=3), [prior, prior])


@pytest.mark.parametrize("seen", [[0, 1], [0, 2], [0, 1, 3]])
def test_linear_weights_answer_as_the_model_does(seen):
    """Softmax over the layer is the model's probability, and a class without rows is never the answer."""
    generator = np.random.default_rng(6)
    inputs, targets = generator.normal(size=(80, 5)), np.array(seen)[generator.integers(0, len(seen), 80)]
    model = TASK.fit_linear(inputs, targets, np.ones(80), strength=0.5, seed=0)
    weight, bias = TASK.linear_weights(model, outputs=4)
    logits = inputs @ weight.T + bias
    np.testing.assert_allclose(softmax(logits[:, seen], axis=1), model.predict_proba(inputs), atol=1e-9)
    unseen = np.setdiff1d(np.arange(4), seen)
    assert (weight[unseen] == 0).all()
    assert (bias[unseen] <= bias[seen].min()).all()


def test_answers_and_their_columns():
    """The most probable label is the answer; its keys are the columns of a file."""
    rows = rows_of(TASK, examples_of(label=["good", "bad"]))
    (first, _) = TASK.decode(rows, np.array([[0.25, 0.75], [0.9, 0.1]]), TASK.decide(rows, np.zeros((2, 2))))
    assert first == Prediction("good", "good", 0.75, scores={"bad": 0.25, "good": 0.75})
    assert (first.line, tuple(first.as_json())) == ("good  0.750", tuple(TASK.answer_schema().names))
    assert first.as_json(scores=True)["scores"] == {"bad": 0.25, "good": 0.75}


def test_what_is_told_and_counted():
    """Labels are told with their rows, the most frequent first."""
    examples = examples_of(label=["a", "b", "b", None])
    labels = TASK.labels(examples)
    assert TASK.told(examples, labels) == "2 labels: b 2 · a 1"
    assert TASK.counts(examples, labels) == {"a": 1, "b": 2}
    assert TASK.classes(examples).tolist() == [0, 1, 1, -1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"value": [1.0]}, "reviews.csv: no label column was found.\n  Name it with --label COLUMN."),
        (
            {"label": ["a", None]},
            "reviews.csv: 1 row has no label: reviews.csv:2. Every row needs one to be scored.\n"
            "  Fill them in, or take the rows out.",
        ),
        (
            {"label": ["a", "x", "y"]},
            "reviews.csv: 2 rows have a label that the model does not know, such as 'x': reviews.csv:2, reviews.csv:3. "
            "It knows a, b.\n  Rows to be scored need the labels that the model was trained with.",
        ),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(columns, message):
    """Missing and unknown labels are named with their rows."""
    with pytest.raises(DataError) as caught:
        TASK.require(examples_of(**columns), LabelSet(("a", "b")))
    assert str(caught.value) == message
