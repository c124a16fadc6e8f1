"""What `auto` means: settings that depend on the encoder, the data and the machine."""

from __future__ import annotations

from bertsmith import threads
from bertsmith.encoders import Encoder
from bertsmith.inference.torch_engine import pick_device
from bertsmith.recipe import Recipe

FEW_ROWS = 500
"""Training rows a label below which there are more passes over them."""

HEAD_RATE = 6e-5
"""Highest learning rate of a head alone (strategy `head`) that begins as a linear probe.

It begins where a linear model ends: at 2e-4, which suits the whole of `minilm`, the first steps spoil that
(docs/lab-notes.md).
"""
FEW_SHOT = 64
"""Training rows of the label in the middle up to which `--few-shot` is offered: as far as it was measured."""


def resolve(recipe: Recipe, encoder: Encoder, *, epochs: int, max_length: int, metric: str) -> Recipe:
    """Replace every `auto` by the value that this run uses, so that the recipe repeats it.

    Two stay: a dropout of `auto` means the encoder's own, which may differ from place to place in it; how long
    texts are read is chosen later, by trial.

    Args:
        recipe: As the user gave it.
        encoder: Brings the learning rate that suits it.
        epochs: What `epochs_for` gives.
        max_length: Chosen from the training rows.
        metric: By which the task chooses the best epoch.
    """
    from bertsmith.training.peak import has_fast_bf16

    fit, run = recipe.fit, recipe.run
    device = pick_device(run.device)
    changes: dict[str, object] = {
        "max_length": max_length,
        "device": str(device),
        "threads": threads.resolve(run.threads),
    }
    if recipe.text.stride == "auto":
        changes["stride"] = max(1, max_length // 4)
    if fit.metric == "auto":
        changes["metric"] = metric
    if fit.learning_rate == "auto":
        changes["learning_rate"] = rate_for(encoder, strategy=fit.strategy, head_start=fit.head_start)
    if fit.epochs == "auto":
        changes["epochs"] = epochs
    if fit.precision == "auto":
        changes["precision"] = "bf16" if has_fast_bf16(device) else "fp32"
    return recipe.changed(changes)


def rate_for(encoder: Encoder, *, strategy: str, head_start: str) -> float:
    """Choose the highest learning rate: what suits the encoder, or less where a head alone goes on from a probe.

    Args:
        encoder: Brings the rate for all of it.
        strategy: As the recipe has it.
        head_start: Likewise.
    """
    rate = encoder.learning_rate
    return min(rate, HEAD_RATE) if strategy == "head" and head_start == "linear-probe" else rate


def epochs_for(rows: int, *, labels: int, pairs: bool = False) -> int:
    """Choose the number of epochs: three, five where labels have few rows, and twice as many for pairs of texts.

    What two texts have to do with each other is not told by their words: it is learned from nothing, and slowly
    (on MRPC the accuracy rises until the fifth epoch; Mosbach et al. 2021, arXiv 2006.04884, train for twenty).

    Args:
        rows: Training rows.
        labels: Number of labels.
        pairs: True where two texts get one answer.

    >>> epochs_for(6000, labels=2), epochs_for(8000, labels=77), epochs_for(3000, labels=2, pairs=True)
    (3, 5, 6)
    """
    return (5 if rows < FEW_ROWS * labels else 3) * (2 if pairs else 1)
