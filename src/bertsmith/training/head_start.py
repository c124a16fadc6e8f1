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

from bertsmith.recipe import Recipe
from bertsmith.tasks import Task
from bertsmith.training.model import head_layer

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
        features: Input of the head's last layer, float32 `(rows, width)`.
        targets: As the task makes them.
        weights: Weight of each row in the loss, `(rows,)`.
    """

    features: Array
    targets: Array
    weights: Array


def probe_weights(
    task: Task, rows: ProbeRows, *, outputs: int, intercept: bool, seed: int, strength: float = STRENGTHS[0]
) -> tuple[Array, Array]:
    """Fit a probe and give it as the weight and bias of a linear layer on the raw features.

    Args:
        task: Knows which linear model fits its labels.
        rows: What it learns from.
        outputs: Number of logits.
        intercept: False for a head without bias: then the features are scaled but not centred.
        seed: Seed of the solver.
        strength: scikit-learn's C.

    Returns:
        Weight float32 `(outputs, width)` and bias float32 `(outputs,)`; rows of classes that have no
        training row are zero, their bias that of the least probable class.
    """
    features = rows.features
    scale = features.std(axis=0)
    scale[scale < 1e-6] = 1.0
    centre = features.mean(axis=0) if intercept else np.zeros_like(scale)
    model = task.classifier(strength=strength, seed=seed)
    model.set_params(fit_intercept=intercept)
    with threadpool_limits(1):
        # Small dense products: one thread is two to three times faster than two.
        model.fit((features - centre) / scale, rows.targets, sample_weight=rows.weights)
    coefficients, constants = np.asarray(model.coef_, np.float64), np.asarray(model.intercept_, np.float64)
    if len(coefficients) == 1 and len(model.classes_) == 2:
        # Two classes have one margin z; softmax over (-z/2, z/2) is the same sigmoid.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        constants = np.array([-0.5, 0.5]) * constants
    weight = np.zeros((outputs, features.shape[1]))
    bias = np.full(outputs, constants.min(initial=0.0))
    weight[model.classes_] = coefficients / scale
    bias[model.classes_] = constants - (coefficients / scale) @ centre
    return weight.astype(np.float32), bias.astype(np.float32)


def start_head(model: PreTrainedModel, task: Task, rows: ProbeRows, held: ProbeRows, recipe: Recipe) -> None:
    """Give a model's head its start, as the recipe says.

    Args:
        model: Its head is written to.
        task: Knows which linear model fits its labels.
        rows: The training rows, with the input of the head's last layer.
        held: The validation rows, which choose how sure the probe may be; there may be none.
        recipe: Its `head_start` and `seed` are used.
    """
    if recipe.fit.head_start == "random":
        return
    layer = head_layer(model, model.config.num_labels)
    probes = (
        probe_weights(
            task,
            rows,
            outputs=layer.out_features,
            intercept=layer.bias is not None,
            seed=recipe.run.seed,
            strength=strength,
        )
        for strength in (STRENGTHS if len(held.targets) else STRENGTHS[:1])
    )
    write_head(layer, *min(probes, key=lambda probe: _loss(task, probe, held)))


def _loss(task: Task, probe: tuple[Array, Array], held: ProbeRows) -> float:
    """Say how badly a probe answers the validation rows."""
    if not len(held.targets):
        return 0.0
    weight, bias = probe
    metrics = task.measure(held.targets, task.probabilities(held.features @ weight.T + bias))
    return min((metrics[name] for name in task.metrics if name in task.loss_metrics), default=-metrics[task.metrics[0]])


def write_head(layer: nn.Linear, weight: Array, bias: Array) -> None:
    """Copy a probe into the head's last linear layer."""
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
