"""A job on Ray: workers that each hold the model take shards until none is left.

Ray starts the workers, on one machine or on many, and says when one has died. What must hold when something dies holds
by the files alone: the answers of a shard appear whole under their name, or not at all, and whoever makes them makes
the same. So a shard whose worker died is given to another, and a driver that is started again asks only for the
shards that are not there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith import threads as cpu
from bertsmith.encoders import require
from bertsmith.errors import BertsmithError, UsageError
from bertsmith.listener import Listener
from bertsmith.scoring import places
from bertsmith.scoring.cache import AnswerCache
from bertsmith.scoring.job import JOB, Job, JobDone, Shard, ShardDone, require_same_model
from bertsmith.scoring.ray_crew import Crew, Refused, last_line
from bertsmith.scoring.shards import Pace, score_shard

if TYPE_CHECKING:
    from bertsmith.inference.predictor import Predictor

MOST_THREADS = 4
"""Threads of a worker, where nobody says how many: more workers of few threads do more than few of many."""
OBJECT_STORE = 80 * 2**20
"""Bytes; nothing large goes through Ray, and this is the least that it takes."""


@dataclass(frozen=True)
class Size:
    """How many workers there are, and what each may use.

    Attributes:
        workers: Number of workers.
        threads: CPU threads of each.
        gpus: GPUs of each, 0 or 1.
    """

    workers: int
    threads: int
    gpus: int = 0


class Worker:
    """Holds the model in a process of its own and answers shards, one after the other."""

    def __init__(self, job: Job, *, threads: int, device: str) -> None:
        self._job = job
        self._threads = threads
        self._device = device
        self._predictor: Predictor | None = None
        # As in shards.run_job: only an export's answer to a text does not depend on the other texts of its batch.
        self._cache = AnswerCache() if job.engine.startswith("onnx") else None

    def load(self) -> Refused | None:
        """Load the model, and see that it and the folder are the job's."""
        from bertsmith.inference.loading import load

        # The driver's, which has the model too, came along.
        for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
            os.environ.pop(name, None)
        cpu.limit_libraries(self._threads)
        try:
            require_folder(self._job)
            found = load(Path(self._job.run), device=self._device, engine=self._job.engine, threads=self._threads)
            require_same_model(found, self._job)
        except BertsmithError as error:
            return Refused.of(error)
        self._predictor = found
        return None

    def score(self, shard: Shard) -> ShardDone | Refused:
        """Answer a shard; its answers are there, whole, when this returns."""
        assert self._predictor is not None
        try:
            return score_shard(self._predictor, self._job, shard, cache=self._cache)
        except BertsmithError as error:
            return Refused.of(error)


def require_folder(job: Job) -> None:
    """Refuse to write answers to a folder that is another one than the driver's, though it has the same name.

    Raises:
        UsageError: The job's record is not in it.
    """
    if not places.is_there(places.join(job.out, JOB)):
        raise UsageError(
            f"{job.out}: the machine {platform.node()} has not the folder of the job.",
            tip="Every machine needs the same folder at this path; or give a URL.",
        )


def run_job(
    job: Job,
    shards: Sequence[Shard],
    *,
    workers: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    listener: Listener,
) -> JobDone:
    """Answer shards on the Ray cluster that RAY_ADDRESS names; without it, on a Ray of this machine's own.

    Every worker reads the run and the shards and writes the answers itself, so their places must mean the same on
    every machine: a shared folder at one path, or URLs.

    Args:
        job: What is to be done; it was begun.
        shards: Those of its shards that are to be answered.
        workers: Number of workers; None takes as many as the cluster has room for. More than that is room asked for
            from a cluster that can grow.
        threads: CPU threads of each; None takes up to four.
        device: Where torch runs; with `cuda` each worker gets a GPU of its own.
        listener: Told of progress, and of workers that died.

    Returns:
        What was done, and the shards that could not be: broken files, and those that killed worker after worker.

    Raises:
        MissingExtraError: Ray is not installed.
        BertsmithError: A worker cannot have the model, or none can be started.
    """
    require("ray", what="--cluster ray", extra="ray")
    if not shards:
        return JobDone((), ())
    # A worker need not know of all the shards.
    told = replace(job, run=_anywhere(job.run), out=_anywhere(job.out), shards=())
    shards = [absolute(shard) for shard in shards]
    with connected():
        size = size_for(nodes(), workers=workers, threads=threads, gpus=int(device.startswith("cuda")))
        size = replace(size, workers=min(size.workers, len(shards)))
        listener.tell("cluster", f"Ray, {_some(size.workers, 'worker')} of {_some(size.threads, 'thread')}")
        crew = Crew(shards, most=size.workers, hire=_hiring(told, size, device), listener=listener)
        return _followed(crew, shards, listener)


