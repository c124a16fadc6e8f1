"""Batches of few widths: every row once, none too narrow, and no grouping is cheaper."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.inference.shaped_batches import PASS, batches_by_width, best_groups, bucket

LENGTHS = st.lists(st.integers(1, 120), min_size=1, max_size=60)


@given(lengths=LENGTHS, budget=st.integers(1, 600))
def test_every_row_is_in_one_batch_that_is_wide_enough(lengths: list[int], budget: int) -> None:
    """No row is lost or cut, a batch keeps to the budget unless it is one row, and widths are those of `bucket`."""
    found = list(batches_by_width(np.array(lengths), budget=budget, longest=120))
    rows = np.concatenate([each for each, _ in found])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    for batch, width in found:
        longest = max(lengths[row] for row in batch)
        assert longest <= width <= max(longest, min(120, bucket(longest)))
        assert len(batch) == 1 or len(batch) * width <= budget


@given(
    widths=st.sets(st.integers(1, 90), min_size=1, max_size=6).map(lambda found: sorted(found, reverse=True)),
    counts=st.lists(st.integers(1, 40), min_size=6, max_size=6),
    budget=st.integers(1, 500),
)
def test_no_other_grouping_is_cheaper(widths: list[int], counts: list[int], budget: int) -> None:
    """Against all ways to cut, counted one by one."""

    def cost(groups: list[tuple[int, int]]) -> int:
        total = 0
        for first, last in groups:
            rows, size = sum(counts[first:last]), max(1, budget // widths[first])
            total += rows * widths[first] + PASS * -(-rows // size)
        return total

    places = range(1, len(widths))
    ways = (cut for number in range(len(widths)) for cut in combinations(places, number))
    all_groups = [list(zip((0, *cut), (*cut, len(widths)), strict=True)) for cut in ways]
    assert cost(best_groups(widths, counts[: len(widths)], budget=budget)) == min(map(cost, all_groups))


def test_nothing_is_no_batch() -> None:
    """Without rows there are no batches."""
    assert list(batches_by_width(np.zeros(0, np.int64), budget=10, longest=8)) == []
