"""evaluate: a finished run scored again, on its own test rows or on other labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith import record, run_folder, threads
from bertsmith.data.files import open_batches
from bertsmith.data.read import read
from bertsmith.data.roles import as_settings
from bertsmith.evaluation.ladder import judge
from bertsmith.inference.predictor import load
from bertsmith.listener import Listener, Silent
from bertsmith.recipe import Read, Recipe
from bertsmith.tasks import Rows

Array = np.ndarray[Any, Any]


def evaluate(path: Path, data: Any = None, *, recipe: Recipe, listener: Listener | None = None) -> dict[str, Any]:
    """Score a run: on its own test rows (as scored once, at its end), or on other labelled rows.

    Args:
        path: The run.
        data: Labelled rows, as for `train`; None for the run's own test rows.
        recipe: Its `[read]` names columns where they are not those of the training data; its `device` is used.
        listener: Warned when the rows are those that the run learned from.

    Returns:
        `task`, `labels`, `source`, and `test` as in scores.json.

    Raises:
        BertsmithError: There is no such run, or the rows cannot be read or have labels that it does not know.
    """
    run = run_folder.open_run(path)
    stored = run.read_json(run.scores)
    if data is None:
        return {key: stored[key] for key in ("task", "labels", "test")} | {"source": f"test rows of {path}"}
    threads.limit_libraries(threads.resolve(recipe.run.threads))
    known = run.read_json(run.data)
    predictor = load(run.model, device=recipe.run.device)
    task = predictor.task
    learned = Recipe.load(run.recipe).read
    same = {name: getattr(recipe.read, name) or getattr(learned, name) for name in ("labels_separator", "levels")}
    wanted = recipe.read.model_copy(update={"task": task.name, **same})
    examples = read(data, _same_columns(wanted, data, known["columns"]), labelled=False)
    task.require(examples, predictor.labels)
    if record.data_fingerprint(examples) == known["fingerprint"]:
        (listener or Silent()).warn(
            "these are the rows that the run learned from: the scores say nothing about new text."
        )
    pairs = examples.column("text_pair") if predictor.info.pair and "text_pair" in examples else None
    words = examples.column("words") if "words" in examples else None
    encoded = predictor.encode(examples.column("text"), pairs, words=words)
    targets = task.targets(examples, encoded, predictor.labels)
    rows = Rows(examples, encoded, targets, np.ones(len(examples)), predictor.labels)
    probabilities = predictor.probabilities_of(rows)
    return {
        "task": task.name,
        "labels": list(predictor.labels.names),
        "source": examples.source,
        "test": judge(task, rows, probabilities, predictor.info.decision, seed=recipe.run.seed),
    }


def _same_columns(settings: Read, data: Any, columns: Mapping[str, str]) -> Read:
    """Take the columns that the run learned from, where a file has them and none was named."""
    is_file = isinstance(data, str | Path) and Path(data).is_file()
    names = open_batches(data, encoding=settings.encoding, task=settings.task).schema.names if is_file else []
    held = {part: name for part, name in columns.items() if all(each in names for each in name.split(","))}
    same = {part: name for part, name in as_settings(held).items() if not getattr(settings, part)}
    return settings.model_copy(update=same)