def size_for(found: Sequence[dict[str, float]], *, workers: int | None, threads: int | None, gpus: int = 0) -> Size:
    """Choose how many workers there are and how many threads each has.

    Args:
        found: What each machine has: `CPU`, and perhaps `GPU`.
        workers: Their number, where it was asked for.
        threads: Their threads, where it was asked for.
        gpus: GPUs of each.

    >>> size_for([{"CPU": 8.0}, {"CPU": 6.0}], workers=None, threads=None)
    Size(workers=3, threads=4, gpus=0)
    >>> size_for([{"CPU": 2.0}], workers=2, threads=None)
    Size(workers=2, threads=1, gpus=0)
    """
    counts = [int(each.get("CPU", 0)) for each in found if each.get("CPU", 0) >= 1] or [1]
    if threads is None:
        threads = min(MOST_THREADS, *counts, max(1, sum(counts) // (workers or 1)))
    if workers is None:
        room = [min(int(each.get("CPU", 0)) // threads, *_gpu_room(each, gpus)) for each in found]
        workers = max(1, sum(room))
    return Size(workers, threads, gpus)


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _gpu_room(node: dict[str, float], gpus: int) -> list[int]:
    return [int(node.get("GPU", 0)) // gpus] if gpus else [1 << 20]


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """Be connected to Ray: to the cluster that RAY_ADDRESS names, else to one that lives as long as this block.

    Raises:
        BertsmithError: The cluster does not answer.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    # Ray sends statistics of its use away, and warns of a change that touches GPUs only, where nobody says otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Of a worker that dies, Ray tells stdout, which may be for JSON alone.
    with contextlib.redirect_stdout(sys.stderr):
        _connect()
        try:
            yield
        finally:
            ray.shutdown()


def _connect() -> None:
    import ray

    address = os.environ.get("RAY_ADDRESS", "")
    try:
        if address and address != "local":
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",
                num_cpus=cpu.allowed(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError) as error:
        raise BertsmithError(
            f"Ray cannot be reached: {last_line(error)}",
            tip="RAY_ADDRESS names the cluster; without it, Ray is started on this machine. "
            "Where the cluster wants a token, set RAY_AUTH_MODE=token.",
        ) from error


def nodes() -> list[dict[str, float]]:
    """Say what each machine of the cluster has."""
    import ray

    return [each["Resources"] for each in ray.nodes() if each["Alive"]]


def _followed(crew: Crew, shards: Sequence[Shard], listener: Listener) -> JobDone:
    done: list[ShardDone] = []
    try:
        with listener.work("predict", None) as progress:
            pace = Pace(shards, progress)
            for shard, found in crew.work():
                pace.finished(shard, found.rows if found else 0)
                done += [found] if found else []
    finally:
        # What a killed worker was writing lies beside the answers.
        places.clear_leftovers([place for each in crew.retried for place in (each.target, each.quarantine)])
    return JobDone(tuple(sorted(done, key=lambda each: each.name)), tuple(crew.failed))


def _hiring(job: Job, size: Size, device: str) -> Callable[[], Any]:
    """Make what starts a worker; Ray starts it where there is room."""
    import ray

    kind = ray.remote(Worker).options(num_cpus=size.threads, num_gpus=size.gpus)
    # Kept in Ray once, not sent anew for every worker.
    kept = ray.put(job)
    return lambda: kind.remote(kept, threads=size.threads, device=device)


def absolute(shard: Shard) -> Shard:
    """Give a shard whose places mean the same to a worker, which stands in another folder."""
    return replace(
        shard,
        source=_anywhere(shard.source),
        target=_anywhere(shard.target),
        quarantine=_anywhere(shard.quarantine),
    )


def _anywhere(place: str) -> str:
    return place if places.is_url(place) else str(places.local(place).absolute())
