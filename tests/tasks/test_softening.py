"""Class weights and smoothed targets are those of scikit-learn and torch; tasks without labels have neither."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from bertsmith.errors import RecipeError
from bertsmith.tasks import task_named
from bertsmith.tasks.softening import BETA
from tests.tasks.made import examples_of, rows_of

WITH_LABELS = ("single-label", "ordered", "multi-label", "token-labels")
ONE_OF_K = ("single-label", "ordered", "token-labels")
positions = st.lists(st.integers(0, 6), min_size=1, max_size=40).map(np.array)


def loss_of(task, logits, targets, weights) -> float:
    """The loss of a batch of units, each in a window of its own."""
    tensors = (torch.from_numpy(np.asarray(each)) for each in (logits, targets, weights))
    summed = task.loss(*tensors, torch.arange(len(targets)))
    return float(summed) / task.denominator(targets, weights)


@pytest.mark.parametrize("name", ONE_OF_K)
@given(targets=positions)
@settings(deadline=None)
def test_balanced_weights_are_those_of_scikit_learn(name, targets):
    """Each unit weighs as scikit-learn's weight of its label."""
    found = task_named(name).class_weights(targets, "balanced")
    assert found == pytest.approx(compute_sample_weight("balanced", targets), rel=1e-12)


@pytest.mark.parametrize("name", WITH_LABELS)
@pytest.mark.parametrize("scheme", ["none", "balanced", "effective-number"])
@given(targets=positions)
@settings(deadline=None)
def test_weights_are_one_on_average(name, scheme, targets):
    """A weighted training has the learning rate of one without weights."""
    targets = np.eye(7, dtype=np.float32)[targets] if name == "multi-label" else targets
    found = task_named(name).class_weights(targets, scheme)
    assert found.dtype == np.float64
    assert found.shape == (len(targets),)
    assert found.mean() == pytest.approx(1, rel=1e-12)


@given(targets=positions)
@settings(deadline=None)
def test_effective_numbers_are_sums_of_a_series(targets):
    """A label's weight is one over 1 + b + b² + … with a term for each of its rows, as in the paper."""
    found = task_named("single-label").class_weights(targets, "effective-number")
    sums = {int(label): sum(BETA**term for term in range(np.sum(targets == label))) for label in set(targets)}
    expected = np.array([1 / sums[int(label)] for label in targets])
    assert found == pytest.approx(expected / expected.mean(), rel=1e-9)


def test_effective_numbers_lie_between_none_and_balanced():
    """A label of 20,000 rows and one of 20: the rare one weighs more, but not a thousand times as much."""
    targets = np.repeat([0, 1], [20_000, 20])
    ratios = {
        scheme: float(np.divide(*task_named("single-label").class_weights(targets, scheme)[[-1, 0]]))
        for scheme in ("none", "balanced", "effective-number")
    }
    assert ratios == {"none": 1.0, "balanced": pytest.approx(1000), "effective-number": pytest.approx(50.47, abs=0.01)}


@pytest.mark.parametrize("name", ONE_OF_K)
def test_the_weighted_loss_is_that_of_torch(name):
    """Balanced weights of the units give torch's cross-entropy with balanced weights of the classes."""
    targets = np.array([0] * 12 + [1] * 5 + [2])
    logits = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32)
    weights = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    theirs = cross_entropy(torch.tensor(logits), torch.tensor(targets), weight=torch.tensor(weights).float())
    task = task_named(name)
    assert loss_of(task, logits, targets, task.class_weights(targets, "balanced")) == pytest.approx(
        float(theirs), rel=1e-5
    )


@pytest.mark.parametrize("name", ONE_OF_K)
@pytest.mark.parametrize("amount", [0.0, 0.1, 0.6])
def test_the_smoothed_loss_is_that_of_torch(name, amount):
    """Smoothed targets give torch's cross-entropy with label smoothing, a label that does not occur included."""
    targets = np.array([0, 2, 1, 1, 0, 2])
    logits = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    theirs = cross_entropy(torch.tensor(logits), torch.tensor(targets), label_smoothing=amount)
    task = task_named(name)
    ours = loss_of(task, logits, task.smooth(targets, amount, outputs=4), np.ones(6, np.float32))
    assert ours == pytest.approx(float(theirs), rel=1e-5)


