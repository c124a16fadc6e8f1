"""Ctrl-C and SIGTERM while training: heard at the end of the step, so that a checkpoint can be written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupts:
    """Whether somebody wants the training to stop.

    Attributes:
        heard: True from the first signal on.
    """

    def __init__(self) -> None:
        """Nobody has, yet."""
        self.heard = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Remember the signal; a second one stops at once.

        Raises:
            KeyboardInterrupt: This is not the first.
        """
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True


@contextlib.contextmanager
def listening() -> Iterator[Interrupts]:
    """Listen to Ctrl-C and SIGTERM inside the block; outside of the main thread nobody can, and nothing is heard."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {each: signal.signal(each, interrupts.hear) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
