"""One call of a client: its headers, its body within the limits, and whether the client is still there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bertsmith.serve import problems
from bertsmith.serve.asked import Refused
from bertsmith.serve.limits import TOO_LARGE

_LARGE = 1 << 18
"""Bytes of a body from which on it is worth a thread to read it."""


class Call:
    """One call, while it is answered.

    Attributes:
        scope: The request's, as ASGI has it.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self._receive = receive
        self._leaving: asyncio.Task[Message] | None = None

    def header(self, name: str) -> str | None:
        """Give a header, by its name in lower case; None where it was not sent."""
        wanted = name.encode("latin-1")
        return next((value.decode("latin-1") for each, value in self.scope["headers"] if each == wanted), None)

    def parameter(self, name: str) -> str:
        """Give a part of the path, "" where the route has none of this name."""
        return str(self.scope.get("path_params", {}).get(name, ""))

    async def body(self, most: int) -> bytes:
        """Read the body, and watch from then on whether the client leaves.

        Args:
            most: Bytes that it may have.

        Raises:
            Refused: 413 where it has more, 415 where it is compressed, 499 where the client left.
        """
        encoding = (self.header("content-encoding") or "identity").lower()
        if encoding != "identity":
            # A few kilobytes may unpack to gigabytes.
            raise Refused(415, "unsupported encoding", f"A body is taken as it is, not as {encoding[:40]!r}.")
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Refused(499, "client left", "The client left before it had sent its request.")
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            # A client that is still sending would not see the answer: so much is read, and thrown away.
            if size <= most:
                parts.append(part)
            elif size > 2 * most:
                break
        if size > most:
            raise Refused(413, TOO_LARGE, f"The body has more than {most:,} bytes. Send several requests instead.")
        self._leaving = asyncio.ensure_future(self._receive())
        return b"".join(parts)

    def gone(self) -> bool:
        """Say whether the client has left; from any thread."""
        leaving = self._leaving
        return leaving is not None and leaving.done()

    async def end(self) -> None:
        """Watch no longer."""
        if self._leaving is not None and not self._leaving.done():
            self._leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._leaving


class Answering:
    """A route, as ASGI: what answers a call, and how its refusals look.

    FastAPI's own routes cost a third of a millisecond; this is the way of every answer.
    """

    def __init__(self, answer: Callable[[Call], Awaitable[Response]], *, route: str) -> None:
        """Answer with a function.

        Args:
            answer: Answers a call.
            route: The path as the routes have it; the log and the figures know the call by it.
        """
        self._answer = answer
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        call = Call(scope, receive)
        facts = scope.setdefault("bertsmith", {})
        facts["route"] = self._route
        try:
            response = await self._answer(call)
        except Refused as refused:
            facts["refused"] = refused
            response = problems.response(refused, scope)
        finally:
            await call.end()
        await response(scope, receive, send)


async def worked(work: Callable[[], Any], *, size: int) -> Any:
    """Do some work at once, or in a thread where it is so large that others would wait for it.

    Args:
        work: What is done.
        size: Bytes that it goes through, about.
    """
    return await asyncio.to_thread(work) if size > _LARGE else work()
