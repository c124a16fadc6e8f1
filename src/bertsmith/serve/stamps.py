"""Stamps of files: whether one changed is seen without reading it."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int] | None
"""When it was changed last in nanoseconds, its bytes, its inode; None where there is no file."""


def stamp(path: Path) -> Stamp:
    """Say when a file was changed last; None where there is none, or it may not be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def stamps(folder: Path) -> dict[str, Stamp]:
    """Say so of every file in a folder and in the folders within.

    Returns:
        The file's place in the folder → its stamp; nothing where there is no such folder.
    """
    try:
        return {str(file.relative_to(folder)): stamp(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    except OSError:
        # Somebody takes a folder away while it is looked at.
        return {}
