"""A training in a process of its own, forked from one that has everything imported, so that it can be killed often.

    python -m tests.training.killed_fits FOLDER ENCODER

Trains once undisturbed in FOLDER/whole, then again and again in FOLDER/killed, where each beginning is killed by SIGKILL
at another moment: some moments after the n-th backward pass, or at the n-th time that a file is synced (inside a save). Prints a JSON line:
how often it was killed, how often inside a save, and whether it came to its end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from bertsmith import encoders
from bertsmith.listener import Silent
from bertsmith.run_folder import RunFolder
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.training import fit as fitting
from bertsmith.training.model import build
from tests.conftest import toy_rows
from tests.training.steps import recipe, rows_of

KILLS = 26
SETTINGS = {
    "epochs": 6, "batch_size": 8, "accumulate": 2, "learning_rate": 3e-3, "dropout": 0.1, "precision": "bf16",
    "patience": 2, "checkpoint_minutes": 1e-6, "threads": 2, "head_start": "random",
}  # fmt: skip


def train(folder: Path, encoder: Path) -> None:
    """Train from wherever `folder` stands, and write the weights that training ends with."""
    torch.set_num_threads(2)
    task = SingleLabel()
    rows, held = rows_of(encoder, task, toy_rows(90)), rows_of(encoder, task, toy_rows(40, seed=3))
    settings = recipe(**SETTINGS)
    transformers.set_seed(settings.run.seed)
    model = build(task, encoders.find(str(encoder)), rows.labels, dropout=0.1)
    folder.mkdir(exist_ok=True)
    fitted = fitting.fit(model, rows, held, task=task, recipe=settings, run=RunFolder(folder), listener=Silent())
    save_file({name: each.detach().clone() for name, each in model.named_parameters()}, folder / "end.safetensors")
    (folder / "fitted.json").write_text(json.dumps([fitted.epochs, fitted.best_epoch, fitted.best_metric]))


def in_child(work: Callable[[], None]) -> int:
    """Fork, work, leave."""
    child = os.fork()
    if child:
        return child
    work()
    os._exit(0)


def killed_at_sync(number: int, work: Callable[[], None]) -> None:
    """Do the work, and die at the n-th sync of a file."""
    whole = os.fsync
    left = [number]

    def sync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        whole(descriptor)

    os.fsync = sync
    work()


def killed_after(passes: int, delay: float, work: Callable[[], None]) -> None:
    """Do the work, and die some moments after the n-th backward pass: in a pass, a step, a validation or a save."""
    whole = torch.Tensor.backward
    left = [passes]

    def backward(*arguments: object, **named: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        whole(*arguments, **named)

    torch.Tensor.backward = backward
    work()


def main() -> None:
    """Train undisturbed, then be killed, then compare elsewhere."""
    folder, encoder = Path(sys.argv[1]), Path(sys.argv[2])
    begin = time.monotonic()
    os.waitpid(in_child(lambda: train(folder / "whole", encoder)), 0)
    duration = time.monotonic() - begin
    chance = random.Random(7)
    killed = inside = 0
    for number in range(10 * KILLS):
        if (folder / "killed" / "end.safetensors").exists():
            break
        if killed >= KILLS:
            os.waitpid(in_child(lambda: train(folder / "killed", encoder)), 0)
            continue
        in_save = number % 3 == 0
        if in_save:
            syncs = chance.randrange(12, 60)
            child = in_child(lambda: killed_at_sync(syncs, lambda: train(folder / "killed", encoder)))  # noqa: B023
        else:
            passes, delay = chance.randrange(1, 4), chance.uniform(0, 0.05)
            child = in_child(lambda: killed_after(passes, delay, lambda: train(folder / "killed", encoder)))  # noqa: B023
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            inside += in_save
    ended = (folder / "killed" / "end.safetensors").exists()
    print(json.dumps({"killed": killed, "inside_a_save": inside, "ended": ended, "seconds": round(duration, 1)}))  # noqa: T201


if __name__ == "__main__":
    main()
