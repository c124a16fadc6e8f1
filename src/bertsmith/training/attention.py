"""Lean attention: attention written out, for training on a CPU.

torch's own has two ways on a CPU. With dropout it computes in fp32 and looks for rows without any key; without, it runs
a blockwise kernel whose backward pass is slow for the sizes of encoders. Here the products are those of the inputs'
dtype, the backward pass is written by hand and works in place, and dropout has cheap masks. Its price is memory: a
matrix of tokens times tokens for each head is kept for the backward pass, three of them with dropout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from bertsmith.training.dropout import keep_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "lean"
"""What transformers calls it, in `config._attn_implementation`."""
LONGEST = 256
"""Tokens above which torch's own attention is used: it needs memory for a block only."""
FAMILIES = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "distilbert"})
"""Families (`model_type`) for which it is tested; their attention is the scaled product and nothing else."""
_LOW = -1e9
"""Added where a key is padding; far below any product, and finite in every dtype but fp16."""


@contextmanager
def lean_attention(model: PreTrainedModel) -> Iterator[bool]:
    """Let a model use lean attention wherever it is differentiated on a CPU, for a while.

    Without gradients, on other devices and for long texts it is torch's own, so validation is what will serve.

    Yields:
        True where it is done; False, and nothing is changed, for other families and other kinds of attention.
    """
    config = model.config
    before = config._attn_implementation
    possible = config.model_type in FAMILIES and not getattr(config, "is_decoder", False)
    if not possible or before not in {"sdpa", "eager"}:
        yield False
        return
    _register()
    config._attn_implementation = NAME
    try:
        yield True
    finally:
        config._attn_implementation = before


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, lean_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def lean_forward(  # noqa: PLR0913 - transformers calls it so
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention functions do.

    Args:
        module: The layer's attention.
        query: `(batch, heads, queries, width of a head)`; key and value `(batch, heads, keys, ...)`.
        key: See query.
        value: See query.
        attention_mask: Boolean, True where a key counts, `(batch, 1, queries or 1, keys)`; None where all do.
        dropout: Probability by which a weight is dropped.
        scaling: Factor of the products; None for one over the root of the head's width.
        others: What torch's own takes besides.

    Returns:
        `(batch, queries, heads, width of a head)`, and None for the weights.
    """
    lean = torch.is_grad_enabled() and query.requires_grad and query.device.type == "cpu"
    if not lean or key.shape[2] > LONGEST or query.dtype == torch.float16:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return plain
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    return attend(query, key, value, attention_mask, dropout=dropout, scale=scale).transpose(1, 2), None


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    dropout: float,
    scale: float,
) -> torch.Tensor:
    """Compute softmax(query · key * scale) · value, `(batch, heads, queries, width of a head)`; as `lean_forward`."""
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, _LOW)
    result: torch.Tensor = _Attend.apply(query, key, value, bias, dropout, scale)  # type: ignore[no-untyped-call]
    return result


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        query, key, value, bias, dropout, scale = given
        heads, shape, others = query.shape[:2], query.shape, key.shape
        query, key, value = (query * scale).flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1)
        weights = torch.bmm(query, key.transpose(1, 2))
        if bias is not None:
            weights.view(*heads, *weights.shape[1:]).add_(bias)
        weights = torch.softmax(weights, -1)
        kept = keep_mask(weights, dropout) if 0 < dropout < 1 else None
        dropped = weights if kept is None else weights * kept
        ctx.save_for_backward(query, key, value, weights, kept, dropped)
        ctx.scale, ctx.shapes = scale, (shape, others)
        return torch.bmm(dropped, value).view(shape)

    @staticmethod
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, weights, kept, dropped = ctx.saved_tensors
        gradient = above[0].flatten(0, 1)
        of_value = torch.bmm(dropped.transpose(1, 2), gradient)
        of_weights = torch.bmm(gradient, value.transpose(1, 2))
        if kept is not None:
            of_weights.mul_(kept)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_query = torch.bmm(of_scores, key).mul_(ctx.scale)
        of_key = torch.bmm(of_scores.transpose(1, 2), query)
        shape, others = ctx.shapes
        return of_query.view(shape), of_key.view(others), of_value.view(others), None, None, None
