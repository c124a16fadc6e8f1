"""Several workers take new models together: all of them, or none.

Each loads what is new beside the old and says whether it could; only where all could, each puts it in its place. That
is the two-phase commit (Gray, *Notes on data base operating systems*, 1978), with the supervisor as its coordinator.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from bertsmith.errors import BertsmithError
from bertsmith.serve.asked import Refused

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from bertsmith.serve.models import Models, Prepared

PATIENCE_S = 300.0
"""Seconds that the workers have to load a model."""
_NOT = "reload refused"
_LOG = logging.getLogger("bertsmith.serve")
Versions = dict[str, str]
"""Name of a model → its version."""


@dataclass(frozen=True)
class Ready:
    """A worker answers, with these models."""

    versions: Versions


@dataclass(frozen=True)
class Failed:
    """A worker cannot begin."""

    error: BertsmithError


@dataclass(frozen=True)
class Wish:
    """Somebody wants a model loaded again; "" is all of them."""

    number: int
    name: str


@dataclass(frozen=True)
class Prepare:
    """Load it beside the old one, and say whether it can be used."""

    turn: int
    name: str


@dataclass(frozen=True)
class Decide:
    """Put what was loaded in its place, or give it up."""

    turn: int
    take: bool


@dataclass(frozen=True)
class Vote:
    """What became of a step at a worker: the versions that it has now, or would have; or why not."""

    turn: int
    versions: Versions
    refused: Refused | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a wish."""

    wish: int
    refused: Refused | None


class Line(Protocol):
    """What can be told something: a worker."""

    def send(self, message: Any, /) -> None:
        """Tell it; where it is gone, nothing happens."""
        ...


@dataclass
class _Turn:
    """One wish on its way."""

    number: int
    asker: Line | None
    wish: Wish
    until: float
    missing: set[Line]
    there: set[Line]
    taking: bool = False
    versions: list[Versions] = field(default_factory=list)
    refused: Refused | None = None


