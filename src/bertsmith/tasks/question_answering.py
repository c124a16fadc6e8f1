"""Extractive question answering: the span of a context that answers a question, or "no answer".

Each unit (a window's [CLS] token, which stands for "no answer here", and its context tokens) has a start and an
end logit. The softmax of the loss runs over a window's units only: question tokens and padding can be no answers,
so they get no share of it, where transformers' own loss gives them one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.encoded import Encoded
from bertsmith.errors import DataError
from bertsmith.examples import Examples, LabelSet
from bertsmith.findings import Finding
from bertsmith.tasks.answer_spans import Spans, answerable, best_spans, gold_texts, gold_units, unit_rows
from bertsmith.tasks.protocol import Array, Decision, Metrics, Rows, Statistics, Unit
from bertsmith.tasks.softening import WithoutLabels
from bertsmith.tasks.squad_metrics import answer_scores
from bertsmith.tasks.squashing import softmax

if TYPE_CHECKING:
    import torch
    from sklearn.base import BaseEstimator

NO_ANSWER = "no_answer"
"""The key of a decision: how much better than the best span "no answer" must score to be given."""
OTHER_TOKENS = 40
"""Tokens of a window, on average, that the linear model learns from as no start and no end. On 500 questions with
frozen features ten gave two thirds of the F1."""
_ROWS_NAMED = 5


@dataclass(frozen=True)
class Alternative:
    """One span that may answer a question, or "no answer": `answer` "", and no `start` and `end`."""

    answer: str
    start: int | None
    end: int | None
    score: float

    def as_json(self) -> dict[str, Any]:
        """Return the span as `predict --json --scores` prints it."""
        return {"answer": self.answer, "start": self.start, "end": self.end, "score": self.score}


@dataclass(frozen=True)
class AnswerPrediction:
    """The answer to one question.

    Attributes:
        answer: Characters of the context, as they stand there; "" where the answer is that there is none.
        start: First character in the context, so that `context[start:end] == answer`; None where there is none.
        end: Character after the last one; None where there is none.
        score: Share of this answer in the softmax over the best spans and "no answer".
        unknown: True where the model finds no answer in the context.
        alternatives: The best spans and "no answer", best first; this answer is one of them.
    """

    answer: str
    start: int | None
    end: int | None
    score: float
    unknown: bool = False
    alternatives: tuple[Alternative, ...] = field(default=(), repr=False)

    @property
    def line(self) -> str:
        """The score and the answer."""
        return f"{self.score:.3f}  {'(no answer)' if self.unknown else ' '.join(self.answer.split())}"

    def as_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return what `predict --json` prints, without the question; `scores` adds the alternatives."""
        own = {
            "answer": self.answer,
            "start": self.start,
            "end": self.end,
            "score": self.score,
            "unknown": self.unknown,
        }
        return own | {"alternatives": [each.as_json() for each in self.alternatives]} if scores else own


