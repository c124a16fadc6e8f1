"""What many tests need: one run that came to its end, and the command line called in this process."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bertsmith
from bertsmith.api import Run
from bertsmith.cli import boundary

SETTINGS: dict[str, Any] = {
    "epochs": 8, "learning_rate": 2e-3, "batch_size": 16, "patience": 0, "precision": "fp32", "threads": 1, "device": "cpu",
}  # fmt: skip
"""With these the tiny encoder learns the toy reviews in two seconds."""
QUICK: dict[str, Any] = {**SETTINGS, "epochs": 1}


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


@functools.cache
def finished_run(encoder: Path, data: Path) -> Run:
    """Train on the toy reviews, once in a test session."""
    return bertsmith.train(data, out=data.parent / "finished", encoder=str(encoder), **SETTINGS)


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Write settings as flags: {"batch_size": 8} is --batch-size 8."""
    return [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def say(capsys: Any, *arguments: object) -> Said:
    """Run a command line in this process."""
    capsys.readouterr()
    code = boundary.run([str(each) for each in arguments])
    told = capsys.readouterr()
    return Said(code, told.out, told.err)


def execute(
    arguments: Sequence[object],
    *,
    cwd: Path | None = None,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Said:
    """Run a command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bertsmith", *map(str, arguments)], cwd=cwd, input=stdin, capture_output=True, text=True,
        encoding="utf-8", timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)
