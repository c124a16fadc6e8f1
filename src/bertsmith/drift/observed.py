"""Observed: counts of rows in bins. They can be added to and kept; nothing else of the rows is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bertsmith.drift.bins import Bins
from bertsmith.drift.facts import Facts

Array = np.ndarray[Any, Any]


@dataclass
class Observed:
    """How many rows lay in each bin of each feature.

    Not made for threads: one at a time adds to it.

    Attributes:
        bins: Feature → its bins, as the reference chose them.
        counts: Feature → rows in each bin, int64 `(bins,)`.
        rows: Rows that were added.
    """

    bins: Mapping[str, Bins]
    counts: dict[str, Array] = field(default_factory=dict)
    rows: int = 0

    def __post_init__(self) -> None:
        for key, bins in self.bins.items():
            self.counts.setdefault(key, np.zeros(len(bins), np.int64))

    def add(self, facts: Facts) -> None:
        """Count some more rows; facts that have no bins are left out.

        >>> from bertsmith.drift.bins import NumberBins
        >>> seen = Observed({"length": NumberBins((3.5, 9.5), 1.0)})
        >>> seen.add({"length": [2, 5, 7]})
        >>> seen.add({"length": [30]})
        >>> seen.counts["length"].tolist(), seen.rows
        ([1, 2, 1], 4)
        """
        for key, bins in self.bins.items():
            if key in facts:
                self.counts[key] = self.counts[key] + bins.count(facts[key])
        self.rows += max((len(values) for values in facts.values()), default=0)

    def as_json(self) -> dict[str, Any]:
        """Return the bins and counts of each feature, and how many rows there were."""
        features = {key: {**bins.as_json(), "counts": self.counts[key].tolist()} for key, bins in self.bins.items()}
        return {"rows": self.rows, "features": features}
