"""Runs on disk without a training: the files that a run writes, from answers that are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith import record
from bertsmith.atomic import write_json
from bertsmith.examples import LabelSet
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows, Task
from bertsmith.tasks.single_label import SingleLabel
from tests.tasks.made import examples_of, rows_of

Array = np.ndarray[Any, Any]


def write_run(
    path: Path,
    task: Task,
    rows: Rows,
    probabilities: Array,
    *,
    decision: Mapping[str, Any] | None = None,
    texts: bool = True,
    **other: Any,
) -> Path:
    """Write what `compare` reads of a run; `other` is what scores.json holds besides, or the fingerprint."""
    run = RunFolder(path)
    path.mkdir(parents=True)
    answers = task.decode(rows, probabilities, decision or {})
    record.write_predictions(run, task, {"test": rows}, {"test": answers}, texts=texts)
    write_json(run.data, {"fingerprint": other.pop("fingerprint", "f")})
    record.write_scores(
        run, {"task": task.name, "labels": list(rows.labels.names), "decision": decision or {}, **other}
    )
    run.finish()
    return path


def labelled(gold: Sequence[str], *, names: Sequence[str] = ("bad", "good"), **columns: Any) -> Rows:
    """Make rows with these labels."""
    return rows_of(SingleLabel(), examples_of(label=list(gold), **columns), LabelSet(tuple(names)))


def write_labelled(path: Path, gold: Sequence[str], given: Sequence[str], **more: Any) -> Path:
    """Write a run of one label a row that gave these answers; `more` is for `labelled` or `write_run`."""
    columns = {name: more.pop(name) for name in ("names", "text", "text_pair", "file", "row") if name in more}
    rows = labelled(gold, **columns)
    sure = np.eye(len(rows.labels))[rows.labels.ids(list(given))] * 0.9 + 0.1 / len(rows.labels)
    return write_run(path, more.pop("task", SingleLabel()), rows, sure / sure.sum(axis=1, keepdims=True), **more)


def right_on(rows: int, right: slice) -> list[str]:
    """Answer rows whose label is good: rightly on a slice."""
    given = ["bad"] * rows
    given[right] = ["good"] * len(range(*right.indices(rows)))
    return given
