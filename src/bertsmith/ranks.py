"""Ranks: the processes of one training, as torchrun starts them. One process is rank 0 of 1."""

from __future__ import annotations

import os
from typing import Any


def count() -> int:
    """Count the processes of this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def number() -> int:
    """Number this process, from 0; the first one speaks and writes."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """True in the one process that speaks and writes."""
    return number() == 0


def agree(value: Any) -> Any:
    """Give every rank the first rank's value, so that none decides otherwise; all ranks must call it.

    Args:
        value: Anything that can be pickled in memory; what other ranks pass is not used.
    """
    if count() == 1:
        return value
    box = [value]
    _group().broadcast_object_list(box, src=0)
    return box[0]


def any_of(flag: bool) -> bool:
    """Say whether the flag is up in any rank; all ranks must call it."""
    if count() == 1:
        return flag
    import torch

    dist = _group()
    raised = torch.tensor(int(flag), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return bool(raised)


def gather(value: Any) -> list[Any]:
    """Give every rank the values of all ranks, in their order; all ranks must call it."""
    if count() == 1:
        return [value]
    box: list[Any] = [None] * count()
    _group().all_gather_object(box, value)
    return box


def wait() -> None:
    """Wait until every rank is here."""
    if count() > 1:
        _group().barrier()


def _group() -> Any:
    """Give torch.distributed, with the process group started where nobody has yet."""
    import torch.distributed as dist
    from accelerate import PartialState

    PartialState()
    return dist
