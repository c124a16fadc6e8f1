"""Drift while answering: some of the texts that are served, counted in the reference's bins and compared with it.

A server has better things to do than to count every row: about sixty rows a second are looked at, at most eight of one
request, since rows of one sender resemble each other. They are tokenized again, in a thread, so that no answer waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bertsmith.bundle import locate
from bertsmith.drift.facts import Facts, facts_of
from bertsmith.drift.observed import Observed
from bertsmith.drift.reference import Reference
from bertsmith.errors import BundleError
from bertsmith.serve.asked import Asked, Served

if TYPE_CHECKING:
    from bertsmith.drift.compare import Drift
    from bertsmith.inference.predictor import Predictor
    from bertsmith.tasks import Answer

WINDOW = 2_000
"""Rows that are compared with the reference: the last ones that were looked at."""
OF_A_REQUEST = 8
AT_ONCE = 64
"""Rows looked at each time."""
CHARACTERS = 100_000
"""Characters looked at each time; the text that passes this is the last one."""
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_VERDICTS = 15.0
_PARTS = 20


class Window:
    """Counts of the last rows, in the reference's bins.

    Rows leave it by the twentieth part: it holds at least 19/20 of its size, once it has been filled.
    """

    def __init__(self, reference: Reference, *, rows: int = WINDOW) -> None:
        self._reference = reference
        self._part = max(1, rows // _PARTS)
        self._parts: deque[Observed] = deque([reference.empty()], maxlen=_PARTS)

    def add(self, facts: Facts) -> None:
        """Count some more rows."""
        if self._parts[-1].rows >= self._part:
            self._parts.append(self._reference.empty())
        self._parts[-1].add(facts)

    @property
    def observed(self) -> Observed:
        """The counts of all rows that are in it."""
        counts = {key: np.sum([each.counts[key] for each in self._parts], axis=0) for key in self._parts[0].bins}
        return Observed(self._parts[0].bins, counts, sum(each.rows for each in self._parts))

    def verdict(self) -> Drift:
        """Compare what is in it with the reference."""
        # It brings scipy along, which takes longer than the rest of the server takes to start.
        from bertsmith.drift.compare import compare

        return compare(self._reference, self.observed)


@dataclass(frozen=True)
class Watched:
    """A model whose rows are looked at.

    Attributes:
        version: Of the bundle; rows that another version answered do not count.
        predictor: Turns texts into tokens.
        window: The last rows.
    """

    version: str
    predictor: Predictor
    window: Window

    @classmethod
    def of(cls, folder: Path, *, version: str, predictor: Predictor) -> Watched | None:
        """Watch the model of a run or of a bundle; None where it has nothing to compare with."""
        try:
            return cls(version, predictor, Window(Reference.load(locate(folder))))
        except BundleError:
            return None


class Drifting:
    """Collects texts and answers of one model, and says from time to time what became of them.

    `take` is cheap and for the event loop; `look` is for a thread, one at a time.
    """

    def __init__(self, watched: Watched, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._watched = watched
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[tuple[str, str | None, Answer]] = []
        self._room = CHARACTERS
        self._looked = clock()
        self._told = -SECONDS_BETWEEN_VERDICTS
        self.verdict: Drift | None = None

    @property
    def version(self) -> str:
        """Version of the model that it watches."""
        return self._watched.version

    def take(self, asked: Asked, served: Served) -> bool:
        """Keep some rows of a request; True where it is time to look at those that were kept."""
        if served.version == self._watched.version and len(served) == len(asked):
            with self._lock:
                self._keep(asked, served)
        now = self._clock()
        if not self._waiting or now - self._looked < SECONDS_BETWEEN_LOOKS:
            return False
        self._looked = now
        return True

    def _keep(self, asked: Asked, served: Served) -> None:
        step = max(1, -(-len(asked) // OF_A_REQUEST))
        for place in range(0, len(asked), step):
            if len(self._waiting) >= AT_ONCE or self._room <= 0:
                return
            pair = None if asked.pairs is None else asked.pairs[place]
            self._waiting.append((asked.texts[place], pair, served.answers[place]))
            self._room -= len(asked.texts[place]) + len(pair or "")

    def look(self) -> Drift | None:
        """Count what was kept; every quarter of a minute, return what it shows."""
        with self._lock:
            rows, self._waiting, self._room = self._waiting, [], CHARACTERS
        if rows:
            self._watched.window.add(self._facts(rows))
        if self._clock() - self._told < SECONDS_BETWEEN_VERDICTS:
            return None
        self._told = self._clock()
        self.verdict = self._watched.window.verdict()
        return self.verdict

    def _facts(self, kept: Sequence[tuple[str, str | None, Answer]]) -> Facts:
        predictor = self._watched.predictor
        texts, pairs = [text for text, _, _ in kept], [pair or "" for _, pair, _ in kept]
        rows = predictor.rows(texts, None if kept[0][1] is None else pairs)
        answers = [answer for _, _, answer in kept]
        return facts_of(rows, answers, task=predictor.task, tokenizer=predictor.tokens.tokenizer)
