"""Where shards lie: paths of this machine, or URLs of any store that fsspec knows; and what is written is there whole.

A place is a path or a URL (`s3://bucket/folder/part-0.csv`, `memory://…`). Files are read and written on this
machine: one behind a URL is fetched to a temporary file, and answers are put there when they are whole.
"""

from __future__ import annotations

import contextlib
import glob
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from bertsmith.atomic import holding, replacing, write_text
from bertsmith.encoders import require
from bertsmith.errors import DataError, UsageError

_WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "r2", "oci"})
"""Stores in which an object appears when all of it has arrived; elsewhere a file is put beside and then moved."""


@dataclass(frozen=True)
class Found:
    """A file that is there.

    Attributes:
        name: Its path below what was looked in, with `/`.
        place: Its path, or URL.
        bytes: Its size.
        stamp: Another one after its content was changed: the tag that its store gives, or its size and time.
    """

    name: str
    place: str
    bytes: int
    stamp: str


def is_url(place: str) -> bool:
    """Whether a place lies behind a URL; `file://` does not."""
    return "://" in place and not place.startswith("file://")


def local(place: str) -> Path:
    """Return the path of a place of this machine."""
    return Path(place.removeprefix("file://"))


def join(folder: str, name: str) -> str:
    """Return the place of a file below a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(local(folder) / name)


def base(place: str) -> str:
    """Return the last part of a place's name."""
    return PurePosixPath(place).name if is_url(place) else local(place).name


def files_below(folder: str) -> list[Found]:
    """List all files below a folder in order of names; empty where there is no such folder.

    Raises:
        UsageError: The folder may not be read, or the store cannot be reached.
    """
    if is_url(folder):
        return _remote(folder, _find)
    root = local(folder)
    paths = [Path(at) / name for at, _, names in os.walk(root) for name in names]
    return _all_found(paths, root)


def files_like(pattern: str) -> list[Found]:
    """List the files that a pattern with `*`, `?`, `[…]` or `**` names, in order of names.

    Raises:
        UsageError: The store cannot be reached.
    """
    if is_url(pattern):
        return _remote(pattern, _glob)
    whole = str(local(pattern))
    root = _fixed_part(whole)
    found = [Path(each) for each in glob.glob(whole, recursive=True)]
    return _all_found((path for path in found if path.is_file()), root)


def is_folder(place: str) -> bool:
    """Whether there is a folder of this name."""
    if is_url(place):
        system, path = _system(place)
        return bool(_asked(place, lambda: system.isdir(path)))
    return local(place).is_dir()


def is_there(place: str) -> bool:
    """Whether there is a file of this name."""
    if is_url(place):
        system, path = _system(place)
        return bool(_asked(place, lambda: system.isfile(path)))
    return local(place).is_file()


def read(place: str) -> str | None:
    """Read a small file of UTF-8 text; None where there is none."""
    if not is_there(place):
        return None
    with fetched(place) as path:
        return path.read_text(encoding="utf-8")


def write(place: str, text: str) -> None:
    """Write a small file of UTF-8 text; it is there whole or not at all."""
    if is_url(place):
        with committed(place) as path:
            path.write_text(text, encoding="utf-8", newline="\n")
        return
    write_text(local(place), text)


def remove(place: str) -> None:
    """Remove a file, if it is there."""
    if not is_url(place):
        local(place).unlink(missing_ok=True)
    elif is_there(place):
        system, path = _system(place)
        _asked(place, lambda: system.rm_file(path))


@contextlib.contextmanager
def fetched(place: str) -> Iterator[Path]:
    """Give the path of a file of this machine that holds what lies at a place.

    Raises:
        UsageError: It cannot be fetched.
    """
    if not is_url(place):
        yield local(place)
        return
    system, path = _system(place)
    with tempfile.TemporaryDirectory(prefix="bertsmith-") as folder:
        target = Path(folder) / base(place)
        _asked(place, lambda: system.get_file(path, str(target)))
        yield target


@contextlib.contextmanager
def committed(place: str) -> Iterator[Path]:
    """Give a temporary path of this machine whose file appears at a place, whole, when the block ends well.

    Raises:
        UsageError: It cannot be put there.
    """
    if not is_url(place):
        with replacing(local(place)) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="bertsmith-") as folder:
        temporary = Path(folder) / base(place)
        yield temporary
        _asked(place, lambda: _put(temporary, place))


