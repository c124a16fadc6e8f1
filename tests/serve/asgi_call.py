"""One request to an ASGI application, without a server and without a client library that adds headers of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from tests.serve.own_loop import in_own_loop

App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    scope: dict[str, Any]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def well(scope: Any, receive: Any, send: Any) -> None:
    """An application that says 'well' to everyone."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"well"})


def call(app: App, path: str = "/classify", *, method: str = "POST", headers: Mapping[str, str] | None = None) -> Reply:
    """Send one request and collect the answer; headers that repeat keep the last."""
    given = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope = {
        "type": "http", "method": method, "path": path, "headers": given, "query_string": b"", "client": ("10.1.2.3", 5),
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    in_own_loop(app(scope, receive, send))
    status = sent[0]["status"] if sent else 0
    found = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]} if sent else {}
    return Reply(status, found, b"".join(each.get("body", b"") for each in sent[1:]), scope)
