"""A request's body: all of it, no more than may be, and in time."""

from __future__ import annotations

import asyncio

from bertsmith.serve import refusals
from bertsmith.serve.asked import Refused
from bertsmith.serve.calls import Call
from bertsmith.serve.limits import TOO_LARGE
from bertsmith.serve.settings import ServeSettings

_MOST_DIGITS = 20


async def body_of(call: Call, settings: ServeSettings) -> bytes:
    """Read the body of a call.

    A client that sends half of it and then waits would otherwise keep its place for good.

    Raises:
        Refused: 408 where it does not come in time, 413 where there is too much, 415 where it is compressed, 499 where
            the client left.
    """
    _check_declared(call.header("content-length") or "", settings.max_body)
    try:
        async with asyncio.timeout(settings.deadline_s):
            return await call.body(settings.max_body)
    except TimeoutError:
        raise refusals.slow(settings.deadline_s) from None


def _check_declared(length: str, most: int) -> None:
    """Refuse at once what would not be read to its end; a little too much is read, so that its sender sees why."""
    if length.isascii() and length.isdigit() and (len(length) > _MOST_DIGITS or int(length) > 2 * most):
        shown = f"{int(length):,}" if len(length) <= _MOST_DIGITS else "too many"
        raise Refused(413, TOO_LARGE, f"The body has {shown} bytes; {most:,} is the most it may have. Send less.")
