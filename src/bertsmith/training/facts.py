"""The facts of a run that its history does not tell: what is planned, and what answering without reading comes to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertsmith import ranks
from bertsmith.recipe import Recipe
from bertsmith.tasks import Metrics, Rows, Task

_TRAINING_LOSSES = ("log_loss", "mse")
"""Validation metrics in the unit of the training loss."""


@dataclass(frozen=True)
class Facts:
    """What the rules need to know of a run besides its history.

    Attributes:
        steps: Optimizer steps that are planned.
        learning_rate: The highest.
        patience: Validations without a better metric after which the run stops; 0 never.
        metric: Name of the validation metric that chooses the best epoch.
        greater_is_better: False where that metric is a loss.
        loss: Name of the validation metric that is the training loss on other rows; None where there is none.
        baseline: `metric` of answering without reading (label shares, the mean) on the validation rows.
        chance: Training loss of answering without reading; None where it is not known.
        rows_per_step: Rows of an effective batch, in all processes.
        possible: Rows a second that their matrix products alone would allow; None where unknown.
        strategy: What is trained, as in the recipe.
    """

    steps: int
    learning_rate: float
    patience: int = 0
    metric: str = ""
    greater_is_better: bool = True
    loss: str | None = None
    baseline: float | None = None
    chance: float | None = None
    rows_per_step: int = 1
    possible: float | None = None
    strategy: str = "full"


def facts_of(
    task: Task, rows: Rows, validation: Rows | None, *, recipe: Recipe, steps: int, possible: float | None = None
) -> Facts:
    """Gather the facts of a run.

    Args:
        task: Knows metrics, and the model that never looks at its inputs.
        rows: What is learned from.
        validation: What chooses the best epoch, if anything.
        recipe: Resolved.
        steps: Optimizer steps that are planned.
        possible: Rows a second that the matrix products of one process alone would allow: the probed peak over
            `train_flops` of a row.
    """
    settings = recipe.fit
    known = validation is not None and len(validation) > 0
    blind = answer_blindly(task, rows, validation) if validation is not None and known else {}
    loss = next((name for name in task.metrics if name in _TRAINING_LOSSES and name in task.loss_metrics), None)
    bent = settings.label_smoothing > 0 or settings.class_weights != "none" or np.ptp(rows.weights) > 0
    return Facts(
        steps=steps,
        learning_rate=float(settings.learning_rate),
        patience=settings.patience,
        metric=settings.metric,
        greater_is_better=settings.metric not in task.loss_metrics,
        loss=loss if known else None,
        baseline=blind.get(settings.metric),
        # Smoothed or weighted losses are no plain means, as those of the validation rows are.
        chance=None if bent or loss is None else blind.get(loss),
        rows_per_step=settings.batch_size * settings.accumulate * ranks.count(),
        possible=None if possible is None else possible * ranks.count(),
        strategy=settings.strategy,
    )


def answer_blindly(task: Task, rows: Rows, validation: Rows) -> Metrics:
    """Measure the answers of a model that never looks at its inputs; {} where a task has no such rung."""
    if "majority" not in task.rungs or not len(rows.targets):
        return {}
    outputs = len(rows.labels)
    blind = task.fit_constant(rows.targets, rows.unit_weights)
    nothing = np.zeros((int(validation.encoded.units[-1]), 1), dtype=np.float32)
    return task.measure(validation, task.linear_probabilities(blind, nothing, outputs=outputs))