class QuestionAnswering(WithoutLabels):
    """Start and end logits of tokens, cross-entropy over each window, exact match and F1 as in SQuAD."""

    name = "question-answering"
    role = "answers"
    unit: Unit = "token"
    problem_type: str | None = None
    model_class = "AutoModelForQuestionAnswering"
    pipeline_tag = ""
    metrics: tuple[str, ...] = ("exact_match", "f1")
    loss_metrics: frozenset[str] = frozenset()
    shares: frozenset[str] = frozenset({"exact_match", "f1"})
    stop_metric = "f1"
    compared: tuple[str, ...] = ("f1", "exact_match")
    rungs: tuple[str, ...] = ("frozen",)
    confident = False
    calibrates = "how sure an answer must be is not tuned"
    named = False

    def labels(self, examples: Examples) -> LabelSet:
        """Name the two logits."""
        return LabelSet(("start", "end"))

    def told(self, examples: Examples, labels: LabelSet) -> str:
        """Say how many questions there are, how many have no answer, and of how many contexts they are asked."""
        named = self.counts(examples, labels)
        without = f"{named['unanswerable']:,} unanswerable, " if named["unanswerable"] else ""
        return f"{named['questions']:,} questions, {without}{named['contexts']:,} contexts"

    def counts(self, examples: Examples, labels: LabelSet) -> dict[str, int]:
        """Count questions, those without an answer, and different contexts."""
        return {
            "questions": len(examples),
            "unanswerable": int((~answerable(examples)).sum()),
            "contexts": pc.count_distinct(examples.column("text_pair")).as_py(),
        }

    def check(self, examples: Examples) -> list[Finding]:
        """Look for answers that do not stand in their context, are too long, empty, missing or in conflict."""
        from bertsmith.tasks.answer_findings import answer_findings

        return answer_findings(examples)

    def classes(self, examples: Examples) -> Array:
        """Answers are no classes: -1 for each row, int64 `(rows,)`."""
        return np.full(len(examples), -1, dtype=np.int64)

    def strata(self, examples: Examples) -> Array:
        """1 for questions that have an answer, 0 for those that have none, int64 `(rows,)`."""
        return answerable(examples).astype(np.int64)

    def require(self, examples: Examples, labels: LabelSet) -> None:
        """Refuse rows without a context or without gold answers (an empty list says that there is no answer).

        Raises:
            DataError: It says which rows.
        """
        for column, what, name in (("text_pair", "context", "contexts"), ("answers", "answers", "answers")):
            if column not in examples:
                raise DataError(
                    f"{examples.source}: no column of {name}.",
                    tip="A question needs its context and, to be scored, its answers: a list of texts, empty for none.",
                )
            missing = np.flatnonzero(pc.is_null(examples.column(column)).to_numpy())
            if len(missing):
                places = ", ".join(examples.where(missing.tolist(), _ROWS_NAMED))
                more = f" and {len(missing) - _ROWS_NAMED:,} more" if len(missing) > _ROWS_NAMED else ""
                raise DataError(
                    f"{examples.source}: no {what} in {len(missing):,} of {len(examples):,} rows: {places}{more}.",
                    tip="Fill them in or remove these rows; an empty list of answers says that there is none.",
                )

    def targets(self, examples: Examples, encoded: Encoded, labels: LabelSet) -> Array:
        """Mark each window's start and end, float32 `(units, 2)`: [CLS] where the answer is not wholly in it."""
        return gold_units(examples, encoded)

    def loss(
        self, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, windows: torch.Tensor
    ) -> torch.Tensor:
        """Sum each window's cross-entropy over its units, the mean of start and end."""
        logits = logits.float()
        per_window = logits.new_zeros(int(windows.max()) + 1 if len(windows) else 0, logits.shape[1])
        # A window's maximum changes nothing but keeps exp() in range.
        places = windows[:, None].expand_as(logits)
        highest = per_window.scatter_reduce(0, places, logits.detach(), "amax", include_self=False)
        shifted = logits - highest[windows]
        total = per_window.index_add(0, windows, shifted.exp()).log()
        surprise = (total[windows] - shifted) * targets
        return (surprise.mean(dim=1) * weights).sum()

    def denominator(self, targets: Array, weights: Array) -> float:
        """Total weight of the windows: each has one start."""
        return float((targets[:, 0] * weights).sum())

    def probabilities(self, logits: Array) -> Array:
        """The logits themselves, in float64: spans of different windows are compared by them."""
        return np.asarray(logits, dtype=np.float64)

    def decide(self, rows: Rows, probabilities: Array) -> dict[str, Any]:
        """Tune how sure "no answer" must be; {} (always answer) where every question has an answer.

        The threshold maximises F1, as the SQuAD 2.0 scorer's best threshold does; it lies half way between two
        questions, so that rounding moves no answer.
        """
        if not len(rows) or answerable(rows.examples).all():
            return {}
        spans = best_spans(rows.encoded, probabilities)
        golds = gold_texts(rows.examples)
        given = answer_scores(_answers(rows, spans, ~spans.found), golds)[:, 1]
        declined = answer_scores([""] * len(rows), golds)[:, 1]
        found = spans.found
        return {NO_ANSWER: _threshold(spans.margin[found], (given - declined)[found])}

    def decode(self, rows: Rows, probabilities: Array, decision: Decision) -> list[AnswerPrediction]:
        """Answer with the best span; with "no answer" where that scores higher by more than the threshold.

        Without a threshold every question is answered whose context has a token.
        """
        spans = best_spans(rows.encoded, probabilities)
        declined = _declined(spans, decision)
        contexts = rows.examples.column("text_pair").to_pylist()
        ranked = _alternatives(spans, contexts)
        return [_prediction(each, unknown) for each, unknown in zip(ranked, declined.tolist(), strict=True)]

    def answer_schema(self) -> pa.Schema:
        """Name and type the columns of an answer in a file."""
        return pa.schema(
            [
                ("answer", pa.string()),
                ("start", pa.int64()),
                ("end", pa.int64()),
                ("score", pa.float64()),
                ("unknown", pa.bool_()),
            ]
        )

    def measure(self, rows: Rows, probabilities: Array) -> Metrics:
        """Compute exact match and F1 at the threshold 0; all is answered where every question has an answer."""
        tuned = {} if answerable(rows.examples).all() else {NO_ANSWER: 0.0}
        means = _scored(rows, probabilities, tuned)[0].mean(axis=0).tolist()
        return dict(zip(self.metrics, means, strict=True))

    def statistics(self, rows: Rows, probabilities: Array, decision: Decision) -> Statistics:
        """Reduce answers to pairs of exact match and F1."""
        scores, _ = _scored(rows, probabilities, decision)
        outcomes, cells = np.unique(scores, axis=0, return_inverse=True)
        values = np.column_stack([outcomes, np.ones(len(outcomes))])
        return Statistics(cells.reshape(-1), values, self.strata(rows.examples), right=scores[:, 0] == 1)

    def counted(self, sums: Array) -> dict[str, Array]:
        """Divide the sums of exact match and F1 by the number of questions."""
        return {name: sums[..., place] / sums[..., 2] for place, name in enumerate(self.metrics)}

    def detail(self, rows: Rows, probabilities: Array, decision: Decision) -> dict[str, Any]:
        """Give exact match and F1 of kinds of questions: by answer, by its length, by question word."""
        from bertsmith.tasks.answer_detail import answer_detail

        scores, declined = _scored(rows, probabilities, decision)
        return answer_detail(rows.examples, scores, declined) | dict(decision)

    def unit_texts(self, rows: Rows) -> tuple[list[str], None]:
        """Give each token's characters; "" for [CLS]."""
        return list(_unit_texts(rows)), None

    def fit_linear(
        self, inputs: Any, targets: Array, weights: Array, *, strength: float, seed: int, sparse: bool = False
    ) -> BaseEstimator:
        """Fit two logistic regressions over tokens: is this the start, is this the end?

        All starts and ends are learned from, and some of the tokens that are neither. They are not balanced: that
        moves the bias above all, which is the same for all tokens of a window.
        """
        from sklearn.linear_model import LogisticRegression
        from sklearn.multioutput import MultiOutputClassifier

        model = MultiOutputClassifier(LogisticRegression(C=strength, max_iter=1000, random_state=seed))
        units = _learned(targets, seed)
        return model.fit(inputs[units], np.asarray(targets)[units] > 0, sample_weight=np.asarray(weights)[units])

    def fit_constant(self, targets: Array, weights: Array) -> BaseEstimator:
        """Fit the model that finds all tokens equal."""
        from sklearn.dummy import DummyRegressor

        return DummyRegressor().fit(np.zeros((len(targets), 1)), targets, sample_weight=weights)

    def linear_probabilities(self, model: BaseEstimator, inputs: Any, *, outputs: int) -> Array:
        """Ask for log odds, which serve as logits, float64 `(units, 2)`."""
        steps = [step for _, step in getattr(model, "steps", [("", model)])]
        for step in steps[:-1]:
            inputs = step.transform(inputs)
        judges = getattr(steps[-1], "estimators_", None)
        if judges is None:
            return np.asarray(steps[-1].predict(np.zeros((inputs.shape[0], 1))), np.float64)
        return np.column_stack([judge.decision_function(inputs) for judge in judges]).astype(np.float64)

    def spread(self, targets: Array) -> tuple[float, float]:
        """Logits lie around 0, and not far."""
        return 0.0, 1.0

    def linear_weights(self, model: BaseEstimator, *, outputs: int) -> tuple[Array, Array]:
        """Read the two regressions as a head: weight `(2, width)` and bias `(2,)`, float64."""
        weight = np.concatenate([judge.coef_ for judge in model.estimators_])
        bias = np.concatenate([judge.intercept_ for judge in model.estimators_])
        return weight.astype(np.float64), bias.astype(np.float64)


