"""The ladder judged: how far each cheap rung comes, and whether fine-tuning was worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertsmith.baselines import Rung
from bertsmith.evaluation.compare import Comparison, compare
from bertsmith.evaluation.scores import score
from bertsmith.examples import LabelSet
from bertsmith.tasks import Task

Array = np.ndarray[Any, Any]
_LADDER_SCORES = ("accuracy", "macro_f1")


def judge(task: Task, probabilities: Array, targets: Array, labels: LabelSet, *, seed: int) -> dict[str, Any] | None:
    """Score answers as `scores.json` has them; None where there is nothing to score."""
    return score(task, targets, probabilities, labels, seed=seed).as_json() if len(targets) else None


def against_ladder(ours: Array, targets: Array, rungs: Sequence[Rung], *, seed: int) -> dict[str, Comparison]:
    """Compare the fine-tuned model with each rung, row by row; empty where there are no test rows."""
    if not len(targets):
        return {}
    return {rung.name: compare(targets, ours, rung.probabilities, name=rung.name, seed=seed) for rung in rungs}


def ladder_summary(
    rungs: Sequence[Rung], judged: Sequence[Mapping[str, Any] | None], versus: Mapping[str, Comparison]
) -> dict[str, Any]:
    """Return the rungs as `scores.json` has them: scores (null without test rows), seconds, and the difference."""
    summary = {}
    for rung, scores in zip(rungs, judged, strict=True):
        summary[rung.name] = {
            **{name: None if scores is None else scores[name] for name in _LADDER_SCORES},
            "seconds": round(rung.seconds, 3),
            "detail": rung.detail,
            "fine_tuning_minus_rung": versus[rung.name].as_json() if rung.name in versus else None,
        }
    return summary


def verdict(versus: Mapping[str, Comparison]) -> str:
    """Say whether fine-tuning was worth it, against the best of the cheaper rungs."""
    if not versus:
        return ""
    best = min(versus.values(), key=lambda each: each.accuracy.value)
    cheaper = "" if best.verdict == "better" else f"; the cheaper model is kept, use it with --rung {best.name}"
    return best.sentence + cheaper
