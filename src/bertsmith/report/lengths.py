"""How long the training texts are and what cutting takes from them, as scores.json and the report tell it."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_BINS = 12


def length_figures(tokens: Array, tokens_cut: Array) -> dict[str, Any] | None:
    """Sum up the lengths of the training rows; None where there are none.

    Args:
        tokens: Tokens of each row before anything is cut, special tokens included, `(rows,)`.
        tokens_cut: Tokens of each row that the model does not read, `(rows,)`.

    Returns:
        `lengths` of scores.json: `rows`, `mean`, `median`, `p95`, `p99`, `longest`, `cut` and `lost` (shares of rows
        and of tokens), and `histogram`: up to twelve bins with `low`, `high` (both included) and `rows`. The bins
        are equally wide up to the 99th percentile; the last one holds all that is longer.
    """
    if not len(tokens):
        return None
    middle, p95, p99 = (int(each) for each in np.quantile(tokens, (0.5, 0.95, 0.99), method="inverted_cdf"))
    return {
        "rows": len(tokens),
        "mean": round(float(tokens.mean()), 1),
        "median": middle,
        "p95": p95,
        "p99": p99,
        "longest": int(tokens.max()),
        "cut": float((tokens_cut > 0).mean()),
        "lost": float(tokens_cut.sum() / max(1, tokens.sum())),
        "histogram": _histogram(tokens, p99),
    }


def _histogram(tokens: Array, p99: int) -> list[dict[str, int]]:
    shortest, longest = int(tokens.min()), int(tokens.max())
    width = max(1, -(-(p99 - shortest + 1) // (_BINS - 1)))
    edges = [*range(shortest, p99 + 1, width)]
    end = edges[-1] + width
    if longest >= end:
        edges.append(end)
    counts = np.histogram(tokens, [*edges, max(longest + 1, end)])[0]
    highs = [*(edge - 1 for edge in edges[1:]), max(longest, end - 1) if longest >= end else min(longest, end - 1)]
    return [
        {"low": low, "high": high, "rows": int(count)} for low, high, count in zip(edges, highs, counts, strict=True)
    ]