def _learned(targets: Array, seed: int) -> Array:
    """Choose the units that the linear model learns from: all that are marked, some of the others."""
    marked = (np.asarray(targets) > 0).any(axis=1)
    others = np.flatnonzero(~marked)
    most = OTHER_TOKENS * int(np.count_nonzero(targets[:, 0]))
    if len(others) > most:
        others = np.random.default_rng(seed).choice(others, most, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(marked), others]))


def _declined(spans: Spans, decision: Decision) -> Array:
    return np.asarray(~spans.found | (spans.margin > decision.get(NO_ANSWER, np.inf)))


def _answers(rows: Rows, spans: Spans, declined: Array) -> Iterator[str]:
    """Give the best span's characters for each row, "" for those that are declined."""
    contexts = rows.examples.column("text_pair")
    best = np.minimum(spans.begins[:-1], max(len(spans.starts) - 1, 0))
    if not len(spans.starts):
        return iter([""] * len(rows))
    places = zip(contexts.to_pylist(), spans.starts[best].tolist(), spans.ends[best].tolist(), strict=True)
    return (
        "" if none else context[start:end]
        for (context, start, end), none in zip(places, declined.tolist(), strict=True)
    )


def _scored(rows: Rows, probabilities: Array, decision: Decision) -> tuple[Array, Array]:
    """Score answers, `(rows, 2)` exact match and F1; and say which rows were declined, bool `(rows,)`."""
    spans = best_spans(rows.encoded, probabilities)
    declined = _declined(spans, decision)
    return answer_scores(_answers(rows, spans, declined), gold_texts(rows.examples)), declined


