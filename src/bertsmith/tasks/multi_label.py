"""Several labels: each text has any number of K labels, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.encoded import Encoded
from bertsmith.examples import Examples, LabelSet, LabelsPrediction
from bertsmith.findings import Finding
from bertsmith.tasks.label_sets import distinct_sets, numbered_rows, set_matrix
from bertsmith.tasks.protocol import Array, Decision, Metrics, Rows, Statistics, Texts, Unit
from bertsmith.tasks.softening import class_weights
from bertsmith.tasks.squashing import sigmoid

if TYPE_CHECKING:
    import torch
    from sklearn.base import BaseEstimator

UNTUNED = 0.5
"""The threshold of every label where none was tuned."""


class MultiLabel:
    """A sigmoid for each of K labels, binary cross-entropy, thresholds tuned on calibration rows."""

    name = "multi-label"
    role = "labels"
    unit: Unit = "row"
    problem_type: str | None = "multi_label_classification"
    model_class = "AutoModelForSequenceClassification"
    pipeline_tag = "text-classification"
    metrics: tuple[str, ...] = (
        "micro_f1", "macro_f1", "samples_f1", "subset_accuracy", "mean_average_precision", "log_loss",
    )  # fmt: skip
    loss_metrics: frozenset[str] = frozenset({"log_loss"})
    shares: frozenset[str] = frozenset(metrics[:-1])
    stop_metric = "mean_average_precision"
    compared: tuple[str, ...] = ("micro_f1", "macro_f1")
    rungs: tuple[str, ...] = ("majority", "tfidf", "frozen")
    confident = False
    calibrates = "no threshold is tuned, each label is given from 0.5 on"
    named = True

    def labels(self, examples: Examples) -> LabelSet:
        """Collect the distinct labels."""
        names = pc.list_flatten(examples.column("labels")).drop_null().unique()
        return LabelSet.of(names.cast(pa.string()).to_pylist())

    def told(self, examples: Examples, labels: LabelSet) -> str:
        """Say how many rows each label has."""
        from bertsmith.tasks.label_wording import told_labels

        return told_labels(self.counts(examples, labels))

    def counts(self, examples: Examples, labels: LabelSet) -> dict[str, int]:
        """Count the rows of each label."""
        rows = set_matrix(examples.column("labels"), labels).sum(axis=0)
        return dict(zip(labels.names, rows.tolist(), strict=True))

    def check(self, examples: Examples) -> list[Finding]:
        """Look for labels that are alike, rare, everywhere or reserved, and for rows without any."""
        from bertsmith.tasks.set_findings import set_findings

        return set_findings(examples)

    def classes(self, examples: Examples) -> Array:
        """Number each row's set of labels, -1 where it was not labelled, int64 `(rows,)`."""
        return distinct_sets(examples.column("labels"))

    def strata(self, examples: Examples) -> Array:
        """Every side of a split should have the same share of each label: bool `(rows, labels)`."""
        return set_matrix(examples.column("labels"), self.labels(examples))

    def require(self, examples: Examples, labels: LabelSet) -> None:
        """Refuse rows that were not labelled, or that have a label that the model does not know.

        Raises:
            DataError: There are such rows.
        """
        from bertsmith.tasks.requiring import require_column, require_filled, require_known

        require_column(examples, "labels")
        column = examples.column("labels")
        require_filled(examples, pc.is_null(column).to_numpy(), what="list of labels")
        each = pc.list_flatten(column).cast(pa.string())
        known = pc.is_in(each, value_set=pa.array(labels.names, pa.string())).to_numpy()
        strange = np.unique(np.asarray(pc.list_parent_indices(column).to_numpy())[~known])
        require_known(examples, strange, each.filter(pa.array(~known)).slice(0, 1).to_pylist(), labels)

    def targets(self, examples: Examples, encoded: Encoded, labels: LabelSet) -> Array:
        """Return 1 for each label that a row has and 0 for the others, float32 `(rows, labels)`."""
        return set_matrix(examples.column("labels"), labels).astype(np.float32)

    def class_weights(self, targets: Array, scheme: str) -> Array:
        """Weigh rows by how rare their labels are on average, float64 `(rows,)`; "no label" counts as one."""
        sets = np.column_stack([targets, ~targets.any(axis=1)]).astype(np.float64)
        return class_weights(sets / sets.sum(axis=1, keepdims=True), sets.sum(axis=0), scheme)

    def smooth(self, targets: Array, amount: float, *, outputs: int) -> Array:
        """Move each target towards 0.5 by this share of the way, float32 `(rows, labels)`."""
        return np.asarray(targets * (1 - amount) + amount / 2, np.float32) if amount else targets

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor:
        """Sum of weighted binary cross-entropy; logits and targets `(rows, labels)`, weights `(rows,)`."""
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

        return (cross_entropy(logits.float(), targets.float(), reduction="none").sum(dim=1) * weights).sum()

    def denominator(self, targets: Array, weights: Array) -> float:
        """Total weight of the rows times K: the loss is the weighted mean over rows and labels."""
        return float(weights.sum() * targets.shape[1])

    def probabilities(self, logits: Array) -> Array:
        """Sigmoids in float64."""
        return np.asarray(sigmoid(logits.astype(np.float64)))

    def decide(self, rows: Rows, probabilities: Array) -> dict[str, Any]:
        """Tune a threshold for each label; {} without rows."""
        from bertsmith.tasks.thresholds import tuned_thresholds

        if not len(rows.targets):
            return {}
        tuned = tuned_thresholds(rows.targets > UNTUNED, probabilities)
        return {"thresholds": dict(zip(rows.labels.names, tuned.tolist(), strict=True))}

    def decode(self, rows: Rows, probabilities: Array, decision: Decision) -> list[LabelsPrediction]:
        """Answer with the labels that reach their thresholds, the most probable first; UNKNOWN where none does."""
        names, given = rows.labels.names, _given(probabilities, decision, rows.labels)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        answers = []
        for row, ranked, chosen in zip(probabilities.tolist(), order, given, strict=True):
            labels = tuple(names[place] for place in ranked[chosen[ranked]].tolist())
            answers.append(LabelsPrediction(labels, not labels, dict(zip(names, row, strict=True))))
        return answers

    def answer_schema(self) -> pa.Schema:
        """Name the columns of an answer."""
        return pa.schema({"labels": pa.list_(pa.string()), "unknown": pa.bool_()}.items())

    def measure(self, rows: Rows, probabilities: Array) -> Metrics:
        """Compute every metric with scikit-learn's definitions, at a threshold of 0.5 for every label."""
        from bertsmith.tasks.set_metrics import mean_average_precision, set_counted

        found = self.statistics(rows, probabilities, {})
        metrics = {name: float(value) for name, value in set_counted(found.sums).items()}
        metrics |= {name: float(values.mean()) for name, values in found.means.items()}
        metrics["mean_average_precision"] = mean_average_precision(rows.targets > UNTUNED, probabilities)
        return {name: metrics[name] for name in self.metrics}

    def statistics(self, rows: Rows, probabilities: Array, decision: Decision) -> Statistics:
        """Reduce answers to the pairs of right and given sets that occur.

        The sums are those of `set_terms`: `values` is `(pairs, 3 labels + 2)`.
        """
        from bertsmith.tasks.set_metrics import samples_f1, set_losses, set_terms

        truth, given = rows.targets > UNTUNED, _given(probabilities, decision, rows.labels)
        firsts, cells = numbered_rows(np.concatenate([truth, given], axis=1))
        return Statistics(
            cells,
            set_terms(truth[firsts], given[firsts]),
            np.zeros(len(truth), np.int64),
            means={"samples_f1": samples_f1(truth, given), "log_loss": set_losses(truth, probabilities)},
            right=(truth == given).all(axis=1),
        )

    def counted(self, sums: Array) -> dict[str, Array]:
        """Compute micro_f1, macro_f1 and subset_accuracy from sums `(..., 3 labels + 2)`."""
        from bertsmith.tasks.set_metrics import set_counted

        return set_counted(sums)

    def detail(self, rows: Rows, probabilities: Array, decision: Decision) -> dict[str, Any]:
        """Give mean average precision with its interval, each label's own figures, and how many labels rows have."""
        from bertsmith.tasks.classification_metrics import class_reports
        from bertsmith.tasks.set_metrics import average_precisions, map_estimate, set_counts

        truth, given = rows.targets > UNTUNED, _given(probabilities, decision, rows.labels)
        reports = class_reports(set_counts(self.statistics(rows, probabilities, decision).sums), rows.labels)
        extra = zip(_thresholds(decision, rows.labels).tolist(), average_precisions(truth, probabilities), strict=True)
        return {
            "mean_average_precision": map_estimate(truth, probabilities),
            "per_label": [
                report | {"threshold": threshold, "average_precision": float(precision)}
                for report, (threshold, precision) in zip(reports, extra, strict=True)
            ],
            "labels_per_row": {"gold": float(truth.sum(axis=1).mean()), "given": float(given.sum(axis=1).mean())},
        }

    def unit_texts(self, rows: Rows) -> tuple[Texts, Texts | None]:
        """Give the texts of the rows, and their second texts."""
        from bertsmith.tasks.single_label import row_texts

        return row_texts(rows.examples)

    def fit_linear(  # noqa: PLR0913 - the protocol's, and whether there is an intercept
        self, inputs: Any, targets: Array, weights: Array, *, strength: float, seed: int, sparse: bool = False,
        intercept: bool = True,
    ) -> BaseEstimator:  # fmt: skip
        """Fit one logistic regression a label (one against the rest)."""
        from bertsmith.tasks.linear_models import binary_logistic, fit_one_vs_rest

        template = binary_logistic(strength=strength, seed=seed, sparse=sparse, intercept=intercept)
        return fit_one_vs_rest(inputs, targets, weights, template=template)

    def fit_constant(self, targets: Array, weights: Array) -> BaseEstimator:
        """Fit the share of the rows that has each label."""
        from sklearn.dummy import DummyClassifier

        nothing, truth = np.zeros((len(targets), 1)), (targets > UNTUNED).astype(np.int64)
        return DummyClassifier(strategy="prior").fit(nothing, truth, sample_weight=weights)

    def linear_probabilities(self, model: BaseEstimator, inputs: Any, *, outputs: int) -> Array:
        """Ask for the probability of each label."""
        from bertsmith.tasks.linear_models import set_probabilities

        return set_probabilities(model, inputs)

    def spread(self, targets: Array) -> tuple[float, float]:
        """Logits lie around 0, and not far."""
        return 0.0, 1.0

    def linear_weights(self, model: BaseEstimator, *, outputs: int) -> tuple[Array, Array]:
        """Read the logistic regressions as a layer of sigmoids."""
        from bertsmith.tasks.linear_models import sigmoid_weights

        return sigmoid_weights(model)


def _thresholds(decision: Decision, labels: LabelSet) -> Array:
    """Return the threshold of each label, float64 `(labels,)`."""
    tuned = decision.get("thresholds", {})
    return np.array([tuned.get(name, UNTUNED) for name in labels.names])


def _given(probabilities: Array, decision: Decision, labels: LabelSet) -> Array:
    """Say which labels reach their thresholds, bool `(rows, labels)`."""
    return np.asarray(probabilities >= _thresholds(decision, labels))
