"""The bundle: what a trained model folder holds, how it is written, and how it is verified.

A bundle is a standard Hugging Face model folder (`pipeline("text-classification", model=...)` loads it) plus
`bertsmith.json`, which says what transformers does not know: the task, the max length, where it came from.
`manifest.json` holds the sha256 of every file; loading verifies all of them. No file is a pickle.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bertsmith.atomic import sha256, umask, write_json, write_manifest, write_text
from bertsmith.errors import BundleError
from bertsmith.examples import LabelSet
from bertsmith.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FORMAT = 1
EXPORTS = "onnx"
"""Folder of a bundle that holds its exports; each of them has a manifest of its own."""


@dataclass(frozen=True)
class BundleInfo:
    """What `bertsmith.json` holds.

    Attributes:
        task: Name of the task.
        labels: Names in the order of the logits.
        max_length: Tokens that a text may have; longer ones are cut, in training and in prediction.
        pair: True when the model was trained on pairs of texts.
        encoder: Name of the encoder that was fine-tuned.
        fingerprint: sha256 of the training data.
        columns: What the text columns were called in the training data: `text`, `text_pair`.
        versions: Package → version, at the time of training.
        long: What is done with texts that are too long: head, head-tail or windows.
        stride: Tokens that two neighbouring windows share.
        pooling: How the logits of a text's windows become one: mean or max.
        decision: What was tuned on calibration rows: thresholds, or nothing.
    """

    task: str
    labels: tuple[str, ...]
    max_length: int
    pair: bool
    encoder: str
    fingerprint: str
    columns: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    long: Literal["head", "head-tail", "windows"] = "head"
    stride: int = 0
    pooling: Literal["mean", "max"] = "mean"
    decision: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def label_set(self) -> LabelSet:
        """The labels as a set."""
        return LabelSet(self.labels)


def save(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    info: BundleInfo,
    inputs: frozenset[str] | None = None,
) -> None:
    """Write a bundle; its manifest comes last, so that an interrupted one never loads.

    Args:
        folder: An empty or missing folder.
        model: The trained model, fp32.
        tokenizer: The encoder's tokenizer; its `model_max_length` becomes the bundle's max length.
        info: What transformers does not know.
        inputs: Arrays that the model was trained with; transformers' pipeline then gives it no others. None leaves
            the tokenizer's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(folder)
    for file in folder.iterdir():
        # safetensors writes for its owner alone; whoever serves the model must be able to read it.
        file.chmod(0o666 & ~umask())
    tokenizer.model_max_length = info.max_length
    if inputs is not None:
        names = [name for name in tokenizer.model_input_names if name in inputs]
        tokenizer.model_input_names = names
        # Only what a tokenizer was made with is written.
        tokenizer.init_kwargs["model_input_names"] = names
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    write_json(folder / "bertsmith.json", asdict(info))
    write_manifest(folder, without=EXPORTS)


def write_info(folder: Path, info: BundleInfo) -> None:
    """Write `bertsmith.json` again, and its sha256 into the manifest: what was tuned is known last."""
    write_json(folder / "bertsmith.json", asdict(info))
    write_manifest(folder, without=EXPORTS)


def write_card(folder: Path, card: str) -> None:
    """Put the model card (Markdown) into a bundle, and its sha256 into the manifest."""
    write_text(folder / "README.md", card)
    write_manifest(folder, without=EXPORTS)


def locate(folder: Path) -> Path:
    """Find the bundle of a run; a folder that has none in `model` is taken for the bundle itself."""
    return folder / "model" if (folder / "model" / "bertsmith.json").is_file() else folder


def load_info(folder: Path, *, weights: bool = True) -> BundleInfo:
    """Verify a bundle and read its `bertsmith.json`.

    Args:
        folder: The bundle.
        weights: False leaves the weights alone, where an export is used in their place; they need not even be there.

    Raises:
        BundleError: A file is missing or was changed, or the folder is no bundle.
    """
    verify(folder, weights=weights)
    try:
        stored: dict[str, Any] = json.loads((folder / "bertsmith.json").read_text(encoding="utf-8"))
        if stored["format"] > FORMAT:
            raise BundleError(
                f"{folder}: the bundle has format {stored['format']}; this bertsmith reads up to {FORMAT}.",
                tip="Upgrade: pip install --upgrade bertsmith",
            )
        return BundleInfo(**{**stored, "labels": tuple(stored["labels"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder}/bertsmith.json: not readable: {error}.") from error


def verify(folder: Path, *, weights: bool = True) -> None:
    """Compare every file of a bundle with its manifest; not the weights, if so said.

    Raises:
        BundleError: A file is missing or was changed, or the folder is no bundle.
    """
    for name, entry in _listed(folder).items():
        file = folder / name
        if not weights and _is_weights(name):
            continue
        if not file.is_file():
            raise BundleError(f"{file}: missing; the manifest lists it.", tip="Copy the whole model folder again.")
        found = sha256(file)
        if found != entry["sha256"]:
            raise BundleError(
                f"{file}: changed after training. Its sha256 is {found[:16]}…, but the manifest says "
                f"{entry['sha256'][:16]}….",
                tip="Copy the model folder again, or train again.",
            )


def weights_sha256(folder: Path) -> str:
    """Return one sha256 for the weights of a bundle, from its manifest: equal weights, equal number.

    Raises:
        BundleError: The folder is no bundle.
    """
    found = {name: entry["sha256"] for name, entry in _listed(folder).items() if _is_weights(name)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _is_weights(name: str) -> bool:
    return name.startswith("model") and name.endswith((".safetensors", ".safetensors.index.json"))


def _listed(folder: Path) -> dict[str, Any]:
    """Read what the manifest lists: name → size and sha256."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise BundleError(
            f"{folder}: no manifest.json, so this is no complete model of bertsmith.",
            tip="A model is RUN/model of a run that came to its end.",
        )
    try:
        found: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{manifest}: not readable: {error}.", tip="Copy the whole model folder again.") from error
    return found
