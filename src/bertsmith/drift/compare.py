"""compare: counts of new rows against the reference's; which features moved, and in words how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertsmith.drift.bins import Bins, NameBins
from bertsmith.drift.features import FEATURES
from bertsmith.drift.observed import Observed
from bertsmith.drift.reference import Reference
from bertsmith.drift.shifts import p_value, psi, rows_needed, total_variation
from bertsmith.evaluation.holm import holm

Array = np.ndarray[Any, Any]
LEVEL = 0.05
"""Share of comparisons without any change in which some feature is said to have moved."""
SMALLEST = 0.1
"""Population stability index below which a change, however sure, is too small to be called one; as is usual."""
LARGE = 0.25
"""Index of a change that is usually called large: for it, the rows that are needed are counted."""


@dataclass(frozen=True)
class Change:
    """Where new rows are that they were not before.

    Attributes:
        where: The values, in words.
        then: Share of the reference's rows there.
        now: Share of the new rows.
    """

    where: str
    then: float
    now: float

    def as_json(self) -> dict[str, Any]:
        """Return what `drift --json` prints."""
        return {"where": self.where, "then": self.then, "now": self.now}


@dataclass(frozen=True)
class Shift:
    """What became of one feature.

    Attributes:
        feature: Its key in `FEATURES`.
        rows_then: Rows of the reference.
        rows_now: New rows.
        psi: Population stability index without what chance adds.
        total_variation: Share of the rows that lie elsewhere, what chance adds included.
        p: p-value, adjusted for the number of features.
        rows_needed: New rows that would be needed to find a large change; None where the reference has too few.
        change: Where rows became more frequent; None where nothing did.
    """

    feature: str
    rows_then: int
    rows_now: int
    psi: float
    total_variation: float
    p: float
    rows_needed: int | None
    change: Change | None

    @property
    def moved(self) -> bool:
        """True where it differs by more than chance and by more than a little."""
        return self.p <= LEVEL and self.psi >= SMALLEST

    @property
    def can_tell(self) -> bool:
        """True where a large change would have been found."""
        return self.moved or (self.rows_needed is not None and self.rows_now >= self.rows_needed)

    @property
    def sentence(self) -> str:
        """What became of it, without its name."""
        if self.moved and self.change is not None:
            before, after = _share(self.change.then), _share(self.change.now)
            return f"moved: {self.change.where} in {after} of the rows, before in {before}"
        if self.can_tell:
            return "steady" if self.p > LEVEL else "steady: it differs by less than matters"
        if self.rows_needed is None:
            return f"cannot tell: the run has only {self.rows_then:,} rows to compare with"
        return f"cannot tell: {self.rows_now:,} rows show no large change; about {self.rows_needed:,} would"

    def as_json(self) -> dict[str, Any]:
        """Return what `drift --json` prints."""
        return {
            "feature": self.feature,
            "moved": self.moved,
            "can_tell": self.can_tell,
            "rows_then": self.rows_then,
            "rows_now": self.rows_now,
            "psi": self.psi,
            "total_variation": self.total_variation,
            "p": self.p,
            "rows_needed": self.rows_needed,
            "change": None if self.change is None else self.change.as_json(),
            "sentence": f"{FEATURES[self.feature].title} {self.sentence}",
        }


@dataclass(frozen=True)
class Drift:
    """Whether new rows are like those of the run.

    Attributes:
        rows: New rows.
        shifts: What became of each feature that both have, in the order of `FEATURES`.
        observed: The counts behind it.
    """

    rows: int
    shifts: tuple[Shift, ...]
    observed: Observed

    @property
    def drifted(self) -> bool:
        """True where a feature moved."""
        return any(each.moved for each in self.shifts)

    @property
    def sentence(self) -> str:
        """The verdict."""
        moved = [f"{FEATURES[each.feature].title} {each.sentence}" for each in self.shifts if each.moved]
        unclear = [each for each in self.shifts if not each.can_tell]
        if moved:
            return "; ".join(moved) + "."
        if unclear:
            return f"nothing moved that {self.rows:,} rows could show. {_too_few(unclear)}"
        return f"nothing moved: {self.rows:,} rows are like those of the run."

    def as_json(self) -> dict[str, Any]:
        """Return what `drift --json` prints."""
        return {
            "drifted": self.drifted,
            "sentence": self.sentence,
            "rows": self.rows,
            "level": LEVEL,
            "smallest_psi": SMALLEST,
            "features": [each.as_json() for each in self.shifts],
        }


def compare(reference: Reference, observed: Observed) -> Drift:
    """Test new rows against the reference, feature by feature.

    A feature moved if its counts differ by more than chance (p, adjusted by Holm's method, at most 0.05), and by
    enough to matter (population stability index at least 0.1): with a million rows everything differs a little.

    Args:
        reference: The bundle's.
        observed: Counts in the same bins.

    >>> compare(reference, seen).sentence                                              # doctest: +SKIP
    'lengths moved: 31 tokens or more in 42 % of the rows, before in 10 %.'
    """
    then = reference.observed
    keys = [key for key in then.bins if then.counts[key].any() and observed.counts[key].any()]
    found = [_shift(key, then.bins[key], then.counts[key], observed.counts[key], looks=len(keys)) for key in keys]
    adjusted = holm(np.array([each.p for each in found])).tolist()
    return Drift(observed.rows, tuple(replace(each, p=p) for each, p in zip(found, adjusted, strict=True)), observed)


def _shift(key: str, bins: Bins, then: Array, now: Array, *, looks: int) -> Shift:
    """Test one of `looks` features; its p-value is not adjusted yet."""
    used = int(((then + now) > 0).sum())
    rows_then = int(then.sum())
    return Shift(
        feature=key,
        rows_then=rows_then,
        rows_now=int(now.sum()),
        psi=psi(then, now),
        total_variation=total_variation(then, now),
        p=p_value(then, now),
        rows_needed=rows_needed(rows_then, used, effect=LARGE, level=LEVEL / looks),
        change=_change(key, bins, then, now),
    )


def _change(key: str, bins: Bins, then: Array, now: Array) -> Change | None:
    """Find the neighbouring bins (of names: the one) into which most rows came."""
    before, after = then / then.sum(), now / now.sum()
    gains = after - before
    if isinstance(bins, NameBins):
        first = last = int(gains.argmax())
        where = f"'{bins.name(first)}'" if first < len(bins.names) else bins.name(first)
    else:
        first, last = _richest(gains)
        where = FEATURES[key].shown(*bins.bounds(first, last))
    share = slice(first, last + 1)
    return Change(where, float(before[share].sum()), float(after[share].sum())) if gains[share].sum() > 0 else None


def _richest(gains: Array) -> tuple[int, int]:
    """Find the neighbouring places with the greatest sum, the first and the last of them.

    >>> _richest(np.array([-0.2, 0.1, 0.3, -0.4, 0.2]))
    (1, 2)
    """
    sums = np.concatenate([[0.0], np.cumsum(gains)])
    lowest = np.minimum.accumulate(sums[:-1])
    last = int((sums[1:] - lowest).argmax())
    return int(sums[: last + 1].argmin()), last


def _too_few(unclear: Sequence[Shift]) -> str:
    """Say what would be needed to see large changes."""
    needed = [each.rows_needed for each in unclear if each.rows_needed is not None]
    short = [FEATURES[each.feature].title for each in unclear if each.rows_needed is None]
    told = [f"A large change would be seen with about {max(needed):,} rows."] if needed else []
    told += [f"The run has too few rows of its own to compare {' and '.join(short)}."] if short else []
    return " ".join(told)


def _share(share: float) -> str:
    """Say a share.

    >>> _share(0.424), _share(0.0), _share(0.003)
    ('42 %', '0 %', '0.3 %')
    """
    percent = 100 * share
    return f"{percent:.1f} %" if 0 < percent < 1 or 99 < percent < 100 else f"{percent:.0f} %"
