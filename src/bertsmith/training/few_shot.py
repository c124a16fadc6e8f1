"""Few labels: from some dozens of rows to a classifier, in seconds.

1. A mean layer (`mean_layer.py`) has the classifier read the mean over a text's tokens: what a sentence encoder
   was made for, and with few rows ten points better than its first token.
2. The head is a logistic regression on centred means of length 1 that has also seen the names of the labels, as
   rows of their own ("card arrival" says much about label `card_arrival`). How much a name counts is chosen by
   cross-validation, so that labels called 0 and 1 do no harm.
3. All layers are trained for a few epochs from there, at a high rate, without dropout.
4. The head is fitted once more, on what the layers give now.

What was measured, and what did not pay: docs/lab-notes.md.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from bertsmith.encoded import Encoded
from bertsmith.inference.first_token import first_token_only
from bertsmith.inference.head import head_layer
from bertsmith.inference.outputs import head_outputs, read_out, unit_windows
from bertsmith.inference.torch_engine import known_inputs
from bertsmith.tasks import Rows, Task
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.head_start import write_head
from bertsmith.training.mean_layer import add_mean_layer, centred, normed_means, passing_parameters, set_centre

if TYPE_CHECKING:
    import torch
    from sklearn.base import BaseEstimator
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
FEW = 64
"""Rows of the label that has the median number of rows, up to which this is what works best."""
NAME_WEIGHTS = (0.0, 1.0, 2.0, 4.0)
"""What the name of a label may count for, in rows."""
STRENGTH = 1.0
"""scikit-learn's C on rows of length 1."""
FOLDS = 4
"""Parts of the cross-validation."""
CHOOSING = 1000
"""Rows of which the weight of names is chosen, at most."""
EPOCHS, BATCH, RATE, HEAD_RATE = 4, 16, 2e-4, 3e-3
"""How the layers are trained: epochs, rows a step, highest rate of the layers, and of the head."""
CLIP, DECAY, WARM = 1.0, 0.01, 0.1


@dataclass(frozen=True)
class FewShot:
    """What was done.

    Attributes:
        mean_layer: Whether the model got one; else its own first token is read.
        name_weight: What the name of a label counted for, in rows.
        steps: Steps for which the layers were trained.
    """

    mean_layer: bool
    name_weight: float
    steps: int


def name_texts(labels: Sequence[str]) -> list[str]:
    """Write label names as texts.

    >>> name_texts(["card_arrival", "Sci/Tech", "notFound"])
    ['card arrival', 'Sci Tech', 'not Found']
    """
    words = (re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"[\W_]+", " ", name)).strip() for name in labels)
    return [text or name for text, name in zip(words, labels, strict=True)]


def learn_few(  # noqa: PLR0913 - a stage: the model, what it learns from, and how
    model: PreTrainedModel,
    rows: Rows,
    *,
    task: Task,
    seed: int,
    names: Encoded | None = None,
    precision: str = "fp32",
    epochs: int = EPOCHS,
    done: Callable[[int, float], None] | None = None,
) -> FewShot:
    """Train a classifier of whole texts on few rows, in place.

    Args:
        model: fp32 masters, with a head for the rows' labels.
        rows: What is learned from; nothing is held back, so validation rows may be among them.
        task: Single label or several: its targets are positions, or a number for each label.
        seed: Orders the rows.
        names: The labels' names (`name_texts`) as encoded rows; None where targets are no classes.
        precision: fp32 or bf16, of the training of the layers.
        epochs: How often the rows are gone through; 0 leaves the layers as they are.
        done: Told the number and the loss of each step.
    """
    meaning = add_mean_layer(model, rows.encoded)
    few = _Few(model, task, _with_names(rows, names), len(rows), seed, meaning)
    features = few.features()
    weight = few.name_weight(features) if names is not None else 0.0
    few.write(few.fitted(features, few.counting(weight)), features)
    steps = _train(few, few.counting(weight), precision=precision, epochs=epochs, done=done)
    if steps:
        features = few.features()
        few.write(few.fitted(features, few.counting(weight)), features)
    return FewShot(meaning, weight, steps)


