"""Slices: kinds of rows where the model fails more than chance would have it.

Every group of rows is tested alone against all other rows, with the exact test of a permutation of the errors: so
many errors among so many rows, how often would chance put that many into this group (Fisher 1935)? Groups that could
not be named even if every error fell into them are not tested (Tarone 1990), which asks nothing of the answers. The
others are corrected for their number by Holm (1979), not by Benjamini and Hochberg: a slice sends people to look at
rows and label more of them, so with all of a report's slices together, at most one report in twenty should name one
that is none; a share of false ones among many would be no such promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.evaluation.holm import holm
from bertsmith.evaluation.intervals import CONFIDENCE, Estimate, wilson
from bertsmith.evaluation.slice_masks import Group, find_groups
from bertsmith.examples import Examples
from bertsmith.tasks.protocol import Array

ALPHA = 1 - CONFIDENCE
"""Share of runs in which chance alone may name a slice."""
MOST = 20
_ALIKE = 0.8
"""A slice that shares this much of its rows with one that is named already says nothing new (Jaccard)."""


@dataclass(frozen=True)
class Slice:
    """A kind of rows where the model fails more than elsewhere.

    Attributes:
        name: What the rows have in common, in words.
        column: What was looked at: length, script, word, or the name of a column.
        value: What the rows have there.
        rows: How many there are.
        right: Share of them that was answered right, with Wilson's interval.
        rest: Share of all other rows that was answered right.
        difference: `right` less `rest`, below 0, with Newcombe's interval.
        p: How often chance alone would show as much anywhere, corrected for all groups that were tested.
    """

    name: str
    column: str
    value: str
    rows: int
    right: Estimate
    rest: float
    difference: Estimate
    p: float

    @property
    def sentence(self) -> str:
        """The slice in words."""
        points = [f"{-100 * each:.1f}" for each in (self.difference.value, self.difference.high, self.difference.low)]
        return (
            f"Of {self.rows:,} {self.name} {self.right.value:.1%} are right, of the others {self.rest:.1%}: "
            f"{points[0]} points less [{points[1]}, {points[2]}]."
        )

    def as_json(self) -> dict[str, Any]:
        """Return the slice as `scores.json` has it."""
        return {
            "name": self.name,
            "column": self.column,
            "value": self.value,
            "rows": self.rows,
            "right": self.right.as_json(),
            "rest": self.rest,
            "difference": self.difference.value,
            "low": self.difference.low,
            "high": self.difference.high,
            "p": self.p,
            "sentence": self.sentence,
        }


def find_slices(
    examples: Examples, right: Array, tokens: Array, *, texts: bool = True, most: int = MOST
) -> list[Slice]:
    """Find kinds of rows that fail more than the rest, by more than chance explains.

    Looked at are the length in tokens, the writing system, the file, the group, the time, every column that plays no
    part (each value; times and numbers by quarter), and the presence of a word.

    Args:
        examples: The rows.
        right: Which of them were answered right, bool `(rows,)`.
        tokens: Length of each text in tokens, `(rows,)`.
        texts: False where no word of a text may be named.
        most: Slices that are returned, the least likely by chance first.
    """
    right = np.asarray(right, bool)
    errors = int((~right).sum())
    if errors in {0, len(right)}:
        return []
    groups = _testable(find_groups(examples, tokens, texts=texts), rows=len(right), errors=errors)
    sizes = np.array([len(group.rows) for group in groups], np.int64)
    failed = np.array([int((~right[group.rows]).sum()) for group in groups], np.int64)
    adjusted = holm(_chance(failed, sizes, rows=len(right), errors=errors))
    order = np.lexsort((-failed / np.maximum(sizes, 1), adjusted))
    named = _unlike([groups[place] for place in order if adjusted[place] <= ALPHA], most)
    values = {id(group): float(value) for group, value in zip(groups, adjusted, strict=True)}
    return [_slice(group, right, p=values[id(group)]) for group in named]


def _chance(failed: Array, sizes: Array, *, rows: int, errors: int) -> Array:
    """Say how often chance puts so many of the errors, or more, into groups of these sizes."""
    from scipy.stats import hypergeom

    return np.asarray(hypergeom.sf(failed - 1, rows, errors, sizes))


def _testable(groups: Sequence[Group], *, rows: int, errors: int) -> list[Group]:
    """Leave out groups that are too small to be named, whatever their errors (Tarone 1990)."""
    sizes = np.array([len(group.rows) for group in groups], np.int64)
    least = _chance(np.minimum(sizes, errors), sizes, rows=rows, errors=errors)
    count = next((many for many in range(1, len(groups) + 1) if (least <= ALPHA / many).sum() <= many), 0)
    return [group for group, value in zip(groups, least, strict=True) if count and value <= ALPHA / count]


def _unlike(groups: Sequence[Group], most: int) -> list[Group]:
    """Leave out groups that hold nearly the same rows as one before."""
    kept: list[Group] = []
    for group in groups:
        if len(kept) < most and not any(_overlap(group.rows, other.rows) >= _ALIKE for other in kept):
            kept.append(group)
    return kept


def _overlap(ours: Array, theirs: Array) -> float:
    both = len(np.intersect1d(ours, theirs, assume_unique=True))
    return both / (len(ours) + len(theirs) - both)


def _slice(group: Group, right: Array, *, p: float) -> Slice:
    inside = wilson(int(right[group.rows].sum()), len(group.rows))
    outside = wilson(int(right.sum() - right[group.rows].sum()), len(right) - len(group.rows))
    difference = _newcombe(inside, outside)
    return Slice(group.name, group.column, group.value, len(group.rows), inside, outside.value, difference, p)


def _newcombe(ours: Estimate, theirs: Estimate) -> Estimate:
    """Give the difference of two shares with the interval that Wilson's of each make (Newcombe 1998, method 10)."""
    value = ours.value - theirs.value
    low = value - math.hypot(ours.value - ours.low, theirs.high - theirs.value)
    high = value + math.hypot(ours.high - ours.value, theirs.value - theirs.low)
    return Estimate(value, low, high)
