"""Bins: how values of rows become counts. They are chosen once, by the reference, and then kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]
QUANTILES = 10
"""Parts of equal size into which the reference's numbers are cut, as is usual for the population stability index."""


@dataclass(frozen=True)
class NumberBins:
    """Bins of numbers: tenths of the reference's rows, and a bin of its own for each number that fills a tenth.

    The outer bins have no bounds. They begin at the reference's outer tenths, not at its least and greatest number:
    a bin that the reference cannot have filled makes rows look different that are not.

    Attributes:
        edges: Ascending; bin k holds `edges[k - 1] <= value < edges[k]`. Each lies half a step beside a multiple of
            `step`, so that noise in the last digits of a value that many rows share cannot push them over.
        step: Distance between two values that are told apart.
    """

    edges: tuple[float, ...]
    step: float

    @classmethod
    def of(cls, values: Array, *, step: float) -> NumberBins:
        """Cut numbers into parts of equal size, as far as equal numbers allow; `step` 0 chooses one."""
        step = step or _step(values)
        quantiles = np.quantile(values, np.linspace(0, 1, QUANTILES + 1), method="inverted_cdf")
        multiples = np.floor(quantiles / step + 0.5)
        found, times = np.unique(multiples, return_counts=True)
        edges = np.union1d(multiples[1:-1] - 0.5, found[times > 1] + 0.5) * step
        return cls(tuple(edges.tolist()), step)

    def __len__(self) -> int:
        return len(self.edges) + 1

    def count(self, values: Array | Sequence[float]) -> Array:
        """Count numbers, int64 `(bins,)`; what is no finite number does not count."""
        numbers = np.asarray(values, np.float64)
        places = np.searchsorted(self.edges, numbers[np.isfinite(numbers)], side="right")
        return np.bincount(places, minlength=len(self))

    def bounds(self, first: int, last: int) -> tuple[float | None, float | None]:
        """Give the least and the greatest value of some neighbouring bins; None where there is no bound."""
        low = None if first == 0 else self._value(self.edges[first - 1] + self.step / 2)
        high = None if last == len(self) - 1 else self._value(self.edges[last] - self.step / 2)
        return low, high

    def _value(self, number: float) -> float:
        return round(number, max(0, 2 - math.floor(math.log10(self.step))))

    def as_json(self) -> dict[str, Any]:
        """Return what `reference.json` holds."""
        return {"edges": list(self.edges), "step": self.step}


@dataclass(frozen=True)
class NameBins:
    """A bin for each of some names, and one for all others."""

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names) + 1

    def count(self, values: Array | Sequence[str]) -> Array:
        """Count names, int64 `(bins,)`."""
        places = pc.index_in(pa.array(values, pa.string()), value_set=pa.array(self.names, pa.string()))
        filled = pc.fill_null(places, len(self.names)).to_numpy(zero_copy_only=False)
        return np.bincount(np.asarray(filled, np.int64), minlength=len(self))

    def name(self, place: int) -> str:
        """Name a bin."""
        return self.names[place] if place < len(self.names) else "another one"

    def as_json(self) -> dict[str, Any]:
        """Return what `reference.json` holds."""
        return {"names": list(self.names)}


Bins: TypeAlias = NumberBins | NameBins


def bins_from(stored: Mapping[str, Any]) -> Bins:
    """Read bins as `as_json` gives them.

    Raises:
        KeyError, TypeError, ValueError: They are none.
    """
    if "names" in stored:
        return NameBins(tuple(str(name) for name in stored["names"]))
    edges = tuple(float(edge) for edge in stored["edges"])
    if not edges or sorted(set(edges)) != list(edges):
        raise ValueError("edges must ascend")
    return NumberBins(edges, float(stored["step"]))


def _step(values: Array) -> float:
    """Choose a power of ten of which the middle four fifths of the numbers (or all of them) hold a thousand.

    What differs by less than a billionth of the greatest number counts as equal.
    """
    low, high = np.quantile(values, [0.1, 0.9])
    least = 1e-9 * max(float(np.abs(values).max()), 1.0)
    spread = max((each for each in (float(high - low), float(np.ptp(values))) if each > least), default=1000 * least)
    return float(10.0 ** math.floor(math.log10(spread / 1000)))
