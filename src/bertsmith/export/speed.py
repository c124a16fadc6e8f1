"""How fast two engines answer the same rows: alone and by 64, interleaved, tokens being made already."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bertsmith.encoded import Encoded
from bertsmith.inference.engine import Engine

BATCH = 64
ROUNDS = 5
ALONE = 15
"""Short texts that are answered one by one."""
LONGEST = 10.0
"""Seconds after which no further round begins."""


def measure_speed(engines: Mapping[str, Engine], encoded: Encoded) -> dict[str, Any]:
    """Measure each engine on the same rows, in turns; medians.

    Args:
        engines: Name → engine.
        encoded: At least one row.

    Returns:
        `latency_ms`: name → milliseconds for one short text; `throughput`: name → rows a second in batches of 64.
    """
    order = np.argsort(encoded.lengths, kind="stable")
    short = [encoded.take(order[place : place + 1]) for place in range(min(ALONE, len(order)))]
    # Every n-th row, so that lengths are those of all.
    batch = encoded.take(order[np.linspace(0, len(order) - 1, min(BATCH, len(order))).round().astype(np.int64)])
    alone: dict[str, list[float]] = {name: [] for name in engines}
    together: dict[str, list[float]] = {name: [] for name in engines}
    for each in engines.values():
        each.logits(batch)
    for given, taken, times in ((short, alone, 1), ([batch], together, ROUNDS)):
        _in_turns(engines, given * times, taken)
    return {
        "latency_ms": {name: round(1000 * float(np.median(taken)), 3) for name, taken in alone.items()},
        "throughput": {name: round(len(batch) / float(np.median(taken)), 1) for name, taken in together.items()},
    }


def _in_turns(engines: Mapping[str, Engine], given: Sequence[Encoded], taken: dict[str, list[float]]) -> None:
    """Let each engine answer each of these once, and no more of them after some seconds."""
    begin = time.perf_counter()
    for encoded in given:
        for name, each in engines.items():
            taken[name].append(_seconds(each, encoded))
        if time.perf_counter() - begin > LONGEST:
            return


def _seconds(engine: Engine, encoded: Encoded) -> float:
    begin = time.perf_counter()
    engine.logits(encoded, budget=BATCH * max(1, encoded.max_length))
    return time.perf_counter() - begin
