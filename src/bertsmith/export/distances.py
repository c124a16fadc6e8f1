"""Attention by distance (DeBERTa, MPNet), for export: what depends on the weights alone is computed beforehand.

Both families turn distances between tokens into buckets with logarithms, where another library's rounding could put
a distance into the next bucket: here buckets are looked up. DeBERTa projects its embeddings of distances in every
layer and pass; those products are constants. And it gathers one number for each pair of tokens; here a row of products
with all distances is moved by its place instead, which costs two copies.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


@contextlib.contextmanager
def distances_looked_up(model: PreTrainedModel) -> Iterator[None]:
    """Let a model attend so, for a while; models of other families are left alone."""
    encoder: Any = getattr(model.base_model, "encoder", None)
    changed: list[tuple[nn.Module, str]] = []
    if model.config.model_type == "mpnet":
        changed = _look_up_bias(encoder, model.config.max_position_embeddings)
    elif model.config.model_type == "deberta-v2" and encoder.relative_attention:
        changed = _look_up_positions(encoder, max(encoder.max_relative_positions, model.config.max_position_embeddings))
    try:
        yield
    finally:
        for module, name in changed:
            delattr(module, name)


def _look_up_bias(encoder: Any, longest: int) -> list[tuple[nn.Module, str]]:
    """MPNet: one bias for each distance and head, for `longest` tokens."""
    import torch

    buckets = encoder.relative_position_bucket(torch.arange(-longest, longest + 1))

    def bias(states: torch.Tensor, **_: Any) -> torch.Tensor:
        places = torch.arange(states.shape[1])
        distances = places[None, :] - places[:, None]
        values: torch.Tensor = encoder.relative_attention_bias(buckets[distances + longest])
        return values.permute(2, 0, 1).unsqueeze(0)

    encoder.compute_position_bias = bias
    return [(encoder, "compute_position_bias")]


def _look_up_positions(encoder: Any, longest: int) -> list[tuple[nn.Module, str]]:
    """DeBERTa: the products of the embeddings of distances, as buffers of each layer's attention."""
    encoder.get_rel_pos = _nothing
    encoder.get_attention_mask = _bias
    changed = [(encoder, "get_rel_pos"), (encoder, "get_attention_mask")]
    for layer in encoder.layer:
        attention = layer.attention.self
        changed += [(attention, name) for name in _keep_products(attention, encoder.get_rel_embedding(), longest)]
        attention.forward = functools.partial(_attend, attention, longest)
        changed.append((attention, "forward"))
    return changed


def _keep_products(attention: Any, embeddings: torch.Tensor, longest: int) -> Iterator[str]:
    """Register the buffers, `(heads, buckets, width)`, and which bucket each distance has; give their names."""
    buckets, span = _buckets(attention, longest), attention.pos_ebd_size
    kinds = {
        "c2p": ("position_keys", "pos_key_proj", "key_proj", buckets + span),
        "p2c": ("position_queries", "pos_query_proj", "query_proj", span - buckets),
    }
    for kind in set(kinds) & set(attention.pos_att_type):
        name, own, shared, places = kinds[kind]
        product = getattr(attention, shared if attention.share_att_key else own)(embeddings[: 2 * span])
        heads = product.unflatten(-1, (attention.num_attention_heads, -1)).transpose(0, 1)
        attention.register_buffer(name, heads.detach().contiguous(), persistent=False)
        attention.register_buffer(f"{name}_places", places.clamp(0, 2 * span - 1), persistent=False)
        yield from (name, f"{name}_places")


def _buckets(attention: Any, longest: int) -> torch.Tensor:
    """Give the bucket of every distance from `longest - 1` down to `-longest`."""
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distances = torch.arange(longest - 1, -longest - 1, -1)
    if attention.position_buckets <= 0 or attention.max_relative_positions <= 0:
        return distances
    found = make_log_bucket_position(distances, attention.position_buckets, attention.max_relative_positions)
    return torch.as_tensor(found).long()


def _attend(
    attention: Any, longest: int, states: torch.Tensor, bias: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, None]:
    """Do what DeBERTa's attention does.

    Args:
        attention: The layer's attention, with its products of distances.
        longest: The most tokens a text may have.
        states: `(batch, tokens, width)`.
        bias: Added before the softmax, `(batch, 1, 1, tokens)`.

    Returns:
        `(batch, tokens, width)`, and None for the weights.
    """
    tokens, heads = states.shape[1], attention.num_attention_heads
    projections = attention.query_proj, attention.key_proj, attention.value_proj
    query, key, value = (each(states).unflatten(-1, (heads, -1)).transpose(1, 2) for each in projections)
    near = slice(longest - tokens, longest + tokens)
    scores, parts = query.matmul(key.transpose(2, 3)), 1
    if hasattr(attention, "position_keys"):
        of_distances = attention.position_keys.index_select(1, attention.position_keys_places[near])
        scores, parts = scores + by_pair(query.matmul(of_distances.transpose(1, 2))), parts + 1
    if hasattr(attention, "position_queries"):
        of_distances = attention.position_queries.index_select(1, attention.position_queries_places[near])
        scores = scores + by_pair(key.matmul(of_distances.transpose(1, 2))).transpose(2, 3)
        parts += 1
    weights = (scores * (query.shape[-1] * parts) ** -0.5 + bias).softmax(-1)
    return weights.matmul(value).transpose(1, 2).flatten(2), None


def by_pair(products: torch.Tensor) -> torch.Tensor:
    """Turn values by distance into values by pair: entry `(i, j)` is that of row `i` at distance `i - j`.

    Args:
        products: `(batch, heads, tokens, 2 x tokens)`; the columns are the distances from `tokens - 1` downwards.

    Returns:
        `(batch, heads, tokens, tokens)`.
    """
    tokens = products.shape[2]
    # Rows that are one shorter: each begins one distance further on than the one before.
    moved = products.flatten(2).narrow(2, tokens - 1, tokens * (2 * tokens - 1))
    return moved.reshape(*products.shape[:2], tokens, 2 * tokens - 1)[..., :tokens]


def _nothing(*_: Any, **__: Any) -> None:
    """Distances are known without what the model would compute of them."""


def _bias(mask: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.where(mask.bool()[:, None, None, :], 0.0, torch.finfo(torch.float32).min)
