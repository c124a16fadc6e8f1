"""How findings word counts, shares and names, and point at rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertsmith.examples import Examples
from bertsmith.findings import ROWS_KEPT, Finding, Severity

NAMES_KEPT = 5
"""Labels or words that a message names."""
LABELS_TOLD = 6
"""Labels that the first line of a run names."""


def percent(count: float, total: float) -> str:
    """Word a share so that little is not nothing and almost all is not all.

    >>> percent(1, 3), percent(1, 100_000), percent(99_999, 100_000)
    ('33.3%', '<0.1%', '>99.9%')
    """
    share = count / total if total else 0.0
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{share:.1%}"


def of_rows(count: int, total: int) -> str:
    """Word a number of rows.

    >>> of_rows(12, 1920)
    '12 of 1,920 rows (0.6%)'
    """
    return f"{count:,} of {total:,} rows ({percent(count, total)})"


def listed(items: Sequence[str], *, total: int | None = None) -> str:
    """Join the first few of `total` items.

    >>> listed(["a", "b", "c"]), listed(["a", "b"], total=9)
    ('a, b, c', 'a, b and 7 more')
    """
    shown = items[:NAMES_KEPT]
    rest = (len(items) if total is None else total) - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")


def finding_at(
    examples: Examples,
    rows: np.ndarray[Any, Any],
    *,
    kind: str,
    severity: Severity,
    message: str,
    remedy: str,
) -> Finding:
    """Make a finding about rows, `(rows,)` positions in `examples`, in the order in which to show them."""
    shown = examples.where(rows[:ROWS_KEPT].tolist(), ROWS_KEPT)
    return Finding(kind, severity, message, remedy, count=len(rows), rows=shown)


def told_labels(counts: Mapping[str, int]) -> str:
    """Say how many rows (or words) each label has, the most frequent first.

    >>> told_labels({"spam": 10, "ham": 1200})
    '2 labels: ham 1,200 · spam 10'
    """
    ranked = sorted(counts, key=lambda name: -counts[name])
    shown = " · ".join(f"{name} {counts[name]:,}" for name in ranked[:LABELS_TOLD])
    more = f" · {len(counts) - LABELS_TOLD} more" if len(counts) > LABELS_TOLD else ""
    return f"{len(counts)} labels: {shown}{more}"


def has_rows(count: int) -> str:
    """Word how many rows have what is said next.

    >>> has_rows(1), has_rows(1200)
    ('1 row has', '1,200 rows have')
    """
    return "1 row has" if count == 1 else f"{count:,} rows have"
