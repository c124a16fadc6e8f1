"""What differs between tasks and nothing else, behind one protocol (`protocol.py`)."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence

from bertsmith.errors import RecipeError, UsageError
from bertsmith.tasks.protocol import Answer, Decision, Metrics, Rows, Statistics, Task

_TASKS = {
    "single-label": ("single_label", "SingleLabel"),
    "multi-label": ("multi_label", "MultiLabel"),
    "ordered": ("ordered", "Ordered"),
    "regression": ("regression", "Regression"),
    "token-labels": ("token_labels", "TokenLabels"),
    "question-answering": ("question_answering", "QuestionAnswering"),
}
ROLES = {
    "single-label": "label",
    "multi-label": "labels",
    "ordered": "label",
    "regression": "value",
    "token-labels": "tags",
    "question-answering": "answers",
}
"""Task → the canonical column of its gold answers."""
DEFAULT_TASKS = {
    "label": "single-label",
    "labels": "multi-label",
    "value": "regression",
    "tags": "token-labels",
    "answers": "question-answering",
}
"""Canonical column of gold answers → the task that is taken where none was named."""


def task_named(name: str, *, levels: Sequence[str] = ()) -> Task:
    """Return a task by its name.

    Args:
        name: As `train --task` calls it.
        levels: Labels from least to most, for a task whose labels have an order; empty where numbers tell it.

    Raises:
        UsageError: There is no such task, or it has no order.
    """
    if name not in _TASKS:
        raise UsageError(f"unknown task {name!r}. Known are {', '.join(_TASKS)}.")
    module, made = _TASKS[name]
    task = getattr(importlib.import_module(f"bertsmith.tasks.{module}"), made)
    if levels and name != "ordered":
        raise UsageError(f"'levels' are for the task ordered; this is {name}.", tip="Add --task ordered.")
    found: Task = task(tuple(levels)) if levels else task()
    return found


def check_metric(name: str, task: Task) -> None:
    """Refuse a metric that does not exist: early stopping would be off and say nothing.

    Raises:
        RecipeError: The task has no such metric.
    """
    if name not in task.metrics:
        near = difflib.get_close_matches(name, task.metrics, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RecipeError(
            f"'metric' must be one of {', '.join(task.metrics)} for a {task.name} model. Got {name!r} instead.{hint}"
        )


__all__ = [
    "DEFAULT_TASKS",
    "ROLES",
    "Answer",
    "Decision",
    "Metrics",
    "Rows",
    "Statistics",
    "Task",
    "check_metric",
    "task_named",
]
