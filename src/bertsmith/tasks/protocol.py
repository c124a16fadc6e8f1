"""The protocol of a task. Stages speak to a task through it and never ask which task they have.

A *unit* is what gets one row of logits: the row itself for text tasks, a word for token labels, a token of a
window for extractive questions. Arrays of units are flat: the units of row 0, then those of row 1, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from bertsmith.encoded import Encoded
from bertsmith.examples import Examples, LabelSet
from bertsmith.findings import Finding

if TYPE_CHECKING:
    import torch
    from sklearn.base import BaseEstimator

Array = np.ndarray[Any, Any]
Metrics = Mapping[str, float]
Decision: TypeAlias = Mapping[str, Any]
"""What was tuned on calibration rows, as JSON keeps it: thresholds, or nothing."""
Texts: TypeAlias = Sequence[str] | pa.ChunkedArray
Unit = Literal["row", "word", "token"]


@dataclass(frozen=True)
class Rows:
    """Rows of one side, as the stages after `encode` need them.

    Attributes:
        examples: The texts, and the gold answers where there are any.
        encoded: Their windows of token ids.
        targets: What the loss learns from, one entry a unit, as the task makes them; empty where nothing is known.
        weights: Weight of each row in the loss, float `(rows,)`.
        labels: The label set of the model.
        balance: Factor of each unit in the loss besides its row's weight, float `(units,)`, as
            `Task.class_weights` gives it; None for 1.
    """

    examples: Examples
    encoded: Encoded
    targets: Array
    weights: Array
    labels: LabelSet
    balance: Array | None = None

    def __len__(self) -> int:
        return len(self.encoded)

    def take(self, rows: Array) -> Rows:
        """Return these rows, in this order."""
        units = self.encoded.flat(rows)
        return Rows(
            self.examples.take(rows),
            self.encoded.take(rows),
            self.targets[units] if len(self.targets) else self.targets,
            self.weights[rows],
            self.labels,
            None if self.balance is None else self.balance[units],
        )

    @property
    def unit_weights(self) -> Array:
        """Weight of each unit in the loss: that of its row, times its balance, `(units,)`."""
        weights = np.repeat(self.weights, np.diff(self.encoded.units))
        return weights if self.balance is None else weights * self.balance


@dataclass(frozen=True)
class Statistics:
    """What the metrics of some answers need, so that they can be computed for any resample of the rows.

    Attributes:
        cells: Which outcome each row had, int64 `(rows,)`: positions in `values`.
        values: What a row of each outcome adds to the sums, `(cells, sums)`.
        strata: The class whose number of rows every resample keeps, int64 `(rows,)`.
        means: Metrics that are plain means over rows: name → `(rows,)`.
        right: Which rows were answered right, bool `(rows,)`; None where rows are not right or wrong.
    """

    cells: Array
    values: Array
    strata: Array
    means: Mapping[str, Array] = field(default_factory=dict)
    right: Array | None = None

    @property
    def sums(self) -> Array:
        """Sums over all rows, `(sums,)`."""
        return np.asarray(np.bincount(self.cells, minlength=len(self.values)) @ self.values)


class Answer(Protocol):
    """The answer to one row."""

    @property
    def line(self) -> str:
        """What a terminal shows, before the text."""
        ...

    def as_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return what `predict --json` prints, without the text; `scores` adds every label's probability."""
        ...


