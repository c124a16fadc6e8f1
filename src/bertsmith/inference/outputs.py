"""From what a model's forward pass gives to one row of logits a unit.

Three heads, two shapes: a head on the pooled text gives one row of logits a window, the windows of a text are
pooled; heads on every token give a row a token, and the encoded rows say which tokens count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.encoded import Encoded

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


def head_outputs(output: Any) -> torch.Tensor:
    """Take a head's logits: `(windows, outputs)`, or `(windows, tokens, outputs)` for heads on every token."""
    import torch

    if "start_logits" in output:
        return torch.stack([output["start_logits"], output["end_logits"]], dim=-1)
    logits: torch.Tensor = output["logits"]
    return logits


def read_out(outputs: torch.Tensor, batch: Mapping[str, torch.Tensor], *, rows: int, pooling: str) -> torch.Tensor:
    """Give the logits of a batch's units, in the order of its rows; gradients flow through.

    Args:
        outputs: What `head_outputs` gives for the windows of some rows.
        batch: What `Encoded.pad` gives for the same rows, as tensors.
        rows: How many rows there are.
        pooling: How the windows of a row become one: mean or max.

    Returns:
        `(units, outputs)`.
    """
    if "pick_token" in batch:
        return outputs[batch["pick_window"], batch["pick_token"]]
    owner = batch["owner"]
    if len(owner) == rows:
        return outputs
    place = owner.unsqueeze(1).expand_as(outputs)
    pooled = outputs.new_zeros(rows, outputs.shape[1])
    return pooled.scatter_reduce(0, place, outputs, "mean" if pooling == "mean" else "amax", include_self=False)


def unit_windows(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Number the window of each unit of a batch, int64 `(units,)`; pooled rows count as one window each."""
    import torch

    if "pick_window" in batch:
        return batch["pick_window"]
    owner = batch["owner"]
    return torch.arange(int(owner.max()) + 1 if len(owner) else 0, device=owner.device)


def pool_windows(found: Array, encoded: Encoded) -> Array:
    """Pool what all windows gave to one entry a row, `(rows, width)`."""
    if len(found) == len(encoded):
        return found
    owners = encoded.owners
    begins = np.searchsorted(owners, np.arange(len(encoded)))
    if encoded.pooling == "max":
        return np.asarray(np.maximum.reduceat(found, begins, axis=0))
    counts = np.bincount(owners, minlength=len(encoded))[:, None].astype(found.dtype)
    return np.asarray(np.add.reduceat(found, begins, axis=0) / counts)


def units_of_windows(encoded: Encoded, windows: Array) -> Array:
    """Give the positions of these windows' units in flat unit arrays, in the order of the windows."""
    begins = np.searchsorted(encoded.unit_windows, windows, side="left")
    counts = np.searchsorted(encoded.unit_windows, windows, side="right") - begins
    ends = np.cumsum(counts)
    return np.asarray(np.arange(counts.sum()) + np.repeat(begins - (ends - counts), counts))
