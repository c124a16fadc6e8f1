"""What the trials with one encoder learn from: read, split and encoded once. The test rows stay out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith import encoders, prepare
from bertsmith.data.check import measure_lengths
from bertsmith.inference.head import head_layer
from bertsmith.listener import Listener
from bertsmith.prepare import Prepared
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows
from bertsmith.training.head_start import ProbeRows, start_head, write_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Material:
    """Rows for one encoder, and the start of its head.

    Attributes:
        prepared: Examples and splits.
        recipe: Resolved for this encoder: nothing is `auto` that a trial could change.
        train: What is learned from.
        validation: What a trial is scored on.
        weight: Weight of the head's last layer at the start, float32 `(outputs, width)`.
        bias: Its bias, float32 `(outputs,)`.
    """

    prepared: Prepared
    recipe: Recipe
    train: Rows
    validation: Rows
    weight: Array
    bias: Array

    @property
    def config(self) -> Mapping[str, Any]:
        """The encoder's `config.json`."""
        return self.prepared.known_encoder.config

    def model(self, recipe: Recipe) -> PreTrainedModel:
        """Build the model as `train` would with this recipe, its head started."""
        model = prepare.build_model(self.prepared, recipe)
        write_head(head_layer(model, model.config.num_labels), self.weight, self.bias)
        return model


def with_encoder(prepared: Prepared, recipe: Recipe) -> Prepared:
    """Take the encoder that a recipe names, for examples that were prepared for another.

    Raises:
        EncoderError: It is not there.
        RecipeError: It takes fewer tokens than the recipe asks for.
    """
    encoder = encoders.find(recipe.fit.encoder)
    tokenizer = encoder.tokenizer()
    lengths = measure_lengths(prepared.examples, tokenizer)
    longest = prepare.max_length_of(recipe, encoder, lengths, prepared.splits)
    return replace(prepared, encoder=encoder, tokenizer=tokenizer, lengths=lengths, max_length=longest)


def gather(prepared: Prepared, recipe: Recipe, *, data: Any, folder: Path, listener: Listener) -> Material:
    """Encode train and validation rows, and start a head on them.

    Args:
        prepared: For this encoder.
        recipe: As it was given, with this encoder.
        data: What was read, for the recipe.
        folder: Gets token ids, and the encoder where it is adapted first.
        listener: Told of progress.
    """
    run = RunFolder(folder)
    run.scratch.mkdir(parents=True, exist_ok=True)
    resolved = prepare.resolved(recipe, prepared, data)
    if resolved.fit.adapt:
        prepared = prepare.adapted(prepared, resolved, run, listener)
    model = prepare.build_model(prepared, resolved)
    resolved = resolved.changed({"long": prepare.choose_long_texts(model, prepared, resolved).way})
    sides = {
        side: prepare.encode(prepared, resolved, prepared.splits.sides[side], run.scratch / side)
        for side in ("train", "validation")
    }
    features = prepare.features_of(model, sides, resolved, listener)
    learned, held = (ProbeRows(features[side].rows, features[side].head) for side in ("train", "validation"))
    start_head(model, prepared.task, learned, held, resolved)
    layer = head_layer(model, model.config.num_labels)
    weight = layer.weight.detach().cpu().numpy().copy()
    bias = np.zeros(len(weight), np.float32) if layer.bias is None else layer.bias.detach().cpu().numpy().copy()
    return Material(prepared, resolved, sides["train"], sides["validation"], weight, bias)
