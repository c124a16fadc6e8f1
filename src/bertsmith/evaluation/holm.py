"""Holm's correction of p-values for how many tests there are."""

from __future__ import annotations

import numpy as np

from bertsmith.tasks.protocol import Array


def holm(values: Array) -> Array:
    """Correct p-values, so that by chance alone any of them is at most 0.05 in at most 5 % of all cases (Holm 1979).

    Args:
        values: p-values, float `(tests,)`; there may be none.

    Returns:
        The corrected ones, float64 `(tests,)`.

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return adjusted
