"""The gate: when an export is good enough, in figures that others compute the same, and in words."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, jaccard_score

from bertsmith.encoded import Encoded
from bertsmith.evaluation.intervals import Estimate
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.export.agreement import agreement, distance
from bertsmith.export.gate import Gate, Rule, Spread, main_metric, measure
from bertsmith.tasks import Rows, task_named

GOOD = Gate(
    rule=Rule(),
    rows=1000,
    units=1000,
    agreement=0.995,
    probability=Spread(0.2, 0.004),
    logit=Spread(0.5, 0.02),
    scale=9.0,
    metric="accuracy",
    torch=0.93,
    export=0.929,
    difference=Estimate(-0.001, -0.004, 0.002),
)


def rows_of(targets: np.ndarray, labels: tuple[str, ...], **columns: Any) -> Rows:
    """Rows of one token each, with these targets."""
    count = len(targets)
    table = pa.table({"input_ids": [[5]] * count, "token_type_ids": [[0]] * count, "row": np.arange(count)})
    encoded = Encoded(table, np.zeros(count, np.int32), 8, 0)
    examples = Examples(pa.table({"text": ["x"] * count, **columns}), Columns("text"), "rows")
    return Rows(examples, encoded, targets, np.ones(count), LabelSet(labels))


def changed(**values: Any) -> Gate:
    return dataclasses.replace(GOOD, **values)


def test_a_good_export_is_accepted():
    """With 99.5 % of the labels and a drop of a tenth of a point there is no reason against it."""
    assert GOOD.accepted
    assert GOOD.reason == ""
    assert GOOD.disagreeing == 5


def test_every_reason_is_told_with_what_was_found_and_what_is_asked():
    """A bad export is refused with all of its faults, each with its figure and the bound."""
    bad = changed(
        rule=Rule(logit=1e-4),
        agreement=0.98,
        export=0.92,
        difference=Estimate(-0.01, -0.02, -0.001),
        broken=3,
    )
    assert not bad.accepted
    assert bad.reason == (
        "3 of its logits are no numbers; a logit is off by 0.5, and 0.0009 is the most it may be; 98.00% of 1,000 "
        "answers are those of torch, and 99.0% have to be; its accuracy is 0.9200 where torch has 0.9300: 0.0100 "
        "less, and 0.003 is the most it may be (--allow-drop)"
    )


def lost_one(rows: int, mean: float, allow_drop: float = 0.003) -> Gate:
    """An export that has one label wrong which torch has right."""
    return changed(
        rule=Rule(allow_drop),
        rows=rows,
        units=rows,
        agreement=1 - 1 / rows,
        probability=Spread(1.0, mean),
        difference=Estimate(-1 / rows, -1.0, 0.0),
    )


@given(st.integers(1, 2000))
def test_a_single_row_refuses_nothing_where_probabilities_are_close(rows):
    """However few the rows, one that is lost is borne if probabilities are off by less than a point on average."""
    assert lost_one(rows, 0.005).accepted


@given(st.integers(1, 99))
def test_with_few_rows_one_lost_row_counts_where_probabilities_are_off(rows):
    """The same row refuses an export whose probabilities have moved."""
    assert not lost_one(rows, 0.05).accepted


@given(st.integers(1, 2000))
def test_no_drop_means_no_drop(rows):
    """Who allows no drop loses no row, however few there are."""
    assert not lost_one(rows, 0.0, allow_drop=0.0).accepted


@given(st.integers(1, 300))
def test_two_rows_are_one_too_many(rows):
    """Where one row is more than may drop, two of them are refused however close the probabilities are."""
    two = dataclasses.replace(lost_one(rows, 0.0), difference=Estimate(-2 / rows, -1.0, 0.0))
    assert not two.accepted


def test_fp32_has_to_give_the_same_numbers():
    """The rule of fp32 bounds every logit, in proportion to the largest; INT8's does not."""
    assert Rule.for_kind("int8", allow_drop=0.01) == Rule(0.01, 0.99, None)
    exact = changed(rule=Rule.for_kind("fp32"), agreement=1.0, logit=Spread(0.0008, 0.0), difference=Estimate(0, 0, 0))
    assert exact.accepted
    assert dataclasses.replace(exact, logit=Spread(0.001, 0.0)).reason == (
        "a logit is off by 0.001, and 0.0009 is the most it may be"
    )


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_figures_of_labels_are_those_of_scikit_learn(seed):
    """Agreement, accuracies and differences are what plain numpy and scikit-learn say."""
    draw = np.random.default_rng(seed)
    gold, labels = draw.integers(0, 3, 40), ("a", "b", "c")
    torch = draw.normal(size=(40, 3)).astype(np.float32)
    export = (torch + draw.normal(size=(40, 3)) * 0.5).astype(np.float32)
    task = task_named("single-label")
    found = measure(task, rows_of(gold, labels), torch, export, decision={}, rule=Rule(), seed=1)
    ours, theirs = torch.argmax(1), export.argmax(1)
    assert found.agreement == pytest.approx((ours == theirs).mean())
    assert (found.torch, found.export) == pytest.approx((accuracy_score(gold, ours), accuracy_score(gold, theirs)))
    assert found.difference.value == pytest.approx(found.export - found.torch)
    moved = np.abs(task.probabilities(export) - task.probabilities(torch)).max(axis=1)
    assert (found.probability.largest, found.probability.mean) == pytest.approx((moved.max(), moved.mean()))
    assert found.logit.largest == pytest.approx(np.abs(export - torch).max())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_sets_of_labels_agree_as_far_as_they_overlap(seed):
    """Of several labels the agreement of a row is Jaccard's index, by scikit-learn, at the given thresholds."""
    draw = np.random.default_rng(seed)
    labels = ("a", "b", "c", "d")
    ours, theirs = draw.random((30, 4)), draw.random((30, 4))
    rows, decision = rows_of((ours > 0.5).astype(float), labels), {"thresholds": dict.fromkeys(labels, 0.6)}
    found = agreement(task_named("multi-label"), rows, ours, theirs, decision=decision)
    wanted = [jaccard_score(a, b, zero_division=1.0) for a, b in zip(ours >= 0.6, theirs >= 0.6, strict=True)]
    assert found == pytest.approx(np.array(wanted))


