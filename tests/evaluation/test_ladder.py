"""The ladder says whether fine-tuning was worth it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bertsmith.evaluation.ladder import against_ladder, judge, ladder_summary, verdict
from tests.evaluation.fakes import GoldRows, LossFirst, Numbers

Array = np.ndarray[Any, Any]
GENERATOR = np.random.default_rng(1)
ROWS = GoldRows(GENERATOR.normal(size=300))


@dataclass(frozen=True)
class Rung:
    """What the ladder's judge needs of a rung."""

    name: str
    probabilities: Array
    decision: dict[str, Any] = field(default_factory=dict)
    detail: str = "made of nothing"
    seconds: float = 1.23456


def noisy(noise: float) -> Array:
    """Answer with so much noise."""
    return (ROWS.targets + noise * GENERATOR.normal(size=300))[:, None]


RUNGS = [Rung("majority", np.zeros((300, 1))), Rung("frozen", noisy(0.6))]


def test_fine_tuning_is_judged_against_the_best_rung() -> None:
    """The verdict is the comparison with the rung that comes nearest, whether more or less of the metric is better."""
    for task in (Numbers(), LossFirst()):
        versus = against_ladder(task, ROWS, noisy(0.2), {}, RUNGS, seed=1)
        assert list(versus) == ["majority", "frozen"]
        assert verdict(versus, kept=["frozen"]) == versus["frozen"].sentence
        assert versus["frozen"].verdict == "better"


def test_a_cheaper_model_that_is_not_worse_is_recommended() -> None:
    """Where fine-tuning is not better, the verdict says which rung to use."""
    versus = against_ladder(LossFirst(), ROWS, noisy(1.5), {}, RUNGS, seed=1)
    assert verdict(versus, kept=[]) == versus["frozen"].sentence
    assert verdict(versus, kept=["frozen"]) == (
        f"{versus['frozen'].sentence}; the cheaper model is kept, use it with --rung frozen"
    )


def test_a_rung_brings_its_own_decision() -> None:
    """What was tuned for a rung shifts its answers, not ours."""
    ours = noisy(0.2)
    shifted = [Rung("frozen", ours, {"shift": 3.0})]
    found = against_ladder(LossFirst(), ROWS, ours, {}, shifted, seed=1)["frozen"]
    assert found.verdict == "better"
    assert found.gain > 5


def test_the_summary_has_the_compared_metrics_of_each_rung() -> None:
    """Each rung has its first two compared metrics, seconds, detail, the difference and what was tuned for it."""
    task = Numbers()
    judged = [judge(task, ROWS, each.probabilities, each.decision, seed=1) for each in RUNGS]
    versus = against_ladder(task, ROWS, noisy(0.2), {}, RUNGS, seed=1)
    found = ladder_summary(task, RUNGS, judged, versus)
    assert judged[1] is not None
    assert found["frozen"] == {
        "pearson": judged[1]["pearson"],
        "mse": judged[1]["mse"],
        "seconds": 1.235,
        "detail": "made of nothing",
        "fine_tuning_minus_rung": versus["frozen"].as_json(),
        "decision": {},
    }


def test_without_test_rows_there_is_nothing_to_say() -> None:
    """No rows: no scores, no comparisons, no verdict, and rungs with nulls."""
    none = GoldRows(np.zeros(0))
    assert judge(Numbers(), none, np.zeros((0, 1)), {}, seed=1) is None
    assert against_ladder(Numbers(), none, np.zeros((0, 1)), {}, RUNGS, seed=1) == {}
    assert verdict({}, kept=[]) == ""
    found = ladder_summary(Numbers(), RUNGS[:1], [None], {})["majority"]
    assert (found["pearson"], found["mse"], found["fine_tuning_minus_rung"]) == (None, None, None)
