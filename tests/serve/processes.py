"""A server in processes of its own, and clients that note what became of each of their requests."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAIT_S = 120.0
_ADDRESS = re.compile(r"at http://127\.0\.0\.1:(\d+) ")


class Served:
    """`bertsmith serve`, started.

    Attributes:
        lines: What it wrote to standard error.
        port: Where it answers.
    """

    def __init__(self, run: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "bertsmith", "serve", str(run), "--port", "0", "--threads", "1", *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment)
        self.lines: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        until(lambda: self._address is not None or self.process.poll() is not None)
        if self._address is None:
            code = self.end()
            raise AssertionError(f"ended with {code}: {''.join(self.lines)}")
        self.port = int(self._address[1])

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    @property
    def _address(self) -> re.Match[str] | None:
        return next((found for line in self.lines if (found := _ADDRESS.search(line))), None)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines that are JSON."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    @property
    def events(self) -> list[str]:
        """What happened, without requests."""
        return [each["event"] for each in self.log if each["event"] != "request"]

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers that began and were not replaced."""
        begun = [int(each.split("[")[1][:-1]) for each in self.events if each.startswith("Started server process")]
        return [each for each in begun if _is_there(each)]

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Ask once, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def versions(self) -> set[tuple[int, str]]:
        """Version of the first model at each worker, by its process: asked until every worker has answered."""
        found: dict[int, str] = {}
        name = self.call("GET", "/models")[1]["models"][0]["name"]

        def answered() -> list[int]:
            return [each["process"] for each in self.log if each.get("route") == "/v2/models/{name}"]

        def asked() -> bool:
            before = len(answered())
            version = self.call("GET", f"/v2/models/{name}")[1]["versions"][0]
            until(lambda: len(answered()) > before)
            found[answered()[-1]] = version
            return set(found) >= set(self.workers)

        until(asked)
        return set(found.items())

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and give its code back once it ended."""
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        self._reading.join(WAIT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(what: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


class Clients:
    """Several clients, each with one connection that it keeps, asking one text after the other.

    Attributes:
        answers: Text, and label and score that were answered.
        refused: Statuses of those that were not.
        lost: What those found whose connection was closed before there was an answer, or that found no server.
    """

    def __init__(self, port: int, texts: Sequence[str], *, clients: int) -> None:
        self._port, self._texts = port, texts
        self._stopping = threading.Event()
        self.answers: list[tuple[str, tuple[str, float]]] = []
        self.refused: list[int] = []
        self.lost: list[str] = []
        self.threads = [threading.Thread(target=self._ask_all, args=(number,)) for number in range(clients)]

    def _ask_all(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
        place = number
        while not self._stopping.is_set():
            text = self._texts[place % len(self._texts)]
            place += 1
            try:
                self._ask(connection, text)
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                self.lost.append(type(error).__name__)
                time.sleep(0.05)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, text: str) -> None:
        connection.request("POST", "/predict", json.dumps({"inputs": text}))
        answer = connection.getresponse()
        body = json.loads(answer.read())
        if answer.status == 200:
            self.answers.append((text, (body[0]["label"], body[0]["score"])))
        else:
            self.refused.append(answer.status)

    @contextmanager
    def asking(self) -> Iterator[Clients]:
        """Ask as long as the context lasts; it begins once each has an answer."""
        for each in self.threads:
            each.start()
        try:
            until(lambda: len(self.answers) >= 2 * len(self.threads))
            yield self
        finally:
            self._stopping.set()
            for each in self.threads:
                each.join(WAIT_S)

    def more(self, count: int = 20) -> None:
        """Wait until so many more are answered."""
        before = len(self.answers)
        until(lambda: len(self.answers) >= before + count)
