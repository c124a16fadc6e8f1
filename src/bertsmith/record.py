"""What a run writes down: data, split, findings, ladder, answers, scores. Written, never computed, here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsmith.atomic import replacing, write_json, write_text
from bertsmith.data.split import Splits
from bertsmith.examples import Examples, LabelSet, Prediction
from bertsmith.findings import Findings
from bertsmith.recipe import Recipe
from bertsmith.run_folder import FORMAT, RunFolder

_HASHED_ROWS = 65_536
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
    for name in ("text", "text_pair", "label", "weight", "group", "time", "given"):
        if name in examples:
            digest.update(name.encode())
            column = examples.column(name).cast(pa.string())
            for begin in range(0, len(column), _HASHED_ROWS):
                part = column.slice(begin, _HASHED_ROWS)
                # `take` lays the values out afresh, so that equal values are equal bytes.
                fresh = pc.fill_null(part, "").take(pa.array(np.arange(len(part)))).combine_chunks()
                digest.update(pc.fill_null(pc.binary_length(part), -1).to_numpy().astype("<i8").tobytes())
                digest.update(bytes(fresh.buffers()[-1] or b""))
    return digest.hexdigest()


def write_prepared(
    run: RunFolder, examples: Examples, labels: LabelSet, splits: Splits, findings: Findings, recipe: Recipe
) -> str:
    """Write recipe.toml, data.json, split.parquet and findings.json; return the fingerprint of the data."""
    fingerprint = data_fingerprint(examples)
    write_text(run.recipe, recipe.dumps())
    counts = {each["values"]: each["counts"] for each in pc.value_counts(examples.column("label")).to_pylist()}
    write_json(
        run.data,
        {
            "format": FORMAT,
            "source": examples.source,
            "fingerprint": fingerprint,
            "rows": len(examples),
            "columns": examples.columns.used(),
            "labels": {name: counts.get(name, 0) for name in labels.names},
            "split": splits.sizes(),
            "notes": [*examples.notes, *splits.notes],
        },
    )
    side = pa.array(splits.side_of(len(examples)).tolist(), pa.string()).dictionary_encode()
    table = pa.table({"file": examples.column("file"), "row": examples.column("row"), "side": side})
    with replacing(run.split) as temporary:
        pq.write_table(table, temporary)
    write_json(run.findings, {"format": FORMAT, "findings": [each.as_json() for each in findings.items]})
    return fingerprint


def write_predictions(
    run: RunFolder, sides: Mapping[str, Examples], answered: Mapping[str, list[Prediction]], *, texts: bool
) -> None:
    """Write predictions.parquet: file, row, side, gold label, answer, score, and a probability for each label."""
    tables = []
    for side, answers in answered.items():
        examples = sides[side]
        columns: dict[str, Any] = {
            "file": examples.column("file").cast(pa.string()),
            "row": examples.column("row"),
            "side": pa.array([side] * len(examples), pa.string()),
        }
        if texts:
            columns |= {name: examples.column(name) for name in ("text", "text_pair") if name in examples}
        columns |= {
            "gold": examples.column("label"),
            "label": pa.array([each.label for each in answers], pa.string()),
            "guess": pa.array([each.guess for each in answers], pa.string()),
            "score": pa.array([each.score for each in answers], pa.float64()),
            "unknown": pa.array([each.unknown for each in answers], pa.bool_()),
            "scores": pa.array([list(each.scores.values()) for each in answers], pa.list_(pa.float64())),
        }
        tables.append(pa.table(columns))
    with replacing(run.predictions) as temporary:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), temporary)


def write_scores(run: RunFolder, scores: Mapping[str, Any]) -> dict[str, Any]:
    """Write scores.json, the contract for scripts, with the number of its format; return what it holds."""
    numbered = {"format": FORMAT, **scores}
    write_json(run.scores, numbered)
    return numbered


def data_summary(examples: Examples, splits: Splits) -> dict[str, Any]:
    """Say in `scores.json` how much there was."""
    return {"source": examples.source, "rows": len(examples), "split": splits.sizes()}
