"""Two processes learn what one process learns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from bertsmith.training.checkpoints import Checkpoints
from tests.cli.finished import flags, say

ROOT = Path(__file__).parents[2]


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


SETTINGS = {
    "epochs": 3, "learning_rate": 2e-3, "patience": 0, "precision": "fp32", "threads": 1, "device": "cpu", "dropout": 0.0,
    "head_start": "random", "checkpoint_minutes": 1e-5, "class_weights": "balanced",
}  # fmt: skip


def torchrun(*arguments: object) -> subprocess.Popen[str]:
    """Start bertsmith in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "bertsmith"]
    return subprocess.Popen(
        [str(each) for each in [*command, *arguments]],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def newest(run: Path) -> int:
    return max(Checkpoints(run / "checkpoints").steps(), default=0)


def children(parent: int) -> list[int]:
    return [pid for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*")) if _parent(pid) == parent]


def _parent(pid: int) -> int:
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def two(tiny_encoder, toy_csv, tmp_path_factory) -> Path:
    """A run of two ranks that nobody stops."""
    out = tmp_path_factory.mktemp("two") / "run"
    said = finished(
        torchrun("train", toy_csv, "--out", out, "--encoder", tiny_encoder, "--batch-size", 8, *flags(SETTINGS))
    )
    # One rank speaks.
    assert said.count("\nrun  ") == 1
    return out


def test_two_ranks_have_the_loss_curve_of_one_process(two, tiny_encoder, toy_csv, tmp_path, capsys):
    """Through the command line, weights by class included: every logged loss within 1e-5, and the same scores."""
    out = tmp_path / "one"
    said = say(capsys, "train", toy_csv, "--out", out, "--encoder", tiny_encoder, "--batch-size", 16, *flags(SETTINGS))
    assert said.code == 0, said.err
    assert len(losses(two)) >= 5
    assert losses(two) == pytest.approx(losses(out), abs=1e-5)


def test_two_ranks_that_are_killed_go_on_to_the_same_bits(two, tiny_encoder, toy_csv, tmp_path):
    """SIGKILL of all processes in the middle of an epoch; going on in two ranks ends at the same weights."""
    out = tmp_path / "run"
    process = torchrun("train", toy_csv, "--out", out, "--encoder", tiny_encoder, "--batch-size", 8, *flags(SETTINGS))
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None and newest(out) < 20:
        time.sleep(0.01)
    # Ranks have sessions of their own, so that killing the launcher alone would leave them at work.
    for each in (*children(process.pid), process.pid):
        os.kill(each, signal.SIGKILL)
    process.communicate()
    assert not (out / "manifest.json").exists()
    finished(torchrun("train", "--resume", out))
    ours, theirs = (load_file(each / "model" / "model.safetensors") for each in (out, two))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
