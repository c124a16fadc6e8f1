"""Several processes that answer at one address: started, watched, started again, and stopped together.

They listen at one socket, which the first process opened, so the system hands a connection to whichever is free. One
that crashes takes its own connections with it (its clients see them closed); the others go on, and it is replaced.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from bertsmith import threads as cpu

Work = Callable[..., None]
_LOG = logging.getLogger("bertsmith.serve")
_SUPERVISOR = "BERTSMITH_SUPERVISOR"
"""Environment variable that tells a worker the process that watches over it."""
_QUICK_S = 5.0
"""Seconds within which a crash counts as one of the start."""
_MOST_QUICK = 5
"""Crashes of the start, one after the other, after which it is given up."""


@dataclass(eq=False)
class _Worker:
    """One of the processes."""

    process: SpawnProcess
    number: int
    begun: float = field(default_factory=time.monotonic)


class Supervisor:
    """Keeps a number of processes at work until it is told to stop."""

    def __init__(
        self,
        work: Work,
        arguments: tuple[Any, ...],
        *,
        workers: int,
        grace_s: float,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare; `run` begins.

        Args:
            work: What each process does until it gets SIGTERM: a function of a module, called with `arguments`.
            arguments: What can be pickled, and sockets.
            workers: How many processes.
            grace_s: Seconds that they have to end by themselves; then they are killed.
            ended: Told the process id of each that crashed.
        """
        self._ended = ended
        self._work, self._arguments = work, arguments
        self._count, self._grace_s = workers, grace_s
        self._workers: list[_Worker] = []
        self._crashes = 0
        self._wake, self._woken = multiprocessing.Pipe()
        self._signals: list[int] = []

    @property
    def pids(self) -> list[int]:
        """Process ids of those at work."""
        return [each.process.pid for each in self._workers if each.process.pid is not None and each.process.is_alive()]

    def run(self) -> int:
        """Start the processes and watch over them until SIGTERM or SIGINT; 0, or 1 where they cannot be started."""
        with self._listening():
            for number in range(self._count):
                self._start(number)
            try:
                return self._watch()
            finally:
                self._stop()

    def stop(self) -> None:
        """Tell it to stop, from any thread."""
        self._tell(signal.SIGTERM)

    def reload(self) -> None:
        """Tell all processes to load their models again, from any thread."""
        self._tell(signal.SIGHUP)

    def _tell(self, number: int) -> None:
        self._signals.append(number)
        self._wake.send_bytes(b"!")

    def _watch(self) -> int:
        while True:
            ready = wait([self._woken, *(each.process.sentinel for each in self._workers)])
            if self._woken in ready:
                self._woken.recv_bytes()
                if self._signals.pop(0) != signal.SIGHUP:
                    return 0
                self._send(signal.SIGHUP)
            for worker in [each for each in self._workers if each.process.sentinel in ready]:
                if not self._replace(worker):
                    return 1

    def _replace(self, worker: _Worker) -> bool:
        """Start another in the place of one that ended; False where that has no end."""
        worker.process.join()
        self._workers.remove(worker)
        if self._ended is not None and worker.process.pid is not None:
            self._ended(worker.process.pid)
        quick = time.monotonic() - worker.begun < _QUICK_S
        self._crashes = self._crashes + 1 if quick else 0
        _LOG.error("worker %d ended with %s; it is started again", worker.number, worker.process.exitcode)
        if self._crashes >= _MOST_QUICK:
            _LOG.critical("%d workers ended as soon as they had begun; the server stops", self._crashes)
            return False
        self._start(worker.number)
        return True

    def _start(self, number: int) -> None:
        os.environ[_SUPERVISOR] = str(os.getpid())
        try:
            process = multiprocessing.get_context("spawn").Process(
                target=self._work, args=self._arguments, name=f"worker {number}"
            )
            process.start()
        finally:
            del os.environ[_SUPERVISOR]
        self._workers.append(_Worker(process, number))

    def _send(self, number: int) -> None:
        for pid in self.pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _stop(self) -> None:
        self._send(signal.SIGTERM)
        until = time.monotonic() + self._grace_s
        for each in self._workers:
            each.process.join(max(0.0, until - time.monotonic()))
        for each in self._workers:
            if each.process.is_alive():
                _LOG.error("worker %d did not end within %g s and is killed", each.number, self._grace_s)
                each.process.kill()
            each.process.join()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Take signals as long as the context lasts, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        before = {each: signal.signal(each, lambda number, _: self._tell(number)) for each in wanted}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


def tell_others() -> bool:
    """Let all workers load their models again, called in one that just did; False where there are no others."""
    supervisor = os.environ.get(_SUPERVISOR)
    if supervisor is None or int(supervisor) != os.getppid():
        return False
    os.kill(int(supervisor), signal.SIGHUP)
    return True


def threads_each(workers: int, threads: int | None = None) -> int:
    """Divide CPU threads among workers, one at least.

    Args:
        workers: Processes.
        threads: Threads of all of them; None takes as many as this process may use.

    >>> threads_each(2, 8), threads_each(4, 2)
    (4, 1)
    """
    return max(1, (threads or cpu.allowed()) // workers)
