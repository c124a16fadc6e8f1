"""Batches: which rows make a step, in which order.

Effective batches are a pure function of (seed, epoch, effective batch size). Only then are they cut into
micro-batches and ranks, so that accumulation, several processes and one process learn the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
POOL = 50
"""Effective batches whose rows are sorted by length together before they are cut."""


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """The rows of one forward pass.

    Attributes:
        rows: Positions of the rows, int64.
        whole: Positions of all rows of the effective batch: the loss is divided by what they weigh.
        counts: False where a rank has no row left and repeats one at no weight.
    """

    rows: Array
    whole: Array
    counts: bool = True

    def cut(self, pieces: int) -> list[MicroBatch]:
        """Cut the rows into pieces of the same effective batch; no piece is without rows."""
        parts = np.array_split(self.rows, min(pieces, len(self.rows)))
        return [MicroBatch(part, self.whole, self.counts) for part in parts]


def effective_batches(lengths: Array, *, size: int, seed: int, epoch: int) -> list[Array]:
    """Deal all rows out to effective batches of rows of similar length, in random order.

    Args:
        lengths: Tokens of each row, `(rows,)`.
        size: Rows of an effective batch; only the last batch may have fewer.
        seed: Seed of the run.
        epoch: Number of the epoch, from 0.

    Returns:
        Positions of the rows of each batch, shortest row first; each row occurs once.
    """
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = generator.permutation(len(lengths))
    full = len(order) // size * size
    batches: list[Array] = []
    for begin in range(0, full, size * POOL):
        pool = order[begin : min(begin + size * POOL, full)]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches.extend(pool.reshape(-1, size))
    mixed = [batches[place] for place in generator.permutation(len(batches))]
    rest = order[full:]
    return [*mixed, rest[np.argsort(lengths[rest], kind="stable")]] if len(rest) else mixed


def cut(batch: Array, *, size: int, ranks: int = 1, rank: int = 0) -> list[MicroBatch]:
    """Cut an effective batch into this rank's micro-batches of at most `size` rows.

    Every rank gets the same number of micro-batches; their sizes differ by one row at most.
    """
    rounds = -(-len(batch) // (size * ranks))
    pieces = np.array_split(batch, rounds * ranks)
    mine = pieces[rank::ranks]
    return [MicroBatch(piece, batch) if len(piece) else MicroBatch(batch[:1], batch, counts=False) for piece in mine]


class EpochBatches:
    """A batch sampler for torch's DataLoader: this rank's micro-batches, epoch by epoch."""

    def __init__(self, lengths: Array, *, size: int, accumulate: int, seed: int, ranks: int = 1, rank: int = 0) -> None:
        """Keep what the batches depend on; `size` rows a micro-batch, `accumulate` of them a step."""
        self._lengths = lengths
        self._size = size
        self._accumulate = accumulate
        self._seed = seed
        self._ranks = ranks
        self._rank = rank
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration deals out."""
        self._epoch = epoch

    def plan(self) -> list[Array]:
        """Return the effective batches of the chosen epoch."""
        size = self._size * self._accumulate * self._ranks
        return effective_batches(self._lengths, size=size, seed=self._seed, epoch=self._epoch)

    def __iter__(self) -> Iterator[MicroBatch]:
        for batch in self.plan():
            yield from cut(batch, size=self._size, ranks=self._ranks, rank=self._rank)

    def __len__(self) -> int:
        full, rest = divmod(len(self._lengths), self._size * self._accumulate * self._ranks)
        return full * self._accumulate + -(-rest // (self._size * self._ranks))
