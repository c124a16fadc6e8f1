"""A model as the exporter shall see it: arrays in, arrays out, attention written out with one small mask.

Transformers' own masks have an entry for every pair of tokens, made by index arithmetic; for padding alone one entry a
key is enough: `(batch, 1, 1, tokens)`, added before the softmax. What is added is the lowest fp32 number, so that a
padded key's weight is exactly zero and a text's answer does not depend on the padding behind it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bertsmith.export.distances import distances_looked_up
from bertsmith.inference.head import catching_inputs, one_a_window
from bertsmith.inference.outputs import head_outputs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

ATTENTION = "written_out"
"""What transformers calls this attention while a model is exported, in `config._attn_implementation`."""
ORDER = ("input_ids", "attention_mask", "token_type_ids")
"""Order of a graph's inputs."""
PART = "model"
"""Name of the model inside of the module that is exported: the exporter puts it before names of parameters."""


@contextlib.contextmanager
def wrapped(model: PreTrainedModel, *, inputs: Sequence[str], head_inputs: bool) -> Iterator[torch.nn.Module]:
    """Wrap a model, for a while, in a module that takes arrays by place and gives logits, and perhaps head inputs.

    Args:
        model: A model with a head; dropout and gradients are off meanwhile.
        inputs: Names of the arrays, in their order.
        head_inputs: Also give what goes into the head's last linear layer, `(batch, width)`.

    Raises:
        EncoderError: Head inputs are wanted and the head cannot be found.
    """
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self, caught: list[torch.Tensor]) -> None:
            super().__init__()
            self.add_module(PART, model)
            self.caught = caught

        def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given = dict(zip(inputs, arrays, strict=True))
            logits = head_outputs(model(**given))
            if not head_inputs:
                return (logits,)
            return logits, one_a_window(self.caught.pop(), given["attention_mask"])

    catching: Any = catching_inputs(model) if head_inputs else contextlib.nullcontext([])
    was_training = model.training
    model.eval()
    try:
        with (
            torch.no_grad(),
            attention_written_out(model),
            gelu_as_one(model),
            distances_looked_up(model),
            catching as caught,
        ):
            yield Wrapped(caught).eval()
    finally:
        model.train(was_training)


@contextlib.contextmanager
def attention_written_out(model: PreTrainedModel) -> Iterator[None]:
    """Let a model use the attention and the mask below, for a while; some families have their own attention."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, mask_bias)
    before = model.config._attn_implementation
    model.config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        model.config._attn_implementation = before


@contextlib.contextmanager
def gelu_as_one(model: PreTrainedModel) -> Iterator[None]:
    """Let a model compute GELU's approximation (ALBERT, GPT-2) in one operation, for a while."""
    import torch
    from transformers.activations import NewGELUActivation

    approximations: list[Any] = [each for each in model.modules() if isinstance(each, NewGELUActivation)]
    for each in approximations:
        each.forward = functools.partial(torch.nn.functional.gelu, approximate="tanh")
    try:
        yield
    finally:
        for each in approximations:
            del each.forward


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention functions do, without dropout.

    Args:
        module: The layer's attention.
        query: `(batch, heads, queries, width of a head)`; key and value `(batch, heads, keys, ...)`.
        key: See query.
        value: See query.
        attention_mask: Added to the products, `(batch, 1, queries or 1, keys)`.
        scaling: Factor of the products; None for one over the root of the head's width.

    Returns:
        `(batch, queries, heads, width of a head)`, and None for the weights.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    queries = query.shape[2]
    # Of one row, ONNX Runtime makes products whose sums go another way for other lengths: rows come in twos at least.
    query = query.expand(-1, -1, 2, -1) if queries == 1 else query
    scores = query.matmul(key.transpose(2, 3)) * scale
    weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
    return weights.matmul(value)[:, :, :queries].transpose(1, 2), None


def mask_bias(
    *,
    q_length: int,
    kv_length: int,
    mask_function: Callable[..., torch.Tensor],
    attention_mask: torch.Tensor,
    dtype: torch.dtype,
    **_: Any,
) -> torch.Tensor:
    """Make what is added before the softmax: 0 where a key counts, the lowest number elsewhere.

    Args:
        q_length: Tokens that ask.
        kv_length: Tokens that are asked.
        mask_function: Which token may ask which, by their places: all, or those in a window around it.
        attention_mask: `(batch, tokens)`, true where a token is no padding.
        dtype: Type of the products.

    Returns:
        `(batch, 1, 1, keys)`, or `(batch, 1, queries, keys)` where not every token may ask all.
    """
    import torch
    from transformers.masking_utils import bidirectional_mask_function

    counts = attention_mask.bool()[:, None, None, :]
    if mask_function is not bidirectional_mask_function:
        asks = torch.arange(q_length, device=counts.device)[:, None]
        asked = torch.arange(kv_length, device=counts.device)[None, :]
        counts = counts & mask_function(0, 0, asks, asked)
    return torch.where(counts, 0.0, torch.finfo(dtype).min).to(dtype)
