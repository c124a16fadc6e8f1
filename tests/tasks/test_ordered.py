"""Labels with an order: which order, how far off, and the kappa that counts it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from bertsmith.errors import DataError
from bertsmith.tasks import task_named
from bertsmith.tasks.ordered import label_values
from tests.tasks.made import examples_of, rows_of

TASK = task_named("ordered")


def test_numbers_are_put_in_their_order():
    """10 comes after 9, negatives and decimals where they belong."""
    labels = TASK.labels(examples_of(label=["10", "9", "-1", "2.5", "-10", "2.5"]))
    assert labels.names == ("-10", "-1", "2.5", "9", "10")
    assert label_values(labels).tolist() == [-10, -1, 2.5, 9, 10]


def test_levels_say_the_order_of_words():
    """The labels are the levels, those without a row included, one step apart."""
    task = task_named("ordered", levels=("low", "medium", "high"))
    labels = task.labels(examples_of(label=["high", "low"]))
    assert labels.names == ("low", "medium", "high")
    assert label_values(labels).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("levels", "names", "message"),
    [
        (
            (),
            ["1", "good"],
            "reviews.csv: the label 'good' is no number, so the order of the labels is not known.\n"
            "  Say it, from least to most: --levels low,medium,high.",
        ),
        (
            (),
            ["1", "nan"],
            "reviews.csv: the label 'nan' is no number, so the order of the labels is not known.\n"
            "  Say it, from least to most: --levels low,medium,high.",
        ),
        (
            ("low", "high"),
            ["low", "mid"],
            "reviews.csv: the label 'mid' is none of the levels low, high.\n"
            "  Name every label once, from least to most: --levels low,medium,high.",
        ),
    ],
)
def test_an_order_that_is_not_known_is_asked_for(levels, names, message):
    """Words need levels, and every label must be one of them."""
    with pytest.raises(DataError) as caught:
        task_named("ordered", levels=levels).labels(examples_of(label=names))
    assert str(caught.value) == message


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.sampled_from([("1", "2", "4", "8"), ("a", "b", "c", "d")]))
@settings(deadline=None, max_examples=60)
def test_kappa_and_mae_are_those_of_scikit_learn(seed, count, levels):
    """Quadratic kappa counts places, the mean absolute error the numbers; the rest is as for single labels."""
    generator = np.random.default_rng(seed)
    task = task_named("ordered", levels=levels)
    probabilities = generator.dirichlet(np.ones(4), count)
    examples = examples_of(label=generator.choice(levels[: generator.integers(1, 5)], count))
    rows = rows_of(task, examples)
    guesses, values = probabilities.argmax(axis=1), label_values(rows.labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kappa = reference.cohen_kappa_score(rows.targets, guesses, weights="quadratic", labels=range(4))
    found = task.measure(rows, probabilities)
    assert found["quadratic_kappa"] == pytest.approx(0.0 if np.isnan(kappa) else kappa, abs=1e-9)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(values[rows.targets], values[guesses]))
    plain = task_named("single-label").measure(rows, probabilities)
    assert {name: found[name] for name in plain} == pytest.approx(dict(plain))
    assert tuple(found) == task.metrics
    statistics = task.statistics(rows, probabilities, {})
    drawn = generator.integers(0, count, count)
    counted = task.counted(statistics.values[statistics.cells[drawn]].sum(axis=0))
    again = task.measure(rows.take(drawn), probabilities[drawn])
    assert {name: float(value) for name, value in counted.items()} == pytest.approx(
        {name: again[name] for name in counted}, abs=1e-9
    )


def test_detail_tells_what_the_labels_are_worth():
    """The values in which the mean absolute error is told stand beside the confusion matrix."""
    rows = rows_of(TASK, examples_of(label=["1", "5", "3"]))
    assert TASK.detail(rows, np.eye(3), {})["values"] == [1, 3, 5]
