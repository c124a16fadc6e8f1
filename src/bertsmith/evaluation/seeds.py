"""Spread over seeds: how far scores go apart when nothing but the luck of the training changes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from bertsmith.evaluation.intervals import CONFIDENCE
from bertsmith.evaluation.wording import in_prose

FEWEST = 3
"""Seeds below which the mean has no interval."""


@dataclass(frozen=True)
class SpreadOf:
    """One metric over seeds.

    Attributes:
        values: One value a seed.
        mean: Their mean.
        sd: Their standard deviation (n - 1); None for one seed.
        low: Lower end of the 95 % interval of the mean, by Student's t (1908), cut off at 0 and 1 where it is a share;
            None below three seeds: of two it is 13 times as wide as they are apart, which says nothing.
        high: Its upper end.
    """

    values: tuple[float, ...]
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, values: Collection[float], *, share: bool = False) -> SpreadOf:
        """Measure the spread of at least one value; true for values that are never below 0 or above 1."""
        count, mean = len(values), float(np.mean(list(values)))
        if count < 2:
            return cls(tuple(values), mean)
        sd = float(np.std(list(values), ddof=1))
        if count < FEWEST:
            return cls(tuple(values), mean, sd)
        margin = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * sd / count**0.5
        least, most = (0.0, 1.0) if share else (-math.inf, math.inf)
        return cls(tuple(values), mean, sd, max(least, mean - margin), min(most, mean + margin))

    def as_json(self) -> dict[str, Any]:
        """Return the spread as `scores.json` has it."""
        return {
            "values": list(self.values),
            "mean": self.mean,
            "sd": self.sd,
            "low": self.low,
            "high": self.high,
        }


@dataclass(frozen=True)
class Spread:
    """Metrics over seeds.

    Attributes:
        seeds: The seeds, in the order of the values.
        metrics: Metric → its spread; the first one is told in the sentence.
    """

    seeds: tuple[int, ...]
    metrics: Mapping[str, SpreadOf]

    @property
    def sentence(self) -> str:
        """How far the first metric goes apart."""
        name, found = next(iter(self.metrics.items()))
        if found.sd is None:
            return f"one seed only ({self.seeds[0]}), so nothing is known of the spread of {in_prose(name)}"
        told = f"over {len(self.seeds)} seeds {in_prose(name)} is {found.mean:.3f} on average"
        reach = f", from {min(found.values):.3f} to {max(found.values):.3f}"
        if found.low is None:
            return told + reach
        return f"{told} [{found.low:.3f}, {found.high:.3f}]{reach}, standard deviation {found.sd:.3f}"

    def as_json(self) -> dict[str, Any]:
        """Return the spread as `scores.json` has it."""
        return {
            "seeds": list(self.seeds),
            "metrics": {name: each.as_json() for name, each in self.metrics.items()},
            "sentence": self.sentence,
        }


def spread(values: Mapping[int, Mapping[str, float]], *, shares: Collection[str] = ()) -> Spread:
    """Say how far scores go apart over trainings that differ in their seed alone.

    The interval is that of the mean over seeds, on these very test rows: it says how much is luck of the training.
    How much is luck of the test rows, the interval of each score says.

    Args:
        values: Seed → metric → value, for at least one seed; metrics that are not there for every seed are left out.
        shares: Metrics that are never below 0 or above 1, as `task.shares` names them.

    Raises:
        ValueError: There is no seed, or no metric that every seed has.

    >>> spread({1: {"accuracy": 0.75}, 2: {"accuracy": 0.25}}).metrics["accuracy"].mean
    0.5
    """
    if not values:
        raise ValueError("a spread needs at least one seed.")
    first = next(iter(values.values()))
    names = [name for name in first if all(name in each for each in values.values())]
    if not names:
        raise ValueError("a spread needs a metric that every seed has.")
    metrics = {
        name: SpreadOf.of([float(each[name]) for each in values.values()], share=name in shares) for name in names
    }
    return Spread(tuple(values), metrics)
