"""A job: many files of rows, each a shard whose answers are one file. What was begun can be gone on with.

    DIR/job.json               which model, which engine, which settings, and what the inputs were
    DIR/quarantine/NAME.jsonl  the rows of a shard that could not be read, each with its reason
    DIR/NAME                   the answers of a shard; it is there when the shard is done, and whole

A shard is done when its answers are there, so that who answers it, when, and how often does not matter.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bertsmith import bundle
from bertsmith.data.files import FORMATS, known_ending
from bertsmith.errors import DataError, UsageError
from bertsmith.inference import exported
from bertsmith.inference.predictor import Predictor
from bertsmith.recipe import Read
from bertsmith.scoring import places
from bertsmith.scoring.places import Found
from bertsmith.scoring.writers import ENDINGS

FORMAT = 1
JOB, QUARANTINE = "job.json", "quarantine"


@dataclass(frozen=True)
class Shard:
    """A file of rows, and where its answers go.

    Attributes:
        name: Name of the answers below the job's folder.
        source: Path or URL of the rows.
        target: Path or URL of the answers.
        quarantine: Path or URL for the rows that cannot be read; there is none where all can.
        bytes: Size of the source.
        stamp: Another one after the source was changed.
    """

    name: str
    source: str
    target: str
    quarantine: str
    bytes: int
    stamp: str


@dataclass(frozen=True)
class ShardDone:
    """What came of a shard.

    Attributes:
        name: The shard's.
        rows: Rows that were answered.
        cut: Those of them whose text was cut.
        bad: Rows that could not be read.
        repeated: Rows whose text had been answered before.
        seconds: How long it took.
    """

    name: str
    rows: int
    cut: int
    bad: int
    repeated: int
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A shard that has no answers, and why.

    Attributes:
        name: The shard's.
        reason: Where, what was found, what was expected.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class JobDone:
    """What came of a job: the shards that were answered this time, and those that could not be."""

    done: tuple[ShardDone, ...]
    failed: tuple[Failed, ...] = ()

    def total(self, what: Literal["rows", "cut", "bad", "repeated"]) -> int:
        """Add up what the shards count."""
        return sum(int(getattr(each, what)) for each in self.done)


@dataclass(frozen=True)
class Job:
    """What is to be answered, by which model, and where to. It can be pickled.

    Attributes:
        run: The run, or its model folder.
        out: Folder of the answers: path or URL.
        shards: In the order of their names.
        model: Which model and engine answer, as `model_of` says it.
        settings: Names of the columns and the encoding.
        scores: True to write the probability of every label.
        spreadsheet_safe: True to keep cells from running as formulas.
    """

    run: str
    out: str
    shards: tuple[Shard, ...]
    model: dict[str, Any]
    settings: Read
    scores: bool = False
    spreadsheet_safe: bool = False

    @property
    def engine(self) -> str:
        """Name of the engine that answers: `torch`, `onnx` or `onnx-int8`, never `auto`."""
        return str(self.model["engine"])

    @property
    def asked(self) -> dict[str, Any]:
        """What decides the answers: two jobs with the same may go on with each other."""
        named = {name: value for name, value in self.settings.model_dump().items() if value}
        return {
            "model": self.model,
            "columns": named,
            "scores": self.scores,
            "spreadsheet_safe": self.spreadsheet_safe,
        }


def plan(source: str, out: str) -> tuple[Shard, ...]:
    """Find the files of a job and name the files of their answers.

    Args:
        source: A folder (all files in it and below it that can be read), a pattern such as `part-*.parquet`, or a
            file; a path or a URL.
        out: The folder of the answers: path or URL.

    Returns:
        The shards, in order of their names. A name stays as it is where such files can be written; others end in
        `.jsonl`.

    Raises:
        UsageError: There is no such file, one cannot be read, or two would have the same answers.
    """
    found = _found(source, out)
    named: dict[str, Found] = {}
    for each in found:
        name = answers_name(each.name)
        if name in named:
            raise UsageError(
                f"{each.place}: its answers would go to {name}, as those of {named[name].place}.",
                tip="Rename one of the files, or give them one at a time.",
            )
        if places.join(out, name) == each.place:
            raise UsageError(f"{each.place}: its answers would take its place.", tip="Choose another folder for --out.")
        named[name] = each
    return tuple(_shard(name, each, out) for name, each in sorted(named.items()))


def _shard(name: str, found: Found, out: str) -> Shard:
    return Shard(
        name,
        found.place,
        places.join(out, name),
        places.join(out, f"{QUARANTINE}/{name}.jsonl"),
        found.bytes,
        found.stamp,
    )


def _found(source: str, out: str) -> list[Found]:
    if places.is_folder(source):
        found = [each for each in places.files_below(source) if _is_shown(each.name) and known_ending(each.name)]
        inside = places.join(out, "")
        found = [each for each in found if not each.place.startswith(inside) or out == source]
        if not found:
            raise UsageError(
                f"{source}: the folder has no files that can be read.", tip=f"What can be read: {FORMATS}."
            )
        return found
    found = places.files_like(source) if not _is_plain(source) else _one(source)
    if not found:
        raise UsageError(f"{source}: no file has such a name.", tip="Put the pattern in quotes: --in 'part-*.csv'.")
    unknown = next((each for each in found if not known_ending(each.name)), None)
    if unknown is not None:
        raise UsageError(f"{unknown.place}: the ending is not known.", tip=f"What can be read: {FORMATS}.")
    return found


def _is_plain(source: str) -> bool:
    return not any(mark in source for mark in "*?[") or places.is_there(source)


def _one(source: str) -> list[Found]:
    if not places.is_there(source):
        raise UsageError(f"{source}: does not exist.", tip="Is it in another folder?")
    folder, name = source.rpartition("/")[0] or ".", places.base(source)
    if places.is_url(source):
        return [each for each in places.files_below(folder) if each.name == name]
    path = places.local(source)
    return [replace(each, name=name) for each in places.files_like(_escaped(path))]


def _escaped(path: Path) -> str:
    import glob

    return glob.escape(str(path))


def _is_shown(name: str) -> bool:
    return not any(part.startswith((".", "_")) for part in name.split("/"))


def answers_name(name: str) -> str:
    """Name the answers of a file.

    >>> answers_name("a/part-0.csv.gz"), answers_name("train.conll"), answers_name("rows.json")
    ('a/part-0.csv.gz', 'train.jsonl', 'rows.jsonl')
    """
    plain, packed = (name[:-3], name[-3:]) if name.lower().endswith(".gz") else (name, "")
    stem, dot, ending = plain.rpartition(".")
    return name if f".{ending.lower()}" in ENDINGS else f"{stem}{dot}jsonl{packed}"


def model_of(predictor: Predictor, run: Path) -> dict[str, Any]:
    """Say which model answers: its weights, its engine, which export, and what it decides by."""
    folder = bundle.locate(run)
    kind = next((kind for kind, name in exported.KINDS.items() if name == predictor.engine.name), None)
    export = exported.find(folder, kind) if kind else None
    scope = None if predictor.scope is None else float(predictor.scope.threshold)
    decides = json.dumps([predictor.info.decision, scope], sort_keys=True)
    return {
        "weights": bundle.weights_sha256(folder),
        "engine": predictor.engine.name,
        "export": export.created if export else None,
        "decides": hashlib.sha256(decides.encode()).hexdigest(),
    }


def require_same_model(predictor: Predictor, job: Job) -> None:
    """Refuse to answer with another model than the job was begun with.

    Raises:
        UsageError: The weights, the engine, the export or the thresholds are others.
    """
    found = model_of(predictor, Path(job.run))
    if found != job.model:
        changed = ", ".join(name for name, value in job.model.items() if found.get(name) != value)
        raise UsageError(
            f"{job.run}: not the model of this job any more ({changed} differ).",
            tip="Every worker needs the same run; begin again with --force.",
        )


def begin(job: Job, *, force: bool = False) -> tuple[Shard, ...]:
    """Begin a job, or go on with it, and return the shards that are not done.

    Answers to an input that was changed since are removed, to be made again; so are the temporary files of a
    process that was killed.

    Args:
        job: What is to be done.
        force: True to remove the answers of another job that lie there.

    Raises:
        UsageError: Another job's answers are there, or files that no job wrote.
    """
    before = _read_job(job.out)
    if before is not None and before["asked"] != job.asked:
        if not force:
            raise _another_job(job, before["asked"])
        _remove(job, [*before["inputs"], *(shard.name for shard in job.shards)])
        before = None
    elif before is None:
        strangers = [] if force else [shard.name for shard in job.shards if shard.name in names_below(job)]
        if strangers:
            raise UsageError(
                f"{job.out}: {strangers[0]} is there, and no job wrote it.",
                tip="Choose another --out, or replace it with --force.",
            )
        _remove(job, [shard.name for shard in job.shards])
    stamps = before["inputs"] if before is not None else {}
    _remove(job, [shard.name for shard in job.shards if stamps.get(shard.name, shard.stamp) != shard.stamp])
    inputs = stamps | {shard.name: shard.stamp for shard in job.shards}
    if before is None or inputs != stamps:
        about = {"format": FORMAT, "asked": job.asked, "inputs": inputs}
        places.write(places.join(job.out, JOB), json.dumps(about, ensure_ascii=False, indent=2) + "\n")
    written = [place for shard in job.shards for place in (shard.target, shard.quarantine)]
    places.clear_leftovers([places.join(job.out, JOB), *written])
    return missing(job)


def missing(job: Job) -> tuple[Shard, ...]:
    """Return the shards whose answers are not there yet."""
    there = names_below(job)
    return tuple(shard for shard in job.shards if shard.name not in there)


def names_below(job: Job) -> set[str]:
    """Name the files that are in the folder of a job."""
    return {each.name for each in places.files_below(job.out)}


def _remove(job: Job, names: list[str]) -> None:
    if not names:
        return
    there = names_below(job)
    for name in names:
        for each in (name, f"{QUARANTINE}/{name}.jsonl"):
            if each in there:
                places.remove(places.join(job.out, each))


def _read_job(out: str) -> dict[str, Any] | None:
    place = places.join(out, JOB)
    stored = places.read(place)
    if stored is None:
        return None
    try:
        found: dict[str, Any] = json.loads(stored)
        if found["format"] == FORMAT and isinstance(found["inputs"], dict) and isinstance(found["asked"], dict):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(f"{place}: not the record of a job that this bertsmith knows.", tip="Choose another --out.")


def _another_job(job: Job, before: dict[str, Any]) -> UsageError:
    names = {
        "model": "another model, engine or threshold",
        "columns": "other settings of columns",
        "scores": "another --scores",
        "spreadsheet_safe": "another --spreadsheet-safe",
    }
    changed = [words for name, words in names.items() if before.get(name) != job.asked[name]]
    return UsageError(
        f"{job.out}: the answers of another job are there ({', '.join(changed) or 'another version'}).",
        tip="Choose another --out, or replace them all with --force.",
    )


__all__ = [
    "Failed",
    "Job",
    "JobDone",
    "Shard",
    "ShardDone",
    "begin",
    "missing",
    "model_of",
    "plan",
    "require_same_model",
]
