"""Answers that runs wrote down: read from their folders, and matched row by row. No model is loaded."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bertsmith import run_folder
from bertsmith.encoded import Encoded
from bertsmith.errors import DataError, UsageError
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.tasks import task_named
from bertsmith.tasks.protocol import Array, Decision, Rows, Statistics, Task

_INPUTS = ("text", "text_pair")


@dataclass(frozen=True)
class Answered:
    """The answers of a run to its test rows.

    Attributes:
        name: What the run is called.
        path: Its folder.
        task: The task's name.
        labels: The labels in the order of `scores`.
        decision: What was tuned for it.
        fingerprint: That of its data.
        seeds: `seeds` of its scores.json; None where it was trained once.
        table: `predictions.parquet`, the test rows only.
    """

    name: str
    path: Path
    task: str
    labels: tuple[str, ...]
    decision: Decision
    fingerprint: str
    seeds: Mapping[str, Any] | None
    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, column: str) -> bool:
        return column in self.table.column_names

    def take(self, rows: Array) -> Answered:
        """Return the run with these of its rows, in this order."""
        return replace(self, table=self.table.take(pa.array(rows)))


def read_answered(paths: Sequence[Path]) -> list[Answered]:
    """Read the answers of runs to their test rows.

    Args:
        paths: Folders of runs that came to their end.

    Raises:
        UsageError: A folder is no such run or is named twice, or the runs have different tasks.
        DataError: A run has no test rows, or its files cannot be read.
    """
    _refuse_twice(paths)
    runs = [_read(path, name) for path, name in zip(paths, _names(paths), strict=True)]
    strange = next((run for run in runs if run.task != runs[0].task), None)
    if strange is not None:
        raise UsageError(
            f"the runs have different tasks: {runs[0].path} is {runs[0].task}, {strange.path} is {strange.task}.",
            tip="Compare runs of one task.",
        )
    return runs


def matched(runs: Sequence[Answered]) -> tuple[list[Answered], list[str]]:
    """Keep the test rows that all runs answered, in the order of the first run.

    Rows are the same where text, second text and gold answer are the same, so that runs may have read different
    files; of rows that occur several times the first is matched with the first, by file and row. Where a run
    kept no texts, file, row and gold answer have to do; a file is the same where one path ends with the other.

    Args:
        runs: Two or more.

    Returns:
        The runs with these rows only, and what there is to say about rows that were left out.

    Raises:
        DataError: There is no such row.
    """
    by_text = all("text" in run for run in runs)
    inputs = _input_codes(runs, by_text=by_text)
    keys = _numbered(runs, [*inputs, _gold_codes(runs)])
    wanted = keys[0][np.isin(keys[0], reduce(np.intersect1d, keys))]
    changed = len(reduce(np.intersect1d, _numbered(runs, inputs))) - len(wanted)
    if not len(wanted):
        raise _nothing_shared(runs, changed, by_text=by_text)
    places = [np.argsort(each)[np.searchsorted(np.sort(each), wanted)] for each in keys]
    kept = [run.take(rows) for run, rows in zip(runs, places, strict=True)]
    return kept, _left_out(runs, len(wanted), changed, by_text=by_text)


def statistics_of(runs: Sequence[Answered]) -> tuple[Task, list[Statistics]]:
    """Reduce the answers of runs to the same rows to what metrics need.

    Labels that only some runs know are added to the others, which never answer with them.

    Args:
        runs: As `matched` gives them.

    Raises:
        DataError: The labels of two runs go in different orders.
    """
    task = task_named(runs[0].task)
    labels = _with_tags(shared_labels(runs), runs)
    return task, [_statistics(task, run, labels) for run in runs]


def shared_labels(runs: Sequence[Answered]) -> LabelSet:
    """Put the labels of all runs into one order that agrees with that of each.

    Raises:
        DataError: There is none.
    """
    if len({run.labels for run in runs}) == 1:
        return LabelSet(runs[0].labels)
    every = LabelSet.of(name for run in runs for name in run.labels)
    if all(run.labels == LabelSet.of(run.labels).names for run in runs):
        return every  # the usual order
    graph: dict[str, set[str]] = {name: set() for run in runs for name in run.labels}
    for run in runs:
        for before, after in pairwise(run.labels):
            graph[after].add(before)
    try:
        return LabelSet(tuple(TopologicalSorter(graph).static_order()))
    except CycleError as error:
        raise DataError(
            "the labels of the runs go in different orders: "
            + "; ".join(f"{run.name} has {', '.join(run.labels[:10])}" for run in runs)
            + ".",
            tip="Train them with the same --levels.",
        ) from error


def _with_tags(labels: LabelSet, runs: Sequence[Answered]) -> LabelSet:
    """Add tags that repair alone has made: an answered `S-PER` where all training spans had two words."""
    given = {
        tag for run in runs if "tags" in run for tag in pc.list_flatten(run.table.column("tags")).unique().to_pylist()
    }
    return LabelSet(labels.names + tuple(sorted(given - set(labels.names))))


def _refuse_twice(paths: Sequence[Path]) -> None:
    resolved = [path.resolve() for path in paths]
    twice = next((path for place, path in enumerate(paths) if resolved[place] in resolved[:place]), None)
    if twice is not None:
        raise UsageError(f"{twice}: named twice. A run does not differ from itself.", tip="Name two runs or more.")


def _names(paths: Sequence[Path]) -> list[str]:
    """Call runs by the last part of their path, or by the whole path where that is no name."""
    names = [Path(os.path.abspath(path)).name for path in paths]
    return names if len(set(names)) == len(names) else [path.as_posix() for path in paths]


def _read(path: Path, name: str) -> Answered:
    run = run_folder.open_run(path)
    scores, data = _json(run.scores), _json(run.data)
    try:
        table = pq.read_table(run.predictions, filters=[("side", "=", "test")])
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(run.predictions) from error
    if not len(table):
        raise DataError(
            f"{path}: the run had no test rows, so there is nothing to compare.",
            tip="Train with a share of test rows: --shares 60,10,10,20.",
        )
    return Answered(
        name, path, scores["task"], tuple(scores["labels"]), scores.get("decision") or {},
        data["fingerprint"], scores.get("seeds"), table,
    )  # fmt: skip


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> DataError:
    state = "cannot be read" if path.is_file() else "is missing"
    return DataError(f"{path}: {state}.", tip="Train the run again; its manifest.json says what should lie there.")


def _input_codes(runs: Sequence[Answered], *, by_text: bool) -> list[Array]:
    """Number what rows are told apart by besides their gold answers, each int64 `(rows of all runs,)`."""
    if not by_text:
        return [_codes(_files(runs)), _codes([run.table.column("row") for run in runs])]
    return [_codes([run.table.column(name) if name in run else _nothing(run) for run in runs]) for name in _INPUTS]


def _files(runs: Sequence[Answered]) -> list[pa.ChunkedArray]:
    """Name the file of each row so that a file has one name in all runs, if each run called it by a path of its own.

    A path stands for the shortest one that it ends with (a run that was resumed has absolute paths). If two files of
    one run would get one name by that, all keep their own.
    """
    columns = [run.table.column("file").cast(pa.string()) for run in runs]
    distinct: list[list[str]] = [pc.unique(column).to_pylist() for column in columns]
    endings = {_parts(name): name for names in distinct for name in sorted(names, reverse=True)}
    short = {name: _shortest(_parts(name), endings) for names in distinct for name in names}
    if any(len({short[name] for name in names}) < len(names) for names in distinct):
        return columns
    return [
        pa.chunked_array(
            [pa.array([short[name] for name in names], pa.string()).take(pc.index_in(column, pa.array(names)))]
        )
        for column, names in zip(columns, distinct, strict=True)
    ]


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in re.split(r"[/\\]", path) if part not in {"", ".", ".."}) or (path,)


def _shortest(parts: tuple[str, ...], endings: Mapping[tuple[str, ...], str]) -> str:
    return next(endings[parts[-n:]] for n in range(1, len(parts) + 1) if parts[-n:] in endings)


def _numbered(runs: Sequence[Answered], columns: Sequence[Array]) -> list[Array]:
    """Number rows so that the same row has the same number in every run, and no number twice: int64 `(rows,)`."""
    codes = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    ends = np.cumsum([len(run) for run in runs])
    parts = [_times(part, run) for part, run in zip(np.split(codes, ends[:-1]), runs, strict=True)]
    codes = codes * (1 + max(int(part.max()) for part in parts)) + np.concatenate(parts)
    return np.split(codes, ends[:-1])


def _nothing(run: Answered) -> pa.ChunkedArray:
    return pa.chunked_array([pa.nulls(len(run), pa.large_string())])


def _codes(columns: Sequence[pa.ChunkedArray]) -> Array:
    """Number the values of all runs, int64 `(rows of all runs,)`; no value is a value."""
    chunks = [chunk.cast(pa.large_string()) for column in columns for chunk in column.chunks]
    encoded = pc.fill_null(pa.chunked_array(chunks, pa.large_string()), "").dictionary_encode().combine_chunks()
    return np.asarray(encoded.indices.to_numpy(), np.int64)


def _gold_codes(runs: Sequence[Answered]) -> Array:
    """Number the gold answers of all runs, int64 `(rows of all runs,)`, as their task tells them apart."""
    task = task_named(runs[0].task)
    golds = [run.table.select(["gold"]).rename_columns([task.role]) for run in runs]
    every = pa.concat_tables(golds, promote_options="permissive")
    found = task.classes(Examples(every, Columns(), "runs"))
    if (found >= 0).any():
        return found
    written = [json.dumps(value, ensure_ascii=False) for value in every.column(0).to_pylist()]
    return _codes([pa.chunked_array([pa.array(written, pa.string())])])


def _times(codes: Array, run: Answered) -> Array:
    """Say how often each row's code occurred before, in the order of files and rows, int64 `(rows,)`."""
    files = _codes([run.table.column("file")])
    order = np.lexsort([run.table.column("row").to_numpy(), files, codes])
    ranked = codes[order]
    begins = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    lengths = np.diff(np.append(begins, len(ranked)))
    times = np.empty(len(codes), np.int64)
    times[order] = np.arange(len(codes)) - np.repeat(begins, lengths)
    return times


