"""What a run writes down: data, split, findings, ladder, answers, scores. Written, never computed, here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsmith.atomic import replacing, write_json, write_text
from bertsmith.data.split import Splits
from bertsmith.errors import DataError
from bertsmith.evaluation.suspects import Suspects
from bertsmith.examples import Examples, LabelSet
from bertsmith.findings import Findings
from bertsmith.recipe import Recipe
from bertsmith.run_folder import FORMAT, RunFolder
from bertsmith.tasks import Answer, Rows, Task

_HASHED_ROWS = 65_536
_HASHED = (
    "text",
    "text_pair",
    "words",
    "label",
    "shares",
    "labels",
    "value",
    "tags",
    "answers",
    "weight",
    "group",
    "time",
    "given",
)
_PACKAGES = ("bertsmith", "torch", "transformers", "tokenizers", "accelerate", "scikit-learn", "numpy", "pyarrow")


def versions() -> dict[str, str]:
    """Name the versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def data_fingerprint(examples: Examples) -> str:
    """Return a sha256 over texts, labels and what else is learned from: equal data, equal fingerprint."""
    digest = hashlib.sha256()
    for name in _HASHED:
        if name in examples:
            digest.update(name.encode())
            column = examples.column(name)
            for begin in range(0, len(column), _HASHED_ROWS):
                part = _as_strings(column.slice(begin, _HASHED_ROWS))
                # `take` lays the values out afresh, so that equal values are equal bytes.
                fresh = pc.fill_null(part, "").take(pa.array(np.arange(len(part)))).combine_chunks()
                digest.update(pc.fill_null(pc.binary_length(part), -1).to_numpy().astype("<i8").tobytes())
                digest.update(bytes(fresh.buffers()[-1] or b""))
    return digest.hexdigest()


def require_same(examples: Examples, fingerprint: str, run: RunFolder) -> None:
    """Refuse to go on with a run whose data have changed since it began.

    Raises:
        DataError: They have.
    """
    found = data_fingerprint(examples)
    if found != fingerprint:
        raise DataError(
            f"{examples.source}: changed since {run.path} began: its fingerprint is {found[:16]}…, then it was "
            f"{fingerprint[:16]}….",
            tip="Bring the old data back, or train anew: bertsmith train DATA --out RUN --force",
        )


def as_named(examples: Examples, run: RunFolder) -> Examples:
    """Call source and files as the run called them when it began, wherever it goes on.

    Args:
        examples: The rows that the run began with (`require_same`), in the same order.
        run: Its data.json is there; its split.parquet need not be.
    """
    if not run.split.is_file():
        return examples
    file = pq.read_table(run.split, columns=["file"]).column("file")
    place = examples.table.column_names.index("file")
    table = examples.table.set_column(place, "file", file.cast(examples.table.schema.field("file").type))
    return replace(examples, table=table, source=run.read_json(run.data)["source"])


def history_of(run: RunFolder) -> list[str]:
    """Return the lines of history.jsonl; none where it is not there yet."""
    return run.history.read_text(encoding="utf-8").splitlines() if run.history.is_file() else []


def seconds_kept(before: Sequence[str], after: Sequence[str]) -> float:
    """Say how many seconds of training, by an earlier process, a run went on with.

    >>> seconds_kept(['{"seconds": 3.5}', '{"seconds": 9}'], ['{"seconds": 3.5}', '{"seconds": 4}'])
    3.5

    Args:
        before: Lines of history.jsonl before this process trained.
        after: The same afterwards: what it went on with still stands at their beginning.
    """
    kept = [old for old, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))]
    return float(json.loads(kept[-1])["seconds"]) if kept else 0.0


def _as_strings(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write values as text; lists and objects as JSON."""
    if not pa.types.is_nested(column.type):
        return column.cast(pa.string())
    texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def write_prepared(  # noqa: PLR0913 - everything that is known before training
    run: RunFolder,
    examples: Examples,
    splits: Splits,
    findings: Findings,
    *,
    task: Task,
    labels: LabelSet,
    recipe: Recipe,
    long: Mapping[str, Any],
) -> str:
    """Write recipe.toml, data.json, split.parquet and findings.json; return the fingerprint of the data."""
    fingerprint = data_fingerprint(examples)
    write_text(run.recipe, recipe.dumps())
    write_json(
        run.data,
        {
            "format": FORMAT,
            "source": examples.source,
            "fingerprint": fingerprint,
            "rows": len(examples),
            "columns": examples.columns.used(),
            "task": task.name,
            "labels": task.counts(examples, labels),
            "split": splits.sizes(),
            "notes": [*examples.notes, *splits.notes],
            "long": long,
        },
    )
    side = pa.array(splits.side_of(len(examples)).tolist(), pa.string()).dictionary_encode()
    table = pa.table({"file": examples.column("file"), "row": examples.column("row"), "side": side})
    with replacing(run.split) as temporary:
        pq.write_table(table, temporary)
    write_json(run.findings, {"format": FORMAT, "findings": [each.as_json() for each in findings.items]})
    return fingerprint


def write_predictions(
    run: RunFolder, task: Task, sides: Mapping[str, Rows], answered: Mapping[str, Sequence[Answer]], *, texts: bool
) -> None:
    """Write predictions.parquet: file, row, side, gold answer, the model's answer, and all scores where it has some."""
    tables = []
    for side, answers in answered.items():
        examples = sides[side].examples
        columns: dict[str, Any] = {
            "file": examples.column("file").cast(pa.string()),
            "row": examples.column("row"),
            "side": pa.array([side] * len(examples), pa.string()),
        }
        if texts:
            columns |= {name: examples.column(name) for name in ("text", "text_pair") if name in examples}
        columns["gold"] = examples.column(task.role)
        columns |= _answer_columns(task, answers)
        tables.append(pa.table(columns))
    with replacing(run.predictions) as temporary:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), temporary)


def _answer_columns(task: Task, answers: Sequence[Answer]) -> dict[str, pa.Array]:
    found = [each.as_json(scores=True) for each in answers]
    schema = task.answer_schema()
    columns = {field.name: pa.array([each[field.name] for each in found], field.type) for field in schema}
    scored = [list(each["scores"].values()) for each in found if isinstance(each.get("scores"), Mapping)]
    if scored and len(scored) == len(found) and all(isinstance(score, float) for score in scored[0]):
        columns["scores"] = pa.array(scored, pa.list_(pa.float64()))
    if found and all("out_of_scope" in each for each in found):
        columns["out_of_scope"] = pa.array([each["out_of_scope"] for each in found], pa.float64())
        columns["foreign"] = pa.array([each["foreign"] for each in found], pa.bool_())
    return columns


def write_scores(run: RunFolder, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Write scores.json, the contract for scripts, with the number of its format; return what it holds."""
    numbered = {"format": FORMAT, **scores}
    write_json(run.scores, numbered)
    return numbered


def write_suspects(run: RunFolder, suspects: Suspects) -> dict[str, Any]:
    """Write suspects.csv where there are any; return what scores.json says of them."""
    if len(suspects):
        suspects.write(run.suspects)
    return suspects.as_json(file=run.suspects.name)


def data_summary(examples: Examples, splits: Splits) -> dict[str, Any]:
    """Say in `scores.json` how much there was."""
    return {"source": examples.source, "rows": len(examples), "split": splits.sizes()}
