"""Lifecycle: processes that share a socket are replaced where they crash and end when they are told to."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from bertsmith.errors import BundleError
from bertsmith.serve import lifecycle
from bertsmith.serve.lifecycle import Hooks, Supervisor, threads_each
from bertsmith.serve.together import Failed, Ready

WAIT_S = 60.0


def tell_pid(line: Connection, number: int, listening: socket.socket) -> None:
    """Tell each client this process's number, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    line.send(Ready({"m": "1"}))
    while True:
        client, _ = listening.accept()
        with client:
            client.sendall(str(os.getpid()).encode())


def crash(line: Connection, number: int) -> None:
    """End at once, and not well."""
    os._exit(3)


def cannot(line: Connection, number: int) -> None:
    """Say that it cannot begin."""
    line.send(Failed(BundleError("m: damaged.", tip="Copy it.")))


def crash_but_first(line: Connection, number: int, folder: Path) -> None:
    """Answer, where this is the first process that tries; else end at once."""
    if (folder / str(number)).exists():
        os._exit(3)
    (folder / str(number)).write_text(str(os.getpid()))
    line.send(Ready({"m": "1"}))
    time.sleep(WAIT_S)


def sleep_on(line: Connection, number: int) -> None:
    """Hear no SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    line.send(Ready({}))
    time.sleep(WAIT_S)


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def running(supervisor: Supervisor) -> Iterator[Future[int]]:
    """Run it in a thread; whatever goes wrong in a test, it ends."""
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(supervisor.run)
        try:
            yield ended
        finally:
            supervisor.stop()


def test_a_worker_that_is_killed_is_replaced_and_all_end_when_told() -> None:
    """The address answers again, from another process; SIGTERM ends everything with 0."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        crashed: list[int] = []
        begun = threading.Event()
        hooks = Hooks(begun=begun.set, ended=crashed.append)
        supervisor = Supervisor(tell_pid, (listening,), workers=1, grace_s=WAIT_S, hooks=hooks)
        address = listening.getsockname()

        def ask() -> int:
            with socket.create_connection(address, timeout=WAIT_S) as client:
                return int(client.recv(20))

        with running(supervisor) as ended:
            first = ask()
            assert begun.wait(WAIT_S)
            assert supervisor.pids == [first]
            os.kill(first, signal.SIGKILL)
            # Until it is gone, a connection may be handed to it.
            until(lambda: crashed == [first])
            second = ask()
            assert second != first
            until(lambda: supervisor.pids == [second])
            supervisor.stop()
            assert ended.result(WAIT_S) == 0
        assert supervisor.pids == []
        with pytest.raises(ConnectionRefusedError):
            ask()


def test_workers_that_never_start_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some crashes in a row there is no other try, and the code is 1."""
    monkeypatch.setattr(lifecycle, "_MOST_CRASHES", 2)
    monkeypatch.setattr(lifecycle, "_FIRST_PAUSE_S", 0.001)
    crashed: list[int] = []
    assert Supervisor(crash, (), workers=1, grace_s=1, hooks=Hooks(ended=crashed.append)).run() == 1
    assert len(set(crashed)) == 2


def test_what_a_worker_says_that_cannot_begin_is_the_servers_error() -> None:
    """It is raised as the worker raised it, and no other is tried."""
    with pytest.raises(BundleError) as error:
        Supervisor(cannot, (), workers=1, grace_s=1).run()
    assert (error.value.message, error.value.tip) == ("m: damaged.", "Copy it.")


def test_a_worker_that_cannot_begin_again_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again and again, at ever longer times, while the others answer."""
    monkeypatch.setattr(lifecycle, "_MOST_CRASHES", 2)
    monkeypatch.setattr(lifecycle, "_FIRST_PAUSE_S", 0.001)
    begun = threading.Event()
    crashed: list[int] = []
    supervisor = Supervisor(
        crash_but_first, (tmp_path,), workers=2, grace_s=WAIT_S, hooks=Hooks(begun.set, crashed.append)
    )
    with running(supervisor) as ended:
        assert begun.wait(WAIT_S)
        os.kill(int((tmp_path / "1").read_text()), signal.SIGKILL)
        until(lambda: len(crashed) >= 3)
        assert not ended.done()
        supervisor.stop()
        assert ended.result(WAIT_S) == 0


def test_a_worker_that_does_not_end_is_killed() -> None:
    """After the grace it is gone, and the code says that it was not well."""
    begun = threading.Event()
    supervisor = Supervisor(sleep_on, (), workers=1, grace_s=0.1, hooks=Hooks(begun=begun.set))
    with running(supervisor) as ended:
        assert begun.wait(WAIT_S)
        supervisor.stop()
        assert ended.result(WAIT_S) == 1
        assert supervisor.pids == []


@pytest.mark.parametrize(("workers", "threads", "each"), [(1, 4, 4), (2, 4, 2), (3, 4, 1), (8, 2, 1)])
def test_threads_are_divided_among_workers(workers: int, threads: int, each: int) -> None:
    """Never more in all than there are, and one at least."""
    assert threads_each(workers, threads) == each


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    """A supervisor in another thread takes no signals of this process."""
    before = signal.getsignal(signal.SIGTERM)
    supervisor = Supervisor(crash, (), workers=0, grace_s=1)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    supervisor.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert signal.getsignal(signal.SIGTERM) is before
