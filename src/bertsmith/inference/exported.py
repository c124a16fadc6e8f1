"""What an export is on disk: `RUN/model/onnx/fp32/` or `RUN/model/onnx/int8/`, beside the weights it was made of.

    model.onnx            the graph: token ids in, logits (and what the head made them of) out
    export.json           every figure of the gate, the thresholds of this export, where it came from
    probes.safetensors    made-up inputs and what the export answered to them when it was accepted
    manifest.json         sha256 of the other files; written last

The bundle's own manifest leaves these folders out: an export comes after it, and may go again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith import bundle
from bertsmith.atomic import write_arrays
from bertsmith.errors import BundleError

Array = np.ndarray[Any, Any]
FOLDER = bundle.EXPORTS
KINDS = {"fp32": "onnx", "int8": "onnx-int8"}
"""Kind of an export, which is its folder's name → name of the engine that runs it."""
FORMAT = 1
GRAPH, FIGURES, PROBES = "model.onnx", "export.json", "probes.safetensors"


@dataclass(frozen=True)
class Export:
    """An export that was accepted.

    Attributes:
        folder: Where it lies.
        kind: `fp32` or `int8`.
        figures: What its export.json holds.
    """

    folder: Path
    kind: str
    figures: dict[str, Any]

    @property
    def engine(self) -> str:
        """Name of the engine that runs it."""
        return KINDS[self.kind]

    @property
    def graph(self) -> Path:
        """The ONNX file."""
        return self.folder / GRAPH

    @property
    def created(self) -> str:
        """When it was made, ISO 8601, UTC; the later of two is the greater."""
        return str(self.figures["created"])


def exports_of(model: Path) -> list[Export]:
    """Find the accepted exports of a bundle, the newest first.

    Raises:
        BundleError: An export.json cannot be read.
    """
    found = [each for kind in KINDS if (each := find(model, kind)) is not None]
    return sorted(found, key=lambda each: each.created, reverse=True)


def find(model: Path, kind: str) -> Export | None:
    """Find an accepted export of a bundle; None where there is none, or it was refused.

    Args:
        model: The bundle's folder.
        kind: `fp32` or `int8`.

    Raises:
        BundleError: Its export.json cannot be read, or a later bertsmith wrote it.
    """
    folder = model / FOLDER / kind
    file = folder / FIGURES
    if not (folder / "manifest.json").is_file() or not file.is_file():
        return None
    try:
        figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if figures["format"] > FORMAT:
            raise BundleError(
                f"{file}: the export has format {figures['format']}; this bertsmith reads up to {FORMAT}.",
                tip="Upgrade: pip install --upgrade bertsmith",
            )
        return Export(folder, kind, figures) if figures["accepted"] else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{file}: not readable: {error}.", tip="Export again: bertsmith export RUN" + " --int8" * (kind == "int8")
        ) from error


def verify(export: Export, model: Path) -> None:
    """Compare the files of an export with its manifest, and the weights it was made of with those of the bundle.

    Raises:
        BundleError: A file is missing or was changed, or the bundle was trained anew since.
    """
    bundle.verify(export.folder)
    if export.figures["weights"] != bundle.weights_sha256(model):
        raise BundleError(
            f"{export.folder}: made of other weights than those of {model}.",
            tip="Export again: bertsmith export RUN" + " --int8" * (export.kind == "int8"),
        )


@dataclass(frozen=True, eq=False)
class Probes:
    """Made-up inputs, and the logits that an export gave for each alone.

    Attributes:
        ids: Token ids of each, int64 `(tokens,)`.
        types: Segment ids of each, of the same shapes.
        logits: float32 `(outputs,)` of each, or `(tokens, outputs)` where every token has some.
    """

    ids: tuple[Array, ...]
    types: tuple[Array, ...]
    logits: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def inputs(self) -> Iterator[dict[str, Array]]:
        """Give the arrays of each, a batch of one."""
        for ids, types in zip(self.ids, self.types, strict=True):
            yield {
                "input_ids": ids[None],
                "token_type_ids": types[None],
                "attention_mask": np.ones((1, len(ids)), dtype=np.int64),
            }

    def save(self, file: Path) -> None:
        """Write them as safetensors."""
        arrays: dict[str, Array] = {
            "ids": np.concatenate(self.ids).astype(np.int64),
            "types": np.concatenate(self.types).astype(np.int64),
            "tokens": np.array([len(each) for each in self.ids], dtype=np.int64),
            "logits": np.concatenate([np.atleast_2d(each) for each in self.logits]).astype(np.float32),
        }
        write_arrays(file, arrays, about={"each": "token" if self.logits[0].ndim == 2 else "text"})

    @classmethod
    def load(cls, file: Path) -> Probes:
        """Read what `save` wrote.

        Raises:
            BundleError: The file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="numpy") as stored:
                each_token = (stored.metadata() or {})["each"] == "token"
                ids, types, tokens, logits = (stored.get_tensor(name) for name in ("ids", "types", "tokens", "logits"))
        except (OSError, KeyError, SafetensorError) as error:
            raise BundleError(f"{file}: not readable: {error}.", tip="Export again.") from error
        ends = np.cumsum(tokens)[:-1]
        rows = np.split(logits, ends) if each_token else list(logits)
        return cls(tuple(np.split(ids, ends)), tuple(np.split(types, ends)), tuple(rows))
