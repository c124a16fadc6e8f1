"""Batches for a graph of fixed costs: few widths, little padding, and no more passes than they are worth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertsmith.encoded import Encoded

Array = np.ndarray[Any, Any]
PASS = 20
"""Padded tokens that a pass costs besides its own: what its hundreds of operators take to start (docs/lab-notes.md)."""


def shaped_batches(encoded: Encoded, budget: int) -> Iterator[tuple[Array, dict[str, Array]]]:
    """Give the windows of each batch, longest first, and what `Encoded.pad_windows` makes of them.

    Args:
        encoded: The rows.
        budget: Padded tokens of a batch.
    """
    for windows, width in batches_by_width(encoded.window_lengths, budget=budget, longest=encoded.max_length):
        yield windows, encoded.pad_windows(windows, width=width)


def batches_by_width(lengths: Array, *, budget: int, longest: int) -> Iterator[tuple[Array, int]]:
    """Cut rows into batches of one width each, so that padding and passes together cost least.

    Args:
        lengths: Tokens of each row, int64 `(rows,)`.
        budget: Padded tokens of a batch; one row at least.
        longest: Tokens that a row has at most.

    Yields:
        The rows of a batch, int64, and its width.

    >>> [(rows.tolist(), width) for rows, width in batches_by_width(np.array([3, 60, 4]), budget=256, longest=64)]
    [([1], 60), ([2, 0], 4)]
    """
    if not len(lengths):
        return
    order = np.argsort(-lengths, kind="stable")
    distinct, counts = np.unique(-lengths, return_counts=True)
    widths = [max(length, min(bucket(length), longest)) for length in (-distinct).tolist()]
    begin = 0
    for first, last in best_groups(widths, counts.tolist(), budget=budget):
        end = begin + int(counts[first:last].sum())
        size = max(1, budget // max(1, widths[first]))
        for each in range(begin, end, size):
            yield order[each : min(each + size, end)], widths[first]
        begin = end


def best_groups(widths: Sequence[int], counts: Sequence[int], *, budget: int) -> list[tuple[int, int]]:
    """Group neighbouring widths so that padded tokens, and `PASS` for each pass, are fewest together.

    The shortest path through the places to cut at, from the last to the first (Bellman 1954).

    Args:
        widths: Widths, widest first.
        counts: Rows of each.
        budget: Padded tokens of a pass.

    Returns:
        First width of each group, and the one after its last.

    >>> best_groups([60, 8, 7], [1, 10, 10], budget=512)
    [(0, 1), (1, 3)]
    """
    total = len(widths)
    least, end = [0.0] * (total + 1), [total] * total
    for first in range(total - 1, -1, -1):
        width, rows = widths[first], 0
        size = max(1, budget // max(1, width))
        least[first] = math.inf
        for last in range(first + 1, total + 1):
            rows += counts[last - 1]
            cost = rows * width + PASS * -(-rows // size) + least[last]
            if cost < least[first]:
                least[first], end[first] = cost, last
    groups = []
    first = 0
    while first < total:
        groups.append((first, end[first]))
        first = end[first]
    return groups


def bucket(tokens: int) -> int:
    """Round a width up: to one of eight between two powers of two, so that at most an eighth is padding.

    >>> [bucket(tokens) for tokens in (3, 14, 17, 33, 129, 500)]
    [3, 14, 18, 36, 144, 512]
    """
    step = max(1, 1 << (tokens - 1).bit_length() >> 4) if tokens > 1 else 1
    return -(-tokens // step) * step
