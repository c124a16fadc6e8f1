"""One SGD step of our Trainer; run alone or under torchrun. Writes the movement of the weights to a file."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from bertsmith.tasks.single_label import SingleLabel
from tests.conftest import toy_rows
from tests.training.steps import gradient_of_one_step, rows_of


def main() -> None:
    """Take encoder, output file, batch size and accumulation from the command line."""
    torch.set_num_threads(1)
    encoder, target, size, accumulate = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    weights = torch.linspace(0.1, 2.0, 21, dtype=torch.float64).numpy()
    rows = rows_of(encoder, SingleLabel(), toy_rows(21), weights=weights)
    moved = gradient_of_one_step(
        encoder, SingleLabel(), rows, target.parent / "scratch", batch_size=size, accumulate=accumulate
    )
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    if rank == 0:
        torch.save(moved, target)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
