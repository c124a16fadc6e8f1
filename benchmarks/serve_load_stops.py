"""The part of `serve_load.py` that stops, reloads and kills the server under load, and looks for what got lost.

Every request has an id. It is in the server's log once its line is written, which is after the server read it; so of a
connection that broke, the log tells whether its request was the server's already (which is a loss) or still under way
(which is HTTP: a client may send again what was not answered).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from serve_load_client import CLOSED, LOST, Request
from serve_load_figures import WORDS, Expected, Load, by_name, counted
from serve_load_servers import Server, Side, family, running

Begun = Callable[[Server, list[Request], float, str], Any]
"""Starts a client: server, requests, seconds, what the ids begin with; `result()` waits for its notes."""
_BEFORE, _AFTER = 1.0, 2.0
"""Seconds of load before an event, and after it."""
_AT_ONCE = 1.0
"""Seconds after a kill within which those who lose a connection know it."""
_UP = '"event":"Application startup complete."'


def sigterms(
    side: Side, folder: Path, requests: list[Request], expected: Expected, *, times: int, begun: Begun
) -> Iterator[dict[str, Any]]:
    """Stop a server with SIGTERM under load, again and again; a row each time."""
    for number in range(times):
        with running(side, folder) as server:
            client = begun(server, requests, _BEFORE + 30, f"term{number}-")
            time.sleep(_BEFORE)
            stopped = time.monotonic()
            status = server.end()
            took = time.monotonic() - stopped
            load = client.result()
        lines = by_name(server.log)
        late = load.columns["ended"] > stopped
        yield {
            "stop": "sigterm",
            "exit": status,
            "seconds": round(took, 2),
            **_outcome(load, expected),
            "answered_after": int((late & (load.status == 200)).sum()),
            "read_and_lost": len(load.named(LOST) & lines.keys()),
            "lost_unread": len(load.named(LOST) - lines.keys()),
        }


def reloads(
    side: Side, folder: Path, requests: list[Request], expected: Expected, *, times: int, begun: Begun
) -> Iterator[dict[str, Any]]:
    """Reload the model of one server under load, again and again; a row each time."""
    with running(side, folder) as server:
        for number in range(times):
            client = begun(server, requests, _BEFORE + _AFTER, f"reload{number}-")
            time.sleep(_BEFORE)
            begin = time.monotonic()
            status, _ = server.ask("POST", "/admin/reload")
            took = time.monotonic() - begin
            load = client.result()
            yield {"stop": "reload", "answer": status, "seconds": round(took, 2), **_outcome(load, expected)}


def kills(
    side: Side, folder: Path, requests: list[Request], expected: Expected, *, times: int, begun: Begun
) -> Iterator[dict[str, Any]]:
    """Kill one worker of several under load, again and again; a row each time.

    A request is lost elsewhere where it did not go to the worker that was killed (another one's log has it), or where
    its connection did not break at once.
    """
    draw = random.Random(0)
    with running(side, folder) as server:
        _wait_for(lambda: len(workers(server.process.pid)) > 1 and started(server.log) > 1, "several workers")
        for number in range(times):
            before, alive = started(server.log), workers(server.process.pid)
            client = begun(server, requests, _BEFORE + _AFTER, f"kill{number}-")
            time.sleep(_BEFORE)
            killed = draw.choice(alive)
            at = time.monotonic()
            os.kill(killed, signal.SIGKILL)
            load = client.result()
            _wait_until_more(server.log, before)
            lines = by_name(server.log)
            others = {name for name, line in lines.items() if line.get("process") != killed}
            late = (load.status == LOST) & (load.columns["ended"] > at + _AT_ONCE)
            yield {
                "stop": "kill",
                "again_s": round(time.monotonic() - at, 2),
                **_outcome(load, expected),
                "lost_elsewhere": len(load.named(LOST) & others) + int(late.sum()),
            }


def _wait_until_more(log: Path, before: int) -> None:
    _wait_for(lambda: started(log) > before, "a worker in the place of the killed one")


def workers(pid: int) -> list[int]:
    """List the processes that answer for a server of several."""
    return [each for each in family(pid)[1:] if b"spawn_main" in _command(each)]


def started(log: Path) -> int:
    """Count the processes that have begun to answer, by the server's log."""
    return log.read_text(encoding="utf-8", errors="replace").count(_UP)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum up the rows of one kind of stop.

    >>> row = {"stop": "reload", "answer": 200, "seconds": 1.0, "statuses": {"200": 9}, "wrong": 0, "no_answer": 0}
    >>> summary([row, row])
    {'stop': 'reload', 'times': 2, 'statuses': {'200': 18}, 'answer': [200], 'wrong': 0, 'no_answer': 0}
    """
    statuses: dict[str, int] = {}
    for row in rows:
        for status, count in row["statuses"].items():
            statuses[status] = statuses.get(status, 0) + count
    found: dict[str, Any] = {"stop": rows[0]["stop"], "times": len(rows), "statuses": statuses}
    for name in ("exit", "answer"):
        if name in rows[0]:
            found[name] = sorted({row[name] for row in rows}, key=str)
    for name in ("wrong", "no_answer", "read_and_lost", "lost_elsewhere", "lost_unread", "answered_after"):
        if name in rows[0]:
            found[name] = sum(row[name] for row in rows)
    return found


def is_kept(found: dict[str, Any]) -> bool:
    """Say whether a summary keeps the promise: nothing accepted is lost, and no answer is wrong.

    What is refused was not accepted, and its client knows it; so do those whom a server that has stopped lets down.

    >>> is_kept({"stop": "reload", "statuses": {"200": 18, "lost": 1}, "answer": [200], "wrong": 0, "no_answer": 0})
    False
    """
    allowed = {"200", "429", "503"} | {
        "sigterm": {WORDS[LOST], WORDS[CLOSED]},
        "reload": set(),
        "kill": {WORDS[LOST]},
    }[found["stop"]]
    fine = found.get("exit", [0]) == [0] and found.get("answer", [200]) == [200]
    lost = sum(found.get(name, 0) for name in ("wrong", "no_answer", "read_and_lost", "lost_elsewhere"))
    return fine and not lost and found["statuses"].keys() <= allowed


def _outcome(load: Load, expected: Expected) -> dict[str, Any]:
    statuses = counted(load.status)
    return {"statuses": statuses, "wrong": expected.wrong(load), "no_answer": statuses.get("no answer", 0)}


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _wait_for(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not true():
        if time.monotonic() > until:
            raise SystemExit(f"waited for 60 s for {what}.")
        time.sleep(0.05)
