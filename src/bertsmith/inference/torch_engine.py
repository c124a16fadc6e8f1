"""The torch engine: logits of encoded rows, in batches of windows of similar length, in the order of the rows."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.encoded import Encoded
from bertsmith.errors import UsageError
from bertsmith.inference.head import catching_inputs, one_a_window
from bertsmith.inference.outputs import head_outputs, pool_windows, units_of_windows

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
TOKEN_BUDGET = 2048
"""Padded tokens of a batch: enough to keep the matrix products busy, little memory."""


def pick_device(name: str) -> torch.device:
    """Turn the setting `device` into a torch device; auto takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: The device is not there.
    """
    import torch

    if name != "auto":
        device = torch.device(name)
        found = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(device.type, 1)
        if (device.index or 0) >= found:
            raise UsageError(
                f"the device '{name}' is not there: torch {torch.__version__} sees {found} of type {device.type}.",
                tip="Use --device auto, or --device cpu.",
            )
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def batches_by_length(lengths: Array, *, budget: int = TOKEN_BUDGET, most: int = 512) -> Iterator[Array]:
    """Cut rows, longest first, into batches of at most `budget` padded tokens and `most` rows.

    >>> [batch.tolist() for batch in batches_by_length(np.array([3, 9, 4]), budget=9)]
    [[1], [2, 0]]
    """
    order = np.argsort(-lengths, kind="stable")
    begin = 0
    while begin < len(order):
        size = max(1, min(most, budget // max(1, int(lengths[order[begin]]))))
        yield order[begin : begin + size]
        begin += size


def to_inputs(model: PreTrainedModel, padded: dict[str, Array], device: torch.device) -> dict[str, torch.Tensor]:
    """Make a model's inputs of padded arrays; segment ids only where the model knows segments."""
    import torch

    known = known_inputs(model)
    return {name: torch.from_numpy(array).to(device) for name, array in padded.items() if name in known}


def known_inputs(model: PreTrainedModel) -> frozenset[str]:
    """Name the arrays that a model takes: ids, mask, and segment ids where it knows segments."""
    segments = "token_type_ids" in inspect.signature(model.forward).parameters
    segments = segments and getattr(model.config, "type_vocab_size", 0) > 1
    return frozenset({"input_ids", "attention_mask"} | ({"token_type_ids"} if segments else set()))


def logits(
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    budget: int = TOKEN_BUDGET,
    done: Callable[[int], None] | None = None,
    states: Callable[[Array, int], torch.Tensor] | None = None,
) -> Array:
    """Compute logits in fp32, without dropout.

    Args:
        model: A model with a head; it is left in the mode it was in.
        encoded: The rows.
        budget: Padded tokens of a batch; answers do not depend on it beyond 1e-5.
        done: Told how many windows each batch had.
        states: Gives what frozen layers made of these windows, padded to this width, for a model that is fed with it.

    Returns:
        float32 `(units, outputs)`, in the order of the rows.
    """
    kept = _Kept(encoded)
    with evaluating(model):
        for windows, padded in _batches(encoded, budget):
            inputs = to_inputs(model, padded, next(model.parameters()).device)
            if states is not None:
                inputs["states"] = states(windows, padded["input_ids"].shape[1]).to(inputs["input_ids"].device)
            kept.keep(head_outputs(model(**inputs)), windows, padded)
            if done is not None:
                done(len(windows))
    return kept.units(model.config.num_labels)


@dataclass(frozen=True, eq=False)
class HeadPass:
    """What one pass through a model gives of some rows, in their order.

    Attributes:
        logits: float32 `(units, outputs)`, the same as `logits` gives.
        inputs: What went into the head's last linear layer, float32 `(units, width)`; the windows of a text are pooled
            by their mean, whatever is done with their logits.
    """

    logits: Array
    inputs: Array


def logits_and_inputs(
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    budget: int = TOKEN_BUDGET,
    done: Callable[[int], None] | None = None,
) -> HeadPass:
    """Compute logits and keep what the head made them of, in one pass; arguments as for `logits`.

    Raises:
        EncoderError: The head cannot be found.
    """
    outputs, features = _Kept(encoded), _Kept(replace(encoded, pooling="mean"))
    with evaluating(model), catching_inputs(model) as caught:
        for windows, padded in _batches(encoded, budget):
            inputs = to_inputs(model, padded, next(model.parameters()).device)
            outputs.keep(head_outputs(model(**inputs)), windows, padded)
            found = caught.pop()
            features.keep(
                found if encoded.has_picks else one_a_window(found, inputs["attention_mask"]), windows, padded
            )
            if done is not None:
                done(len(windows))
    return HeadPass(outputs.units(model.config.num_labels), features.units(0))


def _batches(encoded: Encoded, budget: int) -> Iterator[tuple[Array, dict[str, Array]]]:
    """Give the windows of each batch, and what `Encoded.pad_windows` makes of them."""
    for windows in batches_by_length(encoded.window_lengths, budget=budget):
        yield windows, encoded.pad_windows(windows)


class _Kept:
    """What the passes gave, in the order of the units; filled batch by batch."""

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded
        self._values: Array | None = None

    def keep(self, found: torch.Tensor, windows: Array, padded: dict[str, Array]) -> None:
        """Put a batch's values in their places: `(windows, width)`, or `(windows, tokens, width)` where units are."""
        encoded, places, total = self._encoded, windows, len(self._encoded.window_lengths)
        if encoded.has_picks:
            found = found[padded["pick_window"], padded["pick_token"]]
            places, total = units_of_windows(encoded, windows), int(encoded.units[-1])
        values = found.float().cpu().numpy()
        if self._values is None:
            self._values = np.zeros((total, *values.shape[1:]), dtype=np.float32)
        self._values[places] = values

    def units(self, width: int) -> Array:
        """Give all values, the windows of a row pooled; where there were no windows, nothing of this width."""
        if self._values is None:
            return np.zeros((0, width), np.float32)
        return self._values if self._encoded.has_picks else pool_windows(self._values, self._encoded)


@contextlib.contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Switch dropout and gradients off for a while."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)
