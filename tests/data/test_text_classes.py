"""The classes that findings speak of, for every kind of answer."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.data.text_classes import classes_of
from bertsmith.tasks import task_named
from tests.tasks.made import examples_of


@given(st.lists(st.one_of(st.none(), st.sampled_from(["b", "a", "10", "9", " ", "ä"])), min_size=1))
def test_each_rows_class_is_its_label(labels):
    """Names in their order, and each row's number leads back to its label."""
    task = task_named("single-label")
    examples = examples_of(label=pa.array(labels, pa.string()))
    classes = classes_of(examples, task)
    assert classes.names == task.labels(examples).names
    assert [None if number < 0 else classes.names[number] for number in classes.ids] == labels


def test_a_set_of_labels_is_one_class():
    """Sets are named by all their labels, in any order; an empty one is a class too, a missing one is none."""
    lists = pa.array([["b", "a"], ["a", "b"], ["a"], [], None], pa.list_(pa.string()))
    classes = classes_of(examples_of(labels=lists), task_named("multi-label"))
    assert [classes.names[number] if number >= 0 else None for number in classes.ids] == [
        "a + b", "a + b", "a", "(none)", None
    ]  # fmt: skip
    assert classes.sizes.sum() == classes.labelled == 4


def test_numbers_and_unlabelled_rows_have_no_classes():
    """Findings by class would be nonsense for them."""
    for task, columns in (
        (task_named("regression"), {"value": [1.0, 2.0]}),
        (task_named("single-label"), {"x": [1, 2]}),
    ):
        classes = classes_of(examples_of(**columns), task)
        assert classes.names == ()
        np.testing.assert_array_equal(classes.ids, [-1, -1])
