"""Scores: everything there is to say about one set of answers whose truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np

from bertsmith.evaluation.intervals import Estimate, bootstrap, percentiles
from bertsmith.evaluation.resampling import drawn_rows
from bertsmith.tasks.protocol import Array, Decision, Rows, Task

MEASURED_RESAMPLES = 100
MEASURED_ROWS = 20_000
"""Up to so many rows a metric that no sums suffice for is measured anew on resamples; beyond, it has no interval."""


def score(task: Task, rows: Rows, probabilities: Array, decision: Decision, *, seed: int) -> dict[str, Any]:
    """Score answers: each metric with a 95 % interval, and what else the task has to say of them.

    A metric that is neither counted nor a mean over rows, nor estimated by the task itself in its detail, is
    measured anew on 100 resamples of the rows; on more than 20 000 rows its interval is null.

    Args:
        task: Says which metrics there are, and computes them.
        rows: At least one row, with gold answers.
        probabilities: One row a unit, as the task makes them, float64.
        decision: What was tuned, as `decode` takes it.
        seed: The same seed gives the same intervals.

    Returns:
        `test` of scores.json: `rows`, each metric with `value`, `low` and `high`, and the task's detail.

    Raises:
        ValueError: There are no rows.
    """
    if not len(rows):
        raise ValueError("metrics need at least one row.")
    statistics = task.statistics(rows, probabilities, decision)
    found = bootstrap(statistics, task.counted, seed=seed, shares=task.shares, losses=task.loss_metrics)
    metrics: dict[str, Any] = {name: estimate.as_json() for name, estimate in found.items()}
    detail = task.detail(rows, probabilities, decision)
    measured = [name for name in task.metrics if name not in found and name not in detail]
    if measured:
        metrics |= _measured(task, rows, probabilities, measured, strata=statistics.strata, seed=seed)
    return {"rows": len(rows), **{name: metrics[name] for name in task.metrics if name in metrics}, **detail}


def _measured(
    task: Task, rows: Rows, probabilities: Array, names: list[str], *, strata: Array, seed: int
) -> dict[str, dict[str, float | None]]:
    """Measure metrics on the rows, and on resamples of them where that is affordable."""
    values = task.measure(rows, probabilities)
    if len(rows) > MEASURED_ROWS:
        return {name: {"value": float(values[name]), "low": None, "high": None} for name in names}
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(MEASURED_RESAMPLES):
        picked = drawn_rows(strata, generator)
        again = task.measure(rows.take(picked), probabilities[rows.encoded.flat(picked)])
        for name in names:
            drawn[name].append(float(again[name]))
    estimates = {name: percentiles(float(values[name]), np.array(drawn[name])) for name in names}
    return {name: _plain(estimate) for name, estimate in estimates.items()}


def _plain(estimate: Estimate) -> dict[str, float | None]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