def _with_names(rows: Rows, names: Encoded | None) -> Rows:
    """Put names below the rows, as rows of weight 1; they have no examples."""
    if names is None:
        return rows
    place = names.table.column_names.index("row")
    below = names.table.set_column(place, "row", pa.array(names.owners + len(rows), pa.int64()))
    table = pa.concat_tables([rows.encoded.table, below.select(rows.encoded.table.column_names)])
    encoded = replace(rows.encoded, table=table, cut=np.concatenate([rows.encoded.cut, names.cut]))
    every = np.eye(len(names)) if rows.targets.ndim == 2 else np.arange(len(names))
    targets = np.concatenate([rows.targets, every.astype(rows.targets.dtype)])
    return replace(rows, encoded=encoded, targets=targets, weights=np.concatenate([rows.weights, np.ones(len(names))]))


@dataclass(frozen=True)
class _Few:
    """A model, and all that it learns from: some rows, then the names of the labels."""

    model: PreTrainedModel
    task: Task
    known: Rows
    rows: int
    seed: int
    meaning: bool

    def features(self) -> Array:
        """Centre the mean layer anew; return what the head gets for each row and name, float64 `(known, width)`."""
        outputs, width = self.model.config.num_labels, self.model.config.hidden_size
        if self.meaning:
            set_centre(self.model, np.zeros(width))
        found = frozen_features(self.model, self.known.encoded, outputs=outputs).head
        if not self.meaning:
            return found.astype(np.float64)
        means = normed_means(found)
        centre = means[: self.rows].mean(axis=0)
        set_centre(self.model, centre)
        return centred(means, centre)

    def counting(self, weight: float) -> Array:
        """Weigh rows as they are, and each name as so many rows, float64 `(known,)`."""
        ones = np.full(len(self.known.weights), weight * self.known.weights[: self.rows].mean())
        ones[: self.rows] = self.known.weights[: self.rows]
        return ones

    def fitted(self, features: Array, weights: Array) -> BaseEstimator:
        """Fit a logistic regression on features of mean length 1, from what has a weight."""
        kept = np.flatnonzero(weights > 0)
        with threadpool_limits(1):
            return self.task.fit_linear(
                features[kept] / _length(features), self.known.targets[kept], weights[kept],
                strength=STRENGTH, seed=self.seed,
            )  # fmt: skip

    def name_weight(self, features: Array) -> float:
        """Choose what a name counts for: the least log loss on rows that were left out of the fit."""
        rank = np.random.default_rng(self.seed).permutation(self.rows)
        classes = self.task.classes(self.known.examples)
        order = rank[np.argsort(classes[rank], kind="stable")]
        fold = np.empty(self.rows, np.int64)
        fold[order] = np.arange(self.rows) % FOLDS
        folds = range(FOLDS if self.rows <= CHOOSING else 1)
        losses = [sum(self._left_out(features, weight, fold == each) for each in folds) for weight in NAME_WEIGHTS]
        return NAME_WEIGHTS[int(np.argmin(losses))]

    def _left_out(self, features: Array, weight: float, out: Array) -> float:
        """Say how badly a fit without some rows answers them: their summed log loss."""
        if not out.any() or out.all():
            return 0.0
        weights = self.counting(weight)
        weights[: self.rows][out] = 0
        model = self.fitted(features, weights)
        held = np.flatnonzero(out)
        inputs = features[held] / _length(features)
        found = self.task.linear_probabilities(model, inputs, outputs=self.model.config.num_labels)
        rows = replace(self.known, encoded=self.known.encoded.take(np.arange(self.rows)),
                       targets=self.known.targets[: self.rows], weights=self.known.weights[: self.rows])  # fmt: skip
        return self.task.measure(rows.take(held), found)["log_loss"] * len(held)

    def write(self, fitted: BaseEstimator, features: Array) -> None:
        """Write a logistic regression into the head."""
        layer = head_layer(self.model, self.model.config.num_labels)
        weight, bias = self.task.linear_weights(fitted, outputs=layer.out_features)
        write_head(layer, (weight / _length(features)).astype(np.float32), bias.astype(np.float32))


