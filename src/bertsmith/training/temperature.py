"""Fold a temperature into the head: whoever loads the model divides its logits by it without knowing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bertsmith.inference.head import head_layer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def fold(model: PreTrainedModel, outputs: int, temperature: float) -> None:
    """Divide weight and bias of the layer that gives the logits, in place.

    Args:
        model: A model with a head of `outputs` logits.
        outputs: Number of logits.
        temperature: What the logits are to be divided by, above 0; 1 leaves the model as it is, bit by bit.

    Raises:
        EncoderError: The head has no such layer.
        ValueError: The temperature is not above 0.
    """
    import torch

    if not temperature > 0:
        raise ValueError(f"a temperature must be above 0. Got {temperature} instead.")
    layer = head_layer(model, outputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.div_(temperature)
