"""Our offline engine for `serve_load.py`, in a process of its own: answers to compare with, and its rate."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith.inference.loading import load
from serve_load_figures import Expected

Array = np.ndarray[Any, Any]
_HELD: list[Any] = []


class Offline:
    """A predictor in another process."""

    def __init__(self, pool: ProcessPoolExecutor, *, exact: bool) -> None:
        self._pool, self._exact = pool, exact

    def expected(self, texts: Sequence[str]) -> Expected:
        """Answer texts, to compare others with."""
        labels, probabilities = self._pool.submit(_answered, list(texts)).result()
        return Expected(labels, probabilities, 0.0 if self._exact else 1e-5)

    def rate(self, texts: Sequence[str]) -> float:
        """Answer texts as `bertsmith.load(RUN).predict(texts)` does; texts a second."""
        return len(texts) / float(self._pool.submit(_timed, list(texts)).result())


@contextmanager
def offline(run: Path, *, engine: str, threads: int) -> Iterator[Offline]:
    """Load a run in another process.

    Args:
        run: The trained run.
        engine: torch, onnx or onnx-int8.
        threads: CPU threads.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _open, (run, engine, threads)) as pool:
        yield Offline(pool, exact=engine != "torch")


def _open(run: Path, engine: str, threads: int) -> None:
    _HELD.append(load(run, engine=engine, device="cpu", threads=threads))


def _answered(texts: list[str]) -> tuple[tuple[str, ...], Array]:
    predictor = _HELD[0]
    return tuple(predictor.labels.names), predictor.probabilities(texts)


def _timed(texts: list[str]) -> float:
    begin = time.perf_counter()
    _HELD[0].predict(texts)
    return time.perf_counter() - begin
