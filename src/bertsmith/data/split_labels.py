"""Splits of rows that have several labels: iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011)."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MOST_ROWS = 200_000
"""Of more rows only the rarest label of each is stratified by: the iteration looks at rows one by one."""


def by_labels(labels: Array, parts: Array, wanted: Array, draw: np.random.Generator) -> Array:
    """Choose sides so that each keeps the shares of all labels, and its share of the rows.

    What must stay together is one unit that has the labels of all its rows. Big units go first, units of about
    equal size at a time, so that single rows can make up for what the big ones left.

    Args:
        labels: Which labels each row has, bool `(rows, labels)`.
        parts: Number of the unit of each row, from 0, `(rows,)`.
        wanted: Share of the rows of each side, `(sides,)`.
        draw: Decides between equals.

    Returns:
        The side of each row, int64 `(rows,)`.
    """
    sizes = np.bincount(parts)
    united = np.stack([np.bincount(parts, weights=column) > 0 for column in labels.T], axis=1)
    scale = np.log2(sizes).astype(np.int64)
    due = wanted * len(parts)
    chosen = np.zeros(len(sizes), dtype=np.int64)
    for size in np.unique(scale)[::-1]:
        units = np.flatnonzero(scale == size)
        chosen[units] = _stratified(united[units], due, wanted, draw)
        due = due - np.bincount(chosen[units], weights=sizes[units], minlength=len(wanted))
    return np.asarray(chosen[parts])


def rarest_labels(labels: Array) -> Array:
    """Give each row the number of its rarest label; rows without any share one more number. int64 `(rows,)`."""
    order = np.argsort(labels.sum(axis=0), kind="stable")
    first = labels[:, order].argmax(axis=1)
    return np.asarray(np.where(labels.any(axis=1), order[first], labels.shape[1]), dtype=np.int64)


def teach_every_label(sides: Array, labels: Array, parts: Array, *, train: int) -> None:
    """Move the smallest unit of a label that train lacks to train; `sides` is changed."""
    sizes = np.bincount(parts)
    occurs = labels.any(axis=0)
    for label in np.flatnonzero(occurs & ~labels[sides == train].any(axis=0)):
        rows = np.flatnonzero(labels[:, label])
        if not (sides[rows] == train).any():
            smallest = parts[rows[np.argmin(sizes[parts[rows]])]]
            sides[parts == smallest] = train


def _stratified(labels: Array, due: Array, wanted: Array, draw: np.random.Generator) -> Array:
    """Share units of about equal size out over the sides that still need rows, int64 `(units,)`."""
    from iterstrat.ml_stratifiers import IterativeStratification

    need = np.where(wanted > 0, np.maximum(due, 0), 0)
    need = need if need.any() else wanted
    sides = np.flatnonzero(need)  # a side without need would take what the others have too much of
    found = IterativeStratification(labels, need[sides] / need.sum(), draw)
    return np.asarray(sides[found], dtype=np.int64)
