"""Worst rows and confused pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bertsmith.evaluation.mistakes import confused, find_mistakes, worst
from bertsmith.tasks import Rows, task_named
from tests.tasks.made import examples_of, rows_of

TASK = task_named("single-label")
GOLD = ["a", "a", "a", "a", "b", "b", "b", "c"]
# Right but for rows 2 (a taken for b, sure), 3 (a for b, less so), 6 (b for c).
PROBABILITIES = np.array(
    [
        [0.9, 0.05, 0.05],
        [0.6, 0.3, 0.1],
        [0.01, 0.98, 0.01],
        [0.3, 0.6, 0.1],
        [0.1, 0.8, 0.1],
        [0.2, 0.5, 0.3],
        [0.1, 0.4, 0.5],
        [0.3, 0.3, 0.4],
    ]
)


@pytest.fixture
def rows() -> Rows:
    return rows_of(TASK, examples_of(label=GOLD))


def answers_to(rows: Rows):
    return TASK.decode(rows, PROBABILITIES, {})


def test_worst_rows_are_the_wrong_ones_with_the_highest_loss(rows):
    """Rows that are right are left out, however unsure; the others come by their loss, the highest first."""
    found = find_mistakes(TASK, rows, PROBABILITIES, answers_to(rows), decision={}, texts=True)["worst"]
    assert [(each["row"], each["gold"], each["guess"]) for each in found] == [
        (3, "a", "b"),
        (4, "a", "b"),
        (7, "b", "c"),
    ]
    assert found[0] == {
        "file": "reviews.csv", "row": 3, "text": "text 2", "gold": "a", "guess": "b", "score": 0.98,
        "loss": pytest.approx(-np.log(0.01)),
    }  # fmt: skip


def test_worst_rows_stop_at_the_number_wanted(rows):
    """No more rows are listed than were asked for, and without `right` none is left out."""
    found = worst(rows, np.arange(8.0), answers_to(rows), role="label", texts=False, most=2)
    assert [each["row"] for each in found] == [8, 7]


def test_confused_pairs_come_with_their_surest_rows(rows):
    """A pair counts its rows, their share of the gold label's, and shows the surest first."""
    found = confused(rows, answers_to(rows), role="label", texts=True)
    assert found == [
        {
            "gold": "a", "guess": "b", "rows": 2, "share": 0.5,
            "examples": [
                {"file": "reviews.csv", "row": 3, "text": "text 2", "score": 0.98},
                {"file": "reviews.csv", "row": 4, "text": "text 3", "score": 0.6},
            ],
        },
        {
            "gold": "b", "guess": "c", "rows": 1, "share": pytest.approx(1 / 3),
            "examples": [{"file": "reviews.csv", "row": 7, "text": "text 6", "score": 0.5}],
        },
    ]  # fmt: skip


def test_confused_pairs_agree_with_scikit_learn(rows):
    """The counts of all pairs are the confusion matrix off its diagonal."""
    from sklearn.metrics import confusion_matrix

    generator = np.random.default_rng(3)
    gold = generator.choice(list("abcd"), 300).tolist()
    drawn = rows_of(TASK, examples_of(label=gold))
    probabilities = generator.dirichlet(np.ones(4), 300)
    answers = TASK.decode(drawn, probabilities, {})
    matrix = confusion_matrix(gold, [each.guess for each in answers], labels=list("abcd"))
    expected = {(g, h): int(matrix[i, j]) for i, g in enumerate("abcd") for j, h in enumerate("abcd") if i != j}
    found = confused(drawn, answers, role="label", texts=False, most=100)
    assert {(each["gold"], each["guess"]): each["rows"] for each in found} == expected
    assert [each["rows"] for each in found] == sorted(expected.values(), reverse=True)
    assert all(len(each["examples"]) == min(3, each["rows"]) for each in found)


def test_no_text_is_kept_where_none_may_be(rows):
    """With texts=False no text stands anywhere in what is found."""
    found = find_mistakes(TASK, rows, PROBABILITIES, answers_to(rows), decision={}, texts=False)
    assert "text " not in json.dumps(found)


def test_several_labels_pair_what_was_missed_with_what_was_given_instead():
    """A missed label pairs with each one given instead; (none) stands where there is no other side."""
    task = task_named("multi-label")
    rows = rows_of(task, examples_of(labels=[["a", "b"], ["a"], ["b", "c"], []]))
    answers = task.decode(rows, np.array([[0.9, 0.1, 0.8], [0.9, 0.9, 0.1], [0.1, 0.9, 0.2], [0.1, 0.1, 0.1]]), {})
    found = confused(rows, answers, role="labels", texts=False)
    assert [(each["gold"], each["guess"], each["rows"], each["share"]) for each in found] == [
        ("(none)", "b", 1, None),
        ("b", "c", 1, 0.5),
        ("c", "(none)", 1, 1.0),
    ]
    listed = find_mistakes(task, rows, np.full((4, 3), 0.5), answers, decision={}, texts=False)["worst"]
    assert {"gold", "guess", "loss"} <= set(listed[0])


def test_numbers_have_no_worst_rows_and_no_pairs():
    """A task without labels and without a log loss of each row gets empty lists."""
    task = task_named("regression")
    rows = rows_of(task, examples_of(value=[1.0, 2.0, 3.0]))
    values = np.array([[1.0], [2.5], [9.0]])
    answers = task.decode(rows, values, {})
    assert find_mistakes(task, rows, values, answers, decision={}, texts=True) == {"worst": [], "confused": []}


def test_no_rows_have_no_mistakes():
    """Without test rows both lists are empty."""
    rows = rows_of(TASK, examples_of(label=["a", "b"])).take(np.array([], np.int64))
    found = find_mistakes(TASK, rows, np.zeros((0, 2)), [], decision={}, texts=True)
    assert found == {"worst": [], "confused": []}
