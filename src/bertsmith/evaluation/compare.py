"""Compare two models on the same rows: is one better, by how much, or is it chance?

Paired: both answered the same rows, so what is resampled are pairs of outcomes. The difference in the share of
right answers is resampled from the 2x2 table of who was right, and has to pass McNemar's exact test as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import bdtr, ndtri

from bertsmith.evaluation.intervals import CONFIDENCE, Estimate, around, bootstrap_mean, percentiles, wilson
from bertsmith.evaluation.resampling import RESAMPLES, constant, drawn_sums
from bertsmith.evaluation.wording import in_prose
from bertsmith.tasks.protocol import Array, Decision, Rows, Statistics, Task

Verdict = Literal["better", "worse", "no difference"]


@dataclass(frozen=True)
class Disagreement:
    """Rows that one of two models answered right and the other one did not.

    Attributes:
        only_ours: Rows that only ours answered right.
        only_theirs: Rows that only theirs answered right.
        p_value: McNemar's exact test, two-sided.
        decides: True where the verdict's metric is the share of right answers, of which this is the test.
    """

    only_ours: int
    only_theirs: int
    p_value: float
    decides: bool

    def as_json(self) -> dict[str, Any]:
        """Return the counts as `scores.json` has them."""
        return {
            "only_ours_right": self.only_ours,
            "only_theirs_right": self.only_theirs,
            "mcnemar_p": self.p_value,
        }


@dataclass(frozen=True)
class Comparison:
    """Ours against theirs on the same rows.

    Attributes:
        name: What theirs is called.
        ours_name: What ours is called.
        rows: Rows that both answered.
        differences: Metric → ours minus theirs, with its 95 % interval; the first one decides.
        share: True where the first metric is a share, which is told in points.
        lower_is_better: True where the first metric is a loss.
        disagreement: Who was right where; None where rows are not right or wrong.
    """

    name: str
    ours_name: str
    rows: int
    differences: Mapping[str, Estimate]
    share: bool = True
    lower_is_better: bool = False
    disagreement: Disagreement | None = None

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return next(iter(self.differences))

    @property
    def gain(self) -> float:
        """How much better ours is, in the metric that decides; negative where it is worse."""
        value = self.differences[self.metric].value
        return -value if self.lower_is_better else value

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where the interval says so, and McNemar's test where it is of the same metric."""
        difference, deciding = self.differences[self.metric], self.disagreement
        by_chance = deciding is not None and deciding.decides and deciding.p_value > 1 - CONFIDENCE
        if by_chance or difference.low <= 0 <= difference.high:
            return "no difference"
        return "better" if self.gain > 0 else "worse"

    @property
    def sentence(self) -> str:
        """The verdict in words: in points of a share, in plain numbers of anything else."""
        if self.verdict == "no difference":
            return f"{self.ours_name} does not differ from {self.name}: {self.difference}"
        return f"{self.ours_name} is {self.verdict} than {self.name} by {self.amount}"

    @property
    def difference(self) -> str:
        """Ours minus theirs in words, with its sign and interval."""
        each = self.differences[self.metric]
        value, low, high = self._worded(each.value, each.low, each.high)
        sign = "" if each.value < 0 else "+"
        return f"{sign}{value}{self._unit} [{low}, {high}]"

    @property
    def amount(self) -> str:
        """How far apart they are in words, without a sign, with its interval."""
        each = self.differences[self.metric]
        ends = (each.low, each.high) if each.value > 0 else (-each.high, -each.low)
        value, low, high = self._worded(abs(each.value), *ends)
        return f"{value}{self._unit} [{low}, {high}]"

    def turned(self) -> Comparison:
        """Return the comparison seen from the other side: theirs against ours."""
        found = {name: Estimate(-each.value, -each.high, -each.low) for name, each in self.differences.items()}
        who = self.disagreement
        if who is not None:
            who = replace(who, only_ours=who.only_theirs, only_theirs=who.only_ours)
        return replace(self, name=self.ours_name, ours_name=self.name, differences=found, disagreement=who)

    @property
    def _unit(self) -> str:
        return f"{' points' if self.share else ''} of {in_prose(self.metric)}"

    def _worded(self, *numbers: float) -> list[str]:
        if self.share:
            return [f"{100 * number:.1f}" for number in numbers]
        digits = _digits(max(abs(number) for number in numbers))
        return [f"{number:.{digits}f}" for number in numbers]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as `scores.json` has it."""
        return {
            "name": self.name,
            "rows": self.rows,
            **{metric: difference.as_json() for metric, difference in self.differences.items()},
            **({} if self.disagreement is None else self.disagreement.as_json()),
            "verdict": self.verdict,
            "sentence": self.sentence,
        }


def compare(  # noqa: PLR0913 - two models, each with its answers and what was tuned for it
    task: Task,
    rows: Rows,
    ours: Array,
    theirs: Array,
    *,
    decision_ours: Decision,
    decision_theirs: Decision,
    name: str,
    seed: int,
    ours_name: str = "fine-tuning",
) -> Comparison:
    """Compare the answers of two models to the same rows, by every metric in `task.compared`.

    Args:
        task: Says by what, and counts.
        rows: At least one row, with gold answers.
        ours: Our probabilities, one row a unit.
        theirs: Theirs, of the same shape.
        decision_ours: What was tuned for ours.
        decision_theirs: What was tuned for theirs.
        name: What theirs is called.
        seed: The same seed gives the same intervals.
        ours_name: What ours is called.
    """
    return compare_statistics(
        task,
        task.statistics(rows, ours, decision_ours),
        task.statistics(rows, theirs, decision_theirs),
        name=name,
        seed=seed,
        ours_name=ours_name,
    )


def compare_statistics(  # noqa: PLR0913 - two models, and what they are called
    task: Task,
    ours: Statistics,
    theirs: Statistics,
    *,
    name: str,
    seed: int,
    ours_name: str = "fine-tuning",
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare two models by what is left of their answers to the same rows.

    Args:
        task: Says by what, and counts.
        ours: The outcomes of our answers to at least one row.
        theirs: Those of theirs, of the same rows in the same order.
        name: What theirs is called.
        seed: The same seed gives the same intervals.
        ours_name: What ours is called.
        confidence: Share of such intervals that would hold the truth; above 95 % where several hold at once.
    """
    pair = _Pair(task, ours, theirs, seed, confidence)
    differences, plain = pair.differences()
    deciding = task.compared[0]
    return Comparison(
        name=name,
        ours_name=ours_name,
        rows=pair.rows,
        differences=differences,
        share=deciding in task.shares,
        lower_is_better=deciding in task.loss_metrics,
        disagreement=pair.disagreement(decides=deciding in plain),
    )


