"""Rows from elsewhere are set apart."""

from __future__ import annotations

import numpy as np
import pytest

from bertsmith.data.foreign import set_apart, share_out
from bertsmith.data.read import read
from bertsmith.errors import DataError
from bertsmith.recipe import Read

ROWS = [("pay my bill", "bank"), ("what is love", "oos"), ("block my card", "card"), ("sing a song", "oos")]


def test_rows_of_the_label_are_set_apart_and_nothing_is_lost():
    """Every row is on one of the two sides, in its order."""
    examples = read(ROWS, Read())
    ours, foreign = set_apart(examples, "oos")
    assert ours.column("text").to_pylist() == ["pay my bill", "block my card"]
    assert foreign is not None
    assert foreign.column("text").to_pylist() == ["what is love", "sing a song"]


def test_without_a_label_nothing_is_set_apart():
    """The rows stay as they are where no label is named."""
    examples = read(ROWS, Read())
    assert set_apart(examples, "") == (examples, None)


def test_a_label_that_no_row_has_is_refused():
    """A misspelt label is one clear error, not an empty side."""
    with pytest.raises(DataError) as caught:
        set_apart(read(ROWS, Read()), "ood")
    assert str(caught.value) == (
        "data: no row has the label 'ood' that 'out_of_scope_label' names.\n  The labels are 'bank', 'oos', 'card'."
    )


def test_rows_without_single_labels_have_nothing_to_set_apart():
    """Several labels a row cannot say that a row is from elsewhere."""
    examples = read({"text": ["a b", "c d"], "labels": [["x"], ["x", "y"]]}, Read())
    with pytest.raises(DataError) as caught:
        set_apart(examples, "oos")
    assert str(caught.value) == (
        "data: 'out_of_scope_label' is for rows with one label each, and these have none.\n"
        "  Leave it out; text from elsewhere is then told by your own rows alone."
    )


def test_votes_of_annotators_cannot_set_a_row_apart():
    """A label that only some annotators gave would stay a label of the model: that is refused, not half done."""
    votes = {"text": ["a b", "c d", "e f"], "ann": ["oos", "x", "y"], "bo": ["oos", "x", "oos"], "cy": ["x", "x", "y"]}
    with pytest.raises(DataError) as caught:
        set_apart(read(votes, Read(annotators="ann,bo,cy")), "oos")
    assert str(caught.value) == (
        "data: 'out_of_scope_label' is for rows with one label each, and these have votes or shares of several.\n"
        "  Leave it out; text from elsewhere is then told by your own rows alone."
    )


def test_rows_from_elsewhere_are_shared_out_as_the_others_are():
    """Every row has one part, in proportion to the user's own; the same seed draws the same."""
    _, foreign = set_apart(read([*ROWS, *((f"text {place}", "oos") for place in range(98))], Read()), "oos")
    assert foreign is not None
    own = {"train": 70, "validation": 10, "calibration": 10, "test": 10}
    found = share_out(foreign, own, seed=3)
    parts = [found.sets, found.calibration, found.test]
    assert sorted(np.concatenate(parts)) == list(range(100))
    assert [len(each) for each in parts] == [80, 10, 10]
    again = share_out(foreign, own, seed=3)
    assert [each.tolist() for each in (again.sets, again.calibration, again.test)] == [each.tolist() for each in parts]


def test_rows_of_a_given_test_file_only_measure(tmp_path):
    """What the user gave as test rows never sets a threshold, and is all that measures."""
    test = tmp_path / "test.csv"
    test.write_text("text,label\nhow are you,oos\nclose my account,bank\n")
    _, foreign = set_apart(read(ROWS, Read(test=str(test))), "oos")
    assert foreign is not None
    found = share_out(foreign, {"train": 80, "validation": 10, "calibration": 10, "test": 0}, seed=3)
    assert [foreign.column("text").to_pylist()[place] for place in found.test] == ["how are you"]
    assert len(found.sets) + len(found.calibration) == 2
