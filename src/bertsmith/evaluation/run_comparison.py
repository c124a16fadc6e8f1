"""Compare runs by what they answered to the same test rows: which is better, by how much, or is it chance?

Many pairs are looked at, so each has to pass more: the intervals of all differences hold at once (Bonferroni: of
m pairs each has 1 - 0.05 / m), and McNemar's tests are corrected by Holm's method (1979). One run is called better
than another only where its interval leaves out zero and, where the metric is the share of right answers, the
corrected test agrees. So if no two runs differ, some are said to in at most about 5 % of such comparisons.

On a handful of rows no difference can show: if runs are equally good, each row favours one or the other as a coin
does, and of n rows all favour the same one with a chance of 2 / 2^n. Where that is too likely, nobody is called better.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith.errors import UsageError
from bertsmith.evaluation.answered import Answered, matched, read_answered, statistics_of
from bertsmith.evaluation.compare import Comparison, compare_statistics
from bertsmith.evaluation.holm import holm
from bertsmith.evaluation.intervals import CONFIDENCE, Estimate, as_json, bootstrap
from bertsmith.tasks.protocol import Statistics, Task


@dataclass(frozen=True)
class ScoredRun:
    """A run on the rows that all runs answered.

    Attributes:
        name: What it is called: the last part of its path.
        path: Its folder.
        test_rows: Rows on its own test side.
        metrics: Metric → estimate with a 95 % interval of its own.
        seeds: `seeds` of its scores.json; None where it was trained once.
    """

    name: str
    path: Path
    test_rows: int
    metrics: Mapping[str, Estimate]
    seeds: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the run as `compare --json` has it."""
        return {
            "name": self.name,
            "path": self.path.as_posix(),
            "test_rows": self.test_rows,
            "metrics": as_json(self.metrics),
            "seeds": self.seeds,
        }


@dataclass(frozen=True)
class RunPair:
    """Two runs.

    Attributes:
        comparison: The second (ours) against the first (theirs), with simultaneous intervals and the corrected p.
        p_value: McNemar's before correction; None where rows are not right or wrong.
        rows_needed: Rows on which a difference could show.
    """

    comparison: Comparison
    p_value: float | None
    rows_needed: int = 0

    @property
    def can_tell(self) -> bool:
        """Whether there are so many rows that a difference could show."""
        return self.comparison.rows >= self.rows_needed

    @property
    def better(self) -> Comparison | None:
        """The pair seen from the better run; None where they do not differ, or rows are too few to tell."""
        if not self.can_tell:
            return None
        seen = {"better": self.comparison, "worse": self.comparison.turned(), "no difference": None}
        return seen[self.comparison.verdict]

    def as_json(self) -> dict[str, Any]:
        """Return the pair as `compare --json` has it; `metrics` are `b` minus `a`."""
        found, who, better = self.comparison, self.comparison.disagreement, self.better
        return {
            "a": found.name,
            "b": found.ours_name,
            "metrics": as_json(found.differences),
            "only_a_right": None if who is None else who.only_theirs,
            "only_b_right": None if who is None else who.only_ours,
            "mcnemar_p": self.p_value,
            "mcnemar_p_corrected": None if who is None else who.p_value,
            "better": None if better is None else better.ours_name,
            "sentence": (better or found).sentence if self.can_tell else self.too_few,
        }

    @property
    def too_few(self) -> str:
        """The words for too few rows."""
        rows = f"{self.comparison.rows:,}, and on fewer than {self.rows_needed:,}"
        return f"too few common rows to tell: {rows} no difference could show"


