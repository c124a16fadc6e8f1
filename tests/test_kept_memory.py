"""Kept memory: freed pages stay for the next step, results stay the same, and all goes back at the end."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bertsmith import kept_memory
from tests.training.test_fit_strategies import train

pytestmark = pytest.mark.usefixtures("one_thread")
BLOCK = 33 * 2**18
"""Floats: 33 MiB, which glibc by itself gives back as soon as they are freed."""
only_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")


def faults_of(times: int) -> int:
    """Count the pages that the kernel has to bring for writing a block and freeing it, over and over."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(BLOCK)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of this process that lie in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize()


@only_glibc
def test_pages_are_brought_once():
    """Once the heap has grown, ten times the same block takes less than the pages of one; without, those of ten."""
    # Each in a process of its own: how a heap that others have used behaves depends on what they left in it.
    code = """
import contextlib, sys
from tests.test_kept_memory import faults_of
from bertsmith.kept_memory import kept_memory
with kept_memory() if sys.argv[1] == "kept" else contextlib.nullcontext():
    faults_of(20)
    print(faults_of(10))
"""
    kept, plain = (
        int(subprocess.run([sys.executable, "-c", code, way], capture_output=True, text=True, check=True).stdout)
        for way in ("kept", "plain")
    )
    pages = 4 * BLOCK // resource.getpagesize()
    assert kept < pages
    assert plain > 9 * pages


@only_glibc
def test_what_is_free_goes_back_at_the_end():
    """After the end the process is as small as it was, though it had grown by a gigabyte."""
    before = resident()
    with kept_memory.kept_memory():
        blocks = [torch.ones(BLOCK) for _ in range(8)]
        del blocks
        assert resident() - before > 4 * BLOCK
    assert resident() - before < 4 * BLOCK


@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_thresholds_from_outside_are_left_alone(monkeypatch, name):
    """Whoever sets glibc's thresholds in the environment keeps them."""
    monkeypatch.setenv(name, "1")
    with kept_memory.kept_memory() as done:
        assert not done


def test_another_c_library_is_left_alone(monkeypatch):
    """There are no such thresholds in musl and on macOS."""
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with kept_memory.kept_memory() as done:
        assert not done


def test_training_comes_to_the_same_bits(tiny_encoder, tmp_path, monkeypatch):
    """With dropout: the weights with kept memory are those without."""
    kept, _, _ = train(tmp_path / "kept", tiny_encoder, dropout=0.1, epochs=1)
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    plain, _, _ = train(tmp_path / "plain", tiny_encoder, dropout=0.1, epochs=1)
    found = plain.state_dict()
    assert all(torch.equal(each, found[name]) for name, each in kept.state_dict().items())
