"""What `auto` means: settings that depend on the encoder, the data and the machine."""

from __future__ import annotations

from bertsmith import threads
from bertsmith.encoders import Encoder
from bertsmith.inference.torch_engine import pick_device
from bertsmith.recipe import Recipe

EPOCHS = 5
LEAST_STEPS = 100
MOST_EPOCHS = 10
"""Epochs that suit most data; more where there are so few rows that they would make too few steps."""


def resolve(recipe: Recipe, encoder: Encoder, *, rows: int, max_length: int) -> Recipe:
    """Replace every `auto` by the value that this run uses, so that the recipe repeats it.

    Args:
        recipe: As the user gave it.
        encoder: Brings the learning rate and the dropout that suit it.
        rows: Training rows.
        max_length: Chosen from the training rows.
    """
    from bertsmith.training.peak import has_fast_bf16

    fit, run = recipe.fit, recipe.run
    device = pick_device(run.device)
    known = encoder.known
    changes: dict[str, object] = {
        "max_length": max_length,
        "device": str(device),
        "threads": threads.resolve(run.threads),
    }
    if fit.learning_rate == "auto":
        changes["learning_rate"] = encoder.learning_rate
    if fit.dropout == "auto" and known is not None and known.dropout is not None:
        changes["dropout"] = known.dropout
    if fit.epochs == "auto":
        changes["epochs"] = epochs_for(rows, batch=fit.batch_size * fit.accumulate)
    if fit.precision == "auto":
        changes["precision"] = "bf16" if has_fast_bf16(device) else "fp32"
    return recipe.changed(changes)


def epochs_for(rows: int, *, batch: int) -> int:
    """Choose the number of epochs: five, and more where that would be too few steps.

    >>> epochs_for(8000, batch=32), epochs_for(480, batch=32)
    (5, 7)
    """
    steps = max(1, -(-rows // batch))
    return min(MOST_EPOCHS, max(EPOCHS, -(-LEAST_STEPS // steps)))
