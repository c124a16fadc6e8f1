"""Mean pooling as one more layer of a BERT: the standard classifier then reads the mean over a text's tokens.

Sentence encoders put what a text means into the mean of its tokens' states, and BERT's classifier reads the first
token alone. A layer on top, whose attention is the same for all tokens, whose values are the states themselves and
whose feed-forward part is zero, puts that mean into every token, the first one included:

    states → mean over tokens → norm → minus centre → norm → pooler (near the identity) → dropout → linear

It is an ordinary layer of an ordinary model: transformers loads it, ONNX exports it, masks keep padding out of it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bertsmith.encoded import Encoded
from bertsmith.inference.torch_engine import evaluating, to_inputs

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
LOUD = 1000.0
"""The mean's factor beside the token's own state, which the layer's residual path adds: a thousandth part is left."""
SLOPE = 0.1
"""The pooler's factor: tanh(0.1 x) is 0.1 x, within 3 %, for the x below 3 of a normed vector."""
TANH_HEADS = frozenset({"roberta", "xlm-roberta", "camembert"})
"""Families whose head begins with a dense layer and tanh, as BERT's pooler does."""
CHECKED = 4
"""Windows on which a new layer is compared with the mean computed beside it."""
TOLERANCE = 0.02
"""The most by which those may differ (1 less their cosine)."""


def add_mean_layer(model: PreTrainedModel, encoded: Encoded) -> bool:
    """Put a layer that means over tokens on top of a model, and make its pooler pass that on.

    Args:
        model: BERT, RoBERTa, XLM-RoBERTa or CamemBERT with a head on the first token; changed in place.
        encoded: Some rows; on the first few the layer is checked against the mean that it should give.

    Returns:
        False where the model has other parts, or the check failed; the model is then as it was.
    """
    pooler = _pooler(model)
    layers = _layers(model)
    if pooler is None or layers is None or encoded.has_picks:
        return False
    windows = np.arange(min(CHECKED, len(encoded.window_lengths)))
    wanted = _means(model, encoded, windows)
    before = {name: value.clone() for name, value in pooler.state_dict().items()}
    layers.append(_mean_layer(layers[-1]))
    model.config.num_hidden_layers = len(layers)
    _pass_on(pooler)
    if _agree(normed_means(_pooled(model, pooler, encoded, windows)), wanted):
        return True
    del layers[-1]
    model.config.num_hidden_layers = len(layers)
    pooler.load_state_dict(before)
    return False


def set_centre(model: PreTrainedModel, centre: Array) -> None:
    """Have the mean layer take a vector off each normed mean before it norms it again.

    Args:
        model: It has a mean layer.
        centre: float `(width,)`.
    """
    import torch

    layers: Any = _layers(model)
    with torch.no_grad():
        layers[-1].attention.output.LayerNorm.bias.copy_(-torch.from_numpy(np.asarray(centre, np.float32)))


def passing_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """List the parameters of a mean layer and of the pooler above it, which only pass on what they get."""
    layers, pooler = _layers(model), _pooler(model)
    assert layers is not None
    assert pooler is not None
    return [*layers[-1].parameters(), *pooler.parameters()]


def centred(means: Array, centre: Array) -> Array:
    """Compute what a head gets from normed means once a centre is set, float64 `(rows, width)`."""
    return np.asarray(np.tanh(SLOPE * _norm(means - centre)))


def normed_means(pooled: Array) -> Array:
    """Read normed means back from what a head gets while the centre is zero, float64 `(rows, width)`."""
    return np.asarray(np.arctanh(np.clip(pooled.astype(np.float64), -0.999999, 0.999999)) / SLOPE)


def _norm(rows: Array) -> Array:
    """Norm each row as a layer norm does."""
    moved = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(moved.std(axis=1, keepdims=True), 1e-6))


def _layers(model: PreTrainedModel) -> nn.ModuleList | None:
    """Find the layers, where they norm after each part as BERT's do."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    parts = ("attention.self.query", "attention.self.value", "attention.output.dense", "attention.output.LayerNorm",
             "intermediate.dense", "output.dense", "output.LayerNorm")  # fmt: skip
    names = {name for name, _ in layers[-1].named_modules()} if layers is not None and len(layers) else set()
    known = names.issuperset(parts) and getattr(model.config, "is_decoder", False) is False
    return layers if known else None


def _pooler(model: PreTrainedModel) -> nn.Linear | None:
    """Find the dense layer before the head's last one, if what follows it is tanh."""
    parts: Any = model
    if model.config.model_type == "bert" and getattr(parts.base_model, "pooler", None) is not None:
        return cast("nn.Linear", parts.base_model.pooler.dense)
    if model.config.model_type in TANH_HEADS and hasattr(getattr(parts, "classifier", None), "dense"):
        return cast("nn.Linear", parts.classifier.dense)
    return None


def _mean_layer(like: nn.Module) -> Any:
    """Make the layer: zero but for values and outputs, which pass on, and the scales of the norms."""
    import torch

    layer: Any = copy.deepcopy(like)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        attention = layer.attention
        attention.self.value.weight.fill_diagonal_(1.0)
        attention.output.dense.weight.fill_diagonal_(LOUD)
        attention.output.LayerNorm.weight.fill_(1.0)
        layer.output.LayerNorm.weight.fill_(1.0)
    return layer


def _pass_on(pooler: nn.Linear) -> None:
    import torch

    with torch.no_grad():
        pooler.weight.zero_()
        pooler.weight.fill_diagonal_(SLOPE)
        pooler.bias.zero_()


def _means(model: PreTrainedModel, encoded: Encoded, windows: Array) -> Array:
    """Compute the normed means of windows beside the model, float64 `(windows, width)`."""
    with evaluating(model):
        inputs = to_inputs(model, encoded.pad_windows(windows), next(model.parameters()).device)
        states: torch.Tensor = model.base_model(**inputs)[0]
        weight = inputs["attention_mask"].unsqueeze(-1)
        means = (states * weight).sum(1) / weight.sum(1)
        return _norm(means.double().cpu().numpy())


def _pooled(model: PreTrainedModel, pooler: nn.Linear, encoded: Encoded, windows: Array) -> Array:
    """Catch what the pooler gives for windows, after its tanh, float32 `(windows, width)`."""
    caught: list[torch.Tensor] = []
    hook = pooler.register_forward_hook(lambda _, __, output: caught.append(output))
    try:
        with evaluating(model):
            model(**to_inputs(model, encoded.pad_windows(windows), next(model.parameters()).device))
    finally:
        hook.remove()
    return np.asarray(caught[0].tanh().float().cpu().numpy())


def _agree(found: Array, wanted: Array) -> bool:
    cosines = (found * wanted).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(wanted, axis=1)
    return bool((cosines > 1 - TOLERANCE).all())
