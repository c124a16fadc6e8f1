"""Bins, counts, and the file that keeps them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.drift.bins import NameBins, NumberBins
from bertsmith.drift.observed import Observed
from bertsmith.drift.reference import Reference
from bertsmith.errors import BundleError

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(NUMBERS, NUMBERS, st.sampled_from([0, 1, 0.01, 0.001]))
def test_every_number_has_one_bin(chosen, counted, step):
    """Whatever the numbers are, bins ascend, and each number falls into one of them, between its bounds."""
    bins = NumberBins.of(np.array(chosen), step=step)
    assert all(low < high for low, high in zip(bins.edges, bins.edges[1:], strict=False))
    assert len(bins) <= 22
    assert bins.count(counted).sum() == len(counted)
    for value in counted:
        place = int(bins.count([value]).argmax())
        low, high = bins.bounds(place, place)
        assert low is None or value >= low - 0.51 * bins.step - 1e-6
        assert high is None or value <= high + 0.51 * bins.step + 1e-6


def test_bins_are_tenths_of_the_reference():
    """A thousand different numbers lie in ten bins of a hundred."""
    values = np.random.default_rng(0).permutation(1_000)
    counts = NumberBins.of(values, step=1).count(values)
    assert len(counts) == 10
    assert counts.min() >= 99
    assert counts.max() <= 101


def test_noise_in_the_last_digit_moves_no_row():
    """A score that many rows share stays in its bin when another batch changes it by a millionth."""
    values = np.array([0.9] * 50 + [0.5] * 50 + [1.0] * 50)
    bins = NumberBins.of(values, step=0.001)
    for noise in (-1e-6, 1e-6):
        assert bins.count(values + noise).tolist() == bins.count(values).tolist()


def test_what_the_reference_never_had_has_a_place():
    """Where all rows had no unknown token, those that have one are counted apart; and so are names that are new."""
    bins = NumberBins.of(np.zeros(40), step=1)
    assert bins.count([0, 0, 1, 7]).tolist() == [0, 2, 2]
    assert bins.bounds(2, 2) == (1, None)
    assert NameBins(("a", "b")).count(["b", "c", "b"]).tolist() == [0, 2, 1]


def test_what_is_no_number_is_not_counted():
    """NaN, and infinity where the reference was finite, do not count."""
    assert NumberBins.of(np.array([1.0, 2.0]), step=1).count([1, np.nan, np.inf]).sum() == 1


@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from("abc")), min_size=1, max_size=30), st.integers(0, 30))
def test_counts_add_up_however_they_are_cut(rows, cut):
    """All rows at once, or in two batches: the same counts."""
    bins = {"length": NumberBins((3.5, 9.5), 1.0), "label": NameBins(("a", "b"))}
    parts = [
        {"length": [number for number, _ in part], "label": [name for _, name in part]}
        for part in (rows, rows[:cut], rows[cut:])
    ]
    whole, one = Observed(bins), Observed(bins)
    whole.add(parts[0])
    one.add(parts[1])
    one.add(parts[2])
    assert one.as_json() == whole.as_json()


def test_what_is_saved_is_what_is_loaded(tmp_path):
    """Bins and counts come back from reference.json, and nothing in it is NaN."""
    reference = Reference.of_facts(
        {"length": [3, 9, 9, 20], "confidence": [0.4, np.nan, 0.9, 0.95], "label": ["x", "y", "y", "x"]},
        labels=("x", "y", "never"),
    )
    reference.save(tmp_path)
    again = Reference.load(tmp_path)
    assert again.as_json() == reference.as_json() == json.loads((tmp_path / "reference.json").read_text())
    assert again.observed.rows == 4
    assert again.observed.counts["label"].tolist() == [2, 2, 0, 0]
    assert again.observed.counts["confidence"].sum() == 3
    assert again.observed.bins == reference.observed.bins


def test_a_feature_without_values_is_left_out():
    """A reference without a single number of a feature has no bins for it."""
    assert list(Reference.of_facts({"length": [3], "confidence": [np.nan]}).observed.bins) == ["length"]


def test_a_reference_that_is_not_there_says_why(tmp_path):
    """An older model has none; the message says what to do."""
    with pytest.raises(BundleError) as error:
        Reference.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/reference.json: missing, so there is nothing that new rows could be compared with.\n"
        "  The model was made before bertsmith kept it; train again."
    )


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("{", "not readable: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)."),
        ('{"format": 1}', "not readable: 'features'."),
        ("[]", "not readable: list indices must be integers or slices, not str."),
        (
            '{"format": 1, "rows": 3, "features": {"label": {"names": ["a"], "counts": [3]}}}',
            "not readable: the counts of 'label' do not fit its bins.",
        ),
        (
            '{"format": 1, "rows": 3, "features": {"length": {"edges": [2, 1], "step": 1, "counts": [3, 0, 0]}}}',
            "not readable: edges must ascend.",
        ),
    ],
)
def test_a_broken_reference_says_so(tmp_path, stored, said):
    """A file that was cut or changed by hand is refused with what is wrong."""
    (tmp_path / "reference.json").write_text(stored)
    with pytest.raises(BundleError) as error:
        Reference.load(tmp_path)
    assert str(error.value) == f"{tmp_path}/reference.json: {said}\n  Copy the whole model folder again."


def test_a_newer_reference_asks_for_a_newer_bertsmith(tmp_path):
    """A format that this version does not know is not guessed at."""
    (tmp_path / "reference.json").write_text('{"format": 2}')
    with pytest.raises(BundleError) as error:
        Reference.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/reference.json: has format 2; this bertsmith reads up to 1.\n"
        "  Upgrade: pip install --upgrade bertsmith"
    )
