"""Frozen lower layers run once: their outputs are kept on disk, and training runs the layers above them.

What the frozen layers give in eval mode never changes, so it is computed once for each window and read back in every
epoch: a batch that brings its `states` starts at the first layer that is trained.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bertsmith.encoded import Encoded
from bertsmith.inference.engine import batches_by_length
from bertsmith.inference.torch_engine import evaluating, to_inputs
from bertsmith.listener import Listener
from bertsmith.training.boundary import Boundary, states_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
Kind = Literal["fp32", "bf16"]
_STORED: Mapping[str, np.dtype[Any]] = {"fp32": np.dtype(np.float32), "bf16": np.dtype(np.int16)}
"""numpy has no bfloat16: its bits are stored as whole numbers."""


@dataclass(frozen=True)
class Store:
    """Where and how states are kept.

    Attributes:
        folder: Where the file of each side is written.
        kind: fp32 keeps them as they are; bf16 rounds them to three digits, at half the size.
        most: Bytes that they may take on disk.
        autocast: Whether the frozen layers run in bf16 autocast, as they would in a training of that precision.
    """

    folder: Path
    kind: Kind
    most: float
    autocast: bool = False


@dataclass(frozen=True)
class States:
    """The states of one side's windows, in a memory-mapped file.

    Attributes:
        path: The file: one state after the other, float32, or bfloat16.
        begins: Number of the first state of each window in it, int64 `(windows,)`.
        counts: States of each window, int64 `(windows,)`.
        hidden: Width of a state.
        kind: fp32 or bf16.
        first_only: Whether only the state of a window's first token is kept.
    """

    path: Path
    begins: Array
    counts: Array
    hidden: int
    kind: Kind
    first_only: bool

    def states(self, windows: Array, width: int) -> torch.Tensor:
        """Read the states of windows, float32 `(windows, width, hidden)`, zeros after a window's end.

        They are `(windows, 1, hidden)`, whatever the width, where only the first token's are kept.
        """
        import torch

        padded = np.zeros((len(windows), 1 if self.first_only else width, self.hidden), self._file.dtype)
        begins, counts = self.begins[windows].tolist(), self.counts[windows].tolist()
        for place, (begin, count) in enumerate(zip(begins, counts, strict=True)):
            padded[place, :count] = self._file[begin : begin + count]
        found = torch.from_numpy(padded)
        return found.view(torch.bfloat16).float() if self.kind == "bf16" else found

    @cached_property
    def _file(self) -> Array:
        return np.memmap(self.path, _STORED[self.kind], mode="r").reshape(-1, self.hidden)


@dataclass(frozen=True)
class Cached:
    """What `run_once` kept.

    Attributes:
        sides: Side → the states of its windows.
        boundary: Where they belong in the model.
    """

    sides: Mapping[str, States]
    boundary: Boundary

    def feeding(self, model: PreTrainedModel) -> contextlib.AbstractContextManager[None]:
        """Make `model(states=..., **inputs)` run only what lies above the frozen layers; without states, all of it.

        `states` are what `States.states` gives for the batch's windows, on the model's device. The frozen layers
        must be in eval mode for both to be the same. Parameters and their names stay what they are.
        """
        return self.boundary.feeding(model)

    def remove(self) -> None:
        """Delete the files."""
        for side in self.sides.values():
            side.path.unlink(missing_ok=True)


def run_once(
    model: PreTrainedModel, sides: Mapping[str, Encoded], *, frozen_below: int, store: Store, listener: Listener
) -> Cached | None:
    """Run the frozen layers once over all windows, and keep what they give.

    Args:
        model: As it will be trained; it is left as it is.
        sides: Encoded rows by the name of their side; those without rows are left out.
        frozen_below: As `Strategy.frozen_below`: 1 for the embeddings and 1 for each frozen layer above them.
        store: Where and how they are kept.
        listener: Told how much disk this takes, of progress, and why it is not done.

    Returns:
        None where no layer is frozen, where the states would take too much room or could not be written, or where
        a model fed with its states does not answer as the whole model does. The frozen layers then run in every
        epoch.
    """
    sides = {name: side for name, side in sides.items() if len(side.window_lengths)}
    if frozen_below < 2 or not sides:
        return None
    some = next(iter(sides.values()))
    boundary = Boundary.of(model, frozen_below, some)
    if not boundary.holds(model, some):
        listener.warn(
            f"{type(model).__name__} does not answer from the outputs of its frozen layers as it does in one go, so "
            "these layers run in every epoch."
        )
        return None
    try:
        return _kept(model, sides, boundary=boundary, store=store, listener=listener)
    except OSError as error:
        listener.warn(
            f"{store.folder}: the outputs of the frozen layers cannot be kept there: {error.strerror}. These layers "
            "run in every epoch."
        )
        return None


def _kept(
    model: PreTrainedModel, sides: Mapping[str, Encoded], *, boundary: Boundary, store: Store, listener: Listener
) -> Cached | None:
    """Announce the size, and write the files; none is left behind where that fails."""
    counts = {
        name: np.ones_like(side.window_lengths) if boundary.first_only else side.window_lengths
        for name, side in sides.items()
    }
    size = sum(int(each.sum()) for each in counts.values()) * boundary.hidden * _STORED[store.kind].itemsize
    store.folder.mkdir(parents=True, exist_ok=True)
    room = min(store.most, shutil.disk_usage(store.folder).free)
    if size > room:
        why = f"than the {_sized(room)} that are " + ("allowed" if room == store.most else "free on the disk")
        listener.warn(
            f"the outputs of the frozen layers would take {_sized(size)}, more {why}: these layers run in every epoch."
        )
        return None
    layers = "1 frozen layer runs" if len(boundary.frozen) == 1 else f"{len(boundary.frozen)} frozen layers run"
    listener.tell("fit", f"{layers} once; the outputs take {_sized(size)} on disk", aside=str(store.folder))
    kept: dict[str, States] = {}
    with contextlib.ExitStack() as undo, listener.work("fit", sum(map(len, counts.values()))) as progress:
        for name, side in sides.items():
            path = store.folder / f"{name}.states"
            undo.callback(path.unlink, missing_ok=True)
            begins = _write(model, side, path, boundary=boundary, store=store, done=progress.advance)
            kept[name] = States(path, begins, counts[name], boundary.hidden, store.kind, boundary.first_only)
        undo.pop_all()
    return Cached(kept, boundary)


def _write(
    model: PreTrainedModel,
    encoded: Encoded,
    path: Path,
    *,
    boundary: Boundary,
    store: Store,
    done: Callable[[int], None],
) -> Array:
    """Write the states of all windows, and return where each window's begin.

    Through plain writes: on a full disk these raise, where a memory map kills the process.
    """
    import torch

    device = next(model.parameters()).device
    begins, written = np.zeros(len(encoded.window_lengths), np.int64), 0
    with path.open("wb") as file, evaluating(model), boundary.stopping(model) as given:
        for windows in batches_by_length(encoded.window_lengths):
            inputs = to_inputs(model, encoded.pad_windows(windows), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=store.autocast):
                model(**inputs)
            states, kept = states_of(given[-1]), boundary.needed(inputs["attention_mask"].bool())
            states = states[kept[:, : states.shape[1]]].cpu()
            given.clear()
            file.write(_stored(states, store.kind).data)
            counts = kept.sum(1).cpu().numpy()
            begins[windows] = written + np.cumsum(counts) - counts
            written += int(counts.sum())
            done(len(windows))
    return begins


def _stored(states: torch.Tensor, kind: Kind) -> Array:
    import torch

    if kind == "fp32":
        return states.float().numpy()
    return states.to(torch.bfloat16).contiguous().view(torch.int16).numpy()


def _sized(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