def _nothing_shared(runs: Sequence[Answered], changed: int, *, by_text: bool) -> DataError:
    sizes = ", ".join(f"{run.name} {len(run):,}" for run in runs)
    sameness = "text" if by_text else "file and row"
    alike = f"; {changed:,} have the same {sameness}, but other gold answers" if changed else ""
    return DataError(
        f"no test row was answered by all of these runs: none has the same {sameness} and gold answer everywhere "
        f"({sizes} test rows{alike}).",
        tip="Train them on the same file with the same --seed, or name the same test file for each: --test FILE.",
    )


def _left_out(runs: Sequence[Answered], kept: int, changed: int, *, by_text: bool) -> list[str]:
    notes = []
    if any(len(run) > kept for run in runs):
        sizes = ", ".join(f"{run.name} has {len(run):,}" for run in runs)
        other = f"; {changed:,} more have other gold answers" if changed else ""
        notes.append(
            f"the runs do not have the same test rows ({sizes}): they are compared on the {kept:,} that all have"
            f"{other}."
        )
    if not by_text and len({run.fingerprint for run in runs}) > 1:
        without = next(run for run in runs if "text" not in run)
        notes.append(
            f"{without.name} kept no texts and the runs learned from different data: rows count as the same by file, "
            "row and gold answer alone."
        )
    return notes


