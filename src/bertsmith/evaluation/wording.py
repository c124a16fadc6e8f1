"""Wording: what metrics are called in sentences and tables."""

from __future__ import annotations

_CALLED = {
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "samples_f1": "samples-F1",
    "weighted_f1": "weighted F1",
    "span_f1": "span F1",
    "f1": "F1",
    "mcc": "MCC",
    "mae": "MAE",
    "mse": "MSE",
    "r2": "R²",
}


def in_prose(name: str) -> str:
    """Write a metric's or a figure's name as people do.

    >>> in_prose("macro_f1"), in_prose("exact_match"), in_prose("mcc")
    ('macro-F1', 'exact match', 'MCC')
    """
    return _CALLED.get(name, name.replace("_", " "))
