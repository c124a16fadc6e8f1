"""The workers of a job: who lives, what each is at, and what waits; a shard whose worker died goes to another."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bertsmith.errors import BertsmithError, DataError
from bertsmith.listener import Listener
from bertsmith.scoring.job import Failed, Shard, ShardDone

MOST_TRIES = 3
"""So often a shard is given to a worker that dies of it; and so many workers in a row may die before they are ready."""
PATIENCE = 60.0
"""Seconds without a single worker after which the user is told what is waited for."""


@dataclass(frozen=True)
class Refused:
    """An error of the user's, as a worker hands it over: exceptions with keyword arguments cannot be pickled."""

    kind: type[BertsmithError]
    message: str
    tip: str

    @classmethod
    def of(cls, error: BertsmithError) -> Refused:
        """Keep what an error says."""
        return cls(type(error), error.message, error.tip)

    def error(self) -> BertsmithError:
        """Make the error again."""
        made = self.kind.__new__(self.kind)
        # Some kinds make their message of other arguments; this one is made already.
        BertsmithError.__init__(made, self.message, tip=self.tip)
        return made


class Crew:
    """The workers that live, what each is at, and the shards that wait."""

    def __init__(self, shards: Sequence[Shard], *, most: int, hire: Callable[[], Any], listener: Listener) -> None:
        """Gather the shards.

        Args:
            shards: What is to be done.
            most: Most workers at a time.
            hire: Starts a worker.
            listener: Told of workers that died.
        """
        self._waiting = deque(shards)
        self._most = most
        self._hire = hire
        self._listener = listener
        self._at: dict[Any, tuple[Any, Shard | None]] = {}
        self._tries: Counter[str] = Counter()
        self._lost_starts = 0
        self.failed: list[Failed] = []
        self.retried: set[Shard] = set()

    def work(self) -> Iterator[tuple[Shard, ShardDone | None]]:
        """Give each shard when it is done, with None when it could not be; the workers are gone when this ends.

        Raises:
            BertsmithError: A worker cannot have the model, or none can be started.
        """
        import ray

        told = False
        try:
            self._fill()
            # Workers for whom there was no room need not come any more.
            while self._waiting or any(shard is not None for _, shard in self._at.values()):
                ready, _ = ray.wait(list(self._at), timeout=PATIENCE)
                if not ready and not told and all(shard is None for _, shard in self._at.values()):
                    told = True
                    self._listener.warn(f"no worker has started yet: {room()}")
                for ref in ready:
                    yield from self._heard(ref)
                    self._fill()
        finally:
            for worker, _ in self._at.values():
                ray.kill(worker)

    def _fill(self) -> None:
        """Hire workers while there are shards that none of the new ones will take."""
        starting = sum(shard is None for _, shard in self._at.values())
        while len(self._at) < self._most and starting < len(self._waiting):
            worker = self._hire()
            self._at[worker.load.remote()] = (worker, None)
            starting += 1

    def _heard(self, ref: Any) -> Iterator[tuple[Shard, ShardDone | None]]:
        """Take what a worker says, and give it its next shard."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        worker, shard = self._at.pop(ref)
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            # The worker lives, and something went wrong in it that is not the user's: a full disk, a bug.
            yield from self._lost(shard, error)
            self._next(worker, ready=shard is not None)
            return
        except RayError as error:
            ray.kill(worker)
            yield from self._lost(shard, error)
            return
        if shard is None and isinstance(answer, Refused):
            ray.kill(worker)
            raise answer.error()
        yield from self._answered(shard, answer)
        self._next(worker)

    def _answered(
        self, shard: Shard | None, answer: ShardDone | Refused | None
    ) -> Iterator[tuple[Shard, ShardDone | None]]:
        if shard is None:
            self._lost_starts = 0
        elif isinstance(answer, Refused):
            if not issubclass(answer.kind, DataError):
                # A place that cannot be reached may be there for another worker, or a little later.
                yield from self._lost(shard, answer.error())
                return
            self.failed.append(Failed(shard.name, str(answer.error())))
            yield shard, None
        else:
            yield shard, answer

    def _next(self, worker: Any, *, ready: bool = True) -> None:
        """Give a worker its next shard; without one it goes, and what it held is free."""
        import ray

        if not ready or not self._waiting:
            ray.kill(worker)
            return
        shard = self._waiting.popleft()
        self._at[worker.score.remote(shard)] = (worker, shard)

    def _lost(self, shard: Shard | None, error: Exception) -> Iterator[tuple[Shard, None]]:
        """Give a shard to another worker, until it has cost too many."""
        lives, said = _told(error)
        if shard is None:
            self._lost_starts += 1
            if self._lost_starts == MOST_TRIES:
                raise BertsmithError(
                    f"{MOST_TRIES} workers in a row ended before they had loaded the model. The last: {said}",
                    tip="Is bertsmith installed on every machine, and enough memory free?",
                ) from error
            self._listener.warn(f"a worker ended before it had loaded the model; another is started. {said}")
            return
        self._tries[shard.name] += 1
        self.retried.add(shard)
        if self._tries[shard.name] < MOST_TRIES:
            self._waiting.append(shard)
            how = "its worker failed; it is tried again" if lives else "its worker died; another takes it"
            self._listener.warn(f"{shard.source}: {how}. {said}")
            return
        how = "failed at" if lives else "died of"
        self.failed.append(Failed(shard.name, f"{shard.source}: {MOST_TRIES} workers {how} it. The last: {said}"))
        yield shard, None


def last_line(error: BaseException, most: int = 300) -> str:
    """Say an error of Ray's in one line: its last, which says what happened."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[-1].split()).partition(" Some common causes")[0] if lines else type(error).__name__
    return said if len(said) <= most else said[:most].rstrip() + " …"


def _told(error: Exception) -> tuple[bool, str]:
    """Say whether a worker outlived an error, and what it was."""
    from ray.exceptions import RayTaskError

    if isinstance(error, BertsmithError):
        return True, error.message
    if isinstance(error, RayTaskError):
        return True, f"{type(error.cause).__name__}: {error.cause}"
    return False, last_line(error)


def room() -> str:
    """Say what the cluster has left."""
    import ray

    free = ray.available_resources()
    return f"the cluster has {free.get('CPU', 0):g} CPUs free."
