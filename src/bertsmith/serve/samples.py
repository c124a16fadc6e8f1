"""Sums over what Prometheus would be given, for people who look at a few figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.samples import Sample


class Samples:
    """Sums of samples."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._samples: list[Sample] = [sample for family in registry.collect() for sample in family.samples]

    def by(self, name: str, label: str, **wanted: str) -> dict[str, float]:
        """Sum the samples of a name by one of their labels."""
        found: Counter[str] = Counter()
        for each in self._named(name, wanted):
            found[each.labels[label]] += each.value  # type: ignore[assignment]
        return dict(found)

    def _named(self, name: str, wanted: Mapping[str, str]) -> Iterator[Sample]:
        return (
            each
            for each in self._samples
            if each.name == name and all(each.labels.get(key) == value for key, value in wanted.items())
        )

    def latency(self, share: float) -> float | None:
        """Estimate the seconds within which a share of the requests was answered, as Prometheus' quantiles do."""
        reached = {
            float(bound): n for bound, n in self.by("bertsmith_stage_seconds_bucket", "le", stage="total").items()
        }
        bounds, counts = np.array(sorted(reached)), np.array([reached[bound] for bound in sorted(reached)])
        if not len(counts) or not counts[-1]:
            return None
        place = int(np.searchsorted(counts, share * counts[-1]))
        if not np.isfinite(bounds[place]):
            return float(bounds[place - 1])
        below, low = (counts[place - 1], bounds[place - 1]) if place else (0.0, 0.0)
        return float(low + (bounds[place] - low) * (share * counts[-1] - below) / (counts[place] - below))
