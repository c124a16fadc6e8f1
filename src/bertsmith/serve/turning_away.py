"""Refusals for want of room, at next to no cost: in an overload most requests get one, and the others must be answered.

A request that is refused by the routes has gone through all that stands before them and costs a third of what an
answer does. Here it is known by the head of the request, and its refusal is sent as bytes that were made before.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable

from bertsmith.serve import problems
from bertsmith.serve.asked import Refused
from bertsmith.serve.log import REQUESTS
from bertsmith.serve.security import HEADERS

Full = Callable[[], Refused | None]
"""Why nothing can be asked now; None where something can."""
Counted = Callable[[str, int, int], None]
"""Told of requests that were refused: their route, their status, and how many."""
Later = Callable[[float, Callable[[], None]], object]
"""Calls something so many seconds later."""
_KEPT_S = 0.1
"""Seconds for which the words of a refusal are kept."""
_TOLD_S = 0.5
"""Seconds between two tellings of how many were refused: to count each by itself costs as much as to refuse it."""
_REASONS = {429: b"Too Many Requests", 503: b"Service Unavailable"}


class TurningAway:
    """Refuses requests of texts while too much waits, before anything of them is read but the head."""

    def __init__(
        self,
        paths: Iterable[str],
        *,
        full: Full,
        counted: Counted,
        clock: Callable[[], float] = time.perf_counter,
        later: Later | None = None,
    ) -> None:
        """Refuse at some paths.

        Args:
            paths: Where texts are posted to the default model.
            full: Why nothing can be asked now.
            counted: Told of the requests that are refused here, twice a second.
            clock: Gives seconds.
            later: Calls something later; None lets the running loop do so.
        """
        self._paths = frozenset(each.encode() for each in paths)
        self._full = full
        self._counted = counted
        self._clock = clock
        self._later = later or _by_the_loop
        self._log = logging.getLogger(REQUESTS)
        self._made: dict[bytes, tuple[float, bytes, bytes]] = {}
        self._count, self._begun = itertools.count(1), b"%x" % time.time_ns()
        self._refused: Counter[tuple[str, int, str]] = Counter()

    def answer(self, method: bytes, target: bytes) -> bytes | None:
        """Give the whole answer to a request that is turned away, as HTTP/1.1 has it; None where it is not.

        Args:
            method: Its method.
            target: Path and query, as they were sent.
        """
        path = target.partition(b"?")[0]
        if method != b"POST" or path not in self._paths:
            return None
        refused = self._full()
        if refused is None:
            return None
        route = path.decode()
        head, body = self._words(path, route, refused)
        if not self._refused:
            self._later(_TOLD_S, self._tell)
        self._refused[route, refused.status, refused.title] += 1
        return head + b"x-request-id: %s-%x\r\n\r\n" % (self._begun, next(self._count)) + body

    def _words(self, path: bytes, route: str, refused: Refused) -> tuple[bytes, bytes]:
        """Write the head but for the id, and the body."""
        now = self._clock()
        made, head, body = self._made.get(path, (-math.inf, b"", b""))
        if now - made > _KEPT_S:
            response = problems.response(refused, {"type": "http", "path": route})
            headers = {**HEADERS, **dict(response.raw_headers)}
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers.items())
            status = b"HTTP/1.1 %d %s\r\n" % (refused.status, _REASONS.get(refused.status, b"Refused"))
            head, body = status + lines, bytes(response.body)
            self._made[path] = now, head, body
        return head, body

    def _tell(self) -> None:
        """Tell the figures and the log of all that were refused since this was last done."""
        found, self._refused = self._refused, Counter()
        for (route, status, title), requests in found.items():
            self._counted(route, status, requests)
            fields = {"route": route, "status": status, "refused": title, "requests": requests}
            self._log.warning("turned away", extra={"fields": fields})


def _by_the_loop(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)