def mcnemar(only_ours: int, only_theirs: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (a fair coin over the rows where one is right)."""
    if only_ours == only_theirs:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(only_ours, only_theirs), only_ours + only_theirs, 0.5)))


@dataclass(frozen=True)
class _Pair:
    """The outcomes of two models on the same rows."""

    task: Task
    ours: Statistics
    theirs: Statistics
    seed: int
    confidence: float = CONFIDENCE

    @property
    def rows(self) -> int:
        return len(self.ours.cells)

    @property
    def only(self) -> tuple[int, int] | None:
        """Rows that only ours, and that only theirs answered right."""
        if self.ours.right is None or self.theirs.right is None:
            return None
        return int((self.ours.right & ~self.theirs.right).sum()), int((self.theirs.right & ~self.ours.right).sum())

    def disagreement(self, *, decides: bool) -> Disagreement | None:
        return None if self.only is None else Disagreement(*self.only, mcnemar(*self.only), decides)

    def differences(self) -> tuple[dict[str, Estimate], frozenset[str]]:
        """Estimate every difference; also say which metrics are but the share of right answers."""
        ours, theirs = (self.task.counted(each.sums) for each in (self.ours, self.theirs))
        drawn, right = self._drawn()
        found: dict[str, Estimate] = {}
        plain = set()
        for name in self.task.compared:
            if name in self.ours.means:
                found[name] = self._mean(name)
            elif name in self.task.shares and right is not None and np.allclose(drawn[name], right, rtol=0, atol=1e-9):
                found[name] = self._of_right(name)
                plain.add(name)
            else:
                found[name] = self._interval(name, float(ours[name] - theirs[name]), drawn[name])
        return found, frozenset(plain)

    def _drawn(self) -> tuple[dict[str, Array], Array | None]:
        """Draw pairs of outcomes: each counted metric's difference, and that of right answers, `(resamples,)`."""
        cells, values = self._outcomes()
        width = self.ours.values.shape[1]
        found: dict[str, list[Array]] = {name: [] for name in self.task.compared if name not in self.ours.means}
        right: list[Array] = []
        for sums in drawn_sums(cells, values, self.ours.strata, np.random.default_rng(self.seed)):
            ours, theirs = self.task.counted(sums[:, :width]), self.task.counted(sums[:, width : 2 * width])
            right.append(sums[:, -1] / self.rows)
            for name, parts in found.items():
                parts.append(ours[name] - theirs[name])
        drawn = {name: np.concatenate(parts) for name, parts in found.items()}
        return drawn, None if self.only is None else np.concatenate(right)

    def _outcomes(self) -> tuple[Array, Array]:
        """Pair the outcomes: the pair of each row, and what each pair adds: ours, theirs, right answers more."""
        ours, theirs = self.ours, self.theirs
        codes = ours.cells * len(theirs.values) + theirs.cells
        pairs, cells = np.unique(codes, return_inverse=True)
        we, they = np.divmod(pairs, len(theirs.values))
        more = np.zeros(self.rows)
        if ours.right is not None and theirs.right is not None:
            more = ours.right.astype(np.float64) - theirs.right
        rate = np.bincount(cells, weights=more) / np.bincount(cells)
        return cells, np.column_stack([ours.values[we], theirs.values[they], rate])

    def _of_right(self, name: str) -> Estimate:
        """Resample the 2x2 table of who was right."""
        only_ours, only_theirs = self.only or (0, 0)
        table = np.array([only_ours, only_theirs, self.rows - only_ours - only_theirs])
        drawn = np.random.default_rng(self.seed).multinomial(self.rows, table / self.rows, size=RESAMPLES)
        return self._interval(name, (only_ours - only_theirs) / self.rows, (drawn[:, 0] - drawn[:, 1]) / self.rows)

    def _mean(self, name: str) -> Estimate:
        rows = np.asarray(self.ours.means[name], np.float64) - self.theirs.means[name]
        found = bootstrap_mean(rows, self.ours.strata, seed=self.seed)
        return self._widened(name, found) if found.low < found.high else self._interval(name, found.value, np.zeros(1))

    def _interval(self, name: str, value: float, drawn: Array) -> Estimate:
        """Resamples that agree show nothing; what may have been missed is Wilson's bound for 0 of n."""
        if not constant(drawn):
            return self._widened(name, percentiles(value, drawn))
        missed = wilson(0, self.rows, confidence=self.confidence).high
        if name in self.task.shares:
            return around(value, max(-1.0, value - missed), min(1.0, value + missed))
        # A correlation counts an error double; a loss has a unit of its own, in which rows say nothing.
        missed = 0.0 if name in self.task.loss_metrics else 2 * missed
        return Estimate(value, value - missed, value + missed)

    def _widened(self, name: str, each: Estimate) -> Estimate:
        """Draw the ends out by normal quantiles; 2 000 resamples do not show those of a 99.9 % interval."""
        if self.confidence == CONFIDENCE:
            return each
        by = float(ndtri((1 + self.confidence) / 2) / ndtri((1 + CONFIDENCE) / 2))
        low, high = (each.value + by * (end - each.value) for end in (each.low, each.high))
        most = 1.0 if name in self.task.shares else math.inf
        return Estimate(each.value, max(-most, low), min(most, high))


def _digits(largest: float) -> int:
    """Say how many decimals show three digits of the largest number, and thousandths of ordinary ones.

    >>> _digits(0.031), _digits(31.25), _digits(0.00031)
    (3, 1, 6)
    """
    if largest == 0 or 0.01 <= largest < 10:
        return 3
    return max(0, 2 - math.floor(math.log10(largest)))
