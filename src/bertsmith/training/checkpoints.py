"""Checkpoints on disk: staged, fsynced, sealed with a manifest, renamed into place, and verified before use.

A checkpoint is a folder `step-00000123` of safetensors files, text files and `manifest.json`, which holds the size and
sha256 of every other file and is written last. A folder of that name is whole or damaged, never half written: it is
made beside its place under a hidden name. Nothing here knows what the tensors mean.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith.atomic import replacing, sha256, sync, umask, write_manifest, write_text
from bertsmith.errors import CheckpointError

if TYPE_CHECKING:
    import torch

MANIFEST = "manifest.json"
_ASIDE = re.compile(r"\.step-\d+\.[0-9a-f]+")
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was whole when it was saved or verified.

    Attributes:
        path: Its folder.
        step: Optimizer steps that were done.
    """

    path: Path
    step: int

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Read a group of tensors, onto the CPU; their order is not that in which they were saved.

        Raises:
            CheckpointError: There is no such group, or it cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        file = self.path / f"{name}.safetensors"
        try:
            with safe_open(file, framework="pt") as stored:
                # A clone has torch's own alignment, which kernels may depend on, and outlives the file.
                return {key: stored.get_tensor(key).clone() for key in stored.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file}: cannot be read: {_reason(error)}.") from error

    def read_json(self, name: str) -> Any:
        """Read a text by its file name, and parse it as JSON.

        Raises:
            CheckpointError: There is no such text, or it is no JSON.
        """
        file = self.path / name
        try:
            return json.loads(self.read_text(name))
        except ValueError as error:
            raise CheckpointError(f"{file}: not readable: {error}.") from error

    def read_text(self, name: str) -> str:
        """Read a text by its file name.

        Raises:
            CheckpointError: There is no such text.
        """
        file = self.path / name
        try:
            return file.read_bytes().decode()
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read: {_reason(error)}.") from error


class Checkpoints:
    """The checkpoints of a run.

    One process writes them at a time. What else lies in the folder is left alone.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder that holds them; it is made when the first one is saved."""
        self.folder = folder

    def steps(self) -> list[int]:
        """Steps that have a folder, ascending, whether they verify or not."""
        if not self.folder.is_dir():
            return []
        found = [path.name.removeprefix("step-") for path in self.folder.glob("step-*")]
        return sorted(int(digits) for digits in found if digits.isdecimal() and digits == f"{int(digits):08d}")

    def save(
        self, step: int, *, tensors: Mapping[str, Mapping[str, torch.Tensor]], texts: Mapping[str, str]
    ) -> Checkpoint:
        """Write a checkpoint, in the place of one of the same step; it is there for good when this returns.

        Args:
            step: Optimizer steps that were done, at least 0.
            tensors: Groups of tensors, each of which becomes the file `<name>.safetensors`. Any device, dtype and
                shape; of tensors that share memory each is stored whole.
            texts: Content of text files by file name, such as `state.json`.

        Raises:
            CheckpointError: The disk is full, even without what killed processes left there, or it cannot be written
                to. Nothing half written is left.
        """
        try:
            return self._save_with_room(step, tensors, texts)
        except OSError as error:
            raise CheckpointError(
                f"{self.folder}: the checkpoint of step {step} cannot be saved: {_reason(error)}.",
                tip=_tip(error, tensors, texts),
            ) from error

    def verified(self, step: int) -> Checkpoint:
        """Compare every file of a checkpoint with its manifest.

        Raises:
            CheckpointError: A file is missing, damaged or cannot be read; the message names it.
        """
        path = self._path(step)
        for name, entry in _listed(path).items():
            _compare(path / name, entry)
        return Checkpoint(path, step)

    def usable(self, *, needs: Callable[[Checkpoint], Collection[int]]) -> tuple[Checkpoint | None, list[str]]:
        """Find the newest checkpoint that verifies, and so do all that it needs.

        Args:
            needs: Gives the other steps without which a checkpoint is of no use, such as that of the best model. It
                may raise CheckpointError when the checkpoint does not hold what it looks for.

        Returns:
            The checkpoint, or None; and for each newer one a sentence that says why it is not used.
        """
        passed_over: list[str] = []
        for step in reversed(self.steps()):
            try:
                return self._with_needs(step, needs), passed_over
            except CheckpointError as error:
                passed_over.append(f"The checkpoint of step {step} is not used: {error.message}")
        return None, passed_over

    def keep(self, steps: Collection[int]) -> None:
        """Remove all other checkpoints, and what killed processes left behind.

        Raises:
            CheckpointError: A checkpoint cannot be removed.
        """
        for step in set(self.steps()) - set(steps):
            path = self._path(step)
            try:
                # Renamed first: a folder that is half removed when the process dies is none that anyone looks at.
                path.rename(self._aside(step))
            except OSError as error:
                raise CheckpointError(f"{path}: cannot be removed: {_reason(error)}.") from error
        self._remove_leftovers()

    def _save_with_room(
        self, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], texts: Mapping[str, str]
    ) -> Checkpoint:
        try:
            return self._save(step, tensors, texts)
        except OSError as error:
            if error.errno not in _NO_SPACE or not self._leftovers():
                raise
        self._remove_leftovers()
        return self._save(step, tensors, texts)

    def _save(
        self, step: int, tensors: Mapping[str, Mapping[str, torch.Tensor]], texts: Mapping[str, str]
    ) -> Checkpoint:
        staged = self._aside(step)
        try:
            staged.mkdir(parents=True)
            for name, group in tensors.items():
                _write_tensors(staged / f"{name}.safetensors", group)
            for name, text in texts.items():
                write_text(staged / name, text)
            write_manifest(staged, name=MANIFEST)
            return self._place(staged, step)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _place(self, staged: Path, step: int) -> Checkpoint:
        path, old = self._path(step), self._aside(step)
        replaces = path.exists()
        if replaces:
            path.rename(old)
        staged.rename(path)
        sync(self.folder)
        sync(self.folder.parent)
        if replaces:
            shutil.rmtree(old, ignore_errors=True)
        return Checkpoint(path, step)

    def _with_needs(self, step: int, needs: Callable[[Checkpoint], Collection[int]]) -> Checkpoint:
        checkpoint = self.verified(step)
        for other in sorted(set(needs(checkpoint)) - {step}):
            try:
                self.verified(other)
            except CheckpointError as error:
                raise CheckpointError(f"it needs that of step {other}. {error.message}") from error
        return checkpoint

    def _remove_leftovers(self) -> None:
        for path in self._leftovers():
            shutil.rmtree(path, ignore_errors=True)

    def _leftovers(self) -> list[Path]:
        return [path for path in self.folder.glob(".step-*") if _ASIDE.fullmatch(path.name)]

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _aside(self, step: int) -> Path:
        """A hidden name beside the checkpoint's, for what is not there yet or no longer."""
        return self.folder / f".step-{step:08d}.{secrets.token_hex(4)}"


