"""Compare two models on the same rows: is one better, by how much, or is it chance?

Paired: both answered the same texts, so only the rows where they disagree count. The difference in accuracy
is resampled from the 2x2 table of who was right, that in macro-F1 from the counts of (gold, ours, theirs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import bdtr

from bertsmith.evaluation.intervals import CONFIDENCE, RESAMPLES, Estimate, percentiles, wilson
from bertsmith.tasks.classification_metrics import Counts, confusion_matrix, counted_metrics

Array = np.ndarray[Any, Any]
Verdict = Literal["better", "worse", "no difference"]


@dataclass(frozen=True)
class Comparison:
    """Ours against theirs on the same rows.

    Attributes:
        name: What theirs is called.
        ours_name: What ours is called.
        rows: Rows that both answered.
        accuracy: Accuracy of ours minus theirs, with its 95 % interval.
        macro_f1: Macro-F1 of ours minus theirs, with its 95 % interval.
        only_ours: Rows that only ours answered right.
        only_theirs: Rows that only theirs answered right.
        p_value: McNemar's exact test, two-sided.
    """

    name: str
    ours_name: str
    rows: int
    accuracy: Estimate
    macro_f1: Estimate
    only_ours: int
    only_theirs: int
    p_value: float

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where the accuracy's interval and McNemar's test both say so."""
        if self.p_value > 1 - CONFIDENCE or self.accuracy.low <= 0 <= self.accuracy.high:
            return "no difference"
        return "better" if self.accuracy.value > 0 else "worse"

    @property
    def sentence(self) -> str:
        """The verdict in words, in points of accuracy."""
        low, high = 100 * self.accuracy.low, 100 * self.accuracy.high
        points = 100 * self.accuracy.value
        if self.verdict == "no difference":
            return (
                f"{self.ours_name} does not differ from {self.name}: "
                f"{points:+.1f} points of accuracy [{low:.1f}, {high:.1f}]"
            )
        if self.verdict == "worse":
            low, high = -high, -low
        return (
            f"{self.ours_name} is {self.verdict} than {self.name} "
            f"by {abs(points):.1f} points of accuracy [{low:.1f}, {high:.1f}]"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as `scores.json` has it."""
        return {
            "name": self.name,
            "rows": self.rows,
            "accuracy": self.accuracy.as_json(),
            "macro_f1": self.macro_f1.as_json(),
            "only_ours_right": self.only_ours,
            "only_theirs_right": self.only_theirs,
            "mcnemar_p": self.p_value,
            "verdict": self.verdict,
            "sentence": self.sentence,
        }


def compare(
    targets: Array, ours: Array, theirs: Array, *, name: str, seed: int, ours_name: str = "fine-tuning"
) -> Comparison:
    """Compare the answers of two models to the same rows.

    Args:
        targets: Positions of the right labels, int64 `(rows,)`; at least one row.
        ours: Our probabilities, `(rows, labels)`.
        theirs: Theirs, of the same shape.
        name: What theirs is called.
        seed: The same seed gives the same intervals.
        ours_name: What ours is called.
    """
    generator = np.random.default_rng(seed)
    guesses = ours.argmax(axis=1), theirs.argmax(axis=1)
    we, they = (guess == targets for guess in guesses)
    only_ours, only_theirs = int((we & ~they).sum()), int((they & ~we).sum())
    return Comparison(
        name=name,
        ours_name=ours_name,
        rows=len(targets),
        accuracy=_accuracy_difference(only_ours, only_theirs, len(targets), generator),
        macro_f1=_macro_f1_difference(targets, *guesses, classes=ours.shape[1], generator=generator),
        only_ours=only_ours,
        only_theirs=only_theirs,
        p_value=mcnemar(only_ours, only_theirs),
    )


def mcnemar(only_ours: int, only_theirs: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (a fair coin over the rows where one is right)."""
    if only_ours == only_theirs:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_ours, only_theirs), only_ours + only_theirs, 0.5)))


def _accuracy_difference(only_ours: int, only_theirs: int, rows: int, generator: np.random.Generator) -> Estimate:
    if only_ours == only_theirs == 0:
        return _nothing_seen(rows)
    table = np.array([only_ours, only_theirs, rows - only_ours - only_theirs])
    drawn = generator.multinomial(rows, table / rows, size=RESAMPLES)
    return percentiles((only_ours - only_theirs) / rows, (drawn[:, 0] - drawn[:, 1]) / rows)


def _macro_f1_difference(
    targets: Array, ours: Array, theirs: Array, *, classes: int, generator: np.random.Generator
) -> Estimate:
    """Resample the rows of each gold class as a multinomial draw of its (ours, theirs) pairs."""
    if np.array_equal(ours, theirs):
        return _nothing_seen(len(targets))
    support = np.bincount(targets, minlength=classes)
    right, guessed = np.zeros((2, 2, classes, RESAMPLES), np.int64)
    for gold in np.flatnonzero(support):
        of_class = targets == gold
        pairs, counts = np.unique(ours[of_class] * classes + theirs[of_class], return_counts=True)
        drawn = generator.multinomial(support[gold], counts / support[gold], size=RESAMPLES)
        for model, guesses in enumerate((pairs // classes, pairs % classes)):
            np.add.at(guessed[model], guesses, drawn.T)
            right[model, gold] = drawn[:, guesses == gold].sum(axis=1)
    drawn_f1 = [counted_metrics(Counts(right[model].T, support, guessed[model].T))["macro_f1"] for model in (0, 1)]
    values = [
        counted_metrics(Counts.of(confusion_matrix(targets, guess, classes)))["macro_f1"] for guess in (ours, theirs)
    ]
    return percentiles(values[0] - values[1], drawn_f1[0] - drawn_f1[1])


def _nothing_seen(rows: int) -> Estimate:
    """Resamples of no disagreement show none; what may have been missed is Wilson's bound for 0 of n."""
    missed = wilson(0, rows).high
    return Estimate(0.0, -missed, missed)
