"""First token only: a last layer that computes just what the head reads.

A head on the first token uses one state of the last layer. That state needs the keys and values of all tokens, but only
its own query, attention output and feed-forward: for a model of six layers a tenth of all products is saved. The
result is the same, in training as well, where dropout falls on fewer states in the same way.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

FAMILIES = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "distilbert"})
"""Families (`model_type`) whose layers are built as is assumed here and whose classifier reads the first token."""
ATTENTIONS = frozenset({"sdpa", "eager", "lean"})
"""Kinds of attention whose mask has four dimensions; `lean` is ours (`training.attention`)."""
CLOSE = 1e-5
"""How far logits and gradients may lie apart in fp32, as a share of the largest (for logits, at least of 1)."""
_TOKENS, _PADDED = 12, 5


@contextmanager
def first_token_only(model: PreTrainedModel) -> Iterator[bool]:
    """Let the last layer compute the first token only, for a while; its output then has one token.

    Args:
        model: Any model. Names of modules and parameters stay as they are.

    Yields:
        True where it is done. False, and nothing is changed, where the model is not of a family that is known to allow
        it, has a head on other tokens, or does not give the same logits and gradients on a made-up batch.
    """
    done = leave_out_other_tokens(model)
    try:
        yield done
    finally:
        if done and (layer := _last_layer(model)) is not None:
            vars(layer).pop("forward", None)


def leave_out_other_tokens(model: PreTrainedModel) -> bool:
    """Do so for as long as the model lives; arguments and answer as for `first_token_only`."""
    layer = _last_layer(model)
    if layer is None:
        return False
    wanted = _answers(model, layer)
    layer.forward = functools.partial(_forward, layer)
    done = False
    try:
        done = _same(wanted, _answers(model, layer))
    finally:
        if not done:
            del layer.forward
    return done


def _last_layer(model: PreTrainedModel) -> nn.Module | None:
    from torch import nn

    config = model.config
    known = config.model_type in FAMILIES and type(model).__name__.endswith("ForSequenceClassification")
    odd = getattr(config, "is_decoder", False) or getattr(config, "chunk_size_feed_forward", 0)
    if not known or odd or config._attn_implementation not in ATTENTIONS:
        return None
    stacks = [
        each for name, each in model.named_modules() if isinstance(each, nn.ModuleList) and name.endswith(".layer")
    ]
    return stacks[0][-1] if len(stacks) == 1 and len(stacks[0]) else None


def _forward(
    layer: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    """Do what a layer of these families does, for the query of the first token.

    Args:
        layer: The layer; its parts are used as they are (LoRA may have wrapped them).
        hidden_states: `(batch, tokens, width)`.
        attention_mask: `(batch, 1, tokens or 1, tokens)`, boolean or additive; None where nothing is padding.

    Returns:
        `(batch, 1, width)`.
    """
    first = hidden_states[:, :1]
    attention = layer.attention
    if hasattr(attention, "q_lin"):  # DistilBERT
        context = _attend(attention, ("q_lin", "k_lin", "v_lin"), hidden_states, attention_mask)
        attended = layer.sa_layer_norm(attention.out_lin(context) + first)
        result = layer.output_layer_norm(layer.ffn(attended) + attended)
    else:
        context = _attend(attention.self, ("query", "key", "value"), hidden_states, attention_mask)
        result = layer.feed_forward_chunk(attention.output(context, first))
    return result  # type: ignore[no-any-return] # modules give Any


def _attend(attention: Any, names: Sequence[str], hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    inputs = (hidden[:, :1], hidden, hidden)
    query, key, value = (
        getattr(attention, name)(states).unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)
        for name, states in zip(names, inputs, strict=True)
    )
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, sdpa_attention_forward)
    context, _ = attend(
        attention,
        query,
        key,
        value,
        None if mask is None else mask[:, :, :1],
        dropout=attention.dropout.p if attention.training else 0.0,
        scaling=attention.scaling,
    )
    return context.flatten(2)  # type: ignore[no-any-return] # transformers ships no types


def _answers(model: PreTrainedModel, layer: nn.Module) -> list[torch.Tensor]:
    """Compute logits of a made-up batch without dropout, and the gradients of the last layer and the head."""
    import torch

    below = [each for part in model.modules() if part is layer for each in part.parameters()]
    head = [each for name, each in model.named_parameters() if not name.startswith(model.base_model_prefix)]
    learned = [each for each in (*below, *head) if each.requires_grad]
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.enable_grad(), torch.autocast(model.device.type, enabled=False):
            logits = model(**_batch(model)).logits
            weights = torch.arange(1, logits.numel() + 1, device=logits.device).view_as(logits)
            if not learned:
                return [logits.detach()]
            gradients = torch.autograd.grad((logits * weights.sin()).sum(), learned, allow_unused=True)
    finally:
        for module, training in modes.items():
            module.training = training
    return [logits.detach(), *(each for each in gradients if each is not None)]


def _batch(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Make up three rows, one of them padded; torch's own random numbers are left alone."""
    import torch

    ids = torch.arange(3 * _TOKENS, device=model.device).view(3, -1) * 7919 % (model.config.vocab_size - 4) + 4
    mask = torch.ones_like(ids)
    mask[1, -_PADDED:] = 0
    ids[1, -_PADDED:] = model.config.pad_token_id or 0
    return {"input_ids": ids, "attention_mask": mask}


def _same(wanted: list[torch.Tensor], found: list[torch.Tensor]) -> bool:
    if [each.shape for each in wanted] != [each.shape for each in found]:
        return False
    # Some gradients are zero but for rounding (that of the keys' bias), so all are measured by the largest.
    gradients = max((float(each.abs().max()) for each in wanted[1:]), default=0.0)
    scales = [max(1.0, float(wanted[0].abs().max())), *[gradients] * len(wanted[1:])]
    return all(float((a - b).abs().max()) <= CLOSE * scale for a, b, scale in zip(wanted, found, scales, strict=True))
