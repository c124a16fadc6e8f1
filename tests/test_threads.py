"""Threads: what this process may use, never what the host has."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bertsmith import threads


def cgroup(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture
def sixteen(monkeypatch):
    """A host with sixteen CPUs, all of them allowed."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.parametrize(
    ("quota", "number"),
    [("max 100000\n", 16), ("200000 100000\n", 2), ("150000 100000\n", 1), ("50000 100000\n", 1), ("390000 100000\n", 3),
     ("6400000 100000\n", 16), ("50000 25000\n", 2)],
)  # fmt: skip
def test_a_container_of_cgroup_v2_is_obeyed(sixteen, tmp_path, quota, number):
    """cpu.max holds quota and period; whole CPUs are counted, at least one."""
    assert threads.allowed(cgroup(tmp_path, cpu_dot_max=quota)) == number


@pytest.mark.parametrize(
    ("quota", "period", "number"), [("-1\n", "100000\n", 16), ("400000\n", "100000\n", 4), ("10000\n", "100000\n", 1)]
)
def test_a_container_of_cgroup_v1_is_obeyed(sixteen, tmp_path, quota, period, number):
    """cpu.cfs_quota_us and cpu.cfs_period_us; -1 is no limit."""
    folder = cgroup(tmp_path, cpu__cpu_dot_cfs_quota_us=quota, cpu__cpu_dot_cfs_period_us=period)
    assert threads.allowed(folder) == number


def test_without_a_cgroup_affinity_decides(sixteen, tmp_path):
    """No files, no limit but the affinity."""
    assert threads.allowed(tmp_path / "nowhere") == 16


def test_the_affinity_of_a_process_is_obeyed(tmp_path):
    """A process held to one CPU uses one thread, whatever the machine has."""
    script = (
        "import os, pathlib; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        f"from bertsmith import threads; print(threads.allowed(pathlib.Path({str(tmp_path)!r})), threads.resolve('auto'))"
    )
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1\n"


def test_a_number_is_taken_as_it_is():
    """Who names a number gets it."""
    assert threads.resolve(3) == threads.resolve("3") == 3
    assert threads.resolve("auto") == threads.allowed()


@pytest.mark.parametrize(("number", "parallel"), [(1, "false"), (2, "true")])
def test_the_tokenizers_pool_is_held(monkeypatch, number, parallel):
    """The pool gets as many threads; what the user's environment says stays."""
    for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "kept")
    threads.limit_libraries(number)
    assert (os.environ["RAYON_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"]) == ("kept", "kept")
    for name in ("RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        monkeypatch.delenv(name)
    threads.limit_libraries(number)
    assert (os.environ["RAYON_NUM_THREADS"], os.environ["TOKENIZERS_PARALLELISM"]) == (str(number), parallel)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere niceness is a process's")
def test_one_thread_gives_way_and_the_others_do_not():
    """What computes is nicer afterwards; the thread that answers is not."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    found = []

    def work() -> None:
        threads.give_way(3)
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [min(19, before + 3)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
