"""Two processes learn what one process learns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_make_the_step_of_one(tiny_encoder, tmp_path):
    """Under torchrun, with unequal micro-batches and weights, one step's gradient is one process's within 1e-6.

    21 rows are one short effective batch of 24 in all three: whole, on two ranks, and on two ranks in three rounds.
    """
    script = str(ROOT / "tests" / "training" / "ddp_step.py")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TRAINER_BACKEND": "gloo"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    moved = {}
    for name, command, cut in (
        ("one", [sys.executable], (24, 1)),
        ("two", launcher, (12, 1)),
        ("rounds", launcher, (4, 3)),
    ):
        target = tmp_path / f"{name}.pt"
        done = subprocess.run(
            [*command, script, str(tiny_encoder), str(target), *map(str, cut)],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        moved[name] = torch.load(target, weights_only=True)
    assert moved["one"].abs().max() > 1e-3
    assert (moved["two"] - moved["one"]).abs().max() < 1e-6
    assert (moved["rounds"] - moved["one"]).abs().max() < 1e-6
