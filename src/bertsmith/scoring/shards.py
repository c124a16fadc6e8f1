"""The shards of a job, one after the other: each is answered whole, or not at all."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bertsmith.clock import in_words
from bertsmith.errors import DataError
from bertsmith.inference.predictor import Predictor
from bertsmith.listener import Listener, Progress
from bertsmith.scoring import places
from bertsmith.scoring.cache import AnswerCache
from bertsmith.scoring.files import Asked, Scored, Scorer, Told, named, write_what_can_be
from bertsmith.scoring.job import Failed, Job, JobDone, Shard, ShardDone


def score_shard(
    predictor: Predictor, job: Job, shard: Shard, *, cache: AnswerCache | None = None, told: Told | None = None
) -> ShardDone:
    """Answer the rows of a shard; its answers are there when this returns, and before that nothing of them is.

    Rows that cannot be read go to the shard's quarantine, which is there before the answers are. What is written
    depends on the model and the shard alone, so that a shard may be done again, anywhere.

    Args:
        predictor: The job's model.
        job: What is wanted.
        shard: One of its shards.
        cache: Answers to texts of other shards; None begins with none. Give one only where an answer does not depend
            on the other texts of its batch.
        told: Told of progress.

    Raises:
        DataError: The file is broken as a whole, or its text column cannot be told. Trying again does not help.
        UsageError: A place cannot be read or written to.
    """
    begin = time.perf_counter()
    scorer = Scorer(
        predictor, Asked(job.settings, job.scores, job.spreadsheet_safe), cache or AnswerCache(), empty=True
    )
    scorer = dataclasses.replace(scorer, told=told) if told else scorer
    with places.fetched(shard.source) as source, places.committed(shard.target) as out:
        scored = _score(scorer, shard, source, out)
    seconds = time.perf_counter() - begin
    return ShardDone(shard.name, scored.rows, scored.cut, scored.bad, scored.repeated, seconds)


def _score(scorer: Scorer, shard: Shard, source: Path, out: Path) -> Scored:
    name = places.base(shard.target)
    with (
        tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=".rows", dir=out.parent) as folder,
        named(source, shard.source),
    ):
        bad = Path(folder) / "bad.jsonl"
        scored = write_what_can_be(scorer, source, out, name=name, bad=bad)
        if scored.bad:
            with places.committed(shard.quarantine) as quarantine:
                shutil.copyfile(bad, quarantine)
        return scored


def run_job(predictor: Predictor, job: Job, shards: Sequence[Shard], *, listener: Listener) -> JobDone:
    """Answer shards one after the other; one that is broken as a whole is passed over, and named in the end.

    Args:
        predictor: The job's model.
        job: What is wanted; it was begun.
        shards: Those of its shards that are not done.
        listener: Told of progress: rows a second, and about how long it will take.
    """
    done: list[ShardDone] = []
    failed: list[Failed] = []
    # With torch, a text's last digits depend on its batch; answers of other shards would make this one's depend on
    # what was done before it.
    shared = AnswerCache() if job.engine.startswith("onnx") else None
    with listener.work("predict", None) as progress:
        pace = Pace(shards, progress)
        for shard in shards:
            pace.begin(shard)
            try:
                done.append(score_shard(predictor, job, shard, cache=shared, told=pace.told))
            except DataError as error:
                failed.append(Failed(shard.name, str(error)))
            pace.end()
    return JobDone(tuple(done), tuple(failed))


class Pace:
    """Says rows a second and the time that is left, by the bytes that are done."""

    def __init__(self, shards: Sequence[Shard], progress: Progress) -> None:
        """Begin now."""
        self._progress = progress
        self._count = len(shards)
        self._all = max(1, sum(each.bytes for each in shards))
        self._bytes = self._rows = self._shards = 0
        self._inside = 0.0
        self._shard = 0
        self._begin = time.monotonic()

    def begin(self, shard: Shard) -> None:
        """A shard is begun."""
        self._shard, self._inside = shard.bytes, 0.0

    def told(self, rows: int, size: int) -> None:
        """Rows of the shard under way are answered; `size` is what they take in memory."""
        self._rows += rows
        # Packed files hold more than they weigh, so what a shard has left is only guessed.
        self._inside = min(0.9 * self._shard, self._inside + size)
        self._progress.advance(rows, self.note())

    def end(self) -> None:
        """The shard under way is done."""
        self._bytes, self._inside, self._shards = self._bytes + self._shard, 0.0, self._shards + 1
        self._progress.advance(0, self.note())

    def finished(self, shard: Shard, rows: int) -> None:
        """A shard that others worked on is done."""
        self._bytes, self._rows, self._shards = self._bytes + shard.bytes, self._rows + rows, self._shards + 1
        self._progress.advance(rows, self.note())

    def note(self) -> str:
        """Say how far the job is: `3 of 40 files · 1,150 rows/s · about 2 min 3 s left`."""
        spent = max(1e-9, time.monotonic() - self._begin)
        share = (self._bytes + self._inside) / self._all
        left = f" · about {in_words(spent * (1 - share) / share)} left" if share else ""
        return f"{self._shards} of {self._count} files · {self._rows / spent:,.0f} rows/s{left}"
