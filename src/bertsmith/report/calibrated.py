"""Whether the temperature helped, in words: for the terminal, the report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Effect = Literal["helped", "unchanged", "mixed", "worse"]
SMALL = 0.0005
"""Differences below this are none: a figure is shown with three decimals."""
_JUDGED = ("ece_before", "ece_after", "log_loss_before", "log_loss_after")
TOLD: Mapping[Effect, str] = {
    "helped": "on test rows it helped",
    "unchanged": "on test rows it changed next to nothing",
    "mixed": "on test rows it did not clearly help: what one figure gained, the other lost",
    "worse": "on test rows it did not help but made the probabilities worse",
}


def effect(calibration: Mapping[str, Any]) -> Effect:
    """Say what the temperature did to probabilities, by their error and their log loss on test rows.

    >>> effect({"ece_before": 0.05, "ece_after": 0.01, "log_loss_before": 0.48, "log_loss_after": 0.27})
    'helped'

    Args:
        calibration: `calibration` of scores.json.
    """
    ece, ece_after, loss, loss_after = (calibration[name] for name in _JUDGED)
    gains = (ece - ece_after, loss - loss_after)
    if max(abs(gain) for gain in gains) < SMALL:
        return "unchanged"
    if min(gains) > -SMALL:
        return "helped"
    return "worse" if max(gains) < SMALL else "mixed"


def told(calibration: Mapping[str, Any]) -> str:
    """Say what the temperature did in words, and where that may be chance: the error after is not told from before.

    Args:
        calibration: `calibration` of scores.json; "" where it lacks a figure.
    """
    if any(calibration.get(name) is None for name in _JUDGED):
        return ""
    found = effect(calibration)
    low, high = calibration.get("ece_after_low"), calibration.get("ece_after_high")
    if found not in {"mixed", "worse"} or low is None or high is None:
        return TOLD[found]
    chance = f"; on {calibration['rows']:,} rows that may be chance" if low <= calibration["ece_before"] <= high else ""
    return TOLD[found] + chance


__all__ = ["Effect", "effect", "told"]
