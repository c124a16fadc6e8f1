"""The refusals of the queue and the engine, in words."""

from __future__ import annotations

import math

from bertsmith.serve.asked import Refused
from bertsmith.serve.limits import TOO_LARGE

_LONGEST_RETRY_S = 60.0


def shutting_down() -> Refused:
    """Say that nothing more is accepted."""
    return Refused(
        503, "shutting down", "This server is about to stop. Ask again; another one may answer.", retry_after=1
    )


def full(why: str, seconds: float) -> Refused:
    """Say that there is no room now, and in how many seconds there may be; for a human, why."""
    after = float(math.ceil(min(max(seconds, 1.0), _LONGEST_RETRY_S)))
    return Refused(429, "queue full", f"{why}. Ask again in {after:.0f} s.", retry_after=after)


def late(seconds: float) -> Refused:
    """Say that the time of a request ran out."""
    found = f"There was no answer within {seconds:g} s, and the request was given up"
    return Refused(504, "deadline passed", f"{found}. Send fewer texts at a time, or ask again later.", retry_after=1)


def slow(seconds: float) -> Refused:
    """Say that a client did not send the whole of its request."""
    return Refused(
        408, "request too slow", f"The whole body did not come within {seconds:g} s. Send it at once, or in parts."
    )


def left() -> Refused:
    """Say that a client left; nobody reads it."""
    return Refused(499, "client left", "The client closed the connection before the answer.")


def failed() -> Refused:
    """Say that something broke; what it was is for the log alone."""
    return Refused(500, "engine failed", "The model could not answer. The server's log says why.")


def too_long(number: int, tokens: int, most: int) -> Refused:
    """Say which text, counted from 1, has more tokens than it may have."""
    found = f"Text {number} has {tokens:,} tokens; {most:,} is the most it may have"
    return Refused(413, TOO_LARGE, f"{found}. Send it in parts.")


def too_many(tokens: int, most: int) -> Refused:
    """Say that a request has more tokens than would ever have room."""
    found = f"The texts have about {tokens:,} tokens"
    return Refused(413, TOO_LARGE, f"{found}; {most:,} is the most of one request. Send them in several.")
