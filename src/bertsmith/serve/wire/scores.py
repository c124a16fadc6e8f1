"""Scores of labels, as a request wants them: the model's own, or made of its logits anew; the best first."""

from __future__ import annotations

from typing import Any

import numpy as np

from bertsmith.serve.asked import Function, Served
from bertsmith.tasks.squashing import sigmoid, softmax

Array = np.ndarray[Any, Any]


def scores_of(served: Served, function: Function) -> Array:
    """Make the scores that a request wants, float64 `(texts, labels)`.

    Args:
        served: The answers to texts with labels.
        function: "" for the calibrated probabilities that the model decides by; softmax or sigmoid of the logits, or
            the logits themselves ("none"), as transformers' pipeline has them.
    """
    logits = served.logits.astype(np.float64)
    if function == "none":
        return logits
    if function == "softmax":
        return softmax(logits)
    return sigmoid(logits) if function == "sigmoid" else served.probabilities


def ranked(row: Array, labels: tuple[str, ...], top_k: int | None) -> list[tuple[str, float]]:
    """Put labels in order, the best first; of equals, the one that the model has first.

    >>> ranked(np.array([0.2, 0.5, 0.3]), ("a", "b", "c"), 2)
    [('b', 0.5), ('c', 0.3)]
    """
    order = np.argsort(-row, kind="stable")[:top_k]
    return [(labels[place], score) for place, score in zip(order.tolist(), row[order].tolist(), strict=True)]
