"""An export on disk is whole or not there: it is made in a folder beside its place, which then takes that place.

Killed at any moment, a bundle has its old export or its new one. Where the file system cannot exchange two folders at
once, there is an instant in which it has none; the next export then puts the old one back first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith.atomic import holding, sync, umask, write_json, write_manifest
from bertsmith.errors import UsageError
from bertsmith.inference.exported import FIGURES, FOLDER, GRAPH, KINDS, PROBES, Probes

if TYPE_CHECKING:
    import onnx

_ONE_FILE = 1_900_000_000
"""Bytes of weights above which they lie in a file of their own: a protobuf holds less than 2 GiB."""
_HERE, _EXCHANGE = -100, 2


@contextlib.contextmanager
def staging(model: Path, kind: str) -> Iterator[Path]:
    """Give an empty folder in which an export is made; it is gone at the end, whatever happens.

    Args:
        model: The bundle.
        kind: `fp32` or `int8`.

    Raises:
        UsageError: Another export of this model is under way, or the folder cannot be written to.
    """
    folder = model / FOLDER
    with _made(folder), _alone(folder):
        _tidy(folder)
        made = Path(tempfile.mkdtemp(prefix=f".{kind}.", dir=folder))
        made.chmod(0o777 & ~umask())
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def save_graph(proto: onnx.ModelProto, file: Path) -> None:
    """Write a graph, its weights in a file beside it where they are too many for one."""
    import onnx

    data = file.with_name(f"{file.name}.data")
    for old in (file, data):
        old.unlink(missing_ok=True)
    if sum(len(each.raw_data) for each in proto.graph.initializer) <= _ONE_FILE:
        onnx.save(proto, str(file))
        return
    apart = type(proto)()
    apart.CopyFrom(proto)
    onnx.save(apart, str(file), save_as_external_data=True, location=data.name)


def commit(made: Path, model: Path, kind: str, *, figures: dict[str, Any], probes: Probes) -> Path:
    """Complete an accepted export, and put it in its place.

    Args:
        made: What `staging` gave, with the graph in it.
        model: The bundle.
        kind: `fp32` or `int8`.
        figures: What export.json holds.
        probes: Inputs with the export's answers.

    Returns:
        Where it lies now.
    """
    probes.save(made / PROBES)
    return _placed(made, model, kind, figures)


def commit_refused(made: Path, model: Path, kind: str, *, figures: dict[str, Any]) -> Path | None:
    """Write down why an export was refused, without its graph; not over one that was accepted.

    Returns:
        Where the figures lie; None where an accepted export is there, which stays.
    """
    from bertsmith.inference.exported import find

    if find(model, kind) is not None:
        return None
    for file in made.iterdir():
        if file.name.startswith(GRAPH):
            file.unlink()
    return _placed(made, model, kind, figures)


def _placed(made: Path, model: Path, kind: str, figures: dict[str, Any]) -> Path:
    """Write the figures and the manifest, and take the place of what is there."""
    place = model / FOLDER / kind
    write_json(made / FIGURES, figures)
    write_manifest(made)
    for path in (*made.iterdir(), made):
        sync(path)
    if not place.exists():
        made.rename(place)
    elif not _exchange(made, place):
        old = _set_aside(place)
        place.rename(old)
        made.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    sync(place.parent)
    return place


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places at once; False where that cannot be done here (Linux's renameat2 does it)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _set_aside(place: Path) -> Path:
    return place.with_name(f".old.{place.name}")


def _tidy(folder: Path) -> None:
    """Put back what was set aside by an export that was killed, and remove what such exports left behind."""
    for kind in KINDS:
        place = folder / kind
        if not place.exists() and _set_aside(place).exists():
            _set_aside(place).rename(place)
        for left in (_set_aside(place), *folder.glob(f".{kind}.*")):
            shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make the folder of the exports; it goes again where nothing was put into it."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written to: {error.strerror or error}.") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder for one export at a time; the lock goes with the process."""
    with holding(folder) as held:
        if not held:
            raise UsageError(f"{folder}: another export of this model is under way.", tip="Wait for its end.")
        yield