@dataclass(frozen=True)
class RunComparison:
    """Runs compared with each other.

    Attributes:
        task: Name of the task of all of them.
        rows: Test rows that all of them answered.
        runs: The runs, as they were named.
        pairs: Every two of them, in that order.
        shares: Metrics that are shares, which are told in points.
        lower_is_better: True where the first metric is a loss.
        notes: What else to know, a sentence each.
    """

    task: str
    rows: int
    runs: tuple[ScoredRun, ...]
    pairs: tuple[RunPair, ...]
    shares: frozenset[str]
    lower_is_better: bool
    notes: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return self.pairs[0].comparison.metric

    @property
    def leader(self) -> str:
        """Name of the run with the best value, which need not differ from the others."""
        best = min if self.lower_is_better else max
        return best(self.runs, key=lambda run: run.metrics[self.metric].value).name

    @property
    def sentence(self) -> str:
        """What it comes to: who is better than whom, that the runs do not differ, or that it cannot be told."""
        if not self.pairs[0].can_tell:
            return self.pairs[0].too_few
        better = [each for each in (pair.better for pair in self.pairs) if each is not None]
        ahead = [each for each in better if each.ours_name == self.leader]
        if ahead:
            return self._leads(ahead)
        if better:
            # The best value may be too unsure to differ from any, while two others do differ.
            return "; ".join(each.sentence for each in better) + "; no other two of these runs differ"
        return self._level()

    def as_json(self) -> dict[str, Any]:
        """Return what `compare --json` prints."""
        return {
            "task": self.task,
            "rows": self.rows,
            "rows_needed": self.pairs[0].rows_needed,
            "metric": self.metric,
            "runs": [run.as_json() for run in self.runs],
            "pairs": [pair.as_json() for pair in self.pairs],
            "notes": list(self.notes),
            "sentence": self.sentence,
        }

    def _leads(self, ahead: Sequence[Comparison]) -> str:
        beaten = " and ".join(f"than {each.name} by {each.amount}" for each in ahead)
        behind = {each.name for each in ahead} | {self.leader}
        level = [run.name for run in self.runs if run.name not in behind]
        return f"{self.leader} is better {beaten}" + (
            f"; it does not differ from {' and '.join(level)}" if level else ""
        )

    def _level(self) -> str:
        found = max((pair.comparison for pair in self.pairs), key=lambda each: abs(each.differences[self.metric].value))
        which = f"{found.ours_name} minus {found.name}"
        which = which if len(self.pairs) == 1 else f"the largest difference, {which},"
        return f"these runs do not differ: {which} is {found.difference}"


def compare_runs(paths: Sequence[Path], *, seed: int = 0) -> RunComparison:
    """Compare runs by their answers to the test rows that all of them have; no model is loaded.

    Args:
        paths: Two or more folders of runs that came to their end.
        seed: The same seed gives the same intervals.

    Raises:
        UsageError: There are fewer than two runs, one is named twice or is no finished run, or their tasks differ.
        DataError: They share no test row, or their files cannot be read.
    """
    if len(paths) < 2:
        raise UsageError(
            f"two runs or more are compared; {len(paths) or 'none'} was named.", tip="bertsmith compare RUN RUN"
        )
    runs = read_answered(paths)
    kept, notes = matched(runs)
    task, statistics = statistics_of(kept)
    notes += [f"{run.name}: {run.seeds['sentence']}" for run in runs if run.seeds]
    return RunComparison(
        task=task.name,
        rows=len(kept[0]),
        runs=tuple(_scored(task, run, found, seed) for run, found in zip(runs, statistics, strict=True)),
        pairs=compare_pairs(task, [run.name for run in runs], statistics, seed=seed),
        shares=task.shares,
        lower_is_better=task.compared[0] in task.loss_metrics,
        notes=tuple(notes),
    )


def compare_pairs(
    task: Task, names: Sequence[str], statistics: Sequence[Statistics], *, seed: int
) -> tuple[RunPair, ...]:
    """Compare every two of several models, the later one against the earlier one.

    Args:
        task: Says by what.
        names: What the models are called.
        statistics: The outcomes of each one's answers to the same rows, as the task makes them.
        seed: The same seed gives the same intervals.
    """
    places = list(itertools.combinations(range(len(names)), 2))
    found = [
        compare_statistics(
            task,
            statistics[second],
            statistics[first],
            name=names[first],
            ours_name=names[second],
            seed=seed,
            confidence=1 - (1 - CONFIDENCE) / len(places),
        )
        for first, second in places
    ]
    return _corrected(found)


def rows_needed(pairs: int) -> int:
    """Say on how many rows a difference could show, if all of them favour the same run.

    Args:
        pairs: How many differences are looked at.

    >>> rows_needed(1), rows_needed(3)
    (6, 7)
    """
    return math.ceil(1 + math.log2(pairs / (1 - CONFIDENCE)))


def _scored(task: Task, run: Answered, statistics: Statistics, seed: int) -> ScoredRun:
    found = bootstrap(statistics, task.counted, seed=seed, shares=task.shares, losses=task.loss_metrics)
    return ScoredRun(run.name, run.path, len(run), {name: found[name] for name in task.compared}, run.seeds)


def _corrected(found: Sequence[Comparison]) -> tuple[RunPair, ...]:
    """Put Holm's p-values in the place of McNemar's, and keep those beside."""
    tested = [each.disagreement for each in found if each.disagreement is not None]
    needed = rows_needed(len(found))
    if len(tested) < len(found):
        return tuple(RunPair(each, None, needed) for each in found)
    corrected = holm(np.array([each.p_value for each in tested])).tolist()
    return tuple(
        RunPair(replace(each, disagreement=replace(who, p_value=p_value)), who.p_value, needed)
        for each, who, p_value in zip(found, tested, corrected, strict=True)
    )