def _threshold(margins: Array, gains: Array) -> float:
    """Find the threshold at which answering gains most; the lowest of equally good ones.

    Args:
        margins: By how much "no answer" scores above the best span, `(rows,)`.
        gains: What answering adds to the row's F1, `(rows,)`; negative where declining is right.
    """
    values, which = np.unique(margins, return_inverse=True)
    if not len(values):
        return 0.0
    gained = np.concatenate([[0.0], np.cumsum(np.bincount(which.reshape(-1), weights=gains))])
    edges = np.concatenate([[values[0] - 1], values, [values[-1] + 1]])
    answered = int(np.round(gained, 9).argmax())
    return float((edges[answered] + edges[answered + 1]) / 2)


def _alternatives(spans: Spans, contexts: list[str]) -> Iterator[tuple[Alternative, ...]]:
    """Give each row's spans and, last, "no answer", with their shares."""
    starts, ends = spans.starts.tolist(), spans.ends.tolist()
    for row, context in enumerate(contexts):
        begin, end = int(spans.begins[row]), int(spans.begins[row + 1])
        shares = softmax(np.append(spans.scores[begin:end], spans.null[row])).tolist()
        found = (
            Alternative(context[start:stop], start, stop, share)
            for start, stop, share in zip(starts[begin:end], ends[begin:end], shares, strict=False)
        )
        yield (*found, Alternative("", None, None, shares[-1]))


def _prediction(ranked: tuple[Alternative, ...], unknown: bool) -> AnswerPrediction:
    chosen = ranked[-1] if unknown else ranked[0]
    best_first = tuple(sorted(ranked, key=lambda each: -each.score))
    return AnswerPrediction(chosen.answer, chosen.start, chosen.end, chosen.score, unknown, best_first)


def _unit_texts(rows: Rows) -> Iterator[str]:
    encoded = rows.encoded
    contexts = rows.examples.column("text_pair").to_pylist()
    places = zip(unit_rows(encoded).tolist(), encoded.unit_starts.tolist(), encoded.unit_ends.tolist(), strict=True)
    return (contexts[row][start:end] if start >= 0 else "" for row, start, end in places)
