"""How the stages speak: the core never prints, it tells a listener."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """A piece of work under way."""

    def advance(self, amount: int, note: str = "") -> None:
        """Say that `amount` more units are done; `note` is shown beside the bar."""
        ...


class Listener(Protocol):
    """Someone who wants to know what a run does."""

    def tell(self, stage: str, text: str, *, aside: str = "") -> None:
        """Say one line about a stage; `aside` stands at the end of the line (a file, a time)."""
        ...

    def warn(self, text: str) -> None:
        """Say something that the user should look at."""
        ...

    def work(self, stage: str, total: int | None) -> AbstractContextManager[Progress]:
        """Begin a piece of work of `total` units (None: unknown)."""
        ...


class _Quiet:
    def advance(self, amount: int, note: str = "") -> None:
        """Hear nothing."""


class Silent:
    """A listener that hears nothing: the default of the Python functions."""

    def tell(self, stage: str, text: str, *, aside: str = "") -> None:
        """Hear nothing."""

    def warn(self, text: str) -> None:
        """Hear nothing."""

    def work(self, stage: str, total: int | None) -> AbstractContextManager[Progress]:
        """Hear nothing."""
        return nullcontext(_Quiet())