class Task(Protocol):
    """One kind of answer that a model can give."""

    name: str
    """As `train --task` and `scores.json` call it."""
    role: str
    """The canonical column of the gold answers: label, labels, value, tags or answers."""
    unit: Unit
    """What gets one row of logits."""
    problem_type: str | None
    """As the model's config calls it, so that transformers' own loss is the same."""
    model_class: str
    """The transformers auto class that builds the model."""
    pipeline_tag: str
    """The name of transformers' pipeline that loads the bundle; "" where there is none."""
    metrics: tuple[str, ...]
    """Metrics that can choose the best epoch, in the order in which they are shown."""
    loss_metrics: frozenset[str]
    """Those of them that are better when lower."""
    shares: frozenset[str]
    """Those of them that are shares of rows or the like, between 0 and 1."""
    stop_metric: str
    """The one that chooses the best epoch where none was asked for; it needs no tuned threshold."""
    compared: tuple[str, ...]
    """Counted metrics by which two models are compared; the first decides."""
    rungs: tuple[str, ...]
    """The cheap rungs of its ladder: of majority, tfidf, words, frozen."""

    confident: bool
    """Whether an answer is one label with a probability of being right, so that it can be declined."""
    calibrates: str
    """What cannot be had without calibration rows."""
    named: bool
    """Whether a row's targets are labels with names, so that a name is something like a row of its label."""

    def labels(self, examples: Examples) -> LabelSet:
        """Collect the label set from the data; one name a logit."""
        ...

    def told(self, examples: Examples, labels: LabelSet) -> str:
        """Say in words what is to be learned: labels and how many rows each has, or the range of numbers."""
        ...

    def counts(self, examples: Examples, labels: LabelSet) -> dict[str, int]:
        """Count the rows (or words) of each label."""
        ...

    def check(self, examples: Examples) -> list[Finding]:
        """Look for what is wrong with the gold answers."""
        ...

    def classes(self, examples: Examples) -> Array:
        """Number each row's gold answer: equal numbers, equal answers; -1 where there is none. int64 `(rows,)`."""
        ...

    def strata(self, examples: Examples) -> Array:
        """Say what every side of a split should have the same share of.

        Returns:
            The class of each row, int64 `(rows,)`; or, for several labels, bool `(rows, labels)`.
        """
        ...

    def require(self, examples: Examples, labels: LabelSet) -> None:
        """Refuse rows that cannot be scored: without an answer, or with a label that the model does not know.

        Raises:
            DataError: It says which rows, what was found, and what is known.
        """
        ...

    def targets(self, examples: Examples, encoded: Encoded, labels: LabelSet) -> Array:
        """Turn gold answers into what the loss learns from, one entry a unit: `(units,)` or `(units, outputs)`."""
        ...

    def class_weights(self, targets: Array, scheme: str) -> Array:
        """Weigh units by how rare their labels are, float64 `(units,)` of mean 1.

        Args:
            targets: Of the training rows, as `targets` gives them.
            scheme: none, balanced or effective-number.

        Raises:
            RecipeError: It is not none, and the task has no labels.
        """
        ...

    def smooth(self, targets: Array, amount: float, *, outputs: int) -> Array:
        """Spread a share of each target over all labels: targets for `loss`, and for nothing else.

        Args:
            targets: As `targets` gives them.
            amount: The share; 0 gives the targets back.
            outputs: Number of logits.

        Raises:
            RecipeError: It is not 0, and the task has no labels.
        """
        ...

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor:
        """Sum the weighted loss over the units of a micro-batch (a scalar).

        Args:
            logits: `(units, outputs)`.
            targets: As `targets` gives them.
            weights: `(units,)`.
            windows: Number of the window of each unit in the micro-batch, int64 `(units,)`.
        """
        ...

    def denominator(self, targets: Array, weights: Array) -> float:
        """Say by what a whole effective batch's summed loss is divided; `weights` as in `loss`."""
        ...

    def probabilities(self, logits: Array) -> Array:
        """Turn logits into what the task decides by (probabilities, values), of the same shape, in float64."""
        ...

    def decide(self, rows: Rows, probabilities: Array) -> dict[str, Any]:
        """Tune what is tuned on calibration rows; {} where nothing is, or where there are no rows."""
        ...

    def decode(self, rows: Rows, probabilities: Array, decision: Decision) -> Sequence[Answer]:
        """Turn probabilities into answers, one a row; `rows` may be without targets and gold columns."""
        ...

    def answer_schema(self) -> pa.Schema:
        """Name and type the columns of an answer in a file: the keys of `Answer.as_json()`."""
        ...

    def measure(self, rows: Rows, probabilities: Array) -> Metrics:
        """Compute every metric in `metrics`, before anything was tuned."""
        ...

    def statistics(self, rows: Rows, probabilities: Array, decision: Decision) -> Statistics:
        """Reduce answers to what `counted` and the means need; at least one row."""
        ...

    def counted(self, sums: Array) -> dict[str, Array]:
        """Compute the metrics that sums suffice for, over all leading axes: `(..., sums)` → name → `(...)`."""
        ...

    def detail(self, rows: Rows, probabilities: Array, decision: Decision) -> dict[str, Any]:
        """Give what scores.json says beyond metrics: figures of each label, a confusion matrix, what was tuned."""
        ...

    def unit_texts(self, rows: Rows) -> tuple[Texts, Texts | None]:
        """Give the text of each unit, and its second text, for the rungs that read words."""
        ...

    def fit_linear(
        self, inputs: Any, targets: Array, weights: Array, *, strength: float, seed: int, sparse: bool = False
    ) -> BaseEstimator:
        """Fit the linear model of the ladder's cheap rungs and of the head's start.

        Args:
            inputs: `(units, width)`, dense or sparse.
            targets: As `targets` gives them.
            weights: `(units,)`.
            strength: scikit-learn's C.
            seed: Seed of the solver.
            sparse: True for sparse rows of length 1, as TF-IDF has them.
        """
        ...

    def fit_constant(self, targets: Array, weights: Array) -> BaseEstimator:
        """Fit the model that never looks at its inputs: label shares, or the mean."""
        ...

    def linear_probabilities(self, model: BaseEstimator, inputs: Any, *, outputs: int) -> Array:
        """Ask a fitted model (or a pipeline that ends in one), float64 `(units, outputs)`, as `probabilities` gives."""
        ...

    def spread(self, targets: Array) -> tuple[float, float]:
        """Say around what the logits lie, and how far: where and how wide a head that starts at random should be."""
        ...

    def linear_weights(self, model: BaseEstimator, *, outputs: int) -> tuple[Array, Array]:
        """Read a fitted linear model as a head: weight `(outputs, width)` and bias `(outputs,)`, float64."""
        ...
