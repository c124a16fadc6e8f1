"""Ctrl-C and SIGTERM while training: heard at the end of the step, so that a checkpoint can be written."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from bertsmith.signals import handling


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
    with handling((signal.SIGINT, signal.SIGTERM), interrupts.hear):
        yield interrupts
