"""Runs a job in processes that are killed: python -m tests.scoring.killing IN OUT KILLS SEED prints how many were."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import Any

from bertsmith.listener import Silent
from bertsmith.recipe import Read
from bertsmith.scoring import files
from bertsmith.scoring.job import Job, begin, missing, plan
from bertsmith.scoring.shards import run_job
from tests.scoring.test_files import Stub


class Slow(Stub):
    """Takes a moment for each batch."""

    def rows(self, *given: Any, **named: Any) -> Any:
        """Wait, then answer."""
        time.sleep(0.003)
        return super().rows(*given, **named)


def job_of(source: str, out: str) -> Job:
    return Job("no run", out, plan(source, out), {"engine": "onnx", "weights": "w"}, Read())


def work(source: str, out: str) -> None:
    files.ROWS = 10
    job = job_of(source, out)
    run_job(Slow(), job, begin(job), listener=Silent())


def main(source: str, out: str, kills: int, seed: int) -> None:
    generator, killed = random.Random(seed), 0
    while missing(job_of(source, out)):
        child = os.fork()
        if not child:
            work(source, out)
            os._exit(0)
        if killed < kills:
            time.sleep(generator.uniform(0.0, 0.08))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    sys.stdout.write(f"{killed}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
