"""Processes that save checkpoints and are killed meanwhile; run alone, so that torch is loaded once.

Each process has a folder of its own, `moments/0000` or `events/0000` below the given one and so on; `told.json` beside
them says which step had at least been saved for good when the process died.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bertsmith.training.checkpoints import Checkpoints

LARGE, SMALL = 200_000, 50
MOMENTS = 20


def content(step: int, numbers: int) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of a step, whose every number says which step it is."""
    return {
        "model": {"weight": torch.full((numbers,), float(step)), "steps": torch.tensor(step)},
        "optimizer": {"moment": torch.full((numbers,), -step, dtype=torch.bfloat16)},
    }


def save(checkpoints: Checkpoints, step: int, *, numbers: int) -> None:
    """Save the content of a step."""
    checkpoints.save(step, tensors=content(step, numbers), texts={"state.json": json.dumps({"step": step})})


def die_at_event(number: int) -> None:
    """Kill this process at the given call to the file system (as Python's audit events count them)."""
    left = [number]

    def hook(event: str, _: object) -> None:
        if event == "open" or event.startswith(("os.", "shutil.")):
            left[0] -= 1
            if left[0] < 0:
                signal.raise_signal(signal.SIGKILL)

    sys.addaudithook(hook)


def in_child(work: Callable[[], None], *, wait: float | None = None) -> bool:
    """Do the work in a fork, kill it after `wait` seconds, and say whether it came to its end."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def killed_at_every_event(folder: Path, told: dict[str, int]) -> None:
    """Save step 2 beside 1 and 0, again over itself, and keep 0 and 2 alone: die at the first event, the second, …."""
    begun = folder / "begun"
    save(Checkpoints(begun), 0, numbers=SMALL)
    save(Checkpoints(begun), 1, numbers=SMALL)
    finished, number = False, 0
    while not finished:
        place = folder / f"{number:04d}"
        shutil.copytree(begun, place)
        checkpoints = Checkpoints(place)

        def work(checkpoints: Checkpoints = checkpoints, number: int = number) -> None:
            die_at_event(number)
            save(checkpoints, 2, numbers=SMALL)
            save(checkpoints, 2, numbers=SMALL)
            checkpoints.keep({0, 2})

        finished = in_child(work)
        told[place.name] = 2 if finished else 1
        number += 1


def killed_at_moments(folder: Path, told: dict[str, int]) -> None:
    """Save one step after the other, keep the last two, and die within the time that four saves take."""
    begin = time.perf_counter()
    save(Checkpoints(folder / "timed"), 1, numbers=LARGE)
    span = 4 * (time.perf_counter() - begin)
    chance = random.Random(17)
    for moment in range(MOMENTS):
        place = folder / f"{moment:04d}"
        place.mkdir()
        said = place / "said"
        said.write_text("")

        def work(place: Path = place, said: Path = said) -> None:
            checkpoints = Checkpoints(place)
            for step in range(1, 1000):
                save(checkpoints, step, numbers=LARGE)
                with said.open("a") as file:
                    file.write(f"{step}\n")
                checkpoints.keep({step - 1, step})

        in_child(work, wait=chance.uniform(0.0, span))
        told[place.name] = len(said.read_text().splitlines())


def main() -> None:
    """Take a new folder from the command line; kill at moments first, then at every event."""
    torch.set_num_threads(1)
    os.fsync = lambda _: None  # what a killed process has written, the kernel has: this is about the order alone
    for kind, killed in (("moments", killed_at_moments), ("events", killed_at_every_event)):
        folder = Path(sys.argv[1]) / kind
        folder.mkdir(parents=True)
        told: dict[str, int] = {}
        killed(folder, told)
        (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