def _put(file: Path, place: str) -> None:
    system, path = _system(place)
    folder, _, name = path.rpartition("/")
    system.makedirs(folder, exist_ok=True)
    if place.partition("://")[0] in _WHOLE:
        system.put_file(str(file), path)
        return
    beside = f"{folder}/.{name}.{uuid4().hex[:8]}"
    try:
        system.put_file(str(file), beside)
        system.mv(beside, path)
    finally:
        if system.exists(beside):
            system.rm_file(beside)


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Be the only process of this machine that works at the job of a folder; stores behind URLs have no such lock.

    Raises:
        UsageError: Another process does.
    """
    if is_url(folder):
        yield
        return
    path = local(folder) / ".lock"
    with contextlib.ExitStack() as lock:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held = lock.enter_context(holding(path))
        except OSError as error:
            raise UsageError(
                f"{folder}: cannot be written to: {error.strerror}.", tip="Choose another --out."
            ) from error
        if not held:
            raise UsageError(f"{folder}: another process works at this job.", tip="Wait until it has ended.")
        yield


def clear_leftovers(places: list[str]) -> None:
    """Remove the temporary files that killed processes left beside places of this machine."""
    wanted: dict[Path, set[str]] = {}
    for path in (local(place) for place in places if not is_url(place)):
        wanted.setdefault(path.parent, set()).add(path.name)
    for folder, names in wanted.items():
        for file in folder.glob(".*") if folder.is_dir() else ():
            # .NAME.xxxxxxxx.ENDING, as atomic.replacing makes them.
            if file.name[1:].rpartition(".")[0].rpartition(".")[0] not in names:
                continue
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)


def _fixed_part(pattern: str) -> Path:
    """Return the folder above the first part of a pattern that is one."""
    fixed: list[str] = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    else:
        fixed = fixed[:-1]
    return Path(*fixed)


def _all_found(paths: Iterable[Path], root: Path) -> list[Found]:
    found = []
    for path in paths:
        # A worker of a killed driver may be renaming its temporary file just now.
        with contextlib.suppress(FileNotFoundError):
            found.append(_local_found(path, root))
    return sorted(found, key=lambda each: each.name)


def _local_found(path: Path, root: Path) -> Found:
    about = path.stat()
    return Found(path.relative_to(root).as_posix(), str(path), about.st_size, f"{about.st_size}-{about.st_mtime_ns}")


def _find(system: Any, path: str) -> tuple[str, dict[str, Any]]:
    return path, system.find(path, detail=True)


def _glob(system: Any, path: str) -> tuple[str, dict[str, Any]]:
    found: dict[str, Any] = system.glob(path, detail=True)
    return _fixed_part(path).as_posix(), {name: info for name, info in found.items() if info.get("type") != "directory"}


def _remote(place: str, look: Any) -> list[Found]:
    system, path = _system(place)
    root, found = _asked(place, lambda: look(system, path))
    return sorted((_remote_found(system, root, info) for info in found.values()), key=lambda each: each.name)


def _remote_found(system: Any, root: str, info: dict[str, Any]) -> Found:
    size = int(info.get("size") or 0)
    tag = next(
        (info[key] for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created") if info.get(key)), ""
    )
    name = str(info["name"]).removeprefix(root.rstrip("/") + "/")
    return Found(name.lstrip("/"), str(system.unstrip_protocol(info["name"])), size, f"{size}-{tag}")


def _system(place: str) -> tuple[Any, str]:
    """Return the store of a URL, and the path in it."""
    require("fsspec", what=f"reading {place.partition('://')[0]}://", extra="cloud")
    fsspec: Any = importlib.import_module("fsspec")
    try:
        system, path = fsspec.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{place}: {str(error).rstrip('.')}.", tip="Install what fsspec asks for.") from error
    return system, str(path)


def _asked(place: str, ask: Any) -> Any:
    try:
        return ask()
    except FileNotFoundError as error:
        raise DataError(f"{place}: does not exist.") from error
    except OSError as error:
        raise UsageError(f"{place}: cannot be reached: {error.strerror or error}.") from error
