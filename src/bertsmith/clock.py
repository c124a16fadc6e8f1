"""Seconds per stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Counts the seconds of each stage and of the whole."""

    def __init__(self) -> None:
        """Start now."""
        self._begin = time.perf_counter()
        self.stages: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the seconds of the block for a stage; a stage may have several blocks."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - begin

    def add(self, name: str, seconds: float) -> None:
        """Count seconds that another process spent on a stage."""
        self._begin -= seconds
        self.stages[name] = self.stages.get(name, 0.0) + seconds

    @property
    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._begin

    def as_json(self) -> dict[str, float]:
        """Return the seconds as `scores.json` has them."""
        return {"total": round(self.total, 3)} | {name: round(value, 3) for name, value in self.stages.items()}


def in_words(seconds: float) -> str:
    """Say a duration for people.

    >>> in_words(0.42), in_words(12.34), in_words(112)
    ('0.4 s', '12 s', '1 min 52 s')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
