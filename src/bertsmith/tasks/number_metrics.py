"""The metrics of numbers, from sums over rows, so that they can be computed for any resample.

Spearman's coefficient is Pearson's of the ranks (equal values share their mean rank). Ranks are those among all
rows scored, also in a resample: ranking each resample anew would change it by little and cost much more.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from bertsmith.tasks.classification_metrics import ratio
from bertsmith.tasks.protocol import Array

_TINY = 1e-12
"""Share of a squared sum below which a spread is rounding, and the values are all the same."""


def number_terms(truth: Array, guesses: Array) -> Array:
    """Say what each row adds to the sums, float64 `(rows, 13)`.

    Args:
        truth: The right numbers, `(rows,)`.
        guesses: The numbers that were given, `(rows,)`.
    """
    gold, given = truth - truth.mean(), guesses - guesses.mean()
    ranks, order = (rankdata(values) - (len(values) + 1) / 2 for values in (truth, guesses))
    errors = truth - guesses
    parts = [np.ones(len(truth)), np.abs(errors), errors**2]
    parts += [gold, given, gold**2, given**2, gold * given]
    return np.stack([*parts, ranks, order, ranks**2, order**2, ranks * order], axis=1)


def number_counted(sums: Array) -> dict[str, Array]:
    """Compute mse, mae, pearson, spearman and r2 from sums; coefficients are 0 where a side is constant."""
    rows, absolute, squared, gold, given, gold2, given2, both, rank, order, rank2, order2, ranked = np.moveaxis(
        sums, -1, 0
    )
    spread = _positive(gold2 - gold**2 / rows, gold2)
    return {
        "mse": squared / rows,
        "mae": absolute / rows,
        "pearson": _correlation(both - gold * given / rows, spread, _positive(given2 - given**2 / rows, given2)),
        "spearman": _correlation(
            ranked - rank * order / rows,
            _positive(rank2 - rank**2 / rows, rank2),
            _positive(order2 - order**2 / rows, order2),
        ),
        "r2": np.where(spread > 0, 1 - ratio(squared, np.where(spread > 0, spread, 1.0)), squared == 0),
    }


def _positive(spread: Array, squares: Array) -> Array:
    """Take a spread that is but rounding for 0."""
    return np.where(spread > _TINY * squares, spread, 0.0)


def _correlation(shared: Array, spread: Array, other: Array) -> Array:
    return np.clip(ratio(shared, np.sqrt(spread) * np.sqrt(other)), -1.0, 1.0)
