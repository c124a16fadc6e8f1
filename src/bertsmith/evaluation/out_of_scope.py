"""How often one's own rows are called foreign, and how many foreign rows are found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from bertsmith.evaluation.intervals import CONFIDENCE, Estimate, wilson
from bertsmith.inference.scope import Scope

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Share:
    """A share of some rows: how many there are, and the share with Wilson's interval; None without rows."""

    rows: int
    share: Estimate | None

    @classmethod
    def of(cls, hits: Array) -> Share:
        """Count, bool `(rows,)`."""
        return cls(len(hits), wilson(int(hits.sum()), len(hits)) if len(hits) else None)

    def as_json(self, name: str) -> dict[str, Any]:
        """Return what `scores.json` has of it."""
        return {"rows": self.rows, **named(name, self.share)}


@dataclass(frozen=True)
class ScopeFigures:
    """What a scope does on rows of one's own, and on rows labelled as foreign where there are any.

    Attributes:
        score: Name of the score.
        threshold: A score above it is foreign; None where none was chosen.
        chosen_from: "validation", "labelled" or "".
        alarms_wanted: Share of one's own rows that may be called foreign; None where labelled rows chose.
        validation: Share of validation rows that are called foreign.
        test: Share of test rows that are called foreign; these had no say in the threshold.
        recall: Share of foreign test rows that are called foreign.
        auroc: How often a foreign test row has a higher score than one's own, whatever the threshold.
    """

    score: str
    threshold: float | None
    chosen_from: str
    alarms_wanted: float | None
    validation: Share
    test: Share
    recall: Share
    auroc: Estimate | None

    @property
    def sentence(self) -> str:
        """Say it in a sentence, for people; "" where there is no test row."""
        if self.threshold is None:
            if self.alarms_wanted is None:
                return "text from elsewhere is not told."
            return (
                f"text from elsewhere is not told: {self.validation.rows:,} validation rows are too few to be wrong "
                f"about at most {100 * self.alarms_wanted:.3g} % of your own rows."
            )
        if self.test.share is None:
            return ""
        said = f"{self.test.share.value:.1%} of the test rows are called foreign"
        if self.recall.share is None or self.auroc is None:
            return f"{said}; how many foreign texts are found is not known, as none are labelled."
        return (
            f"{said}, and {self.recall.share.value:.1%} of {self.recall.rows:,} foreign ones "
            f"(AUROC {self.auroc.value:.3f})."
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `scores.json` keeps under `out_of_scope`."""
        foreign = {**self.recall.as_json("recall"), **named("auroc", self.auroc)} if self.recall.rows else None
        return {
            "score": self.score,
            "threshold": self.threshold,
            "chosen_from": self.chosen_from,
            "sentence": self.sentence,
            "alarms_wanted": self.alarms_wanted,
            "validation": self.validation.as_json("alarms"),
            "test": self.test.as_json("alarms"),
            "foreign": foreign,
        }


def measure_scope(
    scope: Scope, *, validation: Array, test: Array, foreign: Array | None = None, alarms: float | None = None
) -> ScopeFigures:
    """Measure a scope whose threshold is chosen.

    Args:
        scope: With its threshold.
        validation: Scores of validation rows that are at home, `(rows,)`.
        test: Scores of test rows that are at home.
        foreign: Scores of test rows that are labelled as foreign; None where there are none.
        alarms: The share that was asked for; it is left out where labelled rows chose the threshold.
    """
    others = np.zeros(0) if foreign is None else foreign
    return ScopeFigures(
        score=scope.name,
        threshold=scope.threshold if np.isfinite(scope.threshold) else None,
        chosen_from=scope.chosen_from,
        alarms_wanted=alarms if scope.chosen_from != "labelled" else None,
        validation=Share.of(scope.is_foreign(validation)),
        test=Share.of(scope.is_foreign(test)),
        recall=Share.of(scope.is_foreign(others)),
        auroc=auroc(test, others) if len(test) and len(others) else None,
    )


def auroc(own: Array, foreign: Array) -> Estimate:
    """Say how often a foreign row has the higher score, ties counting half, with the interval of DeLong et al. 1988.

    Where the two are wholly apart that interval has no width; Wilson's for as many successes as the smaller side has
    rows stands in.

    Args:
        own: Scores of rows at home, at least one.
        foreign: Scores of the others, at least one.
    """
    ranks = rankdata(np.concatenate([own, foreign]))
    below = (ranks[len(own) :] - rankdata(foreign)) / len(own)  # of each foreign row: own rows below it
    above = 1 - (ranks[: len(own)] - rankdata(own)) / len(foreign)  # of each own row: foreign rows above it
    value = float(below.mean())
    error = float(np.sqrt(_spread(below) / len(below) + _spread(above) / len(above)))
    if error == 0:
        few = min(len(own), len(foreign))
        return replace(wilson(round(value * few), few), value=value)
    margin = float(ndtri((1 + CONFIDENCE) / 2)) * error
    return Estimate(value, max(0.0, value - margin), min(1.0, value + margin))


def named(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """Lay an estimate out as name, name_low and name_high.

    >>> named("recall", None)
    {'recall': None, 'recall_low': None, 'recall_high': None}
    """
    values = (None, None, None) if estimate is None else (estimate.value, estimate.low, estimate.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _spread(values: Array) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