def test_smoothed_shares_are_what_torch_makes_of_shares():
    """Soft labels are spread by the same share."""
    shares = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    logits = np.random.default_rng(2).normal(size=(3, 3)).astype(np.float32)
    theirs = cross_entropy(torch.tensor(logits), torch.tensor(shares).float(), label_smoothing=0.3)
    task = task_named("single-label")
    assert loss_of(task, logits, task.smooth(shares, 0.3, outputs=3), np.ones(3)) == pytest.approx(
        float(theirs), rel=1e-5
    )


def test_soft_labels_weigh_as_the_rows_that_they_stand_for():
    """Two annotators' shares weigh what one row for each of their votes would on average."""
    votes = np.array([[0, 0], [0, 0], [0, 1], [0, 0], [1, 2]])
    shares = np.stack([np.bincount(row, minlength=3) / 2 for row in votes])
    expected = compute_sample_weight("balanced", votes.ravel()).reshape(5, 2).mean(axis=1)
    assert task_named("single-label").class_weights(shares, "balanced") == pytest.approx(expected, rel=1e-12)


def test_rows_with_several_labels_weigh_as_these_do_on_average():
    """One over the rows of each label, averaged over a row's labels; no label at all counts as a label."""
    sets = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    expected = np.array([1 / 3, 1 / 3, (1 / 3 + 1) / 2, 1, 1])
    found = task_named("multi-label").class_weights(sets, "balanced")
    assert found == pytest.approx(expected / expected.mean(), rel=1e-12)


def test_labels_that_may_all_hold_are_moved_towards_a_half():
    """Each of several labels is a question of yes or no; its two answers share what is spread."""
    sets = np.array([[1, 0], [0, 0]], np.float32)
    logits = np.array([[2.0, -1.0], [0.5, 0.0]], np.float32)
    both = torch.stack([torch.tensor(sets), 1 - torch.tensor(sets)], dim=-1)
    binary = torch.stack([torch.tensor(logits), torch.zeros(2, 2)], dim=-1)
    theirs = cross_entropy(binary.reshape(4, 2), both.reshape(4, 2), label_smoothing=0.2)
    task = task_named("multi-label")
    assert loss_of(task, logits, task.smooth(sets, 0.2, outputs=2), np.ones(2)) == pytest.approx(
        float(theirs), rel=1e-5
    )
    plain = binary_cross_entropy_with_logits(torch.tensor(logits), torch.tensor(sets))
    assert loss_of(task, logits, task.smooth(sets, 0.0, outputs=2), np.ones(2)) == pytest.approx(float(plain), rel=1e-5)


@pytest.mark.parametrize(("name", "targets"), [("regression", np.array([1.5, 2.0])), ("question-answering", np.eye(2))])
def test_without_labels_there_is_nothing_to_weigh_or_to_spread(name, targets):
    """Off is fine and changes nothing; on is refused, with the name of the task."""
    task = task_named(name)
    assert task.class_weights(targets, "none").tolist() == [1.0, 1.0]
    assert task.smooth(targets, 0.0, outputs=1) is targets
    with pytest.raises(RecipeError) as caught:
        task.class_weights(targets, "balanced")
    assert str(caught.value) == (
        f"'class_weights' must be none for a {name} model: it has no labels. Got 'balanced' instead.\n"
        "  Leave class_weights out."
    )
    with pytest.raises(RecipeError) as caught:
        task.smooth(targets, 0.1, outputs=1)
    assert str(caught.value) == (
        f"'label_smoothing' must be 0 for a {name} model: it has no labels. Got 0.1 instead.\n"
        "  Leave label_smoothing out."
    )


@pytest.mark.parametrize("name", WITH_LABELS)
def test_there_may_be_no_rows(name):
    """Nothing is weighed and nothing is spread."""
    targets = np.zeros((0, 3), np.float32) if name == "multi-label" else np.zeros(0, np.int64)
    task = task_named(name)
    assert task.class_weights(targets, "balanced").shape == (0,)
    assert task.smooth(targets, 0.1, outputs=3).shape == (0, 3)


def test_the_balance_of_units_goes_with_their_rows():
    """Weights of rows and of units are multiplied, and rows that are taken keep theirs."""
    task = task_named("single-label")
    rows = rows_of(task, examples_of(label=["a", "a", "b", "a"]))
    assert rows.unit_weights.tolist() == [1, 1, 1, 1]
    rows = replace(rows, weights=np.array([1.0, 2.0, 3.0, 4.0]), balance=task.class_weights(rows.targets, "balanced"))
    assert rows.unit_weights == pytest.approx([2 / 3, 4 / 3, 6, 8 / 3])
    assert rows.take(np.array([2, 0])).unit_weights == pytest.approx([6, 2 / 3])
