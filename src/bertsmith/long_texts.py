"""Long texts: keep the head, head and tail, or read all of it in windows? Each is tried before one is chosen.

The choice is made with the encoder frozen: a linear model on its features learns from some training rows and
answers validation rows, once for every way of reading. That is a small part of what a training costs. Ways whose
training would take more work than the budget allows are scored, and not chosen. Work is counted in operations,
never in seconds, so that the choice is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bertsmith.baselines import FROZEN_STRENGTHS
from bertsmith.encoded import Encoded
from bertsmith.flops import train_flops
from bertsmith.tasks import Rows, Task
from bertsmith.training.frozen_features import frozen_features

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
Way = Literal["head", "head-tail", "windows"]
WAYS: tuple[Way, ...] = ("head", "head-tail", "windows")
FEW = 0.01
"""Share of long texts up to which the head is kept without a trial."""
TRIED = {"train": 600, "validation": 400}
"""Rows that a trial looks at."""


@dataclass(frozen=True)
class Choice:
    """One way of reading long texts.

    Attributes:
        way: head, head-tail or windows.
        score: The task's metric on validation rows, with the encoder frozen.
        work: Operations of a training, as a multiple of what keeping the head takes.
        allowed: False where that is above the budget.
    """

    way: Way
    score: float
    work: float
    allowed: bool


@dataclass(frozen=True)
class LongTexts:
    """How long texts are read, and what the other ways came to; no choices where there was nothing to choose."""

    way: Way
    metric: str = ""
    choices: tuple[Choice, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the choice as `scores.json` has it."""
        choices = {
            each.way: {"score": each.score, "work": round(each.work, 3), "allowed": each.allowed}
            for each in self.choices
        }
        return {"chosen": self.way, "metric": self.metric, "choices": choices}


def choose(
    model: PreTrainedModel,
    task: Task,
    encode: Callable[[Way, str], Rows],
    *,
    budget: float,
    seed: int,
) -> LongTexts:
    """Try every way of reading long texts, and choose.

    Args:
        model: The encoder with its fresh head; it is not changed.
        task: Knows the linear model and the metric.
        encode: Encodes the trial rows of `train` or `validation` in one way.
        budget: Work that a training may take, as a multiple of what keeping the head takes.
        seed: Seed of the linear model.
    """
    sides = {way: {side: encode(way, side) for side in TRIED} for way in WAYS}
    head = _work(model, sides["head"]["train"].encoded)
    choices = []
    for way in WAYS:
        work = _work(model, sides[way]["train"].encoded) / head
        choices.append(Choice(way, _score(model, task, sides[way], seed=seed), work, allowed=work <= budget))
    # The first of equals: keeping the head is the cheapest.
    best = max((each for each in choices if each.allowed), key=lambda each: each.score)
    return LongTexts(best.way, task.stop_metric, tuple(choices))


def trial_rows(rows: Array, side: str, *, seed: int) -> Array:
    """Draw the rows of a side that a trial looks at, in their order."""
    most = TRIED[side]
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _work(model: PreTrainedModel, encoded: Encoded) -> float:
    return train_flops(model.config.to_dict(), encoded.window_lengths, outputs=model.config.num_labels)


def _score(model: PreTrainedModel, task: Task, sides: Mapping[str, Rows], *, seed: int) -> float:
    outputs = model.config.num_labels
    found = {side: frozen_features(model, rows.encoded, outputs=outputs) for side, rows in sides.items()}
    features = {side: each.head if each.mean is None else each.mean for side, each in found.items()}
    centre, scale = features["train"].mean(axis=0), features["train"].std(axis=0) + 1e-6
    learned, held = sides["train"], sides["validation"]
    linear = task.fit_linear(
        (features["train"] - centre) / scale,
        learned.targets,
        learned.unit_weights,
        strength=FROZEN_STRENGTHS[0],
        seed=seed,
    )
    answers = task.linear_probabilities(linear, (features["validation"] - centre) / scale, outputs=outputs)
    score = task.measure(held, answers)[task.stop_metric]
    return -score if task.stop_metric in task.loss_metrics else score
