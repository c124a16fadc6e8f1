"""Lifecycle: processes that share a socket are replaced where they crash and end when they are told to."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from bertsmith.serve.lifecycle import Supervisor, tell_others, threads_each

WAIT_S = 60.0


def tell_pid(listening: socket.socket) -> None:
    """Tell each client this process's number, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        client, _ = listening.accept()
        with client:
            client.sendall(str(os.getpid()).encode())


def crash() -> None:
    """End at once, and not well."""
    os._exit(3)


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_worker_that_is_killed_is_replaced_and_all_end_when_told() -> None:
    """The address answers again, from another process; SIGTERM ends everything with 0."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        crashed: list[int] = []
        supervisor = Supervisor(tell_pid, (listening,), workers=1, grace_s=WAIT_S, ended=crashed.append)
        ended = pool.submit(supervisor.run)

        def ask() -> int:
            with socket.create_connection(listening.getsockname(), timeout=WAIT_S) as client:
                return int(client.recv(20))

        first = ask()
        assert supervisor.pids == [first]
        os.kill(first, signal.SIGKILL)
        second = ask()
        assert second != first
        assert crashed == [first]
        until(lambda: supervisor.pids == [second])
        supervisor.stop()
        assert ended.result(WAIT_S) == 0
        assert supervisor.pids == []


def test_workers_that_never_start_end_the_server() -> None:
    """After five crashes in a row there is no sixth try, and the code is 1."""
    assert Supervisor(crash, (), workers=1, grace_s=1).run() == 1


def test_a_process_of_its_own_has_no_others_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a worker's own supervisor is told, never a process that happens to have its number."""
    assert not tell_others()
    monkeypatch.setenv("BERTSMITH_SUPERVISOR", "1")
    if os.getppid() != 1:
        assert not tell_others()


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
