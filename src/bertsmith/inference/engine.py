"""What every engine is: something that gives logits for encoded rows; and how rows go through it in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bertsmith.encoded import Encoded
from bertsmith.inference.outputs import pool_windows, units_of_windows

Array = np.ndarray[Any, Any]
Done = Callable[[int], None]
NAMES = ("auto", "torch", "onnx", "onnx-int8")
"""What the setting `engine` may say."""
TOKEN_BUDGET = 2048
"""Padded tokens of a batch: enough to keep the matrix products busy, little memory."""


@dataclass(frozen=True, eq=False)
class HeadPass:
    """What one pass through a model gives of some rows, in their order.

    Attributes:
        logits: float32 `(units, outputs)`.
        inputs: What went into the head's last linear layer, float32 `(units, width)`; the windows of a text are pooled
            by their mean, whatever is done with their logits.
    """

    logits: Array
    inputs: Array


class Engine(Protocol):
    """Runs a model over encoded rows, in fp32 or with the integers of an export; never with dropout."""

    @property
    def name(self) -> str:
        """`torch`, `onnx` or `onnx-int8`."""

    def logits(self, encoded: Encoded, *, budget: int = TOKEN_BUDGET, done: Done | None = None) -> Array:
        """Compute logits, float32 `(units, outputs)`, in the order of the rows.

        Args:
            encoded: The rows.
            budget: Padded tokens of a batch.
            done: Told how many windows each batch had.
        """

    def logits_and_inputs(self, encoded: Encoded, *, budget: int = TOKEN_BUDGET, done: Done | None = None) -> HeadPass:
        """Compute logits and keep what the head made them of, in one pass."""


def batches_by_length(lengths: Array, *, budget: int = TOKEN_BUDGET, most: int = 512) -> Iterator[Array]:
    """Cut rows, longest first, into batches of at most `budget` padded tokens and `most` rows.

    >>> [batch.tolist() for batch in batches_by_length(np.array([3, 9, 4]), budget=9)]
    [[1], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    begin = 0
    while begin < len(order):
        size = max(1, min(most, budget // max(1, int(lengths[order[begin]]))))
        yield order[begin : begin + size]
        begin += size


def padded_batches(encoded: Encoded, budget: int) -> Iterator[tuple[Array, dict[str, Array]]]:
    """Give the windows of each batch, and what `Encoded.pad_windows` makes of them."""
    for windows in batches_by_length(encoded.window_lengths, budget=budget):
        yield windows, encoded.pad_windows(windows)


class Kept:
    """What the passes gave, in the order of the units; filled batch by batch."""

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded
        self._values: Array | None = None

    def keep(self, found: Array, windows: Array, padded: dict[str, Array]) -> None:
        """Put a batch's values in their places: `(windows, width)`, or `(windows, tokens, width)` where units are."""
        encoded, places, total = self._encoded, windows, len(self._encoded.window_lengths)
        if encoded.has_picks:
            found = found[padded["pick_window"], padded["pick_token"]]
            places, total = units_of_windows(encoded, windows), int(encoded.units[-1])
        if self._values is None:
            self._values = np.zeros((total, *found.shape[1:]), dtype=np.float32)
        self._values[places] = found

    def units(self, width: int) -> Array:
        """Give all values, the windows of a row pooled; where there were no windows, nothing of this width."""
        if self._values is None:
            return np.zeros((0, width), np.float32)
        return self._values if self._encoded.has_picks else pool_windows(self._values, self._encoded)
