"""The sockets that a server listens at: one, or on Linux one for each of several workers.

Workers at one socket take connections as they come to it, and those that stay open stay where they are: of 64, one of
two workers was seen to have 62, and the other's core was wasted. Linux spreads connections over sockets that share a
port (SO_REUSEPORT) by a hash of the client's address, so each worker has about as many.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator

from bertsmith.errors import UsageError
from bertsmith.serve.lifecycle import WAITING
from bertsmith.serve.settings import ServeSettings


@contextlib.contextmanager
def listening(settings: ServeSettings) -> Iterator[socket.socket]:
    """Take the port before any model is loaded, so that it is said at once where it is taken.

    Gives a socket that listens; for several workers, where they can have one each, one that only holds the port.

    Raises:
        UsageError: The address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    address = (settings.host.strip("[]"), settings.port)
    try:
        sock = socket.create_server(address, family=family, backlog=WAITING)
        if settings.workers > 1 and sys.platform == "linux":
            # Nobody else listens there; now it is held in such a way that the workers may.
            with sock:
                address = sock.getsockname()[:2]
            sock = _bound(family, address)
    except OSError as error:
        raise UsageError(
            f"cannot listen at {settings.host}, port {settings.port}: {os.strerror(error.errno or 0)}.",
            tip="Take another with --port; --port 0 takes a free one.",
        ) from error
    with sock:
        yield sock


def of_worker(sock: socket.socket) -> socket.socket:
    """Give a worker its socket: the one that all share, where that listens, else one of its own at the same port."""
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return sock
    return _bound(sock.family, sock.getsockname()[:2])


def _bound(family: int, address: tuple[str, int]) -> socket.socket:
    """Make a socket that does not listen yet, at a port that others may have too."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
