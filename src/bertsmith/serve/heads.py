"""uvicorn's HTTP with an end to the head of a request: how long it may be, how long it may take, who is turned away.

httptools reads headers without a limit, and uvicorn waits for the rest of a head for good: either would let whoever
can reach the port fill the memory, or the connections, of a server before any key is looked at.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bertsmith.serve.turning_away import TurningAway

MOST_BYTES = 65_536
"""Bytes of a request line and its headers; what comes at once, a quarter of a megabyte at most, may be more."""
MOST_SECONDS = 10.0


class Bounded(HttpToolsProtocol):  # type: ignore[misc]
    """Speaks HTTP/1.1 on one connection.

    Attributes:
        seconds: What a head may take, from the connection or from its first byte on.
        turning_away: Answers some requests by their heads; None leaves all to the application.
    """

    seconds = MOST_SECONDS
    turning_away: TurningAway | None = None
    _is_away = False
    _in_head = True
    _size = 0
    _heads = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin; see asyncio.Protocol."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on; see asyncio.Protocol."""
        before = self._heads
        if self._in_head and self._timer is None:
            self._wait()
        in_head = self._in_head
        super().data_received(data)
        if not in_head or self._heads != before:
            # The data has, or had, to do with a body; of a head that begins in it, what comes next is counted.
            return
        self._size += len(data)
        if self._size > MOST_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The request line and the headers have more than {MOST_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """Take a head; see httptools."""
        self._end_head()
        self._heads += 1
        answer = self._answer_by_head()
        if answer is None:
            super().on_headers_complete()
        else:
            self._is_away = True
            self.transport.write(answer)

    def on_body(self, body: bytes) -> None:
        """Take some of a body; see httptools."""
        if not self._is_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take a whole request; see httptools."""
        self._in_head = True
        if self._is_away:
            self._is_away = False
            self.on_response_complete()
        else:
            super().on_message_complete()

    def _answer_by_head(self) -> bytes | None:
        """Answer a request that is turned away, where that is simple: nothing before it waits for an answer."""
        is_next = self.cycle is None or self.cycle.response_complete
        if self.turning_away is None or not is_next or self.flow.write_paused or self.expect_100_continue:
            return None
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return None
        return self.turning_away.answer(self.parser.get_method(), self.url)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; see asyncio.Protocol."""
        self._end_head()
        super().connection_lost(exc)

    def _end_head(self) -> None:
        self._in_head, self._size = False, 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.seconds, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if not self._size:
            # Browsers open connections ahead; what is said on one unasked would be taken for the next answer.
            self.transport.close()
        elif not self.transport.is_closing():
            self.send_400_response(f"The request line and the headers did not come within {self.seconds:g} s.")


def speaking(turning_away: TurningAway | None) -> type[Bounded]:
    """Give what speaks HTTP on the connections of one application."""
    return type("Speaking", (Bounded,), {"turning_away": turning_away})
