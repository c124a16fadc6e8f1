"""evaluate: a finished run scored again, on its own test rows or on other labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith import record, run_folder, threads
from bertsmith.data.files import open_batches
from bertsmith.data.read import read
from bertsmith.errors import DataError
from bertsmith.evaluation.ladder import judge
from bertsmith.examples import Examples, LabelSet
from bertsmith.inference.predictor import load
from bertsmith.listener import Listener, Silent
from bertsmith.recipe import Read, Recipe

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
    examples = read(data, _same_columns(recipe.read, data, known["columns"]), labelled=False)
    _require_labels(examples, predictor.labels)
    if record.data_fingerprint(examples) == known["fingerprint"]:
        (listener or Silent()).warn(
            "these are the rows that the run learned from: the scores say nothing about new text."
        )
    targets = predictor.task.targets(examples, predictor.labels)
    pairs = examples.column("text_pair") if predictor.info.pair and "text_pair" in examples else None
    probabilities = predictor.probabilities(examples.column("text"), pairs)
    return {
        "task": predictor.task.name,
        "labels": list(predictor.labels.names),
        "source": examples.source,
        "test": judge(predictor.task, probabilities, targets, predictor.labels, seed=recipe.run.seed),
    }


def _same_columns(settings: Read, data: Any, columns: Mapping[str, str]) -> Read:
    """Take the columns that the run learned from, where a file has them and none was named."""
    names = open_batches(data).schema.names if isinstance(data, str | Path) and Path(data).is_file() else []
    same = {part: name for part, name in columns.items() if part in {"text", "label", "text_pair"} and name in names}
    return settings.model_copy(update={part: name for part, name in same.items() if not getattr(settings, part)})


def _require_labels(examples: Examples, labels: LabelSet) -> None:
    """Refuse rows without labels, or with labels that the model does not know: they cannot be scored."""
    if "label" not in examples:
        raise DataError(f"{examples.source}: no label column was found.", tip="Name it with --label COLUMN.")
    missing = np.flatnonzero(pc.is_null(examples.column("label")).to_numpy())
    if len(missing):
        where = ", ".join(examples.where(missing, 5))
        raise DataError(
            f"{examples.source}: {_rows(missing)} no label: {where}. Every row needs one to be scored.",
            tip="Fill them in, or take the rows out.",
        )
    known = pc.is_in(examples.column("label"), value_set=pa.array(labels.names, pa.string()))
    strange = np.flatnonzero(~known.to_numpy())
    if len(strange):
        where = ", ".join(examples.where(strange, 5))
        name = examples.column("label")[int(strange[0])].as_py()
        raise DataError(
            f"{examples.source}: {_rows(strange)} a label that the model does not know, such as {name!r}: {where}. "
            f"It knows {', '.join(labels.names[:20])}{' …' if len(labels) > 20 else ''}.",
            tip="Rows to be scored need the labels that the model was trained with.",
        )


def _rows(positions: Array) -> str:
    return "1 row has" if len(positions) == 1 else f"{len(positions):,} rows have"
