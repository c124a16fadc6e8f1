"""The servers of `serve_load.py`: ours and its peers, each started, asked, watched and stopped in the same way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from serve_load_client import Request

HERE = Path(__file__).parent
PEERS = {"plain": "plain", "plain-async": "plain", "litserve": "litserve", "infinity": "infinity"}
"""Peer → its environment's folder."""
STARTED_S = 180.0


@dataclass(frozen=True)
class Side:
    """A server, and how it is asked.

    Attributes:
        name: What it is called.
        command: Starts it; `{port}` is put in.
        path: Where a text is asked.
        body: Makes the JSON of a text.
    """

    name: str
    command: tuple[str, ...]
    path: str
    body: Callable[[str], dict[str, Any]]

    def request(self, text: str) -> Request:
        """Make the request that asks one text."""
        return post(self.path, json.dumps(self.body(text)).encode())


def post(path: str, body: bytes, *, length: int | None = None, hang_up: bool = False) -> Request:
    """Make a request.

    Args:
        path: Route.
        body: What is sent.
        length: Length that the head promises; None tells the truth.
        hang_up: True closes the connection once this is sent.
    """
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n"
    return Request(head.encode(), body, hang_up)


def ours(run: Path, *, engine: str, flags: Sequence[str] = (), top_k: int | None = None) -> Side:
    """Describe our server.

    Args:
        run: The trained run.
        engine: As `bertsmith serve --engine`.
        flags: More flags.
        top_k: Labels wanted of an answer; None takes what the server gives, which is all of them.
    """
    command = (sys.executable, "-m", "bertsmith", "serve", str(run), "--port", "{port}", "--engine", engine, *flags)
    more = {} if top_k is None else {"parameters": {"top_k": top_k}}
    return Side("bertsmith", command, "/predict", lambda text: {"inputs": text, **more})


def peer(name: str, run: Path, folder: Path, *, batch: int) -> Side:
    """Describe a peer; it serves the model folder of the same run.

    Args:
        name: One of PEERS.
        run: The trained run.
        folder: Where `serve_load_peers.sh` made the environments.
        batch: Texts of a batch, at most, where the peer has batches.
    """
    programs, model = folder / PEERS[name] / "bin", str(run / "model")
    python = str(programs / "python")
    if name == "infinity":
        command = (
            str(programs / "infinity_emb"), "v2", "--model-id", model, "--served-model-name", "model", "--engine",
            "torch", "--device", "cpu", "--batch-size", str(batch), "--host", "127.0.0.1", "--port", "{port}",
        )  # fmt: skip
        return Side(name, command, "/classify", lambda text: {"model": "model", "input": [text]})
    file, *flags = {
        "plain": ["serve_load_plain.py"],
        "plain-async": ["serve_load_plain.py", "--async"],
        "litserve": ["serve_load_litserve.py", str(batch)],
    }[name]
    return Side(name, (python, str(HERE / file), model, "{port}", *flags), "/predict", lambda text: {"text": text})


def free_port() -> int:
    """Find a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Server:
    """A server that runs."""

    def __init__(self, side: Side, folder: Path) -> None:
        """Start it, and wait until it answers.

        Raises:
            SystemExit: It ends, or does not answer in time.
        """
        self.port = free_port()
        self.log = Path(tempfile.mkstemp(prefix=f"{side.name}-", suffix=".log", dir=folder)[1])
        command = [part.replace("{port}", str(self.port)) for part in side.command]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        with self.log.open("wb") as log:
            # A session of its own, so that whatever it starts can be stopped with it.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        self.started_s = self._wait(side)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Ask once, over a connection of its own."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body or None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def memory(self) -> int:
        """Bytes that it and all processes it started hold in memory."""
        return sum(resident(each) for each in family(self.process.pid))

    def end(self, seconds: float = 60.0) -> int | None:
        """Tell it to stop, and wait; return its exit status, None where it had to be killed."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(seconds)
        return None

    def kill(self) -> None:
        """End all that is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _wait(self, side: Side) -> float:
        begin, body = time.monotonic(), json.dumps(side.body("Where is my card?")).encode()
        while time.monotonic() < begin + STARTED_S and self.process.poll() is None:
            with suppress(OSError, HTTPException):
                if self.ask("POST", side.path, body)[0] == 200:
                    return time.monotonic() - begin
            time.sleep(0.05)
        self.kill()
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise SystemExit(f"{side.name} does not answer:\n{tail}")


@contextmanager
def running(side: Side, folder: Path) -> Iterator[Server]:
    """Run a server as long as the context lasts."""
    server = Server(side, folder)
    try:
        yield server
        server.end(10)
    finally:
        server.kill()


def family(pid: int) -> list[int]:
    """List a process and all that descend from it; Linux only."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            tasks = Path(f"/proc/{each}/task").iterdir()
            found += [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where it is gone."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
