"""The protocol of a task. Stages speak to a task through it and never ask which task they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bertsmith.examples import Examples, LabelSet, Prediction
from bertsmith.findings import Finding

if TYPE_CHECKING:
    import torch
    from sklearn.base import BaseEstimator

Array = np.ndarray[Any, Any]
Metrics = Mapping[str, float]


class Task(Protocol):
    """One kind of answer that a model can give to a text.

    `targets` are what the loss learns from: one row an example, int64 `(rows,)` for single labels.
    `logits` are what the model's head gives: float32 `(rows, outputs)`.
    """

    name: str
    """As `train --task` and `scores.json` call it."""
    problem_type: str
    """As the model's config calls it, so that transformers' own loss is the same."""
    model_class: str
    """The transformers auto class that builds the model."""
    metrics: tuple[str, ...]
    """Metrics that can choose the best epoch."""
    loss_metrics: frozenset[str]
    """Those of them that are better when lower."""

    def labels(self, examples: Examples) -> LabelSet:
        """Collect the label set from the data."""
        ...

    def check(self, examples: Examples) -> list[Finding]:
        """Look for what is wrong with the labels."""
        ...

    def strata(self, examples: Examples) -> Array:
        """Give each row the class whose share every side of a split should keep, int64 `(rows,)`."""
        ...

    def targets(self, examples: Examples, labels: LabelSet) -> Array:
        """Turn labels into what the loss learns from, one row an example."""
        ...

    def loss(self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sum the weighted loss over the rows of a micro-batch (a scalar)."""
        ...

    def denominator(self, targets: Array, weights: Array) -> float:
        """Say by what a whole effective batch's summed loss is divided."""
        ...

    def probabilities(self, logits: Array) -> Array:
        """Turn logits into probabilities of the same shape, in float64."""
        ...

    def decode(self, probabilities: Array, labels: LabelSet) -> list[Prediction]:
        """Turn probabilities into answers, one a row."""
        ...

    def measure(self, targets: Array, probabilities: Array) -> Metrics:
        """Compute every metric in `metrics`."""
        ...

    def classifier(self, *, strength: float, seed: int, sparse: bool = False) -> BaseEstimator:
        """Make the linear model of the ladder's cheap rungs.

        Args:
            strength: scikit-learn's C.
            seed: Seed of the solver.
            sparse: True for sparse rows of length 1, as TF-IDF has them.
        """
        ...

    def linear_probabilities(self, model: BaseEstimator, inputs: Any, *, outputs: int) -> Array:
        """Ask a fitted scikit-learn classifier, float64 `(rows, outputs)`; labels it never saw get 0."""
        ...
