"""The torch engine: logits of encoded rows, in batches of windows of similar length, in the order of the rows."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.encoded import Encoded
from bertsmith.errors import UsageError
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
    results: Array | None = None
    picks = encoded.has_picks
    with evaluating(model):
        device = next(model.parameters()).device
        for windows in batches_by_length(encoded.window_lengths, budget=budget):
            padded = encoded.pad_windows(windows)
            inputs = to_inputs(model, padded, device)
            if states is not None:
                inputs["states"] = states(windows, padded["input_ids"].shape[1]).to(device)
            outputs = head_outputs(model(**inputs))
            if picks:
                outputs = outputs[padded["pick_window"], padded["pick_token"]]
            found = outputs.float().cpu().numpy()
            places = units_of_windows(encoded, windows) if picks else windows
            if results is None:
                total = int(encoded.units[-1]) if picks else len(encoded.window_lengths)
                results = np.zeros((total, *found.shape[1:]), dtype=np.float32)
            results[places] = found
            if done is not None:
                done(len(windows))
    if results is None:
        return np.zeros((0, model.config.num_labels), np.float32)
    return results if picks else pool_windows(results, encoded)


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