def _write_tensors(file: Path, group: Mapping[str, torch.Tensor]) -> None:
    """Write a safetensors file, and turn what its library raises into the OSError that was meant.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(file) as temporary:
        try:
            save_file(_storable(group), temporary)
        except SafetensorError as error:
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            code = int(number[1])
            raise OSError(code, os.strerror(code)) from error
        # safetensors writes for its owner alone; the other files have the rights that the user's umask gives.
        temporary.chmod(0o666 & ~umask())


def _storable(group: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as safetensors takes them: on the CPU, contiguous, none sharing memory with another."""
    storages: set[int] = set()
    storable = {}
    for name, tensor in group.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        storable[name] = plain.clone() if storage in storages else plain
        storages.add(storage)
    return storable


def _listed(path: Path) -> dict[str, dict[str, Any]]:
    """Read the manifest of a checkpoint.

    Raises:
        CheckpointError: It is missing, or not as it was written.
    """
    file = path / MANIFEST
    try:
        text = file.read_bytes().decode()
        stored = json.loads(text)
        files: dict[str, dict[str, Any]] = stored["files"]
        # Written again, it is the same to the letter: so it is one of this format, and no byte of it was changed.
        same = text == json.dumps({"format": 1, "files": files}, ensure_ascii=False, indent=2) + "\n"
        whole = same and all(set(entry) == {"bytes", "sha256"} for entry in files.values())
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {_reason(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise CheckpointError(f"{file}: damaged; it is not as it was written.")
    return files


def _compare(file: Path, entry: Mapping[str, Any]) -> None:
    """Compare a file with what the manifest says of it.

    Raises:
        CheckpointError: They differ.
    """
    try:
        size = file.stat().st_size
        found = sha256(file) if size == entry["bytes"] else ""
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {_reason(error)}.") from error
    if not found:
        raise CheckpointError(f"{file}: damaged. It has {size:,} bytes, but the manifest says {entry['bytes']:,}.")
    if found != entry["sha256"]:
        raise CheckpointError(
            f"{file}: damaged. Its sha256 is {found[:16]}…, but the manifest says {entry['sha256'][:16]}…."
        )


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _tip(error: OSError, tensors: Mapping[str, Mapping[str, torch.Tensor]], texts: Mapping[str, str]) -> str:
    if error.errno not in _NO_SPACE:
        return "Check that the disk is there and that you may write to the folder."
    size = sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
    size += sum(len(text.encode()) for text in texts.values())
    return f"Make room: it takes about {math.ceil(size / 1e6):,} MB."
