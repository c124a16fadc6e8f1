"""Frozen features: what the untrained encoder already says about each unit.

Views of one forward pass: `head`, the input of the head's last linear layer (for BERT the pooled [CLS], for token
labels the hidden state of the word's first token), and for pooled texts `mean`, the mean over the text's tokens.
The ladder's frozen rung and the head's start are made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.encoded import Encoded
from bertsmith.inference.engine import batches_by_length
from bertsmith.inference.head import head_layer
from bertsmith.inference.outputs import pool_windows, units_of_windows
from bertsmith.inference.torch_engine import evaluating, to_inputs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Features:
    """Frozen features of some rows: float32 `(units, width)` each; `mean` is None where units are tokens."""

    head: Array
    mean: Array | None

    def views(self) -> dict[str, Array]:
        """Return view → features, as the ladder calls them."""
        return {"token": self.head} if self.mean is None else {"cls": self.head, "mean": self.mean}


def frozen_features(
    model: PreTrainedModel, encoded: Encoded, *, outputs: int, done: Callable[[int], None] | None = None
) -> Features:
    """Run the model as it is, without dropout, and keep what goes into its head.

    Args:
        model: Encoder with a head of `outputs` logits.
        encoded: The rows.
        outputs: Number of logits.
        done: Told how many windows each batch had.
    """
    caught: list[Any] = []
    hidden: list[Any] = []
    hooks = [
        head_layer(model, outputs).register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0])),
        model.base_model.register_forward_hook(lambda _, __, output: hidden.append(output[0])),
    ]
    kept = _Kept(encoded)
    try:
        with evaluating(model):
            device = next(model.parameters()).device
            for windows in batches_by_length(encoded.window_lengths):
                padded = encoded.pad_windows(windows)
                inputs = to_inputs(model, padded, device)
                model(**inputs)
                kept.keep(windows, padded, caught.pop(), hidden.pop(), inputs["attention_mask"])
                if done is not None:
                    done(len(windows))
    finally:
        for hook in hooks:
            hook.remove()
    return kept.features()


class _Kept:
    """Features in the order of the units; filled batch by batch."""

    def __init__(self, encoded: Encoded) -> None:
        self._encoded = encoded
        self._arrays: dict[str, Array] = {}

    def keep(
        self, windows: Array, padded: dict[str, Array], head: torch.Tensor, states: torch.Tensor, mask: torch.Tensor
    ) -> None:
        if self._encoded.has_picks:
            picked = head[padded["pick_window"], padded["pick_token"]]
            self._put("head", units_of_windows(self._encoded, windows), picked, int(self._encoded.units[-1]))
            return
        if head.dim() == 3:
            # Decoders have their head on every token, and take the last one that is no padding.
            head = head[range(len(windows)), mask.sum(1) - 1]
        weight = mask.unsqueeze(-1)
        mean = (states * weight).sum(1) / weight.sum(1)
        for name, found in (("head", head), ("mean", mean)):
            self._put(name, windows, found, len(self._encoded.window_lengths))

    def _put(self, name: str, places: Array, found: torch.Tensor, total: int) -> None:
        values = found.float().cpu().numpy()
        if name not in self._arrays:
            self._arrays[name] = np.zeros((total, values.shape[1]), np.float32)
        self._arrays[name][places] = values

    def features(self) -> Features:
        nothing = np.zeros((0, 1), np.float32)
        if self._encoded.has_picks:
            return Features(self._arrays.get("head", nothing), None)
        head, mean = (pool_windows(self._arrays.get(name, nothing), self._encoded) for name in ("head", "mean"))
        return Features(head, mean)
