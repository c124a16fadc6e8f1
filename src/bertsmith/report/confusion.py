"""The confusion matrix as a picture: whole for few labels, the labels that are most confused for many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.report import figures
from bertsmith.report.svg import box, fit, picture, text, width_of

Array = np.ndarray[Any, Any]

WHOLE = 20
"""Up to so many labels the whole matrix is drawn; of more, this many labels."""
_STEPS = (0.02, 0.05, 0.15, 0.4)
"""Shares of a label's rows above which a mistake is drawn in the next stronger of five colours."""
_LONGEST = 200


@dataclass(frozen=True)
class Shown:
    """The part of a confusion matrix that is drawn.

    Attributes:
        labels: Names, in the order of rows and columns.
        counts: Gold x answer, `(labels, labels)`.
        support: Rows of each gold label, those included whose answer is not shown, `(labels,)`.
        whole: Whether nothing is left out.
    """

    labels: tuple[str, ...]
    counts: Array
    support: Array
    whole: bool

    @classmethod
    def of(cls, labels: Sequence[str], matrix: Sequence[Sequence[float]], most: int = WHOLE) -> Shown:
        """Choose what is drawn: all labels, or those that are confused most, neighbours beside each other."""
        counts = np.asarray(matrix, dtype=np.float64)
        whole = len(labels) <= most
        chosen = np.arange(len(labels)) if whole else most_confused(counts, most)
        names = tuple(labels[int(each)] for each in chosen)
        return cls(names, counts[np.ix_(chosen, chosen)], counts.sum(axis=1)[chosen], whole)


def most_confused(counts: Array, most: int) -> Array:
    """Take the labels of the pairs that are mistaken for each other most, ordered so that such pairs stand together.

    The order is that of the leaves of an average-linkage tree; with equal counts, the earlier label comes first.

    Args:
        counts: Gold x answer, `(labels, labels)`.
        most: How many labels.

    Returns:
        Positions, int64 `(most,)` at most; fewer where fewer are confused, two at least.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    both = counts + counts.T
    upper = np.triu(both, 1)
    first, second = np.unravel_index(np.argsort(-upper, axis=None, kind="stable"), upper.shape)
    pairs = [(int(a), int(b)) for a, b in zip(first, second, strict=True) if upper[a, b] > 0] or [(0, 1)]
    chosen = list(dict.fromkeys(each for pair in pairs for each in pair))[:most]
    near = both[np.ix_(chosen, chosen)]
    far = 1 / (1 + near)
    np.fill_diagonal(far, 0)
    order: Array = leaves_list(linkage(squareform(far, checks=False), "average"))
    return np.asarray(chosen)[order]


def confusion(labels: Sequence[str], matrix: Sequence[Sequence[float]]) -> str:
    """Draw a confusion matrix: a row a gold label, a column an answer, mistakes in colour by their share of the row."""
    if len(labels) < 2 or len(matrix) != len(labels):
        return ""
    shown = Shown.of(labels, matrix)
    side = 58 if len(shown.labels) <= 4 else 34 if len(shown.labels) <= 10 or shown.counts.max() >= 1000 else 30
    names = [fit(label, _LONGEST) for label in shown.labels]
    left = max(56.0, *(width_of(name) for name in names)) + 14
    turned = any(width_of(name) > side - 6 for name in names)
    top = 26 + (max(width_of(name) for name in names) * 0.72 + 12 if turned else 20)
    parts = [text(left, 14, "answer →", cls="soft"), text(left - 8, top - 8, "gold ↓", cls="soft end")]
    for place, name in enumerate(names):
        middle = (place + 0.5) * side
        parts.append(text(left - 8, top + middle + 4, name, cls="end"))
        parts.append(
            text(left + middle + 3, top - 8, name, turned=-46)
            if turned
            else text(left + middle, top - 8, name, cls="middle")
        )
    parts += _cells(shown, side, left, top)
    beyond = [width_of(name) * 0.74 - (len(names) - place - 0.5) * side for place, name in enumerate(names)]
    over = max(0.0, *beyond) if turned else 0.0
    width, height = left + side * len(names) + over + 12, top + side * len(names) + 6
    return picture("confusion", parts, title=_title(shown), width=width, height=height)


def _cells(shown: Shown, side: float, left: float, top: float) -> list[str]:
    parts = []
    for row, gold in enumerate(shown.labels):
        for column, answer in enumerate(shown.labels):
            count, of = shown.counts[row, column], shown.support[row]
            x, y = left + column * side, top + row * side
            step = "right" if row == column else f"wrong-{strength(count, of)}"
            hint = f"gold {gold}, answer {answer}: {figures.count(count)} of {figures.count(of)} rows"
            parts.append(box(x + 0.5, y + 0.5, side - 1, side - 1, cls=f"cell {step}", hint=hint if count else ""))
            if count:
                parts.append(_count(count, x + side / 2, y + side / 2 + 4, step))
    return parts


def _count(count: float, x: float, y: float, step: str) -> str:
    told = figures.count(count)
    size = "tiny " if len(told) > 5 else "small " if len(told) > 3 else ""
    return text(x, y, told, cls=f"middle inside {size}on-{step}")


def strength(count: float, of: float) -> int:
    """Grade a mistake: 0 where there is none, 1 to 5 by its share of the gold label's rows."""
    return 0 if not count else 1 + sum(count / max(of, 1) > step for step in _STEPS)


def _title(shown: Shown) -> str:
    wrong = [
        (shown.counts[row, column], gold, answer)
        for row, gold in enumerate(shown.labels)
        for column, answer in enumerate(shown.labels)
        if row != column and shown.counts[row, column]
    ]
    told = "; ".join(
        f"{gold} taken for {answer} {figures.count(n)}" for n, gold, answer in sorted(wrong, reverse=True)[:3]
    )
    part = "" if shown.whole else f", the {len(shown.labels)} labels that are confused most"
    return f"Confusion matrix{part}. Most frequent mistakes: {told or 'none'}."
