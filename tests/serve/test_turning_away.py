"""Whoever is turned away is told so on a connection that goes on; all others are answered as before."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import time
from collections import Counter

import pytest

pytest.importorskip("httptools")


from bertsmith.serve.asked import Refused
from bertsmith.serve.heads import speaking
from bertsmith.serve.security import HEADERS
from bertsmith.serve.turning_away import TurningAway
from tests.live_server import served

FULL = Refused(429, "queue full", "50 % of 9 tokens wait.", retry_after=1.2)
BODY = b'{"inputs": "a text"}'
POST = b"POST /predict?x=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Door:
    """Says whether all is full, and keeps what is counted."""

    def __init__(self) -> None:
        self.is_full = True
        self.counted: Counter[tuple[str, int]] = Counter()
        self.away = TurningAway(("/predict",), full=lambda: FULL if self.is_full else None, counted=self.count)

    def count(self, route: str, status: int, requests: int) -> None:
        """Keep how many."""
        self.counted[route, status] += requests


async def echo(scope, receive, send) -> None:
    """An application that says what it was sent."""
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BODY))]})
    await send({"type": "http.response.body", "body": message["body"].ljust(len(BODY))})


@pytest.fixture(scope="module")
def behind():
    """A door, and the port of a server behind it."""
    door = Door()
    with served(echo, http=speaking(door.away), lifespan="off") as (url, _):
        yield door, int(url.rpartition(":")[2])


def test_a_refusal_is_whole_and_the_connection_goes_on(behind):
    """It has its status, its reason, when to come again, an id and the headers of every answer; then there is room."""
    door, port = behind
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    ids = set()
    for is_full in (True, True, False, True):
        door.is_full = is_full
        one.request("POST", "/predict", BODY)
        answer = one.getresponse()
        read = answer.read()
        if not is_full:
            assert (answer.status, read) == (200, BODY)
            continue
        assert (answer.status, answer.reason) == (429, "Too Many Requests")
        assert json.loads(read) == {"error": "50 % of 9 tokens wait.", "error_type": "Overloaded"}
        assert answer.headers["Retry-After"] == "2"
        assert all(answer.headers[name.decode()] == value.decode() for name, value in HEADERS.items())
        ids.add(answer.headers["X-Request-ID"])
    assert len(ids) == 3
    until = time.monotonic() + 10
    while not door.counted and time.monotonic() < until:
        time.sleep(0.01)
    assert door.counted == {("/predict", 429): 3}
    one.close()


def test_other_routes_and_methods_are_let_through(behind):
    """Only texts are turned away: figures and health are read in an overload too."""
    door, port = behind
    door.is_full = True
    for method, path in (("GET", "/predict"), ("POST", "/predictor"), ("POST", "/other"), ("GET", "/health/live")):
        one = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        one.request(method, path, BODY)
        assert one.getresponse().status == 200
        one.close()


def test_requests_that_come_at_once_are_answered_one_by_one(behind):
    """Three in one packet have three answers, in their order, and nobody's body is taken for a request."""
    door, port = behind
    door.is_full = True
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(POST * 3 + b"GET /other HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        found = b""
        while part := one.recv(65_536):
            found += part
    statuses = [int(each[:3]) for each in found.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [429, 429, 429, 200]


@pytest.mark.parametrize(
    "sent",
    [POST.replace(b"HTTP/1.1", b"HTTP/1.0"), POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)],
    ids=["HTTP/1.0", "the last request"],
)
def test_what_is_not_simple_is_left_to_the_application(behind, sent):
    """A connection that ends with its answer is ended by those who know how."""
    door, port = behind
    door.is_full = True
    with socket.create_connection(("127.0.0.1", port), timeout=20) as one:
        one.sendall(sent)
        found = b""
        while part := one.recv(65_536):
            found += part
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_figures_and_the_log_are_told_now_and_then(caplog):
    """However many are refused: half a second after the first, with their number, and then anew."""
    told, waiting = [], []
    away = TurningAway(
        ("/predict", "/classify"), full=lambda: FULL, counted=lambda *each: told.append(each),
        later=lambda seconds, call: waiting.append((seconds, call)),
    )  # fmt: skip
    logger = logging.getLogger("bertsmith.requests")
    logger.addHandler(caplog.handler)
    try:
        for path in (b"/predict", b"/classify", b"/predict"):
            assert away.answer(b"POST", path)
        ((seconds, call),) = waiting
        assert (seconds, told) == (0.5, [])
        call()
        assert told == [("/predict", 429, 2), ("/classify", 429, 1)]
        away.answer(b"POST", b"/classify")
        waiting[1][1]()
    finally:
        logger.removeHandler(caplog.handler)
    assert told[2:] == [("/classify", 429, 1)]
    lines = {id(record): record.fields for record in caplog.records}
    assert list(lines.values()) == [
        {"route": route, "status": 429, "refused": "queue full", "requests": requests}
        for route, requests in (("/predict", 2), ("/classify", 1), ("/classify", 1))
    ]
