"""The head of a request ends: a client that sends headers without end, or one that stops in them, is sent away."""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

pytest.importorskip("httptools")


from bertsmith.serve.heads import Bounded
from tests.live_server import served
from tests.serve.asgi_call import well

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


class Hasty(Bounded):
    """One that waits a fifth of a second for a head."""

    seconds = 0.2


@pytest.fixture(scope="module")
def port():
    """The port of a server that says 'well' to everyone."""
    with served(well, http=Hasty, lifespan="off") as (url, _):
        yield int(url.rpartition(":")[2])


def told(one: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := one.recv(65_536):
            found += part
    return found


def test_headers_without_end_are_cut_off(port):
    """Whatever is sent after the last header that has room, the server keeps none of it, and closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one, contextlib.suppress(ConnectionError):
        one.sendall(HEAD)
        for number in range(100_000):
            one.sendall(b"X-%d: a\r\n" % number * 100)
    assert number < 50_000


def test_headers_that_are_too_long_are_said(port):
    """The limit is told."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(HEAD + b"X-A: " + b"a" * 65_536)
        found = told(one)
    assert found.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert found.endswith(b"The request line and the headers have more than 65536 bytes.")


def test_a_connection_without_a_word_is_closed_without_one(port):
    """Browsers open connections ahead: what is said on one unasked would be taken for the answer to the next request."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        assert told(one) == b""


@pytest.mark.parametrize("sent", [b"G", HEAD, HEAD + b"X-A:"], ids=["a letter", "headers", "a name"])
def test_half_a_head_is_not_waited_for(port, sent):
    """A connection on which no whole head comes is closed, and why is said."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(sent)
        assert told(one).endswith(b"The request line and the headers did not come within 0.2 s.")


def test_bodies_are_not_taken_for_heads(port):
    """Bodies of any size pass, in one piece and in many, and so does the request that follows at once."""
    body = b"a" * 300_000
    request = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + body
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(request * 3 + HEAD + b"Connection: close\r\n\r\n")
        assert told(one).count(b"HTTP/1.1 200 OK") == 4


def test_a_second_head_has_its_own_time(port):
    """On a connection that is kept, the time and the bytes of a head begin anew with each request."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        for _ in range(3):
            one.sendall(HEAD + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n")
            found = b""
            while not found.endswith(b"well\r\n0\r\n\r\n"):
                found += one.recv(65_536)
            time.sleep(0.15)
        one.sendall(HEAD)
        assert told(one).endswith(b"The request line and the headers did not come within 0.2 s.")
