"""Kept memory: what a pass through a model frees stays with the process, and the next pass takes it again.

glibc gives freed memory back to the system: large blocks at once, and the end of the heap when it has grown. A step of
training frees all that it computed, so the next one gets each page anew, zeroed by the kernel one by one. On texts of
128 tokens that was a fifth of a step; of an INT8 pass over 1,024 tokens it was more than a third (docs/lab-notes.md).
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""What glibc's malloc.h calls M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD (`mallopt(3)`)."""
_KEPT = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26}
"""Bytes: blocks below the first come from the heap, which is not cut below the second and grows by the third."""
_USUAL = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17}
"""Where glibc's own thresholds are once blocks of 32 MiB were freed: they follow what is freed, up to there."""
_CHOSEN_OUTSIDE = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Keep freed memory in this process for a while; at the end, what is free goes back to the system.

    It changes no result; the most memory that a training takes was within 4 % of what it is without.

    Yields:
        True where it is done; False, and nothing is changed, where the C library is not glibc or the environment
        sets its thresholds.
    """
    library = _glibc(os.environ)
    if library is None:
        yield False
        return
    _set(library, _KEPT)
    try:
        yield True
    finally:
        _set(library, _USUAL)
        library.malloc_trim(0)


def keep_memory() -> bool:
    """Keep freed memory for as long as the process lives, as a process does that only answers.

    What it keeps is at most what its largest pass needed.

    Returns:
        As `kept_memory` yields.
    """
    library = _glibc(os.environ)
    if library is None:
        return False
    _set(library, _KEPT)
    return True


def _glibc(environment: Mapping[str, str]) -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc" or any(name in environment for name in _CHOSEN_OUTSIDE):
        return None
    return ctypes.CDLL(None)


def _set(library: ctypes.CDLL, thresholds: Mapping[int, int]) -> None:
    for option, size in thresholds.items():
        library.mallopt(option, size)
