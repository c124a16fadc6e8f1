"""The client of `serve_load.py`: one light process that asks a server over many connections; standard library only.

    python benchmarks/serve_load_client.py JOB.json FOLDER

Bodies come ready-made, a selector waits for all connections at once, and answers are kept as bytes and looked at by
others later, so that the client takes as little of the machine as can be. Two kinds of load: closed (each connection
asks again as soon as it is answered) and open (requests come at a steady rate whatever the server does, over as many
connections as that needs). FOLDER gets the columns of all requests, `answers.json` and `client.json`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import resource
import selectors
import socket
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOST, CLOSED, HUNG_UP, LATE = 0, -1, -2, -3
"""In the place of a status: the connection broke before an answer; none could be made; left on purpose; no answer."""
COLUMNS = {"due": "d", "sent": "d", "ended": "d", "status": "h", "which": "i"}
"""Name → type code of `array`; times are those of the system's monotonic clock, the same in all processes."""
_IDLE_S = 2.0
"""Seconds after which an idle connection is given up: servers do so too, and at that moment a request would be lost."""
_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """A request that is ready to be sent.

    Attributes:
        head: Its first line and headers, without the blank line.
        body: Its body.
        hang_up: True closes the connection once this is sent, and waits for no answer.
    """

    head: bytes
    body: bytes
    hang_up: bool = False

    def raw(self, name: str) -> bytes:
        """Give its bytes; a name goes along as X-Request-ID."""
        extra = f"X-Request-ID: {name}\r\n".encode() if name else b""
        return self.head + extra + b"\r\n" + self.body

    def as_json(self) -> list[object]:
        """Give what `from_json` reads."""
        return [base64.b64encode(self.head).decode(), base64.b64encode(self.body).decode(), self.hang_up]

    @classmethod
    def from_json(cls, value: Sequence[str]) -> Request:
        """Read one."""
        head, body, hang_up = value
        return cls(base64.b64decode(head), base64.b64decode(body), bool(hang_up))


@dataclass(frozen=True)
class Job:
    """What the client does.

    Attributes:
        port: Port on this machine.
        requests: Asked in this order, over and over.
        seconds: How long it asks.
        connections: Connections of a closed load; the most of an open one.
        rate: Requests a second of an open load; 0 is a closed one.
        patience: Seconds after which an answer comes too late.
        names: What the requests' ids begin with; "" sends none.
    """

    port: int
    requests: list[Request]
    seconds: float
    connections: int = 64
    rate: float = 0.0
    patience: float = 30.0
    names: str = ""


@dataclass(eq=False)
class Line:
    """A connection, and the request that is on its way."""

    sock: socket.socket
    out: memoryview = field(default_factory=lambda: memoryview(b""))
    got: bytearray = field(default_factory=bytearray)
    end: int = -1
    which: int = -1
    number: int = -1
    due: float = 0.0
    sent: float = 0.0
    done: float = 0.0
    used: bool = False


def head_of(got: bytes | bytearray) -> tuple[int, int, int, bool] | None:
    r"""Read the head of an answer; None until it is whole.

    Returns:
        Status, where the body begins, where it ends, whether the server closes the connection after it.

    Raises:
        ValueError: It is no answer of HTTP/1.1 that says its length.

    >>> head_of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
    (200, 38, 40, False)
    """
    begin = got.find(_END)
    if begin < 0:
        return None
    head = bytes(got[:begin]).lower()
    place = head.find(b"\r\ncontent-length:")
    if not head.startswith(b"http/1.1 ") or place < 0:
        raise ValueError(f"no answer that says its length: {head[:200]!r}")
    length = int(head[place + 17 :].split(b"\r\n", 1)[0])
    begin += len(_END)
    return int(head[9:12]), begin, begin + length, b"\r\nconnection: close" in head


