"""Files that are either whole or not there: temporary file, fsync, rename; sha256 manifests; and locks."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well.

    Whatever happens inside the block, `path` holds either its old content or all of the new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    temporary.chmod(0o666 & ~umask())
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON (no NaN, names in the given order), whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]], *, about: Mapping[str, str]) -> None:
    """Write arrays as safetensors, with texts in the header, whole or not at all."""
    import numpy as np
    from safetensors.numpy import save_file

    # safetensors writes an array's memory as it lies there.
    whole = {name: np.asarray(each, order="C") for name, each in arrays.items()}
    with replacing(path) as temporary:
        save_file(whole, temporary, metadata=dict(about))
        # safetensors makes files that only their owner reads; whoever uses the model must be able to.
        temporary.chmod(0o666 & ~umask())


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, *, name: str = "manifest.json", without: str = "") -> None:
    """Write down every file below `folder` with its size and sha256; those below the folder `without` are left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / name)
    if without:
        files = [path for path in files if folder / without not in path.parents]
    entries = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }
    write_json(folder / name, {"format": 1, "files": entries})


@contextlib.contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Hold a folder or a file, which is made where it is missing, for this process; the lock goes with the process.

    Args:
        path: What is locked, for whoever asks by this function; others may use it as ever.

    Yields:
        False where another holds it. True also where the system has no such locks (Windows); nothing is made there.

    Raises:
        OSError: It cannot be opened or locked.
    """
    if importlib.util.find_spec("fcntl") is None:
        yield True
        return
    # Files are opened for writing, since some network file systems lock no others.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        yield _locked(handle)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def umask() -> int:
    """Return the bits that new files of this process lack."""
    current = os.umask(0)
    os.umask(current)
    return current


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