def _statistics(task: Task, run: Answered, labels: LabelSet) -> Statistics:
    examples = Examples(run.table.select(["gold"]).rename_columns([task.role]), Columns(), run.name)
    if "answer" in run:
        return _of_answers(task, examples, run.table.column("answer"))
    encoded = _units(run)
    targets = task.targets(examples, encoded, labels)
    rows = Rows(examples, encoded, targets, np.ones(len(run)), labels)
    found = task.statistics(rows, _probabilities(run, labels), run.decision)
    return replace(found, means={name: each for name, each in found.means.items() if name in task.compared})


def _of_answers(task: Task, examples: Examples, answers: pa.ChunkedArray) -> Statistics:
    """Score the texts of answers, since their logits were not kept: exact match, F1 and rows, as the task sums them."""
    from bertsmith.tasks.answer_spans import gold_texts
    from bertsmith.tasks.squad_metrics import answer_scores

    scores = answer_scores(pc.fill_null(answers, "").to_pylist(), gold_texts(examples))
    outcomes, cells = np.unique(scores, axis=0, return_inverse=True)
    values = np.column_stack([outcomes, np.ones(len(outcomes))])
    return Statistics(cells.reshape(-1), values, task.strata(examples), right=scores[:, 0] == 1)


def _units(run: Answered) -> Encoded:
    """Stand in for the token ids, of which metrics need but how many units each row has."""
    columns: dict[str, Any] = {"row": pa.array(np.arange(len(run)))}
    if "tags" in run:
        counts = pc.fill_null(pc.list_value_length(run.table.column("tags")), 0).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        columns["picks"] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], np.int32)))
    return Encoded(pa.table(columns), np.zeros(len(run), np.int32), max_length=0, pad_id=0)


def _probabilities(run: Answered, labels: LabelSet) -> Array:
    """Give what the run's answers say of each unit, as the task decides by: `(units, outputs)`."""
    if "value" in run:
        return np.asarray(run.table.column("value").to_numpy(), np.float64)[:, None]
    if "tags" in run:
        chosen = labels.ids(pc.list_flatten(run.table.column("tags")))
        return np.asarray(np.eye(len(labels))[chosen])
    own = np.asarray(pc.list_flatten(run.table.column("scores")).to_numpy(), np.float64)
    found = np.zeros((len(run), len(labels)))
    found[:, labels.ids(list(run.labels))] = own.reshape(len(run), -1)
    return found