class Client:
    """Asks, and notes what comes."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._selector = selectors.DefaultSelector()
        self._raw = [each.raw("") for each in job.requests]
        self._asked = 0
        self._stop = 0.0
        self._busy: dict[Line, None] = {}
        self._idle: list[Line] = []
        self._columns: dict[str, array[Any]] = {name: array(code) for name, code in COLUMNS.items()}
        self._names: list[str] = []
        self._answers: Counter[tuple[int, bytes]] = Counter()
        self._others: dict[int, bytes] = {}
        self._not_sent = 0

    def run(self) -> dict[str, float]:
        """Ask until the time is over, wait for what is on its way, and say what it took."""
        processor, begin = time.process_time(), time.monotonic()
        self._stop = begin + self._job.seconds
        print(json.dumps({"begin": begin}), flush=True)
        if self._job.rate:
            self._open(begin)
        else:
            for _ in range(self._job.connections):
                self._ask(None, time.monotonic())
            while self._busy and time.monotonic() < self._stop:
                self._wait(0.05)
        stopped, used = time.monotonic(), time.process_time() - processor
        while self._busy and time.monotonic() < stopped + self._job.patience:
            self._wait(0.05)
        for line in list(self._busy):
            self._note(line, LATE)
        wall = stopped - begin
        return {"begin": begin, "seconds": wall, "processor": used / wall, "not_sent": self._not_sent}

    def write(self, folder: Path, figures: dict[str, float]) -> None:
        """Write the columns, the different answers and the figures."""
        for name, column in self._columns.items():
            with (folder / f"{name}.bin").open("wb") as file:
                column.tofile(file)
        answers = [[which, body.decode("utf-8", "replace"), times] for (which, body), times in self._answers.items()]
        others = {status: body.decode("utf-8", "replace") for status, body in self._others.items()}
        (folder / "answers.json").write_text(json.dumps({"right": answers, "others": others}), encoding="utf-8")
        (folder / "names.json").write_text(json.dumps(self._names), encoding="utf-8")
        (folder / "client.json").write_text(json.dumps(figures), encoding="utf-8")

    def _open(self, begin: float) -> None:
        """Ask at a steady rate, each time over a connection that waits for nothing."""
        due, count = begin, 0
        while due < self._stop:
            now = time.monotonic()
            while due <= now and due < self._stop:
                self._ask_beside(due)
                count += 1
                due = begin + count / self._job.rate
            self._wait(max(0.0, due - time.monotonic()))

    def _ask_beside(self, due: float) -> None:
        while self._idle and self._idle[0].done < time.monotonic() - _IDLE_S:
            self._drop(self._idle[0])
        if self._idle or len(self._busy) < self._job.connections:
            self._ask(self._idle.pop() if self._idle else None, due)
        else:
            self._not_sent += 1

    def _ask(self, line: Line | None, due: float) -> None:
        """Send the next request, over a new connection where there is none."""
        line = line or self._connected()
        line.which, line.number = self._asked % len(self._raw), self._asked
        self._asked += 1
        line.due, line.sent = due, time.monotonic()
        names = self._job.names
        raw = self._job.requests[line.which].raw(f"{names}{line.number}") if names else self._raw[line.which]
        line.out = memoryview(raw)
        line.got.clear()
        line.end = -1
        self._busy[line] = None
        self._send(line)

    def _connected(self) -> Line:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One that is refused is found out at the first byte.
        with contextlib.suppress(BlockingIOError, ConnectionError):
            sock.connect(("127.0.0.1", self._job.port))
        line = Line(sock)
        self._selector.register(sock, selectors.EVENT_READ, line)
        return line

    def _wait(self, seconds: float) -> None:
        for key, events in self._selector.select(seconds):
            line: Line = key.data
            if events & selectors.EVENT_WRITE:
                self._send(line)
            if events & selectors.EVENT_READ and line.sock.fileno() >= 0:
                self._receive(line)

    def _send(self, line: Line) -> None:
        try:
            sent = line.sock.send(line.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The server may have answered and closed before it had all, as with a body that is too large.
            self._listen(line, selectors.EVENT_READ)
            line.out = line.out[len(line.out) :]
            if not line.used:
                self._broken(line)
            return
        line.out = line.out[sent:]
        line.used = line.used or sent > 0
        self._listen(line, selectors.EVENT_READ | (selectors.EVENT_WRITE if line.out else 0))
        if not line.out and self._job.requests[line.which].hang_up:
            self._note(line, HUNG_UP)
            self._renew(line)

    def _listen(self, line: Line, events: int) -> None:
        if self._selector.get_key(line.sock).events != events:
            self._selector.modify(line.sock, events, line)

    def _receive(self, line: Line) -> None:
        try:
            part = line.sock.recv(262_144)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part:
            self._broken(line)
            return
        line.got += part
        if len(line.got) < line.end:
            return
        found = head_of(line.got)
        if found is None:
            return
        status, begin, line.end, closing = found
        if len(line.got) >= line.end:
            self._answered(line, status, bytes(line.got[begin : line.end]), closing=closing)

    def _answered(self, line: Line, status: int, body: bytes, *, closing: bool) -> None:
        if status == 200:
            self._answers[line.which, body] += 1
        else:
            self._others.setdefault(status, body)
        # What is still to be sent belongs to a request that the server wants no more of.
        closing = closing or len(line.out) > 0
        self._note(line, status)
        if closing:
            self._renew(line)
        else:
            self._go_on(line)

    def _go_on(self, line: Line | None) -> None:
        """Ask again, where the load is closed and there is time."""
        if self._job.rate and line:
            line.done = time.monotonic()
            self._idle.append(line)
        elif self._job.rate:
            return
        elif time.monotonic() < self._stop:
            self._ask(line, time.monotonic())

    def _renew(self, line: Line) -> None:
        self._drop(line)
        self._go_on(None)

    def _broken(self, line: Line) -> None:
        """Note that a connection is over; one that could not be made is not tried again."""
        busy, made = line in self._busy, line.used
        if busy:
            self._note(line, LOST if made else CLOSED)
        self._drop(line)
        if busy and made:
            self._go_on(None)

    def _drop(self, line: Line) -> None:
        if line in self._idle:
            self._idle.remove(line)
        self._selector.unregister(line.sock)
        line.sock.close()

    def _note(self, line: Line, status: int) -> None:
        del self._busy[line]
        values = (line.due, line.sent, time.monotonic(), status, line.which)
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)
        if self._job.names:
            self._names.append(f"{self._job.names}{line.number}")


def job_from(value: dict[str, object]) -> Job:
    """Read a job, as `job_as_json` writes it."""
    requests = value["requests"]
    assert isinstance(requests, list)
    given = {**value, "requests": [Request.from_json(each) for each in requests]}
    return Job(**given)  # type: ignore[arg-type] # the parent wrote it


def job_as_json(job: Job) -> dict[str, object]:
    """Give what `job_from` reads."""
    return {**vars(job), "requests": [each.as_json() for each in job.requests]}


def main() -> None:
    """Do the job that a file holds."""
    job, folder = sys.argv[1:]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    client = Client(job_from(json.loads(Path(job).read_text(encoding="utf-8"))))
    client.write(Path(folder), client.run())


if __name__ == "__main__":
    main()
