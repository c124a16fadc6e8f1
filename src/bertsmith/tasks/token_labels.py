"""Token labels: each word of a text has one of K tags, which may mark spans (NER) or stand alone (POS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.encoded import Encoded
from bertsmith.errors import DataError
from bertsmith.examples import Examples, LabelSet
from bertsmith.findings import Finding
from bertsmith.tasks.protocol import Array, Decision, Metrics, Rows, Statistics, Texts, Unit
from bertsmith.tasks.softening import class_weights, smoothed
from bertsmith.tasks.squashing import softmax
from bertsmith.tasks.tags import OUTSIDE, PLAIN, Reading, Tagged, scheme_of

if TYPE_CHECKING:
    import torch
    from sklearn.base import BaseEstimator

    from bertsmith.tasks.spans import SpansPrediction


class TokenLabels:
    """Softmax over K tags for each word, cross-entropy, strict F1 of spans.

    Where tags mark no spans (`tags.PLAIN`), each word is a span: `span_f1` is then the token accuracy.
    """

    name = "token-labels"
    role = "tags"
    unit: Unit = "word"
    problem_type: str | None = None
    model_class = "AutoModelForTokenClassification"
    pipeline_tag = "token-classification"
    metrics: tuple[str, ...] = ("span_f1", "span_precision", "span_recall", "token_accuracy", "macro_f1", "log_loss")
    loss_metrics: frozenset[str] = frozenset({"log_loss"})
    shares: frozenset[str] = frozenset(metrics) - loss_metrics
    stop_metric = "span_f1"
    compared: tuple[str, ...] = ("span_f1", "token_accuracy")
    rungs: tuple[str, ...] = ("majority", "words", "frozen")
    confident = False
    calibrates = "tags and spans need none"
    named = False

    def labels(self, examples: Examples) -> LabelSet:
        """Collect the distinct tags of the repaired sequences, `O` first."""
        names = _repaired(examples).names
        rest = LabelSet.of(name for name in names if name != OUTSIDE).names
        return LabelSet((OUTSIDE, *rest) if OUTSIDE in names else rest)

    def told(self, examples: Examples, labels: LabelSet) -> str:
        """Say how many spans of each type there are, or how many words have each tag."""
        tagged = _repaired(examples)
        reading = Reading.of(tagged.names)
        types = reading.spans(tagged.ids, tagged.offsets).types
        sizes = np.bincount(types, minlength=len(reading.types)).tolist()
        counts = dict(zip(reading.types, sizes, strict=True))
        ranked = sorted(counts, key=lambda name: -counts[name])
        shown = " · ".join(f"{name} {counts[name]:,}" for name in ranked[:6])
        more = f" · {len(ranked) - 6} more" if len(ranked) > 6 else ""
        scheme = scheme_of(tagged.names)
        kind = f"{len(ranked)} tags" if scheme is PLAIN else f"spans of {len(ranked)} types ({scheme.name})"
        return f"{len(tagged.ids):,} words, {kind}: {shown}{more}"

    def counts(self, examples: Examples, labels: LabelSet) -> dict[str, int]:
        """Count the words of each tag."""
        tagged = _repaired(examples, labels)
        found = dict(zip(tagged.names, tagged.sizes.tolist(), strict=True))
        return {name: found.get(name, 0) for name in labels.names}

    def check(self, examples: Examples) -> list[Finding]:
        """Look for tags that are missing, broken sequences, alike or rare, and for odd sentences."""
        from bertsmith.tasks.token_findings import token_findings

        return token_findings(examples)

    def classes(self, examples: Examples) -> Array:
        """Number each row's sequence of tags, -1 where there is none, int64 `(rows,)`."""
        column = examples.column("tags").cast(pa.list_(pa.string()))
        joined = pc.binary_join(column, "\x1f")
        found = pc.index_in(joined, value_set=pa.array(joined.drop_null().unique(), pa.string()))
        return np.asarray(pc.fill_null(found, -1).to_numpy(), np.int64)

    def strata(self, examples: Examples) -> Array:
        """Give each row the rarest type that it holds, so that rare types are on every side.

        Returns:
            int64 `(rows,)`: 0 for rows without spans; then the types, from that in most rows to that in the fewest;
            -1 for rows without tags.
        """
        tagged = _repaired(examples)
        reading = Reading.of(tagged.names)
        types = reading.type_of[tagged.ids]
        rows, types = tagged.rows[types >= 0], types[types >= 0]
        pairs = np.unique(types * len(examples) + rows)
        holding = np.bincount(pairs // max(1, len(examples)), minlength=len(reading.types))
        ranks = np.empty(len(reading.types), np.int64)
        ranks[np.argsort(-holding, kind="stable")] = np.arange(1, len(reading.types) + 1)
        strata = np.where(tagged.known, 0, -1)
        np.maximum.at(strata, rows, ranks[types])
        return strata.astype(np.int64)

    def require(self, examples: Examples, labels: LabelSet) -> None:
        """Refuse rows without tags, with more or fewer tags than words, or with tags that the model does not know.

        Raises:
            DataError: There are such rows.
        """
        from bertsmith.tasks.requiring import require_column, require_filled, require_known

        require_column(examples, "tags")
        tagged = _repaired(examples, labels)
        bare = np.bincount(tagged.rows[tagged.ids < 0], minlength=len(examples)) > 0
        require_filled(examples, bare | ~tagged.known, what="tag for every word")
        _require_even(examples, tagged)
        known = np.array([name in labels.names for name in tagged.names], dtype=bool)
        words = np.flatnonzero(~known[tagged.ids])
        require_known(
            examples, np.unique(tagged.rows[words]), [tagged.names[tag] for tag in tagged.ids[words[:1]]], labels
        )

    def targets(self, examples: Examples, encoded: Encoded, labels: LabelSet) -> Array:
        """Return the label position of each word's repaired tag, int64 `(words,)`."""
        tagged = _repaired(examples, labels)
        return labels.ids(list(tagged.names))[tagged.ids] if len(tagged.ids) else np.zeros(0, np.int64)

    def class_weights(self, targets: Array, scheme: str) -> Array:
        """Weigh words by how rare their tags are, float64 `(words,)`."""
        return class_weights(targets, np.bincount(targets), scheme)

    def smooth(self, targets: Array, amount: float, *, outputs: int) -> Array:
        """Spread a share of each target over all tags, float32 `(words, tags)`."""
        return smoothed(targets, amount, outputs=outputs)

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor:
        """Sum of weighted cross-entropy; logits `(words, tags)`, targets as above or smoothed, weights `(words,)`."""
        from torch.nn.functional import cross_entropy

        return (cross_entropy(logits.float(), targets, reduction="none") * weights).sum()

    def denominator(self, targets: Array, weights: Array) -> float:
        """Total weight of the words: the loss is their weighted mean."""
        return float(weights.sum())

    def probabilities(self, logits: Array) -> Array:
        """Softmax in float64."""
        return np.asarray(softmax(logits.astype(np.float64)))

    def decide(self, rows: Rows, probabilities: Array) -> dict[str, Any]:
        """Tune nothing: the most probable tag is the answer."""
        return {}

    def decode(self, rows: Rows, probabilities: Array, decision: Decision) -> list[SpansPrediction]:
        """Answer with the spans that the most probable tags mark; broken sequences are repaired."""
        from bertsmith.tasks.spans import decode

        return decode(rows, probabilities)

    def answer_schema(self) -> pa.Schema:
        """Name the columns of an answer."""
        from bertsmith.tasks.spans import SCHEMA

        return SCHEMA

    def measure(self, rows: Rows, probabilities: Array) -> Metrics:
        """Compute every metric over all words; spans strictly, as seqeval does with repaired tags."""
        from bertsmith.tasks.token_metrics import row_losses

        counted = self.counted(self._counts(rows, probabilities).sum(axis=0))
        losses = row_losses(rows.targets, probabilities, rows.encoded.units)
        return {**{name: float(value) for name, value in counted.items()}, "log_loss": float(losses.mean())}

    def statistics(self, rows: Rows, probabilities: Array, decision: Decision) -> Statistics:
        """Reduce answers to counts of each sentence, `values` `(cells, 5 + 3 tags)`; equal ones share a cell.

        Resamples keep how many sentences have spans, and how many have none.
        """
        from bertsmith.tasks.token_metrics import row_losses

        offsets = rows.encoded.units
        counts = self._counts(rows, probabilities)
        values, cells = np.unique(counts, axis=0, return_inverse=True)
        spans = Reading.of(rows.labels.names).spans(rows.targets, offsets)
        strata = np.zeros(len(rows), np.int64)
        strata[np.searchsorted(offsets, spans.begins, side="right") - 1] = 1
        losses = row_losses(rows.targets, probabilities, offsets)
        return Statistics(cells.ravel().astype(np.int64), values, strata, means={"log_loss": losses})

    def counted(self, sums: Array) -> dict[str, Array]:
        """Compute all metrics but the log loss from sums `(..., 5 + 3 tags)`."""
        from bertsmith.tasks.token_metrics import counted_metrics

        return counted_metrics(sums)

    def detail(self, rows: Rows, probabilities: Array, decision: Decision) -> dict[str, Any]:
        """Give the figures of each type of span and of each tag, who is taken for whom, and nervaluate's views.

        Returns:
            `scheme`; `words`; `per_class`: strict figures of each type, or of each plain tag; `per_tag` and
            `confusion` (gold x guess): of tags, word by word; `views`: nervaluate's, for tags that mark spans.
        """
        from bertsmith.tasks import token_metrics

        names, gold, guesses = rows.labels.names, rows.targets, probabilities.argmax(axis=1)
        offsets, scheme = rows.encoded.units, scheme_of(rows.labels.names)
        confusion = np.zeros((len(names), len(names)), np.int64)
        np.add.at(confusion, (gold, guesses), 1)
        per_tag = token_metrics.figures(names, np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))
        found = {"scheme": scheme.name, "words": len(gold)}
        if scheme is PLAIN:
            return {**found, "per_class": per_tag, "confusion": confusion.tolist()}
        return {
            **found,
            "per_class": token_metrics.span_figures(gold, guesses, offsets, names=names),
            "per_tag": per_tag,
            "confusion": confusion.tolist(),
            "views": token_metrics.views(gold, guesses, offsets, names=names),
        }

    def unit_texts(self, rows: Rows) -> tuple[Texts, Texts | None]:
        """Give the words."""
        from bertsmith.tasks.spans import unit_words

        return unit_words(rows), None

    def fit_linear(
        self, inputs: Any, targets: Array, weights: Array, *, strength: float, seed: int, sparse: bool = False
    ) -> BaseEstimator:
        """Fit a multinomial logistic regression."""
        from bertsmith.tasks.linear_models import logistic

        model = logistic(strength=strength, seed=seed, sparse=sparse)
        return model.fit(inputs, targets, sample_weight=weights)

    def fit_constant(self, targets: Array, weights: Array) -> BaseEstimator:
        """Fit the shares of the tags."""
        from sklearn.dummy import DummyClassifier

        return DummyClassifier(strategy="prior").fit(np.zeros((len(targets), 1)), targets, sample_weight=weights)

    def linear_probabilities(self, model: BaseEstimator, inputs: Any, *, outputs: int) -> Array:
        """Put the columns of the tags that the model saw into their places."""
        from bertsmith.tasks.linear_models import placed_probabilities

        return placed_probabilities(model, inputs, outputs=outputs)

    def spread(self, targets: Array) -> tuple[float, float]:
        """Logits lie around 0, and not far."""
        return 0.0, 1.0

    def linear_weights(self, model: BaseEstimator, *, outputs: int) -> tuple[Array, Array]:
        """Read a logistic regression as a softmax layer."""
        from bertsmith.tasks.linear_models import softmax_weights

        return softmax_weights(model, outputs=outputs)

    def _counts(self, rows: Rows, probabilities: Array) -> Array:
        from bertsmith.tasks.token_metrics import row_counts

        guesses = probabilities.argmax(axis=1)
        return row_counts(rows.targets, guesses, rows.encoded.units, names=rows.labels.names)


def _repaired(examples: Examples, labels: LabelSet | None = None) -> Tagged:
    """Read the tags, every sequence valid: in the scheme of a model's labels, or else in their own."""
    tagged = Tagged.of(examples)
    return tagged.repaired(tagged.scheme if labels is None else scheme_of(labels.names))


def _require_even(examples: Examples, tagged: Tagged) -> None:
    if "words" not in examples:
        return
    words = pc.fill_null(pc.list_value_length(examples.column("words")), 0).to_numpy()
    uneven = np.flatnonzero(words != np.diff(tagged.offsets))
    if len(uneven):
        row = uneven[0]
        raise DataError(
            f"{examples.where([row], 1)[0]}: {_counted(words[row], 'word')}, but "
            f"{_counted(np.diff(tagged.offsets)[row], 'tag')}. Every word needs one tag.",
            tip="Give it as many tags as it has words, or take the row out.",
        )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