def _length(features: Array) -> float:
    return float(np.linalg.norm(features, axis=1).mean())


def _train(few: _Few, weights: Array, *, precision: str, epochs: int, done: Callable[[int, float], None] | None) -> int:
    """Train layers and head for some epochs; without dropout, so that only the order of rows is random."""
    import torch

    model, encoded = few.model, few.known.encoded
    batches = _batches(np.flatnonzero(weights > 0), epochs=epochs, seed=few.seed)
    if not batches:
        return 0
    device = next(model.parameters()).device
    model.eval()
    with _learned(few) as (layers, head), first_token_only(model):
        groups = [{"params": layers, "lr": RATE}, {"params": head, "lr": HEAD_RATE}]
        optimizer = torch.optim.AdamW(groups, weight_decay=DECAY, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rise_and_fall(step, len(batches)))
        for step, batch in enumerate(batches):
            inputs = {name: torch.from_numpy(array).to(device) for name, array in encoded.pad(batch).items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = _loss(few, inputs, batch, weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch ships no type for it
            torch.nn.utils.clip_grad_norm_(layers, CLIP)
            optimizer.step()
            schedule.step()
            if done is not None:
                done(step, float(loss.detach()))
    return len(batches)


def _batches(places: Array, *, epochs: int, seed: int) -> list[Array]:
    """Deal the places out to batches of nearly equal size, anew each epoch."""
    generator = np.random.Generator(np.random.PCG64([seed, len(places)]))
    parts = max(1, math.ceil(len(places) / BATCH))
    return [part for _ in range(epochs) for part in np.array_split(generator.permutation(places), parts)]


def _rise_and_fall(step: int, steps: int) -> float:
    """Rise in a line over the first tenth of the steps, fall in a line to nothing."""
    return min((step + 1) / max(1.0, WARM * steps), (steps - step) / steps)


def _loss(few: _Few, inputs: dict[str, torch.Tensor], batch: Array, weights: Array) -> torch.Tensor:
    """Compute the loss of a batch, as the mean over what its rows weigh."""
    import torch

    known = known_inputs(few.model)
    outputs = head_outputs(few.model(**{name: value for name, value in inputs.items() if name in known}))
    logits = read_out(outputs, inputs, rows=len(batch), pooling=few.known.encoded.pooling)
    targets = torch.from_numpy(few.known.targets[batch]).to(logits.device)
    counting = torch.from_numpy(weights[batch]).float().to(logits.device)
    summed = few.task.loss(logits, targets, counting, unit_windows(inputs))
    return summed / max(few.task.denominator(few.known.targets[batch], weights[batch]), 1e-12)


@contextlib.contextmanager
def _learned(few: _Few) -> Iterator[tuple[list[torch.nn.Parameter], list[torch.nn.Parameter]]]:
    """Let only layers and head learn: few rows say nothing about words, and the mean layer is to stay one."""
    model = few.model
    head = list(head_layer(model, model.config.num_labels).parameters())
    fixed = {id(each) for each in (*head, *model.get_input_embeddings().parameters())}
    fixed |= {id(each) for each in passing_parameters(model)} if few.meaning else set()
    before = [(each, each.requires_grad) for each in model.parameters()]
    layers = [each for each, learns in before if learns and id(each) not in fixed]
    try:
        for each, _ in before:
            each.requires_grad_(False)
        for each in (*layers, *head):
            each.requires_grad_(True)
        yield layers, head
    finally:
        for each, learned in before:
            each.requires_grad_(learned)
            each.grad = None
