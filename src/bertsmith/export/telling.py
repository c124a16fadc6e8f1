"""What an export says: one line a stage, in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertsmith.clock import in_words
from bertsmith.evaluation.wording import in_prose
from bertsmith.export.repair import Attempt
from bertsmith.export.rows import Judging
from bertsmith.listener import Listener


def rows(listener: Listener, judging: Judging) -> None:
    """Say which rows judge the export."""
    sizes = judging.sizes()
    told = f"{sizes['validation']:,} validation and {sizes['calibration']:,} calibration rows judge the export"
    listener.tell("rows", told, aside=judging.source)


def gate(listener: Listener, tried: Attempt) -> None:
    """Say how the answers of a candidate differ from those of torch."""
    found = tried.gate
    kept = f"; in fp32 are {', '.join(tried.fp32_parts)} ({tried.fp32_share:.0%} of the weights)"
    each = found.difference
    listener.tell(
        "gate",
        f"{found.agreement:.2%} of {found.units:,} answers as torch; {in_prose(found.metric)} {found.export:.4f}, "
        f"torch {found.torch:.4f}: {each.value:+.4f} [{each.low:+.4f}, {each.high:+.4f}]; probabilities off by "
        f"{found.probability.mean:.4f}, {found.probability.largest:.3f} at most" + (kept if tried.fp32_parts else ""),
    )
    listener.tell("", "accepted" if found.accepted else f"refused: {found.reason}")


def speed(listener: Listener, found: Mapping[str, Any]) -> None:
    """Say how fast the export is beside torch."""
    alone, together = found["latency_ms"], found["throughput"]
    listener.tell(
        "speed",
        f"one short text in {alone['export']:.2f} ms, torch {alone['torch']:.2f} ms; {together['export']:,.0f} rows/s, "
        f"torch {together['torch']:,.0f} rows/s",
    )


def done(listener: Listener, run: Path, folder: Path, found: Mapping[str, Any]) -> None:
    """Say what was decided with the export, and where it lies."""
    if found["decide"] is not None:
        listener.tell("decide", found["decide"]["sentence"])
    if found["scope"] is not None and found["scope"]["sentence"]:
        listener.tell("scope", found["scope"]["sentence"].removesuffix("."))
    size = found["gate"]["bytes"]
    listener.tell(
        "export",
        f"{folder}: {size['export'] / 1e6:.1f} MB, {size['share']:.0%} of the weights' {size['torch'] / 1e6:.1f} MB",
        aside=in_words(found["seconds"]["total"]),
    )
    listener.tell("", f'it answers from now on: bertsmith predict {run} "your text"')
