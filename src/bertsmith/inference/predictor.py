"""The Predictor: the one way to get answers, in evaluation, on the command line, from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.bundle import BundleInfo
from bertsmith.data.encode import TokenEncoder
from bertsmith.encoded import Encoded, text_column
from bertsmith.encoders import Encoder
from bertsmith.errors import UsageError
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.inference.engine import Done, Engine
from bertsmith.inference.scope import Scope
from bertsmith.tasks import Answer, Rows, Task
from bertsmith.tasks.protocol import Texts

Array = np.ndarray[Any, Any]


AT_ONCE = 16_384
"""Rows whose features are held at a time, where the model has a scope."""


@dataclass(frozen=True)
class Given:
    """What a model gave for some rows.

    Attributes:
        logits: float32 `(units, outputs)`.
        probabilities: What the task decides by, float64, of the same shape.
        foreignness: How unlike all that was learned each row is, float64 `(rows,)`; None where the model has no scope.
    """

    logits: Array
    probabilities: Array
    foreignness: Array | None = None


@dataclass(frozen=True)
class Predictor:
    """A trained model that answers.

    Attributes:
        info: What the bundle says about it.
        task: Turns logits into answers.
        tokens: Turns texts into token ids, as in training.
        engine: Runs the model.
        scope: Tells text from elsewhere; None where the model has none.
    """

    info: BundleInfo
    task: Task
    tokens: TokenEncoder
    engine: Engine | Any
    scope: Scope | None = field(default=None, kw_only=True)

    @property
    def labels(self) -> LabelSet:
        """The labels in the order of the logits."""
        return self.info.label_set

    @property
    def has_scores(self) -> bool:
        """True where an answer has a score for every label."""
        return self.task.role in {"label", "labels"}

    def predict(
        self, texts: Texts, pairs: Texts | None = None, *, words: pa.ChunkedArray | None = None
    ) -> Sequence[Any]:
        """Answer texts (or pairs of texts), one answer each, in their order.

        Batches are made by length; whatever their size, the answer is the same and scores differ by less
        than 1e-5. Texts longer than the model's max length are cut, or cut into windows, as in training.

        Args:
            texts: The texts; one string is refused, since it would be read letter by letter.
            pairs: The second texts, for a model of pairs; the contexts of questions.
            words: Where the words of each text are, for a model of token labels: a list of `start`, `end` a text;
                left out, texts are split at blanks and punctuation.

        Returns:
            One answer a text: a `Prediction`, or what the model's task has instead.

        Raises:
            UsageError: Something is no text, or a second text is missing or not wanted.
        """
        return self.answer(self.rows(texts, pairs, words=words))

    def probabilities(self, texts: Texts, pairs: Texts | None = None) -> Array:
        """Return what is decided by, float64 `(units, outputs)`: for texts with labels, a probability for each."""
        return self.probabilities_of(self.rows(texts, pairs))

    def logits(self, texts: Texts, pairs: Texts | None = None) -> Array:
        """Return the logits, float32 `(units, outputs)`."""
        return self.logits_of(self.encode(texts, pairs))

    def encode(self, texts: Texts, pairs: Texts | None = None, *, words: pa.ChunkedArray | None = None) -> Encoded:
        """Turn texts into token ids as in training.

        Raises:
            UsageError: Something is no text, or a second text is missing or not wanted.
        """
        check_texts(texts, pairs, wants_pairs=self.info.pair)
        return self.tokens.encode(texts, pairs, words=words)

    def rows(self, texts: Texts, pairs: Texts | None = None, *, words: pa.ChunkedArray | None = None) -> Rows:
        """Make rows of texts, with nothing known about their answers."""
        encoded = self.encode(texts, pairs, words=words)
        columns = {"text": texts, "text_pair": pairs, "words": words}
        table = pa.table({name: _column(column) for name, column in columns.items() if column is not None})
        pair = "text_pair" if pairs is not None else None
        examples = Examples(table, Columns("text", text_pair=pair), "texts")
        return Rows(examples, encoded, np.zeros(0), np.ones(len(encoded)), self.labels)

    def answer(self, rows: Rows, *, done: Done | None = None) -> Sequence[Answer]:
        """Answer rows that are already encoded."""
        if self.scope is None:
            return self.task.decode(rows, self.probabilities_of(rows, done=done), self.info.decision)
        return self.decode(rows, self.ask(rows, done=done))

    def ask(self, rows: Rows, *, done: Done | None = None) -> Given:
        """Run the model over rows that are already encoded, and see how foreign they are where it has a scope."""
        if self.scope is None:
            found = self.logits_of(rows.encoded, done=done)
            return Given(found, self.task.probabilities(found))
        parts, scores = [], []
        for begin in range(0, max(1, len(rows)), AT_ONCE):
            some = rows.encoded
            if len(rows) > AT_ONCE:
                some = some.take(np.arange(begin, min(len(rows), begin + AT_ONCE)))
            both = self.engine.logits_and_inputs(some, done=done)
            parts.append(both.logits)
            scores.append(self.scope.scores(both))
        found = np.concatenate(parts)
        return Given(found, self.task.probabilities(found), np.concatenate(scores))

    def decode(self, rows: Rows, given: Given) -> Sequence[Answer]:
        """Turn what the model gave into answers, one a row; what is foreign is UNKNOWN where the bundle says so."""
        answers = self.task.decode(rows, given.probabilities, self.info.decision)
        if self.scope is None or given.foreignness is None:
            return answers
        foreign = self.scope.is_foreign(given.foreignness).tolist()
        refuse = self.info.decision.get("scope") == "refuse"
        placed: list[Any] = list(answers)
        for place, (score, is_foreign) in enumerate(zip(given.foreignness.tolist(), foreign, strict=True)):
            placed[place] = placed[place].placed(score, foreign=is_foreign, refuse=refuse)
        return placed

    @property
    def answer_schema(self) -> pa.Schema:
        """Name and type the columns of an answer in a file."""
        own = self.task.answer_schema()
        if self.scope is None:
            return own
        return own.append(pa.field("out_of_scope", pa.float64())).append(pa.field("foreign", pa.bool_()))

    def probabilities_of(self, rows: Rows, *, done: Done | None = None) -> Array:
        """Return what is decided by, for rows that are already encoded, float64 `(units, outputs)`."""
        return self.task.probabilities(self.logits_of(rows.encoded, done=done))

    def logits_of(self, encoded: Encoded, *, done: Done | None = None) -> Array:
        """Return the logits of rows that are already encoded, float32 `(units, outputs)`."""
        return self.engine.logits(encoded, done=done)

    def deciding(self, decision: dict[str, Any]) -> Predictor:
        """Return the same model with other thresholds."""
        return dataclasses.replace(self, info=dataclasses.replace(self.info, decision=decision))

    def within(self, scope: Scope | None) -> Predictor:
        """Return the same model with another scope, or none."""
        return dataclasses.replace(self, scope=scope)


def token_encoder(info: BundleInfo, task: Task, folder: Path) -> TokenEncoder:
    """Make the encoder of texts that a bundle was trained with."""
    source = Encoder(info.encoder, folder)
    return TokenEncoder(
        source.tokenizer(),
        info.max_length,
        source.pad_id,
        units=task.unit,
        long=info.long,
        stride=info.stride,
        pooling=info.pooling,
    )


def _column(texts: Texts) -> Any:
    return texts if isinstance(texts, pa.ChunkedArray) else text_column(texts)


def check_texts(texts: Texts, pairs: Texts | None, *, wants_pairs: bool) -> None:
    """Refuse what is no list of texts, or no pairs where pairs are due.

    Raises:
        UsageError: It says which entry is wrong, and how.
    """
    if isinstance(texts, str):
        raise UsageError(
            f"texts must be a list of strings. Got the string {texts[:40]!r} instead.", tip="Write [text]."
        )
    if wants_pairs != (pairs is not None):
        wanted = "pairs of texts, so a second list is needed" if wants_pairs else "single texts, so there are no pairs"
        raise UsageError(f"this model was trained on {wanted}.")
    if pairs is not None and len(pairs) != len(texts):
        raise UsageError(f"there are {len(texts)} texts but {len(pairs)} second texts; the numbers must be equal.")
    for column in (texts, pairs):
        if column is None or isinstance(column, pa.ChunkedArray):
            continue
        wrong = next((place for place, text in enumerate(column) if not isinstance(text, str)), None)
        if wrong is not None:
            raise UsageError(f"texts must be strings. Number {wrong + 1} is {column[wrong]!r} instead.")
