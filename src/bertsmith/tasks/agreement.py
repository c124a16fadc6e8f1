"""How far annotators agree who gave labels to the same rows.

Rows may have any number of votes; rows with fewer than two say nothing about agreement and are left out.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.examples import LabelSet
from bertsmith.tasks.classification_metrics import ratio
from bertsmith.tasks.protocol import Array


def vote_counts(votes: pa.ChunkedArray, labels: LabelSet) -> Array:
    """Count the votes of each row for each label, int64 `(rows, labels)`; nulls and other labels do not count."""
    rows = np.asarray(pc.list_parent_indices(votes).to_numpy(), np.int64)
    found = pc.index_in(pc.list_flatten(votes).cast(pa.string()), value_set=pa.array(labels.names, pa.string()))
    places = np.asarray(pc.fill_null(found, -1).to_numpy(), np.int64)
    cells = (rows * len(labels) + places)[places >= 0]
    return np.bincount(cells, minlength=len(votes) * len(labels)).reshape(len(votes), len(labels))


def agreement(counts: Array) -> dict[str, float]:
    """Say how far votes agree.

    Args:
        counts: Votes of each row for each label, `(rows, labels)`.

    Returns:
        `rows` with two votes or more, and of these: `votes`, the mean number a row; `pairwise`, the mean share
        of pairs of votes for the same label; `fleiss_kappa` (Fleiss 1971, Measuring nominal scale agreement
        among many raters; for unequal numbers of votes a label's share is that of all votes); and
        `krippendorff_alpha` for nominal data (Krippendorff 2011, Computing Krippendorff's alpha-reliability).
        The last two are 1 for perfect agreement and 0 for what chance alone gives; 0 where only one label occurs.
    """
    counts = np.asarray(counts, np.float64)
    counts = counts[counts.sum(axis=1) >= 2]
    if not len(counts):
        return {"rows": 0, "votes": 0.0, "pairwise": 0.0, "fleiss_kappa": 0.0, "krippendorff_alpha": 0.0}
    votes = counts.sum(axis=1)
    agreeing = (counts * (counts - 1)).sum(axis=1)
    pairwise = float((agreeing / (votes * (votes - 1))).mean())
    chance = float(((counts.sum(axis=0) / votes.sum()) ** 2).sum())
    return {
        "rows": len(counts),
        "votes": float(votes.mean()),
        "pairwise": pairwise,
        "fleiss_kappa": float(ratio(np.array(pairwise - chance), np.array(1 - chance))),
        "krippendorff_alpha": _alpha(counts, votes),
    }


def _alpha(counts: Array, votes: Array) -> float:
    """Compare the disagreement within rows with that between any two votes."""
    total = votes.sum()
    disagreeing = ((votes**2 - (counts**2).sum(axis=1)) / (votes - 1)).sum() / total
    by_chance = (total**2 - (counts.sum(axis=0) ** 2).sum()) / (total * (total - 1))
    return float(1 - disagreeing / by_chance) if by_chance > 0 else 0.0
