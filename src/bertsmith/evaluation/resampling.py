"""Resampling: what the sums of other test rows could have been, without ever touching the rows again.

Rows with the same outcome are interchangeable. A resample of the rows of one stratum is therefore a multinomial
draw of its outcomes, and the sums over the resample are the draw times what each outcome adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from bertsmith.tasks.protocol import Array

Counted: TypeAlias = Callable[[Array], dict[str, Array]]
"""Metrics from sums over any leading axes, as `Task.counted`."""

RESAMPLES = 2000
FEWEST = 200
_DRAWN = 100_000_000
"""Outcomes drawn in all: from 50 000 different ones on there are fewer resamples, and never fewer than 200."""
_HELD = 4_000_000
"""Numbers held at once (32 MB)."""
_DENSE = 0.1


@dataclass(frozen=True)
class _Stratum:
    """The outcomes of one stratum: the rows of each, `(outcomes,)`, and what each adds, `(outcomes, sums)`."""

    counts: Array
    values: Any

    def draw(self, draws: int, generator: np.random.Generator) -> Array:
        """Draw as many rows again, int64 `(draws, outcomes)`: the rows of each outcome."""
        rows, outcomes = int(self.counts.sum()), len(self.counts)
        if rows > 2 * outcomes:
            return generator.multinomial(rows, self.counts / rows, size=draws)
        # The same by picking rows: many times sooner where most rows are outcomes of their own.
        picks = np.repeat(np.arange(outcomes), self.counts)[generator.integers(rows, size=(draws, rows))]
        picks += outcomes * np.arange(draws)[:, None]
        return np.bincount(picks.ravel(), minlength=draws * outcomes).reshape(draws, outcomes)


def resamples(outcomes: int) -> int:
    """Say how many resamples are drawn of so many different outcomes."""
    return max(FEWEST, min(RESAMPLES, _DRAWN // max(outcomes, 1)))


def drawn_sums(cells: Array, values: Array, strata: Array, generator: np.random.Generator) -> Iterator[Array]:
    """Draw stratified resamples of the rows and give their sums, some resamples at a time.

    Args:
        cells: The outcome of each row, int64 `(rows,)`: positions in `values`.
        values: What each outcome adds, `(cells, sums)`.
        strata: The stratum of each row, any integers, `(rows,)`; each keeps its number of rows.
        generator: Where the draws come from.

    Yields:
        float64 `(resamples, sums)`.
    """
    groups = _strata(cells, values, strata)
    outcomes = sum(len(each.counts) for each in groups)
    total = resamples(outcomes)
    piece = max(1, min(total, _HELD // max(outcomes, values.shape[1])))
    for begin in range(0, total, piece):
        draws = min(piece, total - begin)
        sums = np.zeros((draws, values.shape[1]))
        for each in groups:
            sums += each.draw(draws, generator) @ each.values
        yield sums


def drawn_means(values: Array, strata: Array, generator: np.random.Generator) -> Array:
    """Draw stratified resamples of the rows and give their means, `(RESAMPLES,)`.

    A stratum of more than 2 000 rows has its sum drawn from the normal distribution, which is its limit.

    Args:
        values: float `(rows,)`.
        strata: The stratum of each row, any integers, `(rows,)`.
        generator: Where the draws come from.
    """
    values = np.asarray(values, np.float64)[np.argsort(strata, kind="stable")]
    ends = np.cumsum(np.unique(strata, return_counts=True)[1])
    sums = np.zeros(RESAMPLES)
    for part in np.split(values, ends[:-1]):
        sums += _sums(part, generator)
    return np.asarray(sums / len(values))


def drawn_rows(strata: Array, generator: np.random.Generator) -> Array:
    """Draw one stratified resample, for what no sums suffice for: int64 `(rows,)`, ascending strata."""
    order = np.argsort(strata, kind="stable")
    sizes = np.unique(strata, return_counts=True)[1]
    size = np.repeat(sizes, sizes)
    start = np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray(order[start + generator.integers(size)])


def constant(drawn: Array) -> bool:
    """Say whether all resamples gave the same, up to rounding."""
    return bool(np.ptp(drawn) <= 1e-12 * max(1.0, float(np.abs(drawn).max())))


def _strata(cells: Array, values: Array, strata: Array) -> list[_Stratum]:
    groups = np.unique(strata, return_inverse=True)[1].astype(np.int64)
    outcomes, rows = np.unique(groups * len(values) + cells, return_counts=True)
    group, cell = np.divmod(outcomes, len(values))
    table = _table(values)
    borders = np.flatnonzero(np.diff(group)) + 1
    parts = zip(np.split(cell, borders), np.split(rows, borders), strict=True)
    return [_Stratum(count, table[of]) for of, count in parts]


def _table(values: Array) -> Any:
    """Hold what outcomes add as a sparse matrix where most add nothing to most sums, as with many labels."""
    values = np.asarray(values, np.float64)
    if np.count_nonzero(values) > _DENSE * values.size:
        return values
    from scipy.sparse import csr_array

    return csr_array(values)


def _sums(values: Array, generator: np.random.Generator) -> Array:
    """Sum `len(values)` draws with replacement, `(RESAMPLES,)`."""
    rows = len(values)
    if rows > RESAMPLES:
        return np.asarray(generator.normal(values.sum(), values.std() * np.sqrt(rows), size=RESAMPLES))
    picks = generator.integers(rows, size=(RESAMPLES, rows), dtype=np.int32)
    return np.asarray(values[picks].sum(axis=1))
