"""evaluate: a finished run scored again, on its own test rows or on other labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith import record, run_folder, threads
from bertsmith.data.files import open_batches
from bertsmith.data.foreign import set_apart
from bertsmith.data.read import read
from bertsmith.data.roles import as_settings
from bertsmith.deciding import acceptance_of, scope_of
from bertsmith.evaluation.ladder import judge
from bertsmith.examples import Examples, LabelSet
from bertsmith.inference.loading import load
from bertsmith.inference.predictor import Predictor
from bertsmith.listener import Listener, Silent
from bertsmith.recipe import Read, Recipe
from bertsmith.tasks import Rows, task_named

Array = np.ndarray[Any, Any]


def evaluate(path: Path, data: Any = None, *, recipe: Recipe, listener: Listener | None = None) -> dict[str, Any]:
    """Score a run: on its own test rows (as scored once, at its end), or on other labelled rows.

    Args:
        path: The run.
        data: Labelled rows, as for `train`; None for the run's own test rows.
        recipe: Its `[read]` names columns where they are not those of the training data; its `device` is used.
        listener: Warned when the rows are those that the run learned from.

    Returns:
        `task`, `labels`, `source`, and as in scores.json `test`, `decide.test` (how many rows are answered, and how
        many of the answers are right) and `out_of_scope` (how many rows are called foreign).

    Raises:
        BertsmithError: There is no such run, or the rows cannot be read or have labels that it does not know.
    """
    run = run_folder.open_run(path)
    stored = run.read_json(run.scores)
    if data is None:
        decided = stored.get("decide") or {}
        return {
            **{key: stored[key] for key in ("task", "labels", "test")},
            "source": f"test rows of {path}",
            "decide": {"test": decided["test"]} if decided else None,
            "out_of_scope": stored.get("out_of_scope"),
        }
    threads.limit_libraries(threads.resolve(recipe.run.threads))
    known = run.read_json(run.data)
    task = task_named(stored["task"])
    resolved = Recipe.load(run.recipe)
    learned, decide = resolved.read, resolved.decide
    same = {name: getattr(recipe.read, name) or getattr(learned, name) for name in ("labels_separator", "levels")}
    wanted = recipe.read.model_copy(update={"task": task.name, **same})
    examples = read(data, _same_columns(wanted, data, known["columns"]), labelled=False)
    examples, foreign = _parted(examples, decide.out_of_scope_label)
    task.require(examples, LabelSet(tuple(stored["labels"])))
    # What is wrong with the rows is said before a model is loaded.
    predictor = load(run.model, device=recipe.run.device)
    if record.data_fingerprint(examples) == known["fingerprint"]:
        (listener or Silent()).warn(
            "these are the rows that the run learned from: the scores say nothing about new text."
        )
    rows = _encoded(predictor, examples)
    rows = replace(rows, targets=task.targets(examples, rows.encoded, predictor.labels))
    given = predictor.ask(rows)
    far = None if foreign is None else predictor.ask(_encoded(predictor, foreign)).foreignness
    return {
        "task": task.name,
        "labels": list(predictor.labels.names),
        "source": examples.source,
        "test": judge(task, rows, given.probabilities, predictor.info.decision, seed=recipe.run.seed),
        "decide": {"test": acceptance_of(predictor, rows, given)} if task.confident else None,
        "out_of_scope": scope_of(predictor, given, far),
    }


def _parted(examples: Examples, label: str) -> tuple[Examples, Examples | None]:
    """Set apart the rows from elsewhere, where the run learned to tell them and there are any here."""
    here = label and "label" in examples and label in examples.column("label").unique().to_pylist()
    return set_apart(examples, label) if here else (examples, None)


def _encoded(predictor: Predictor, examples: Examples) -> Rows:
    """Turn rows into token ids, with nothing known about their answers."""
    pairs = examples.column("text_pair") if predictor.info.pair and "text_pair" in examples else None
    words = examples.column("words") if "words" in examples else None
    encoded = predictor.encode(examples.column("text"), pairs, words=words)
    return Rows(examples, encoded, np.zeros(0), np.ones(len(examples)), predictor.labels)


def _same_columns(settings: Read, data: Any, columns: Mapping[str, str]) -> Read:
    """Take the columns that the run learned from, where a file has them and none was named."""
    is_file = isinstance(data, str | Path) and Path(data).is_file()
    names = open_batches(data, encoding=settings.encoding, task=settings.task).schema.names if is_file else []
    held = {part: name for part, name in columns.items() if all(each in names for each in name.split(","))}
    same = {part: name for part, name in as_settings(held).items() if not getattr(settings, part)}
    return settings.model_copy(update=same)
