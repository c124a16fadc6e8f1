"""How a run looks: a line per stage, a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from bertsmith.clock import in_words
from bertsmith.listener import Listener, Progress

_SECONDS_BETWEEN_LINES = 10.0


def listener(*, json_output: bool) -> Listener:
    """Choose how a run speaks: lines go to stdout, or to stderr when stdout is for JSON."""
    lines = sys.stderr if json_output else sys.stdout
    return Terminal(lines)


class Terminal:
    """Says stages on one stream, and progress and warnings on stderr."""

    def __init__(self, lines: IO[str]) -> None:
        """Say stages on `lines`."""
        self._out = Console(file=lines, highlight=False, markup=False, soft_wrap=True)
        self._progress = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def tell(self, stage: str, text: str, *, aside: str = "") -> None:
        """Print a stage's line: its name, what it came to, and an aside."""
        line = Text()
        line.append(f"{stage:<10}", style="bold cyan")
        line.append(text)
        if aside:
            line.append(f"  ({aside})", style="dim")
        self._out.print(line)

    def warn(self, text: str) -> None:
        """Print something to look at."""
        self._progress.print(Text.assemble(("warning   ", "bold yellow"), text))

    @contextlib.contextmanager
    def work(self, stage: str, total: int | None) -> Iterator[Progress]:
        """Show a live bar on a terminal, else a line every ten seconds."""
        if not self._progress.is_terminal:
            yield _Lines(self._progress, stage, total)
            return
        columns = (
            TextColumn("{task.description:<9}", style="bold cyan"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Bar(*columns, console=self._progress, transient=True) as bar:
            yield _OnBar(bar, bar.add_task(stage, total=total, note=""))


class _OnBar:
    def __init__(self, bar: Bar, task: Any) -> None:
        self._bar = bar
        self._task = task

    def advance(self, amount: int, note: str = "") -> None:
        self._bar.update(self._task, advance=amount, note=note)


class _Lines:
    def __init__(self, console: Console, stage: str, total: int | None) -> None:
        self._console = console
        self._stage = stage
        self._total = total
        self._done = 0
        self._begin = self._last = time.monotonic()

    def advance(self, amount: int, note: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        share = f"{self._done / self._total:4.0%}" if self._total else f"{self._done:,} rows"
        self._console.print(f"{self._stage:<10}{share} · {in_words(now - self._begin)}{' · ' if note else ''}{note}")


def print_json(value: Any) -> None:
    """Print one JSON object as one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
