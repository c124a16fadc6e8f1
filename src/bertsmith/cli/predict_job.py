"""predict --in FILES --out DIR: many files, each answered whole; begun again, it goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bertsmith.cli.console import listener, print_json
from bertsmith.errors import DataError, UsageError
from bertsmith.listener import Listener

if TYPE_CHECKING:
    from bertsmith.inference.predictor import Predictor
    from bertsmith.recipe import Recipe
    from bertsmith.scoring.job import Failed, Job, JobDone, Shard

_SHOWN = 5
"""Broken files that are named."""


@dataclass(frozen=True)
class Wanted:
    """The flags of a job, as `predict` has them."""

    source: str
    out: str | None
    settings: Recipe
    scores: bool
    spreadsheet_safe: bool
    force: bool
    cluster: str | None
    workers: int | None
    rung: str
    quarantine: Path | None
    as_json: bool


def is_job(source: str, out: str | None) -> bool:
    """Whether several files may be meant: a folder or a pattern goes in, or a folder comes out."""
    from bertsmith.scoring import places

    several = places.is_folder(source) or (any(mark in source for mark in "*?[") and not places.is_there(source))
    return out is not None and (several or out.endswith("/") or places.is_folder(out))


def predict_job(load: Callable[[], Predictor], run: Path, wanted: Wanted) -> int:
    """Answer every file of a job that is not answered yet.

    Raises:
        DataError: Files are broken as a whole; the others are answered.
        UsageError: A flag does not fit, or another job's answers are there.
    """
    from bertsmith.scoring import places
    from bertsmith.scoring.job import Job, begin, model_of, plan

    _check_flags(wanted)
    out = str(wanted.out)
    shards = plan(wanted.source, out)
    _check_endings(shards, wanted)
    predictor = load()
    model = model_of(predictor, run)
    with places.alone(out):
        job = Job(str(run), out, shards, model, wanted.settings.read, wanted.scores, wanted.spreadsheet_safe)
        todo = begin(job, force=wanted.force)
        voice = listener(json_output=wanted.as_json)
        before = len(shards) - len(todo)
        if before:
            voice.tell("predict", f"{before} of {len(shards)} files were answered before", aside=out)
        done = _run(job, todo, predictor, wanted, voice)
    _tell(done, job, voice, most_tokens=predictor.info.max_length)
    if wanted.as_json:
        print_json(_as_json(done, job, before))
    if done.failed:
        raise _broken(done.failed, job)
    return 0


def _check_flags(wanted: Wanted) -> None:
    if Path(str(wanted.out)).suffix and not str(wanted.out).endswith("/"):
        from bertsmith.scoring import places
        from bertsmith.scoring.writers import ENDINGS

        if Path(str(wanted.out)).suffix.lower() in ENDINGS and not places.is_folder(str(wanted.out)):
            raise UsageError(f"--in {wanted.source} names several files, so --out must be a folder. Got {wanted.out}.")
    if wanted.rung:
        raise UsageError(
            "--rung answers one file at a time.", tip="bertsmith predict RUN --rung NAME --in FILE --out FILE"
        )
    if wanted.quarantine:
        raise UsageError(
            "--quarantine is for one file.", tip=f"Rows that cannot be read are set apart in {wanted.out}/quarantine/."
        )
    if wanted.workers is not None and not wanted.cluster:
        raise UsageError("--workers needs --cluster ray.", tip="On one machine --threads says how many CPUs are used.")


def _check_endings(shards: Sequence[Shard], wanted: Wanted) -> None:
    from bertsmith.scoring.writers import check_ending

    for shard in shards:
        check_ending(Path(shard.name), spreadsheet_safe=wanted.spreadsheet_safe)


def _run(job: Job, todo: Sequence[Shard], predictor: Predictor, wanted: Wanted, voice: Listener) -> JobDone:
    if wanted.cluster:
        from bertsmith.scoring import ray_engine

        run, threads = wanted.settings.run, wanted.settings.run.threads
        return ray_engine.run_job(
            job,
            todo,
            workers=wanted.workers,
            threads=None if threads == "auto" else int(threads),
            device=run.device,
            listener=voice,
        )
    from bertsmith.scoring.shards import run_job

    return run_job(predictor, job, todo, listener=voice)


def _tell(done: JobDone, job: Job, voice: Listener, *, most_tokens: int) -> None:
    from bertsmith.scoring.job import QUARANTINE

    repeated, cut, bad = done.total("repeated"), done.total("cut"), done.total("bad")
    said = [
        f"{done.total('rows'):,} rows of {len(done.done)} file{'s' * (len(done.done) != 1)}",
        f"{repeated:,} had a text that was answered before" if repeated else "",
        f"{cut:,} {'text was' if cut == 1 else 'texts were'} longer than {most_tokens} tokens and cut" if cut else "",
        f"{bad:,} {'row' if bad == 1 else 'rows'} could not be read (in {QUARANTINE}/)" if bad else "",
    ]
    voice.tell("predict", "; ".join(filter(None, said)), aside=job.out)


def _as_json(done: JobDone, job: Job, before: int) -> dict[str, object]:
    return {
        "rows": done.total("rows"),
        "cut": done.total("cut"),
        "repeated": done.total("repeated"),
        "bad": done.total("bad"),
        "out": job.out,
        "engine": job.engine,
        "files": {"all": len(job.shards), "before": before, "now": len(done.done)},
        "failed": [{"file": each.name, "reason": each.reason} for each in done.failed],
    }


def _broken(failed: Sequence[Failed], job: Job) -> DataError:
    shown = [f"{each.reason.splitlines()[0]}" for each in failed[:_SHOWN]]
    more = f"\n  and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
    count = f"{len(failed)} of {len(job.shards)} files"
    return DataError(
        f"{job.out}: {count} could not be answered:\n  " + "\n  ".join(shown) + more,
        tip="Mend them and run the same command again: only they are done then.",
    )
