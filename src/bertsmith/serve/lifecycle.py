"""Several processes that answer at one address: started, watched, started again, and stopped together.

They listen at one port, and the system spreads connections over them. One that crashes takes its own connections with
it (its clients see them closed); the others go on, and it is replaced.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from bertsmith import threads as cpu
from bertsmith.serve.together import Agreement, Failed, Ready, Vote, Wish
from bertsmith.signals import handling

Work = Callable[..., None]
WAITING = 2048
"""Connections that the system holds for us until they are accepted."""
_LOG = logging.getLogger("bertsmith.serve")
_HANG_UP: int | None = getattr(signal, "SIGHUP", None)
_MOST_CRASHES = 5
"""Workers that ended before they answered, one after the other, after which it is given up where none answers."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
"""Seconds before a worker is started again that ended before it answered; each time twice as many."""


class _Worker:
    """One of the processes, and the line to it."""

    def __init__(self, number: int, process: SpawnProcess, line: Connection) -> None:
        self.number, self.process, self.line = number, process, line
        self.answers = False
        self.hears = True

    def send(self, message: Any, /) -> None:
        """Tell it something."""
        # It is gone, which is seen elsewhere.
        with contextlib.suppress(OSError):
            self.line.send(message)


@dataclass(frozen=True)
class Hooks:
    """Who is told of what.

    Attributes:
        begun: Called once all workers answer, for the first time.
        ended: Called with the process id of each that ended without being told to.
    """

    begun: Callable[[], None] = lambda: None
    ended: Callable[[int], None] = lambda pid: None


class Supervisor:
    """Keeps a number of processes at work until it is told to stop."""

    def __init__(
        self, work: Work, arguments: tuple[Any, ...], *, workers: int, grace_s: float, hooks: Hooks | None = None
    ) -> None:
        """Prepare; `run` begins.

        Args:
            work: What each process does until it gets SIGTERM: a function of a module, called with a line to this
                process, its number from 0, and `arguments`. It sends `Ready` once it answers.
            arguments: What can be pickled, and sockets, which are closed here when all is to stop.
            workers: How many processes.
            grace_s: Seconds that they have to end by themselves; then they are killed.
            hooks: Who is told of what.
        """
        self._hooks = hooks or Hooks()
        self._work, self._arguments = work, arguments
        self._count, self._grace_s = workers, grace_s
        self._workers: list[_Worker] = []
        self._due: list[tuple[float, int]] = []
        self._crashes, self._begun = 0, False
        self._agreement = Agreement()
        self._wake, self._woken = multiprocessing.Pipe()
        self._signals: list[int] = []

    @property
    def pids(self) -> list[int]:
        """Process ids of those at work."""
        return [each.process.pid for each in self._workers if each.process.pid is not None and each.process.is_alive()]

    def run(self) -> int:
        """Start the processes and watch over them until SIGTERM or SIGINT.

        Returns:
            0; or 1 where they cannot be started, or did not end within their time.

        Raises:
            BertsmithError: What a worker said that cannot begin.
        """
        wanted = [signal.SIGTERM, signal.SIGINT, *([] if _HANG_UP is None else [signal.Signals(_HANG_UP)])]
        with handling(wanted, lambda number, _: self._tell(number)):
            try:
                for number in range(self._count):
                    self._start(number)
                code = self._watch()
            finally:
                clean = self._stop()
        return code if clean else 1

    def stop(self) -> None:
        """Tell it to stop, from any thread."""
        self._tell(signal.SIGTERM)

    def reload(self) -> None:
        """Let all processes load their models again, from any thread."""
        self._tell(_HANG_UP or 0)

    def _tell(self, number: int) -> None:
        self._signals.append(number)
        self._wake.send_bytes(b"!")

    # watch

    def _watch(self) -> int:
        while True:
            heard = [each.line for each in self._workers if each.hears]
            ready = wait(
                [self._woken, *heard, *(each.process.sentinel for each in self._workers)], timeout=self._pause()
            )
            if self._woken in ready and self._is_to_stop():
                return 0
            for worker in [each for each in self._workers if each.line in ready]:
                self._hear(worker)
            for worker in [each for each in self._workers if each.process.sentinel in ready]:
                self._replace(worker)
            if self._crashes >= _MOST_CRASHES and not any(each.answers for each in self._workers):
                _LOG.critical("%d workers ended before they answered; the server stops", self._crashes)
                return 1
            self._start_due()
            self._agreement.expire()

    def _is_to_stop(self) -> bool:
        self._woken.recv_bytes()
        if self._signals.pop(0) in (_HANG_UP, 0):
            self._agreement.wished(Wish(0, ""))
            return False
        return True

    def _pause(self) -> float | None:
        times = [max(0.0, when - time.monotonic()) for when, _ in self._due]
        left = self._agreement.seconds_left
        return min(times if left is None else [*times, left], default=None)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.line.recv()
        except (EOFError, OSError):
            worker.hears = False
            return
        if isinstance(message, Ready):
            self._note_ready(worker, message)
        elif isinstance(message, Failed):
            self._note_failed(message)
        elif isinstance(message, Wish):
            self._agreement.wished(message, by=worker)
        elif isinstance(message, Vote):
            self._agreement.voted(worker, message)

    def _note_ready(self, worker: _Worker, message: Ready) -> None:
        worker.answers, self._crashes = True, 0
        self._agreement.joined(worker, message.versions)
        if not self._begun and sum(each.answers for each in self._workers) == self._count:
            self._begun = True
            self._hooks.begun()

    def _note_failed(self, message: Failed) -> None:
        if not self._begun:
            raise message.error
        _LOG.error("a worker cannot begin: %s", message.error)

    # workers

    def _start(self, number: int) -> None:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=self._work, args=(theirs, number, *self._arguments), name=f"worker {number}"
        )
        process.start()
        theirs.close()
        self._workers.append(_Worker(number, process, ours))

    def _replace(self, worker: _Worker) -> None:
        """See to it that another comes in the place of one that ended: at once, where it had answered."""
        worker.process.join()
        while worker.hears and worker.line.poll():
            self._hear(worker)
        worker.line.close()
        self._workers.remove(worker)
        self._agreement.left(worker)
        if worker.process.pid is not None:
            self._hooks.ended(worker.process.pid)
        self._crashes = 0 if worker.answers else self._crashes + 1
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._crashes) if self._crashes else 0.0
        _LOG.error("worker %d ended with %s; it is started again", worker.number, worker.process.exitcode)
        self._due.append((time.monotonic() + pause, worker.number))

    def _start_due(self) -> None:
        now = time.monotonic()
        due, self._due = (
            [each for each in self._due if each[0] <= now],
            [each for each in self._due if each[0] > now],
        )
        for _, number in due:
            self._start(number)

    def _stop(self) -> bool:
        """End all; False where one had to be killed."""
        for each in self._arguments:
            # What waits at a socket that nobody answers at would wait until this process ended.
            if isinstance(each, socket.socket):
                each.close()
        for worker in self._workers:
            worker.process.terminate()
        until, clean = time.monotonic() + self._grace_s, True
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                _LOG.error("worker %d did not end within %g s and is killed", worker.number, self._grace_s)
                worker.process.kill()
                clean = False
            worker.process.join()
            worker.line.close()
        return clean


def threads_each(workers: int, threads: int | None = None) -> int:
    """Divide CPU threads among workers, one at least.

    Args:
        workers: Processes.
        threads: Threads of all of them; None takes as many as this process may use.

    >>> threads_each(2, 8), threads_each(4, 2)
    (4, 1)
    """
    return max(1, (threads or cpu.allowed()) // workers)
