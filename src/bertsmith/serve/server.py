"""uvicorn's server, as ours is to begin and to end: among other workers, and without losing what it took."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

from bertsmith.serve.lifecycle import WAITING
from bertsmith.signals import handling

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bertsmith.serve.together import Member

LEAVING_S = 0.25
"""Seconds after SIGTERM in which requests are still taken, each answer saying that the connection ends with it."""
_SWITCH_S = 0.0005
"""Seconds after which a thread that works in Python lets another one do so; Python's own default is ten times that."""
_STEP_S = 0.1
"""Seconds in which what lies in the system's queues reaches us."""


class Server(uvicorn.Server):  # type: ignore[misc]
    """Serves one process of perhaps several.

    On SIGTERM and SIGINT it goes on for a moment, and every answer asks the client to close the connection: to close
    one on which a request is on its way would lose that request. Then it stops to listen, and ends what it took.
    """

    def __init__(self, config: uvicorn.Config, *, member: Member | None = None) -> None:
        """Make a server.

        Args:
            config: uvicorn's; its application is put behind one that says goodbye.
            member: What speaks with the supervisor; None where there is none.
        """
        self._goodbye = Goodbye(config.app)
        config.app = self._goodbye
        super().__init__(config)
        self._member = member

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so to the supervisor."""
        await super().startup(sockets)
        for sock in sockets or ():
            # uvicorn told it how many to accept at once, which is how many the system holds too, unless it is told.
            sock.listen(WAITING)
        if self._member is not None:
            self._member.begin()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say goodbye, stop to listen, and end what was taken."""
        if self._member is not None:
            self._member.end()
        self._goodbye.is_said = True
        await asyncio.sleep(LEAVING_S)
        for sock in sockets or ():
            # No more connections come to the queue, and those that wait in it are accepted; closing would cut them off.
            sock.listen(0)
        await asyncio.sleep(_STEP_S)
        for server in self.servers:
            server.close()
        # Of a connection that was just accepted, the request is on its way.
        await asyncio.sleep(_STEP_S)
        await super().shutdown(sockets)

    def run_at(self, sock: socket.socket) -> bool:
        """Serve until SIGTERM or SIGINT; False where the application did not start."""
        # uvicorn sends itself the signal again, once it is done with what it took; here that does nothing more.
        with handling((signal.SIGTERM, signal.SIGINT), self.handle_exit), _responsive():
            self.run(sockets=[sock])
        return bool(self.started)


@contextlib.contextmanager
def _responsive() -> Iterator[None]:
    """Keep the loop from waiting: for the collector to go through all that was loaded, and for threads that compute.

    Under three times the load that can be answered, both made refusals wait for 0.2 s (docs/lab-notes.md).
    """
    before = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()


class Goodbye:
    """Stands before an application; once `is_said`, every answer closes its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.is_said = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request."""
        await self._app(scope, receive, self._closing(send) if scope["type"] == "http" else send)

    def _closing(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if self.is_said and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        return sent
