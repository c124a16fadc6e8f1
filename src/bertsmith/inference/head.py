"""The head's last linear layer: what gives the logits, and what goes into it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bertsmith.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


def head_layer(model: PreTrainedModel, outputs: int) -> nn.Linear:
    """Find the head's last linear layer: the one that gives the logits.

    Raises:
        EncoderError: There is none outside of the encoder.
    """
    from torch import nn

    backbone = {id(module) for module in model.base_model.modules()} if model.base_model is not model else set()
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.out_features == outputs and id(module) not in backbone
    ]
    if not found:
        raise EncoderError(
            f"{type(model).__name__} has no linear layer with {outputs} outputs, so its head cannot be found.",
            tip="Use --head-start random.",
        )
    return found[-1]


@contextlib.contextmanager
def catching_inputs(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Catch what goes into the head's last linear layer, for a while.

    Yields:
        A list that every forward pass adds a tensor to: `(windows, width)`, or `(windows, tokens, width)` for heads on
        every token.

    Raises:
        EncoderError: The head cannot be found.
    """
    caught: list[torch.Tensor] = []
    layer = head_layer(model, model.config.num_labels)

    def catch(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        caught.append(inputs[0])

    hook = layer.register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        hook.remove()


def one_a_window(inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Give the head's input that counts for each window of a pooled text, `(windows, width)`.

    Args:
        inputs: As a pass caught them.
        mask: The attention mask, `(windows, tokens)`. Decoders have their head on every token and take the last one
            that is no padding.
    """
    import torch

    if inputs.dim() == 2:
        return inputs
    return inputs[torch.arange(inputs.shape[0], device=inputs.device), mask.sum(1) - 1]