def test_numbers_agree_within_a_share_of_their_spread():
    """A number is the same within a twentieth of a standard deviation of the gold numbers."""
    gold = np.array([0.0, 20.0])
    rows, task = rows_of(gold, ("value",)), task_named("regression")
    ours, theirs = np.array([[1.0], [10.0]]), np.array([[1.4], [10.6]])
    assert agreement(task, rows, ours, theirs, decision={}).tolist() == [1.0, 0.0]
    assert distance(task, rows, ours, theirs, decision={}) == pytest.approx([0.04, 0.06])


def test_logits_that_are_no_numbers_refuse_an_export():
    """An export that gives NaN or infinity is refused with their number, and its figures can be written as JSON."""
    torch = np.array([[2.0, 0.0], [0.0, 2.0]], np.float32)
    export = torch.copy()
    export[0, 0], export[1, 1] = np.nan, np.inf
    rows = rows_of(np.array([0, 1]), ("a", "b"))
    found = measure(task_named("single-label"), rows, torch, export, decision={}, rule=Rule(), seed=0)
    assert found.reason.startswith("2 of its logits are no numbers; ")
    assert np.isfinite([found.logit.largest, found.probability.mean, found.export]).all()


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("single-label", "accuracy"),
        ("ordered", "accuracy"),
        ("multi-label", "micro_f1"),
        ("regression", "pearson"),
        ("token-labels", "span_f1"),
        ("question-answering", "f1"),
    ],
)
def test_the_main_metric_is_one_that_can_drop(task, metric):
    """Every task has a metric that is better when higher, the first of those by which models are compared."""
    assert main_metric(task_named(task)) == metric
