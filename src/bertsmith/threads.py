"""CPU threads: as many as this process may use, never as many as the host has."""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def allowed(cgroup: Path = _CGROUP) -> int:
    """Count the CPUs that affinity and the container's quota leave to this process.

    Reads cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us`, `cpu.cfs_period_us`).
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _quota(cgroup)))


def give_way(by: int = 10) -> None:
    """Let other threads go before this one where there are not CPUs enough (Linux: there each has its own niceness).

    Args:
        by: How much nicer; every five or so halve, and more than halve, the share of this thread.
    """
    if sys.platform == "linux":
        mine = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, mine, os.getpriority(os.PRIO_PROCESS, mine) + by)


def resolve(threads: int | str) -> int:
    """Turn the setting `threads` into a number; the processes that torchrun starts on a machine share its CPUs."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, allowed() // beside) if threads == "auto" else int(threads)


def limit_libraries(threads: int) -> None:
    """Hold the tokenizers' thread pool to `threads`; it must be called before its first use."""
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    os.environ.setdefault(_PARALLEL, "true" if threads > 1 else "false")
    guard_forks()


@functools.cache
def guard_forks() -> None:
    """Let a forked process tokenize with one thread: the tokenizers' pool has no threads there, and it would wait.

    The tokenizers library sees to that itself where `TOKENIZERS_PARALLELISM` is not set, and warns of it; where it is
    set, it hangs.
    """
    if hasattr(os, "register_at_fork"):
        before = _Before()
        os.register_at_fork(before=before.fork, after_in_parent=before.restore)


class _Before:
    """What the environment said before a fork."""

    def __init__(self) -> None:
        self._said: str | None = None

    def fork(self) -> None:
        self._said = os.environ.get(_PARALLEL)
        os.environ[_PARALLEL] = "false"

    def restore(self) -> None:
        if self._said is None:
            os.environ.pop(_PARALLEL, None)
        else:
            os.environ[_PARALLEL] = self._said


_PARALLEL = "TOKENIZERS_PARALLELISM"


def _quota(cgroup: Path) -> int:
    unlimited = 1 << 20
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return unlimited
    if quota == "max" or int(quota) <= 0:
        return unlimited
    return max(1, math.floor(int(quota) / int(period)))
