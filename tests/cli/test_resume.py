"""bertsmith train --resume RUN: killed at any moment, a run comes to the same end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from bertsmith.cli.loading import bundle_of
from bertsmith.errors import UsageError
from bertsmith.pipeline import resume
from bertsmith.run_folder import RunFolder
from bertsmith.training.checkpoints import Checkpoints
from tests.cli.finished import SETTINGS, execute, flags, say

LONG = {**SETTINGS, "epochs": 4, "dropout": 0.1, "precision": "bf16", "threads": 2, "checkpoint_minutes": 1e-5}


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "model" / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_killed_at_many_moments_the_weights_are_the_same_bits(tiny_encoder, tmp_path):
    """SIGKILL at 26 moments, a third of them inside a save: dropout, bf16, early stopping, best epoch, two threads."""
    command = [sys.executable, "-m", "tests.training.killed_fits", tmp_path, tiny_encoder]
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["ended"]
    assert told["killed"] >= 20
    assert told["inside_a_save"] >= 5
    ours, theirs = (load_file(tmp_path / name / "end.safetensors") for name in ("killed", "whole"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "killed" / "fitted.json").read_text() == (tmp_path / "whole" / "fitted.json").read_text()


@pytest.fixture(scope="module")
def undisturbed(tiny_encoder, toy_csv, tmp_path_factory) -> Path:
    """A run that nobody stops."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    said = execute(["train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(LONG)])
    assert said.code == 0, said.err
    return out


def newest(out: Path) -> int:
    return max(Checkpoints(RunFolder(out).scratch).steps(), default=-1)


def began(command: list[object], until: Callable[[], bool]) -> subprocess.Popen[str]:
    """Start a command and wait until something is true."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bertsmith", *(str(each) for each in command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not until() and process.poll() is None:
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    "moment",
    ["data.json", "checkpoints/step-00000000", "checkpoints/step-00000020", "model/config.json", "scores.json"],
)
def test_a_run_that_is_killed_goes_on_to_the_same_end(undisturbed, tiny_encoder, toy_csv, tmp_path, capsys, moment):
    """Before the training, in it, while the bundle is written, and at the very end."""
    out = tmp_path / "run"
    command = ["train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(LONG)]
    process = began(command, lambda: newest(out) >= moment if isinstance(moment, int) else (out / moment).exists())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not RunFolder(out).is_whole
    said = say(capsys, "train", "--resume", out)
    assert said.code == 0, said.err
    assert same(undisturbed, out)
    ours, theirs = (json.loads((each / "scores.json").read_text()) for each in (out, undisturbed))
    assert ours["test"] == theirs["test"]
    assert ours["training"]["best_epoch"] == theirs["training"]["best_epoch"]
    assert not RunFolder(out).scratch.exists()
    # What was trained before it was killed is a part of the training that it went on with.
    trained = json.loads((out / "history.jsonl").read_text().splitlines()[-1])["seconds"]
    assert trained <= ours["seconds"]["fit"] <= ours["seconds"]["total"]


def test_a_run_that_goes_on_elsewhere_calls_its_files_as_before(tiny_encoder, toy_csv, tmp_path, monkeypatch):
    """Begun with a relative path and resumed from another folder, it writes the names that it began with."""
    monkeypatch.chdir(toy_csv.parent)
    out = tmp_path / "run"
    command = ["train", toy_csv.name, "--out", out, "--encoder", tiny_encoder, *flags(LONG)]
    process = began(command, lambda: newest(out) >= 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    begun = pq.read_table(out / "split.parquet")
    monkeypatch.chdir(tmp_path)
    assert resume(out).scores["data"]["source"] == toy_csv.name
    assert pq.read_table(out / "split.parquet").equals(begun)
    assert set(pq.read_table(out / "predictions.parquet")["file"].to_pylist()) == {toy_csv.name}


def test_a_model_has_its_place_only_with_its_thresholds(tiny_encoder, toy_csv, tmp_path):
    """Killed before it is decided when the model declines, a run holds no model that could be loaded."""
    out = tmp_path / "run"
    command = ["train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(LONG)]
    staged = out / "checkpoints" / "model" / "manifest.json"
    process = began(command, staged.exists)
    process.send_signal(signal.SIGSTOP)
    assert (staged.exists(), (out / "model").exists()) in {(True, False), (False, True)}
    if staged.exists():
        with pytest.raises(UsageError, match="the run did not come to its end"):
            bundle_of(out)
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_names_the_command_that_goes_on(undisturbed, tiny_encoder, toy_csv, tmp_path, capsys, number):
    """It ends with 130 and says how; that command ends where the undisturbed run did."""
    out = tmp_path / "run"
    command = ["train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(LONG)]
    process = began(command, lambda: newest(out) >= 20)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    lines = err.splitlines()
    assert lines[-2].startswith("ERROR  interrupted at step ")
    assert lines[-2].endswith("; everything up to there is saved.")
    assert lines[-1] == f"TIP    Go on with: bertsmith train --resume {out}"
    assert "Traceback" not in err
    assert say(capsys, "train", "--resume", out).code == 0
    assert same(undisturbed, out)


def test_a_finished_run_has_nothing_left_to_do(undisturbed, capsys):
    """Going on with it changes nothing, and says so."""
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    said = say(capsys, "train", "--resume", undisturbed)
    assert said.code == 0
    assert said.out == f"resume    {undisturbed}: the run came to its end; nothing is left to do\n"
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_changed_data_are_refused(undisturbed, tiny_encoder, toy_csv, tmp_path, capsys):
    """A run must not go on with other rows than it began with."""
    data = tmp_path / "data.csv"
    data.write_bytes(toy_csv.read_bytes())
    out = tmp_path / "run"
    process = began(["train", data, "--out", out, "--encoder", tiny_encoder, *flags(LONG)], lambda: newest(out) >= 0)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    data.write_text(data.read_text() + "one more awful row,negative\n")
    said = say(capsys, "train", "--resume", out)
    assert said.code == 1
    assert f"{data.name}: changed since {out} began: its fingerprint is " in said.err
    assert said.err.endswith("TIP    Bring the old data back, or train anew: bertsmith train DATA --out RUN --force\n")


def test_a_table_in_memory_cannot_be_gone_on_with(tiny_encoder, tmp_path, capsys):
    """Its rows are gone; the message says what would have helped."""
    out = tmp_path / "run"
    out.mkdir()
    (out / "recipe.toml").write_text("[read]\ndata = ''\n")
    (out / "data.json").write_text("{}")
    said = say(capsys, "train", "--resume", out)
    assert (said.code, said.err) == (
        2,
        f"ERROR  {out}: the run learned from a table in memory, which is gone.\n"
        "TIP    Train again; with a file as data, a run can go on.\n",
    )
