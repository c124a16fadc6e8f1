"""Regression: each text has a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bertsmith.encoded import Encoded
from bertsmith.examples import Examples, LabelSet, NumberPrediction
from bertsmith.findings import Finding
from bertsmith.tasks.number_findings import numbers_of
from bertsmith.tasks.protocol import Array, Decision, Metrics, Rows, Statistics, Texts, Unit
from bertsmith.tasks.softening import WithoutLabels

if TYPE_CHECKING:
    import torch
    from sklearn.base import BaseEstimator

BINS = 10
"""Quantiles of the numbers that every side of a split should have the same share of."""
QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)


class Regression(WithoutLabels):
    """One output, mean squared error.

    The output is the number itself, in the units of the data, so that any other program that loads the model
    reads the same number. The loss is not scaled either: the head's start puts outputs where the numbers are,
    and Adam's steps do not depend on the scale of the loss.
    """

    name = "regression"
    role = "value"
    unit: Unit = "row"
    problem_type: str | None = "regression"
    model_class = "AutoModelForSequenceClassification"
    pipeline_tag = "text-classification"
    metrics: tuple[str, ...] = ("mse", "mae", "pearson", "spearman", "r2")
    loss_metrics: frozenset[str] = frozenset({"mse", "mae"})
    shares: frozenset[str] = frozenset()
    stop_metric = "mse"
    compared: tuple[str, ...] = ("mse", "pearson", "spearman")
    rungs: tuple[str, ...] = ("majority", "tfidf", "frozen")
    confident = False
    calibrates = "numbers need none"
    named = False

    def labels(self, examples: Examples) -> LabelSet:
        """Name the one output after the column."""
        return LabelSet((examples.columns.used().get("value", "value"),))

    def told(self, examples: Examples, labels: LabelSet) -> str:
        """Say from where to where the numbers go."""
        values = _finite(examples)
        if not len(values):
            return "no values"
        return f"values {_short(values.min())} to {_short(values.max())}, mean {_short(values.mean())}"

    def counts(self, examples: Examples, labels: LabelSet) -> dict[str, int]:
        """Count the rows that have a number."""
        return {labels.names[0]: len(_finite(examples))}

    def check(self, examples: Examples) -> list[Finding]:
        """Look for numbers that are missing, all the same, few and whole, or far from the rest."""
        from bertsmith.tasks.number_findings import number_findings

        return number_findings(examples)

    def classes(self, examples: Examples) -> Array:
        """Number the distinct numbers, -1 where there is none, int64 `(rows,)`."""
        values = numbers_of(examples)
        _, numbers = np.unique(values, return_inverse=True)
        return np.where(np.isfinite(values), numbers, -1).astype(np.int64)

    def strata(self, examples: Examples) -> Array:
        """Number the quantile that each number falls into, up to 10, -1 where there is none, int64 `(rows,)`."""
        values = numbers_of(examples)
        known = np.isfinite(values)
        if not known.any():
            return np.full(len(values), -1, np.int64)
        edges = np.unique(np.quantile(values[known], np.arange(1, BINS) / BINS))
        return np.where(known, np.searchsorted(edges, values, side="left"), -1).astype(np.int64)

    def require(self, examples: Examples, labels: LabelSet) -> None:
        """Refuse rows without a number.

        Raises:
            DataError: There are such rows.
        """
        from bertsmith.tasks.requiring import require_column, require_filled

        require_column(examples, "value")
        require_filled(examples, ~np.isfinite(numbers_of(examples)), what="number")

    def targets(self, examples: Examples, encoded: Encoded, labels: LabelSet) -> Array:
        """Return the numbers, float64 `(rows,)`."""
        return numbers_of(examples)

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor:
        """Sum of weighted squared errors; logits `(rows, 1)`, targets and weights `(rows,)`."""
        return ((logits.float()[:, 0] - targets.float()) ** 2 * weights).sum()

    def denominator(self, targets: Array, weights: Array) -> float:
        """Total weight of the rows: the loss is their weighted mean."""
        return float(weights.sum())

    def probabilities(self, logits: Array) -> Array:
        """Return the outputs, which are the numbers, in float64 `(rows, 1)`."""
        return np.asarray(logits, np.float64)

    def decide(self, rows: Rows, probabilities: Array) -> dict[str, Any]:
        """Tune nothing."""
        return {}

    def decode(self, rows: Rows, probabilities: Array, decision: Decision) -> list[NumberPrediction]:
        """Answer with the number."""
        return [NumberPrediction(value) for value in probabilities[:, 0].tolist()]

    def answer_schema(self) -> pa.Schema:
        """Name the columns of an answer."""
        return pa.schema([("value", pa.float64())])

    def measure(self, rows: Rows, probabilities: Array) -> Metrics:
        """Compute every metric; coefficients are 0 where they are not defined."""
        counted = self.counted(self.statistics(rows, probabilities, {}).sums)
        return {name: float(counted[name]) for name in self.metrics}

    def statistics(self, rows: Rows, probabilities: Array, decision: Decision) -> Statistics:
        """Give each row an outcome of its own, with the moments of `number_terms`: `values` is `(rows, 13)`."""
        from bertsmith.tasks.number_metrics import number_terms

        count = len(rows.targets)
        return Statistics(
            np.arange(count), number_terms(rows.targets, probabilities[:, 0]), np.zeros(count, dtype=np.int64)
        )

    def counted(self, sums: Array) -> dict[str, Array]:
        """Compute every metric from sums `(..., 13)`."""
        from bertsmith.tasks.number_metrics import number_counted

        return number_counted(sums)

    def detail(self, rows: Rows, probabilities: Array, decision: Decision) -> dict[str, Any]:
        """Give quantiles of the errors (answer minus truth), and the ranges of truth and answers."""
        given, gold = probabilities[:, 0], rows.targets
        quantiles = np.quantile(given - gold, QUANTILES)
        return {
            "errors": {f"{share:g}": float(value) for share, value in zip(QUANTILES, quantiles, strict=True)},
            "range": {"gold": _ends(gold), "given": _ends(given)},
        }

    def unit_texts(self, rows: Rows) -> tuple[Texts, Texts | None]:
        """Give the texts of the rows, and their second texts."""
        from bertsmith.tasks.single_label import row_texts

        return row_texts(rows.examples)

    def fit_linear(  # noqa: PLR0913 - the protocol's, and whether there is an intercept
        self, inputs: Any, targets: Array, weights: Array, *, strength: float, seed: int, sparse: bool = False,
        intercept: bool = True,
    ) -> BaseEstimator:  # fmt: skip
        """Fit a ridge regression; its penalty is 1 / `strength`."""
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=1 / strength, fit_intercept=intercept, random_state=seed)
        return model.fit(inputs, targets, sample_weight=weights)

    def fit_constant(self, targets: Array, weights: Array) -> BaseEstimator:
        """Fit the mean."""
        from sklearn.dummy import DummyRegressor

        return DummyRegressor(strategy="mean").fit(np.zeros((len(targets), 1)), targets, sample_weight=weights)

    def linear_probabilities(self, model: BaseEstimator, inputs: Any, *, outputs: int) -> Array:
        """Ask for the numbers, float64 `(rows, 1)`."""
        return np.asarray(model.predict(inputs), np.float64).reshape(-1, 1)

    def spread(self, targets: Array) -> tuple[float, float]:
        """Return the mean and the standard deviation of the numbers."""
        return (float(targets.mean()), float(targets.std()) or 1.0) if len(targets) else (0.0, 1.0)

    def linear_weights(self, model: BaseEstimator, *, outputs: int) -> tuple[Array, Array]:
        """Read a ridge regression as a layer of one output."""
        weight = np.asarray(model.coef_, np.float64).reshape(1, -1)
        return weight, np.asarray(model.intercept_, np.float64).reshape(-1)[:1]


def _finite(examples: Examples) -> Array:
    values = numbers_of(examples)
    return values[np.isfinite(values)]


def _ends(values: Array) -> list[float]:
    return [float(values.min()), float(values.max())]


def _short(value: float) -> str:
    """Write a number for people: `5.0`, `3.5`, `1,200.0`, `1.23e+09`."""
    return f"{value:,.1f}" if 0.1 <= abs(value) < 1e6 or value == 0 else f"{value:.3g}"
