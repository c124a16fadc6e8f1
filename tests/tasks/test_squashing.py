"""Softmax and sigmoid against scipy's, and the same bits for a row alone and among others."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.special import expit
from scipy.special import softmax as scipy_softmax

from bertsmith.tasks.squashing import sigmoid, softmax

logits = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(-1e4, 1e4))


@given(logits)
def test_they_are_scipys(values):
    """Softmax to the last bit, the sigmoid within 1e-13, however large the logits."""
    assert np.array_equal(softmax(values), scipy_softmax(values, axis=-1))
    np.testing.assert_allclose(sigmoid(values), expit(values), rtol=1e-13, atol=1e-300)


@given(logits)
def test_a_row_does_not_look_at_others(values):
    """Each row by itself gives the same bits."""
    assert np.array_equal(softmax(values), np.concatenate([softmax(row[None]) for row in values]))
    assert np.array_equal(sigmoid(values), np.concatenate([sigmoid(row[None]) for row in values]))
