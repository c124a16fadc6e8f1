"""What differs between tasks and nothing else, behind one protocol (`protocol.py`)."""

import difflib

from bertsmith.errors import RecipeError, UsageError
from bertsmith.tasks.protocol import Metrics, Task
from bertsmith.tasks.single_label import SingleLabel

_TASKS: dict[str, type[Task]] = {SingleLabel.name: SingleLabel}


def task_named(name: str) -> Task:
    """Return a task by its name.

    Raises:
        UsageError: There is no such task.
    """
    if name not in _TASKS:
        raise UsageError(f"unknown task {name!r}. Known are {', '.join(_TASKS)}.")
    return _TASKS[name]()


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


__all__ = ["Metrics", "SingleLabel", "Task", "check_metric", "task_named"]
