"""Compact embeddings: while a model learns, its embedding matrix has only the rows that occur in the training rows.

Half of a small encoder's parameters are embedding rows, and most of those are never looked up in one training. Yet
their gradient is written as zeros, added up for its norm and run through the optimizer, step by step. All that ever
happens to such a row under AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) is the weight decay, and its closed
form is one product: the row as it was, times (1 - rate * decay) of all steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bertsmith.encoded import Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
WORTH = 0.6
"""Share of rows that occur above which there is too little to leave out."""


class Compact(nn.Module):
    """An embedding of the rows that occur; the others are as they were, times `decay`.

    It learns `weight`, float `(rows that occur, width)`, in ascending order of their ids. Its state dict is that of the
    full matrix, so what is saved meanwhile is what plain transformers knows; loading one sets `decay` to 1. A
    checkpoint that goes on bit by bit keeps the parameter `weight` and `decay`.

    While training it is only asked for rows that occur; otherwise for any.
    """

    def __init__(self, full: nn.Embedding, ids: Array) -> None:
        """Take the rows `ids` (int64, ascending, unique) of a full embedding, which itself is left as it is."""
        super().__init__()
        self.ids = torch.from_numpy(ids).to(full.weight.device)
        self.weight = nn.Parameter(full.weight.detach()[self.ids].clone())
        self.decay = 1.0
        self.padding_idx = None if full.padding_idx is None else int(np.searchsorted(ids, full.padding_idx))
        # Plain attributes: DDP sends every buffer to every process at every step.
        self._table = full.weight.detach()
        self._places = torch.full((len(self._table),), -1, dtype=torch.int64, device=full.weight.device)
        self._places[self.ids] = torch.arange(len(ids), device=full.weight.device)
        self.register_state_dict_post_hook(_save_full)  # type: ignore[no-untyped-call] # torch's
        self.register_load_state_dict_pre_hook(_load_full)  # type: ignore[no-untyped-call] # torch's

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look rows up: ids int64 of any shape → float `(..., width)`."""
        places = self._places[ids]
        if self.training:
            return functional.embedding(places, self.weight, self.padding_idx)
        occurring = functional.embedding(places.clamp(min=0), self.weight)
        return torch.where((places >= 0).unsqueeze(-1), occurring, functional.embedding(ids, self._table) * self.decay)

    def step(self, factor: float) -> None:
        """Account for one optimizer step: `factor` is 1 - learning rate * weight decay of the embedding's group."""
        self.decay *= factor

    @torch.no_grad()
    def full(self) -> torch.Tensor:
        """Put all rows together: float `(vocabulary, width)`."""
        table = self._table * self.decay
        table[self.ids] = self.weight
        return table

    @torch.no_grad()
    def set_full(self, table: torch.Tensor) -> None:
        """Take all rows from a full matrix, float `(vocabulary, width)`."""
        self._table = table.to(self._table, copy=True)
        self.weight.copy_(self._table[self.ids])
        self.decay = 1.0

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Compact:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # torch's
        self.ids, self._places, self._table = fn(self.ids), fn(self._places), fn(self._table)
        return self


@contextmanager
def compact_embeddings(model: PreTrainedModel, ids: Array) -> Iterator[Compact | None]:
    """Leave out, for a while, the rows of a model's embedding matrix that do not occur.

    The optimizer must be made inside, as the matrix is another parameter there (of the same name), and `Compact.step`
    called after each of its steps. At the end the model has its own `nn.Embedding` back, with all rows.

    Args:
        model: Any model with an input embedding.
        ids: Token ids that occur in the training rows, unique; the padding token counts as one of them.

    Yields:
        The embedding meanwhile; None, and nothing is changed, where it does not pay (most rows occur) or cannot be
        done: the embedding is frozen, shared with an output layer, or no plain `nn.Embedding`.
    """
    embedding = model.get_input_embeddings()
    ids = _kept(embedding, ids) if _plain(model, embedding) else ids
    if not _plain(model, embedding) or len(ids) > WORTH * embedding.num_embeddings:
        yield None
        return
    compact = Compact(embedding, ids)
    compact.train(embedding.training)
    _swap(model, embedding, compact)
    try:
        yield compact
    finally:
        _swap(model, compact, embedding)
        embedding.train(compact.training)
        embedding.weight.data = compact.full()
        embedding.weight.grad = None


def occurring(encoded: Encoded) -> Array:
    """List the token ids that occur in encoded rows: int64, ascending, unique."""
    found = [chunk.flatten().unique().to_numpy() for chunk in encoded.table.column("input_ids").chunks]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *found]))


def _plain(model: nn.Module, embedding: nn.Module) -> bool:
    if type(embedding) is not nn.Embedding or not embedding.weight.requires_grad:
        return False
    holders = sum(each is embedding.weight for _, each in model.named_parameters(remove_duplicate=False))
    special = embedding.sparse or embedding.scale_grad_by_freq or embedding.max_norm is not None
    return holders == 1 and not special


def _kept(embedding: nn.Embedding, ids: Array) -> Array:
    padding = [] if embedding.padding_idx is None else [embedding.padding_idx]
    return np.union1d(np.asarray(ids, dtype=np.int64), np.asarray(padding, dtype=np.int64))


def _swap(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if child is old:
                setattr(module, name, new)


def _save_full(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    assert isinstance(module, Compact)
    state[f"{prefix}weight"] = module.full()


def _load_full(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, Compact)
    table = state.get(f"{prefix}weight")
    if table is not None and len(table) == len(module._table):
        module.set_full(table)
        state[f"{prefix}weight"] = module.weight.detach()
