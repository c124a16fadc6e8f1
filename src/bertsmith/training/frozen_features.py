"""Frozen features: what the untrained encoder already says about each text.

Two views of one forward pass: `head`, the input of the head's last linear layer (for BERT the pooled [CLS]),
and `mean`, the mean over the text's tokens. The ladder's frozen rung and the head's start are made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.data.encode import Encoded
from bertsmith.inference.torch_engine import batches_by_length, evaluating, to_inputs
from bertsmith.training.model import head_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Features:
    """Frozen features of some rows: float32 `(rows, width)` each."""

    head: Array
    mean: Array


def frozen_features(
    model: PreTrainedModel, encoded: Encoded, *, outputs: int, done: Callable[[int], None] | None = None
) -> Features:
    """Run the model as it is, without dropout, and keep what goes into its head.

    Args:
        model: Encoder with a head of `outputs` logits.
        encoded: The rows.
        outputs: Number of logits.
        done: Told how many rows each batch had.
    """
    caught: list[Any] = []
    hidden: list[Any] = []
    hooks = [
        head_layer(model, outputs).register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0])),
        model.base_model.register_forward_hook(lambda _, __, output: hidden.append(output[0])),
    ]
    head: list[Array] = []
    mean: list[Array] = []
    order: list[Array] = []
    try:
        with evaluating(model):
            device = next(model.parameters()).device
            for rows in batches_by_length(encoded.lengths):
                inputs = to_inputs(model, encoded.pad(rows), device)
                model(**inputs)
                mask = inputs["attention_mask"].unsqueeze(-1)
                states = hidden.pop()
                mean.append(((states * mask).sum(1) / mask.sum(1)).float().cpu().numpy())
                head.append(caught.pop().float().cpu().numpy())
                order.append(rows)
                if done is not None:
                    done(len(rows))
    finally:
        for hook in hooks:
            hook.remove()
    if not order:
        return Features(np.zeros((0, 1), np.float32), np.zeros((0, 1), np.float32))
    back = np.argsort(np.concatenate(order))
    return Features(head=np.concatenate(head)[back], mean=np.concatenate(mean)[back])
