"""Logs: one JSON object a line, with the id of the request, and no text that a client sent unless that was asked for.

Not even in tracebacks: an exception's message may quote a text, so its kind and its places are logged, and no message.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from bertsmith.serve.asked import Asked, Refused, Served

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bertsmith.serve.models import Models
    from bertsmith.serve.settings import ServeSettings

Answer = Callable[[Refused, Any, Any, Any], Awaitable[None]]
REQUESTS = "bertsmith.requests"
"""Name of the logger that has a line a request."""
LEFT = 499
"""Logged where the client left before there was an answer, as nginx does."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_FAILED = Refused(
    500, "internal error", "the server failed at this request; its log knows more under the request's id."
)


class JsonLines(logging.Formatter):
    """Formats records as JSON; those of a request bring their fields in `record.fields`."""

    def __init__(self, *, log_texts: bool = False) -> None:
        super().__init__()
        self._log_texts = log_texts

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = told(record.exc_info[1], messages=self._log_texts)
        found = orjson.dumps(line, default=str)
        # Beyond ASCII there are characters that some take for the end of a line.
        return found.decode() if found.isascii() else json.dumps(line, ensure_ascii=True, default=str)


def told(error: BaseException, *, messages: bool) -> dict[str, Any]:
    """Tell an exception: its kind, where it was raised, what caused it, and perhaps its message."""
    places = [
        f"{os.path.basename(place.filename)}:{place.lineno} {place.name}"
        for place in traceback.extract_tb(error.__traceback__)
    ]
    found: dict[str, Any] = {"kind": type(error).__name__, "at": places}
    if messages:
        found["message"] = str(error)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return found if cause is None else {**found, "because": told(cause, messages=messages)}


def configuration(*, log_texts: bool = False) -> dict[str, Any]:
    """Return how everything that serves is to log: uvicorn takes it as `log_config`; lines go to standard error."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "bertsmith.serve.log.JsonLines", "log_texts": log_texts}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {
            "bertsmith": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
            "uvicorn": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
            # A line a request is ours: uvicorn's has the path, in which there may be a text.
            "uvicorn.access": {"handlers": [], "level": "CRITICAL", "propagate": False},
        },
    }


class RequestLog:
    """Gives each request an id and a line in the log, and answers 500 where nothing within did.

    The id is the client's X-Request-ID where that is one, else a new one; every answer has it. The line names the
    route and not the path, since a text may have been put in that.
    """

    def __init__(
        self, app: ASGIApp, *, answer: Answer, log_texts: bool = False, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Stand before an application, outside of all else.

        Args:
            app: The application.
            answer: Sends the refusal that a failure becomes.
            log_texts: Whether the line may hold what was asked.
            clock: Gives seconds.
        """
        self._app = app
        self._answer = answer
        self._log_texts = log_texts
        self._clock = clock
        self._log = logging.getLogger(REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request, and log it once it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = self._clock()
        facts = scope.setdefault("bertsmith", {})
        facts["request_id"] = request_id(scope)
        sent = _Sent(send, facts["request_id"])
        failure = None
        try:
            await self._app(scope, receive, sent)
        # Here is the end of the line: whatever went wrong within is this request's 500, and not the server's end.
        except Exception as error:
            failure = error
            if not sent.status:
                await self._answer(_FAILED, scope, receive, sent)
        finally:
            self._write(scope, sent, self._clock() - begin, failure)

    def _write(self, scope: Scope, sent: _Sent, seconds: float, failure: Exception | None) -> None:
        facts = scope["bertsmith"]
        fields: dict[str, Any] = {
            "request_id": facts["request_id"],
            "method": scope["method"],
            "route": route_of(scope),
            "status": sent.status or LEFT,
            "seconds": round(seconds, 6),
            "bytes": sent.bytes,
            "client": (scope.get("client") or ("",))[0],
            **_facts(facts, log_texts=self._log_texts),
        }
        level = logging.ERROR if failure or fields["status"] == 500 else logging.INFO
        self._log.log(level, "request", extra={"fields": fields}, exc_info=failure)


class _Sent:
    """Sends, adds the request's id, and remembers what was sent."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send = send
        self._identity = identity.encode("ascii")
        self.status = 0
        self.bytes = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", self._identity)]}
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def request_id(scope: Scope) -> str:
    """Return the client's X-Request-ID where it is up to 128 plain characters, else a new id."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"").decode("latin-1")
    return given if _ID.fullmatch(given) else _IDS.next()


class _Ids:
    """New ids: a random part that this process drew once, and a number. To draw each costs ten times as much."""

    def __init__(self) -> None:
        self._process = 0

    def next(self) -> str:
        """Give the next one: 32 hexadecimal digits."""
        if self._process != os.getpid():
            self._process, self._drawn, self._numbers = os.getpid(), os.urandom(11).hex(), itertools.count()
        return f"{self._drawn}{next(self._numbers):010x}"


_IDS = _Ids()


def route_of(scope: Scope) -> str:
    """Name the route of a request as it stands in the API, such as `/models/{name}/classify`; "(none)" for no route."""
    noted = scope.get("bertsmith", {}).get("route") or getattr(scope.get("route"), "path", "")
    return str(noted) or "(none)"


def _facts(facts: Mapping[str, Any], *, log_texts: bool) -> dict[str, Any]:
    """Take from what the handlers noted that which may be logged."""
    found = {name: facts[name] for name in ("key", "model", "texts") if isinstance(facts.get(name), str | int)}
    served, refused, asked = facts.get("served"), facts.get("refused"), facts.get("asked")
    if isinstance(served, Served):
        found |= {"version": served.version, "tokens": served.tokens}
        found |= {name: round(getattr(served, name), 6) for name in ("tokenized_s", "queued_s", "computed_s")}
    if isinstance(refused, Refused):
        found["refused"] = refused.title
        if log_texts:
            found["detail"] = refused.detail
    if log_texts and isinstance(asked, Asked):
        found |= {"asked": list(asked.texts), "asked_pairs": None if asked.pairs is None else list(asked.pairs)}
    return found


def install(app: FastAPI, settings: ServeSettings, models: Models) -> None:
    """Put the log before everything else of the application."""
    from bertsmith.serve import problems

    app.add_middleware(RequestLog, answer=problems.answer, log_texts=settings.log_texts)