class Agreement:
    """The supervisor's side: one wish after the other goes to all workers that answer."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, patience_s: float = PATIENCE_S) -> None:
        """Begin with nobody.

        Args:
            clock: Gives seconds.
            patience_s: Seconds that the workers have for each step.
        """
        self._clock, self._patience_s = clock, patience_s
        self._numbers = itertools.count(1)
        self._members: set[Line] = set()
        self._versions: Versions = {}
        self._wishes: deque[tuple[Line | None, Wish]] = deque()
        self._turn: _Turn | None = None

    def joined(self, line: Line, versions: Versions) -> None:
        """Note that a worker answers; where it has other models than the others, these are to take them too."""
        if self._members and versions != self._versions:
            _LOG.warning("a new worker found other files than those that the others answer with; they take them too")
            self._wishes.append((None, Wish(0, "")))
        elif not self._members:
            self._versions = dict(versions)
        self._members.add(line)
        self._next()

    def left(self, line: Line) -> None:
        """Note that a worker is gone: nobody waits for it, and the one that comes after it loads what is there then."""
        self._members.discard(line)
        self._wishes = deque(each for each in self._wishes if each[0] is not line)
        turn = self._turn
        if turn is not None and turn.asker is line:
            turn.asker = None
        if turn is not None and line in turn.there:
            turn.there.discard(line)
            turn.missing.discard(line)
            if not turn.missing:
                self._step(turn)

    def wished(self, wish: Wish, *, by: Line | None = None) -> None:
        """Take a wish: of a worker, which is told what became of it, or of the supervisor's own."""
        self._wishes.append((by, wish))
        self._next()

    def voted(self, line: Line, vote: Vote) -> None:
        """Take what a worker says of a step; what it says of one that is over counts no more."""
        turn = self._turn
        if turn is None or vote.turn != turn.number or line not in turn.missing:
            return
        turn.missing.discard(line)
        turn.versions.append(vote.versions)
        turn.refused = turn.refused or vote.refused
        if not turn.missing:
            self._step(turn)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until `expire` has something to do; None where nothing is awaited."""
        return None if self._turn is None else max(0.0, self._turn.until - self._clock())

    def expire(self) -> None:
        """Give a step up for which a worker takes too long."""
        turn = self._turn
        if turn is not None and self._clock() >= turn.until:
            late = f"{len(turn.missing)} of {len(turn.there)} workers did not answer within {self._patience_s:g} s."
            turn.refused, turn.missing = turn.refused or Refused(409, _NOT, late), set()
            self._step(turn)

    def _next(self) -> None:
        if self._turn is not None or not self._wishes:
            return
        asker, wish = self._wishes.popleft()
        there, until = set(self._members), self._clock() + self._patience_s
        self._turn = turn = _Turn(next(self._numbers), asker, wish, until, set(there), there)
        _tell(there, Prepare(turn.number, wish.name))
        if not there:
            self._step(turn)

    def _step(self, turn: _Turn) -> None:
        """Go on after all have said what became of a step."""
        if not turn.there:
            turn.refused = Refused(503, _NOT, "No worker is left that could load it.", retry_after=1)
        elif turn.refused is None and any(each != turn.versions[0] for each in turn.versions):
            turn.refused = Refused(409, _NOT, "The files changed while they were loaded. Try again.", retry_after=1)
        if turn.taking:
            self._versions |= turn.versions[0] if turn.versions else {}
            self._end(turn)
        elif turn.refused is not None:
            _tell(turn.there, Decide(turn.number, take=False))
            self._end(turn)
        else:
            turn.taking, turn.versions, turn.missing = True, [], set(turn.there)
            turn.until = self._clock() + self._patience_s
            _tell(turn.there, Decide(turn.number, take=True))

    def _end(self, turn: _Turn) -> None:
        self._turn = None
        if turn.asker is not None:
            turn.asker.send(Outcome(turn.wish.number, turn.refused))
        elif turn.refused is not None:
            _LOG.error("%s: %s", turn.refused.title, turn.refused.detail)
        else:
            _LOG.info("loaded again: %s", ", ".join(f"{name} {version}" for name, version in self._versions.items()))
        self._next()


def _tell(lines: Iterable[Line], message: Prepare | Decide) -> None:
    for line in lines:
        line.send(message)


class Member:
    """A worker's side: it loads, waits for the others, and takes what it loaded or gives it up."""

    def __init__(self, line: Connection, models: Models) -> None:
        """Stand at one end of a line to the supervisor.

        Args:
            line: The line.
            models: What this worker answers with; their `reload` asks all workers from now on.
        """
        self._line, self._models = line, models
        self._numbers = itertools.count(1)
        self._wishes: dict[int, asyncio.Future[None]] = {}
        self._prepared: Prepared | None = None
        self._working: asyncio.Task[None] | None = None
        self._ending = False
        models.reload_through(self.reload)

    def begin(self) -> None:
        """Say that this worker answers, and listen; called in its loop."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Any] = asyncio.Queue()
        threading.Thread(target=self._listen, args=(loop, heard), name="supervisor", daemon=True).start()
        self._working = loop.create_task(self._work(heard))
        self._line.send(Ready(self._versions()))

    def end(self) -> None:
        """Take no part any more; whoever waits for a reload is refused."""
        self._ending = True
        stops = Refused(409, _NOT, "This server is about to stop.")
        for number in list(self._wishes):
            self._settle(Outcome(number, stops))
        if self._working is not None:
            self._working.cancel()
        self._decide(take=False)

    async def reload(self, name: str) -> None:
        """Have a model loaded again, or all, by all workers.

        Raises:
            Refused: It cannot be used; nothing changed.
        """
        number = next(self._numbers)
        waits = self._wishes[number] = asyncio.get_running_loop().create_future()
        self._line.send(Wish(number, name))
        await waits

    def _listen(self, loop: asyncio.AbstractEventLoop, heard: asyncio.Queue[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: this worker is about to end
            while True:
                try:
                    message = self._line.recv()
                except (EOFError, OSError):
                    if not self._ending:
                        # The supervisor is gone, so nobody would ever tell this process to stop.
                        os.kill(os.getpid(), signal.SIGTERM)
                    return
                loop.call_soon_threadsafe(heard.put_nowait, message)

    async def _work(self, heard: asyncio.Queue[Any]) -> None:
        while True:
            message = await heard.get()
            if isinstance(message, Outcome):
                self._settle(message)
            else:
                self._line.send(await self._vote(message))

    async def _vote(self, message: Prepare | Decide) -> Vote:
        try:
            if isinstance(message, Prepare):
                self._decide(take=False)
                self._prepared = await self._models.prepare(message.name)
                return Vote(message.turn, self._prepared.versions)
            self._decide(take=message.take)
        except Refused as refused:
            return Vote(message.turn, {}, refused)
        return Vote(message.turn, self._versions())

    def _decide(self, *, take: bool) -> None:
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return
        if take:
            prepared.take()
        else:
            prepared.leave()

    def _settle(self, outcome: Outcome) -> None:
        waits = self._wishes.pop(outcome.wish, None)
        if waits is None or waits.done():
            return
        if outcome.refused is None:
            waits.set_result(None)
        else:
            waits.set_exception(outcome.refused)

    def _versions(self) -> Versions:
        return {name: self._models.get(name).version for name in self._models.names}
