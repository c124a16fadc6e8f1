"""Several workers have sockets of their own at one port; nobody else gets in between."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from bertsmith.errors import UsageError
from bertsmith.serve.settings import ServeSettings
from bertsmith.serve.sockets import listening, of_worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers share one socket")


def settings(port: int = 0, workers: int = 2, host: str = "127.0.0.1") -> ServeSettings:
    return ServeSettings(runs=(Path("toy"),), port=port, workers=workers, host=host)


def test_connections_are_spread_over_the_workers() -> None:
    """Of 300, each of three sockets has its part, and all of them have one."""
    with listening(settings(workers=3)) as held:
        port = held.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        found = [0, 0, 0]
        mine = [of_worker(held) for _ in found]

        def accept(number: int) -> None:
            while True:
                try:
                    client, _ = mine[number].accept()
                except OSError:
                    return
                client.sendall(b"a")
                found[number] += 1
                client.close()

        threads = [threading.Thread(target=accept, args=(number,)) for number in range(3)]
        for each, thread in zip(mine, threads, strict=True):
            each.listen(300)
            thread.start()
        for _ in range(300):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
                assert one.recv(1) == b"a"
        for each in mine:
            each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in threads:
            thread.join(20)
    assert sum(found) == 300
    assert min(found) > 50


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_with_a_server_is_said_to_be_taken(workers: int) -> None:
    """A second server does not share the port of a first one, whatever both are like."""
    for first in (1, 2):
        with listening(settings(workers=first)) as held:
            own = of_worker(held)
            own.listen()
            port = held.getsockname()[1]
            with pytest.raises(UsageError) as caught, listening(settings(port, workers)):
                pass
            own.close()
        assert str(caught.value).startswith(f"cannot listen at 127.0.0.1, port {port}: Address already in use.\n")


def test_a_socket_that_listens_is_the_workers() -> None:
    """Where there is one process, or no way to have more sockets, all listen at the same."""
    with listening(settings(workers=1)) as held:
        assert of_worker(held) is held


def test_addresses_of_version_6() -> None:
    """They are held alike."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listening(settings(host="::1")) as held, of_worker(held) as own:
        own.listen()
        with socket.create_connection(held.getsockname()[:2], timeout=20):
            pass
