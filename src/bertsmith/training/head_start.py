"""Head start: the head begins as a linear probe, not at random.

A logistic regression on the input of the head's last linear layer is written into that layer before
fine-tuning (linear probing, then fine-tuning: Kumar et al. 2022, arXiv 2202.10054). The features' scaling is
folded into the weights, so the layer stays a plain linear one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from bertsmith.inference.head import head_layer
from bertsmith.recipe import Recipe
from bertsmith.tasks import Rows, Task

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
STRENGTHS = (0.1, 0.01, 0.001, 0.0001)
"""scikit-learn's C of the probe on standardised features; the first is taken where nothing can be chosen.

The one with the least log loss on the validation rows wins. A probe that is too sure of few rows has huge weights:
fine-tuning from it on 488 reviews came to 64 % where a random head came to 69 % (docs/lab-notes.md).
"""


@dataclass(frozen=True)
class ProbeRows:
    """What a probe learns from.

    Attributes:
        rows: The rows, with their targets.
        features: Input of the head's last layer, float32 `(units, width)`.
    """

    rows: Rows
    features: Array


def probe_weights(
    task: Task, probe: ProbeRows, *, outputs: int, intercept: bool, seed: int, strength: float = STRENGTHS[0]
) -> tuple[Array, Array]:
    """Fit a probe and give it as the weight and bias of a linear layer on the raw features.

    Args:
        task: Knows which linear model fits its targets.
        probe: What it learns from.
        outputs: Number of logits.
        intercept: False for a head without bias; the constants then go into the weights, as near as these can.
        seed: Seed of the solver.
        strength: scikit-learn's C.

    Returns:
        Weight float32 `(outputs, width)` and bias float32 `(outputs,)`.
    """
    features = probe.features
    scale = features.std(axis=0)
    scale[scale < 1e-6] = 1.0
    centre = features.mean(axis=0)
    with threadpool_limits(1):
        # Small dense products: one thread is two to three times faster than two.
        model = task.fit_linear(
            (features - centre) / scale, probe.rows.targets, probe.rows.unit_weights, strength=strength, seed=seed
        )
    weight, bias = task.linear_weights(model, outputs=outputs)
    weight = weight / scale
    bias = bias - weight @ centre
    if not intercept:
        # The direction whose product with every feature row is as near to 1 as least squares can make it.
        one = np.linalg.lstsq(features.astype(np.float64), np.ones(len(features)), rcond=1e-6)[0]
        weight, bias = weight + bias[:, None] * one, np.zeros_like(bias)
    return weight.astype(np.float32), bias.astype(np.float32)


def start_head(model: PreTrainedModel, task: Task, learned: ProbeRows, held: ProbeRows, recipe: Recipe) -> None:
    """Give a model's head its start, as the recipe says.

    Args:
        model: Its head is written to.
        task: Knows which linear model fits its targets.
        learned: Training rows, with the input of the head's last layer.
        held: The validation rows, which choose how sure the probe may be; there may be none.
        recipe: Its `head_start` and `seed` are used.
    """
    layer = head_layer(model, model.config.num_labels)
    if recipe.fit.head_start == "random" or not len(learned.features):
        offset, scale = task.spread(learned.rows.targets)
        if (offset, scale) == (0.0, 1.0):
            return
        write_head(layer, layer.weight.detach().cpu().numpy() * scale, np.full(layer.out_features, offset, np.float32))
        return
    probes = (
        probe_weights(
            task,
            learned,
            outputs=layer.out_features,
            intercept=layer.bias is not None,
            seed=recipe.run.seed,
            strength=strength,
        )
        for strength in (STRENGTHS if len(held.rows) else STRENGTHS[:1])
    )
    write_head(layer, *min(probes, key=lambda probe: _loss(task, probe, held)))


def _loss(task: Task, probe: tuple[Array, Array], held: ProbeRows) -> float:
    """Say how badly a probe answers the validation rows."""
    if not len(held.rows):
        return 0.0
    weight, bias = probe
    metrics = task.measure(held.rows, task.probabilities(held.features @ weight.T + bias))
    losses = [metrics[name] for name in task.metrics if name in task.loss_metrics]
    return min(losses, default=-metrics[task.stop_metric])


def write_head(layer: nn.Linear, weight: Array, bias: Array) -> None:
    """Copy a probe into the head's last linear layer."""
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
