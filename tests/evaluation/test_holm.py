"""Holm's correction: his procedure step by step, and the closed test that it comes from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.evaluation.holm import holm


@given(st.lists(st.floats(0, 1), max_size=30))
def test_holm_rejects_what_its_definition_rejects(values: list[float]) -> None:
    """Stepping down from the smallest p-value, each is held against alpha over the tests that are left."""
    adjusted = holm(np.array(values))
    rejected, left = set(), len(values)
    for place in np.argsort(values, kind="stable"):
        if values[place] * left > 0.05:
            break
        rejected.add(int(place))
        left -= 1
    assert set(np.flatnonzero(adjusted <= 0.05)) == rejected
    assert all(before <= after <= 1 for before, after in zip(values, adjusted, strict=True))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float]) -> None:
    """A corrected p-value is the largest Bonferroni p-value of all groups of tests that hold the test."""
    places = range(len(p_values))
    groups = [each for size in places for each in itertools.combinations(places, size + 1)]
    for place, corrected in enumerate(holm(np.array(p_values))):
        every = [len(each) * min(p_values[other] for other in each) for each in groups if place in each]
        assert corrected == pytest.approx(min(1.0, max(every)))
