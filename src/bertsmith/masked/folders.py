"""The folder of an adapted encoder: whole or not there, and never in place of something else."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bertsmith.atomic import sync, umask, write_json
from bertsmith.errors import UsageError

RECORD = "adapt.json"
"""Says what was done; a folder that has it was written by `adapt`."""


def check_free(path: Path, *, force: bool) -> None:
    """Refuse a place that is taken, before any work is done.

    Raises:
        UsageError: There is something that may not be replaced, or the place cannot be written to.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path}: is a file; the adapted encoder is a folder.", tip="Choose another --out.")
    if path.is_dir() and any(path.iterdir()):
        if not (path / RECORD).is_file():
            raise UsageError(
                f"{path}: exists and holds no adapted encoder, so nothing is written there.",
                tip="Choose another --out, or an empty folder.",
            )
        if not force:
            raise UsageError(
                f"{path}: holds an adapted encoder.", tip="Choose another --out, or replace it with --force."
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent):
            pass
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written to: {error.strerror or error}.", tip="Choose another --out."
        ) from error


@contextlib.contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        yield new
        for file in new.iterdir():
            # safetensors writes for its owner alone; whoever trains with the encoder must be able to read it.
            file.chmod(0o666 & ~umask())
            sync(file)
        sync(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
        sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `adapt.json`."""
    write_json(folder / RECORD, dict(record))


__all__ = ["RECORD", "check_free", "placing", "write_record"]
