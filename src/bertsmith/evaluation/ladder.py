"""The ladder judged: how far each cheap rung comes, and whether fine-tuning was worth it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertsmith.evaluation.compare import Comparison, compare
from bertsmith.evaluation.scores import score
from bertsmith.tasks.protocol import Array, Decision, Rows, Task

if TYPE_CHECKING:
    from bertsmith.baselines import Rung


def judge(task: Task, rows: Rows, probabilities: Array, decision: Decision, *, seed: int) -> dict[str, Any] | None:
    """Score answers as `scores.json` has them; None where there is nothing to score."""
    return score(task, rows, probabilities, decision, seed=seed) if len(rows) else None


def against_ladder(
    task: Task, rows: Rows, ours: Array, decision: Decision, rungs: Sequence[Rung], *, seed: int
) -> dict[str, Comparison]:
    """Compare the fine-tuned model with each rung, row by row; empty where there are no test rows.

    Args:
        task: Says by what they are compared.
        rows: The test rows.
        ours: The fine-tuned model's probabilities, one row a unit.
        decision: What was tuned for it; each rung brings its own.
        rungs: The rungs of the ladder.
        seed: The same seed gives the same intervals.
    """
    if not len(rows):
        return {}
    return {
        rung.name: compare(
            task,
            rows,
            ours,
            rung.probabilities,
            decision_ours=decision,
            decision_theirs=rung.decision,
            name=rung.name,
            seed=seed,
        )
        for rung in rungs
    }


def ladder_summary(
    task: Task,
    rungs: Sequence[Rung],
    judged: Sequence[Mapping[str, Any] | None],
    versus: Mapping[str, Comparison],
) -> dict[str, Any]:
    """Return the rungs as `scores.json` has them: scores (null without test rows), seconds, and the difference."""
    summary = {}
    for rung, scores in zip(rungs, judged, strict=True):
        summary[rung.name] = {
            **{name: None if scores is None else scores[name] for name in task.compared[:2]},
            "seconds": round(rung.seconds, 3),
            "detail": rung.detail,
            "decision": dict(rung.decision),
            "fine_tuning_minus_rung": versus[rung.name].as_json() if rung.name in versus else None,
        }
    return summary


def verdict(versus: Mapping[str, Comparison], *, kept: Collection[str]) -> str:
    """Say whether fine-tuning was worth it, against the best of the cheaper rungs; `kept` are those in the run."""
    if not versus:
        return ""
    best = min(versus.values(), key=lambda each: each.gain)
    usable = best.verdict != "better" and best.name in kept
    return best.sentence + (f"; the cheaper model is kept, use it with --rung {best.name}" if usable else "")
