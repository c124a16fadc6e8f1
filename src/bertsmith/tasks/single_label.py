"""Single label: each text has exactly one of K labels, or a share of each of them (soft labels)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.encoded import Encoded
from bertsmith.examples import UNKNOWN, Examples, LabelSet, Prediction
from bertsmith.findings import Finding
from bertsmith.tasks.protocol import Array, Decision, Metrics, Rows, Statistics, Texts, Unit
from bertsmith.tasks.softening import class_weights, smoothed
from bertsmith.tasks.squashing import softmax

if TYPE_CHECKING:
    import torch
    from sklearn.base import BaseEstimator


class SingleLabel:
    """Softmax over K labels, cross-entropy, macro-F1."""

    name = "single-label"
    role = "label"
    unit: Unit = "row"
    problem_type: str | None = "single_label_classification"
    model_class = "AutoModelForSequenceClassification"
    pipeline_tag = "text-classification"
    metrics: tuple[str, ...] = ("accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc", "log_loss")
    loss_metrics: frozenset[str] = frozenset({"log_loss"})
    shares: frozenset[str] = frozenset({"accuracy", "macro_f1", "weighted_f1", "balanced_accuracy"})
    stop_metric = "macro_f1"
    compared: tuple[str, ...] = ("accuracy", "macro_f1")
    rungs: tuple[str, ...] = ("majority", "tfidf", "frozen")
    confident = True
    calibrates = "UNKNOWN thresholds cannot be promised"
    named = True

    def labels(self, examples: Examples) -> LabelSet:
        """Collect the distinct labels, those that have but shares among them."""
        names = examples.column("label").drop_null().unique().to_pylist()
        if "shares" in examples:
            names += _share_parts(examples)[1].unique().to_pylist()
        return LabelSet.of(names)

    def told(self, examples: Examples, labels: LabelSet) -> str:
        """Say how many rows each label has."""
        from bertsmith.tasks.label_wording import told_labels

        return told_labels(self.counts(examples, labels))

    def counts(self, examples: Examples, labels: LabelSet) -> dict[str, int]:
        """Count the rows of each label."""
        found = {each["values"]: each["counts"] for each in pc.value_counts(examples.column("label")).to_pylist()}
        return {name: int(found.get(name, 0)) for name in labels.names}

    def check(self, examples: Examples) -> list[Finding]:
        """Look for labels that are missing, alike but for case or blanks, rare, or out of balance."""
        from bertsmith.tasks.label_findings import label_findings

        return label_findings(examples)

    def classes(self, examples: Examples) -> Array:
        """Number the label of each row, -1 where there is none, int64 `(rows,)`."""
        encoded = pc.dictionary_encode(examples.column("label")).combine_chunks()
        indices = encoded.indices if isinstance(encoded, pa.DictionaryArray) else encoded
        return np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)

    def strata(self, examples: Examples) -> Array:
        """Every side of a split should have the same share of each label, int64 `(rows,)`."""
        return self.classes(examples)

    def require(self, examples: Examples, labels: LabelSet) -> None:
        """Refuse rows without a label, or with one that the model does not know.

        Raises:
            DataError: There are such rows.
        """
        from bertsmith.tasks.requiring import require_column, require_filled, require_known

        require_column(examples, "label")
        column = examples.column("label")
        require_filled(examples, pc.is_null(column).to_numpy(), what="label")
        known = pc.is_in(column, value_set=pa.array(labels.names, pa.string()))
        strange = np.flatnonzero(~known.to_numpy())
        require_known(examples, strange, column.take(pa.array(strange[:1])).to_pylist(), labels)

    def targets(self, examples: Examples, encoded: Encoded, labels: LabelSet) -> Array:
        """Return label positions, int64 `(rows,)`, or for soft labels their shares, float64 `(rows, labels)`."""
        if "shares" not in examples:
            return labels.ids(examples.column("label"))
        rows, names, shares = _share_parts(examples)
        targets = np.zeros((len(examples), len(labels)))
        np.add.at(targets, (rows, labels.ids(names)), shares)
        return targets

    def class_weights(self, targets: Array, scheme: str) -> Array:
        """Weigh rows by how rare their labels are, float64 `(rows,)`; soft labels count by their shares."""
        rows = np.bincount(targets) if targets.ndim == 1 else targets.sum(axis=0)
        return class_weights(targets, rows, scheme)

    def smooth(self, targets: Array, amount: float, *, outputs: int) -> Array:
        """Spread a share of each target over all labels, float32 `(rows, labels)`."""
        return smoothed(targets, amount, outputs=outputs)

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor:
        """Sum of weighted cross-entropy; logits `(rows, labels)`, targets as above, weights `(rows,)`."""
        from torch.nn.functional import cross_entropy

        soft = targets.float() if targets.is_floating_point() else targets
        return (cross_entropy(logits.float(), soft, reduction="none") * weights).sum()

    def denominator(self, targets: Array, weights: Array) -> float:
        """Total weight of the rows: the loss is their weighted mean."""
        return float(weights.sum())

    def probabilities(self, logits: Array) -> Array:
        """Softmax in float64."""
        return np.asarray(softmax(logits.astype(np.float64)))

    def decide(self, rows: Rows, probabilities: Array) -> dict[str, Any]:
        """Tune nothing: the most probable label is the answer."""
        return {}

    def decode(self, rows: Rows, probabilities: Array, decision: Decision) -> list[Prediction]:
        """Answer with the most probable label; UNKNOWN where its probability is below the threshold."""
        names, best = rows.labels.names, probabilities.argmax(axis=-1)
        least = _least(decision, rows.labels)
        answers = []
        for row, winner in zip(probabilities.tolist(), best.tolist(), strict=True):
            unknown = row[winner] < least[winner]
            label = UNKNOWN if unknown else names[winner]
            answers.append(Prediction(label, names[winner], row[winner], unknown, dict(zip(names, row, strict=True))))
        return answers

    def answer_schema(self) -> pa.Schema:
        """Name the columns of an answer."""
        kinds = {"label": pa.string(), "guess": pa.string(), "score": pa.float64(), "unknown": pa.bool_()}
        return pa.schema(list(kinds.items()))

    def measure(self, rows: Rows, probabilities: Array) -> Metrics:
        """Compute every metric with scikit-learn's definitions; soft labels count as their largest share."""
        from bertsmith.tasks.classification_metrics import classification_metrics

        return classification_metrics(_gold(rows), probabilities, shares=_soft(rows))

    def statistics(self, rows: Rows, probabilities: Array, decision: Decision) -> Statistics:
        """Reduce answers to the pairs of gold and given label that occur, with three sums a label.

        The sums are rows answered right, rows, and answers of each label: `values` is `(pairs, 3 labels)`.
        """
        from bertsmith.tasks.classification_metrics import row_losses

        gold, guess, classes = _gold(rows), probabilities.argmax(axis=1), probabilities.shape[1]
        pairs, cells = np.unique(gold * classes + guess, return_inverse=True)
        soft = _soft(rows)
        losses = row_losses(gold if soft is None else soft, probabilities)
        return Statistics(
            cells.astype(np.int64), self.terms(pairs // classes, pairs % classes, rows.labels), gold,
            means={"log_loss": losses}, right=gold == guess,
        )  # fmt: skip

    def terms(self, gold: Array, guess: Array, labels: LabelSet) -> Array:
        """Say what a pair of gold and given label adds to the sums, float64 `(pairs, sums)`."""
        every = np.eye(len(labels))
        return np.concatenate([every[gold] * (gold == guess)[:, None], every[gold], every[guess]], axis=1)

    def counted(self, sums: Array) -> dict[str, Array]:
        """Compute all metrics but the log loss from sums `(..., 3 labels)`."""
        from bertsmith.tasks.classification_metrics import Counts, counted_metrics

        return counted_metrics(Counts(*np.split(sums, 3, axis=-1)))

    def detail(self, rows: Rows, probabilities: Array, decision: Decision) -> dict[str, Any]:
        """Give each label's own figures, the confusion matrix (gold x guess), and what soft labels are like."""
        from bertsmith.tasks.classification_metrics import Counts, class_reports, confusion_matrix

        confusion = confusion_matrix(_gold(rows), probabilities.argmax(axis=1), probabilities.shape[1])
        found = {"per_class": class_reports(Counts.of(confusion), rows.labels), "confusion": confusion.tolist()}
        return found | _soft_detail(rows)

    def unit_texts(self, rows: Rows) -> tuple[Texts, Texts | None]:
        """Give the texts of the rows, and their second texts."""
        return row_texts(rows.examples)

    def fit_linear(  # noqa: PLR0913 - the protocol's, and whether there is an intercept
        self, inputs: Any, targets: Array, weights: Array, *, strength: float, seed: int, sparse: bool = False,
        intercept: bool = True,
    ) -> BaseEstimator:  # fmt: skip
        """Fit a multinomial logistic regression; a soft label is as many rows as it has labels with a share."""
        from bertsmith.tasks.linear_models import as_single_labels, logistic

        inputs, positions, weights = as_single_labels(inputs, targets, weights)
        model = logistic(strength=strength, seed=seed, sparse=sparse, intercept=intercept)
        return model.fit(inputs, positions, sample_weight=weights)

    def fit_constant(self, targets: Array, weights: Array) -> BaseEstimator:
        """Fit the label shares."""
        from sklearn.dummy import DummyClassifier

        from bertsmith.tasks.linear_models import as_single_labels

        nothing, positions, weights = as_single_labels(np.zeros((len(targets), 1)), targets, weights)
        return DummyClassifier(strategy="prior").fit(nothing, positions, sample_weight=weights)

    def linear_probabilities(self, model: BaseEstimator, inputs: Any, *, outputs: int) -> Array:
        """Put the columns of the classes that the model saw into their places."""
        from bertsmith.tasks.linear_models import placed_probabilities

        return placed_probabilities(model, inputs, outputs=outputs)

    def spread(self, targets: Array) -> tuple[float, float]:
        """Logits lie around 0, and not far."""
        return 0.0, 1.0

    def linear_weights(self, model: BaseEstimator, *, outputs: int) -> tuple[Array, Array]:
        """Read a logistic regression as a softmax layer."""
        from bertsmith.tasks.linear_models import softmax_weights

        return softmax_weights(model, outputs=outputs)


def _least(decision: Decision, labels: LabelSet) -> list[float]:
    """Return the probability from which on each label is given, `(labels,)`."""
    accept = decision.get("accept", {})
    by_label = accept.get("by_label") or {}
    return [float(by_label.get(name, accept.get("threshold", 0.0))) for name in labels.names]


def row_texts(examples: Examples) -> tuple[Texts, Texts | None]:
    """Give the texts of rows, and their second texts where they are pairs."""
    return examples.column("text"), examples.column("text_pair") if "text_pair" in examples else None


def _share_parts(examples: Examples) -> tuple[Array, pa.ChunkedArray, Array]:
    """Give the row, the label and the share of each share, all in the order of the rows."""
    lists = examples.column("shares")
    parts = pc.list_flatten(lists)
    rows = np.asarray(pc.list_parent_indices(lists).to_numpy(), np.int64)
    names = pc.struct_field(parts, "name").cast(pa.string())
    return rows, names, np.asarray(pc.struct_field(parts, "share").to_numpy(), np.float64)


def _gold(rows: Rows) -> Array:
    """Return the position of each row's label: for soft labels that of the largest share, int64 `(rows,)`."""
    return rows.targets if rows.targets.ndim == 1 else rows.labels.ids(rows.examples.column("label"))


def _soft(rows: Rows) -> Array | None:
    """Return the shares of soft labels, `(rows, labels)`; None where labels are plain."""
    return rows.targets if rows.targets.ndim == 2 else None


def _soft_detail(rows: Rows) -> dict[str, Any]:
    from scipy.special import entr

    soft = _soft(rows)
    if soft is None:
        return {}
    found: dict[str, Any] = {"rows": len(soft), "mean_entropy": float(entr(soft).sum(axis=1).mean())}
    if "votes" in rows.examples:
        from bertsmith.tasks.agreement import agreement, vote_counts

        found["agreement"] = agreement(vote_counts(rows.examples.column("votes"), rows.labels))
    return {"soft": found}
