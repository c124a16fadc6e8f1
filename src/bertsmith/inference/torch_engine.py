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
from bertsmith.inference.engine import TOKEN_BUDGET, Done, HeadPass, Kept, padded_batches
from bertsmith.inference.head import catching_inputs, one_a_window
from bertsmith.inference.outputs import head_outputs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TorchEngine:
    """A transformers model with a head.

    Attributes:
        model: Its weights are fp32; it is left in the mode it is in.
        first_token: True where its last layer computes the first token only (`first_token.leave_out_other_tokens`).
    """

    model: PreTrainedModel | Any
    first_token: bool = False
    name = "torch"

    def logits(self, encoded: Encoded, *, budget: int = TOKEN_BUDGET, done: Done | None = None) -> Array:
        """Compute logits; see `Engine`."""
        return logits(self.model, encoded, budget=budget, done=done)

    def logits_and_inputs(self, encoded: Encoded, *, budget: int = TOKEN_BUDGET, done: Done | None = None) -> HeadPass:
        """Compute logits and what the head made them of; see `Engine`."""
        return logits_and_inputs(self.model, encoded, budget=budget, done=done)


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
    done: Done | None = None,
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
    kept = Kept(encoded)
    with evaluating(model):
        for windows, padded in padded_batches(encoded, budget):
            inputs = to_inputs(model, padded, next(model.parameters()).device)
            if states is not None:
                inputs["states"] = states(windows, padded["input_ids"].shape[1]).to(inputs["input_ids"].device)
            kept.keep(_array(head_outputs(model(**inputs))), windows, padded)
            if done is not None:
                done(len(windows))
    return kept.units(model.config.num_labels)


def logits_and_inputs(
    model: PreTrainedModel,
    encoded: Encoded,
    *,
    budget: int = TOKEN_BUDGET,
    done: Done | None = None,
) -> HeadPass:
    """Compute logits and keep what the head made them of, in one pass; arguments as for `logits`.

    Raises:
        EncoderError: The head cannot be found.
    """
    outputs, features = Kept(encoded), Kept(replace(encoded, pooling="mean"))
    with evaluating(model), catching_inputs(model) as caught:
        for windows, padded in padded_batches(encoded, budget):
            inputs = to_inputs(model, padded, next(model.parameters()).device)
            outputs.keep(_array(head_outputs(model(**inputs))), windows, padded)
            found = caught.pop()
            if not encoded.has_picks:
                found = one_a_window(found, inputs["attention_mask"])
            features.keep(_array(found), windows, padded)
            if done is not None:
                done(len(windows))
    return HeadPass(outputs.units(model.config.num_labels), features.units(0))


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


def _array(values: torch.Tensor) -> Array:
    found: Array = values.float().cpu().numpy()
    return found
