"""Answers as columns beside the user's own."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from bertsmith.examples import Prediction

_OWN = ("label", "guess", "score", "unknown")


@dataclass(frozen=True)
class AnswerColumns:
    """What the columns of the answers are called in a file that has columns of its own.

    Attributes:
        label: `label`, or `predicted_label` where the file has a column of one of our names already.
        guess: Likewise.
        score: Likewise.
        unknown: Likewise.
        scores: Names of the columns with the probability of each label, in the order of the labels; empty
            when only the answer is wanted.
    """

    label: str
    guess: str
    score: str
    unknown: str
    scores: tuple[str, ...] = ()

    @classmethod
    def beside(cls, names: list[str], *, labels: tuple[str, ...] = ()) -> AnswerColumns:
        """Choose names that do not clash with the file's own; all get the prefix, or none."""
        prefix = ""
        while any(prefix + own in names for own in _OWN) or any(f"{prefix}score:{each}" in names for each in labels):
            prefix += "predicted_"
        label, guess, score, unknown = (prefix + own for own in _OWN)
        return cls(label, guess, score, unknown, scores=tuple(f"{prefix}score:{each}" for each in labels))

    def schema(self, own: pa.Schema) -> pa.Schema:
        """The file's own columns, then the answers."""
        kinds = [pa.string(), pa.string(), pa.float64(), pa.bool_()]
        fields = [
            pa.field(name, kind)
            for name, kind in zip((self.label, self.guess, self.score, self.unknown), kinds, strict=True)
        ]
        fields += [pa.field(name, pa.float64()) for name in self.scores]
        return pa.schema([*own, *fields])

    def join(self, batch: pa.RecordBatch, answers: list[Prediction]) -> pa.RecordBatch:
        """Put the answers beside a batch of rows."""
        columns = [
            pa.array([each.label for each in answers], pa.string()),
            pa.array([each.guess for each in answers], pa.string()),
            pa.array([each.score for each in answers], pa.float64()),
            pa.array([each.unknown for each in answers], pa.bool_()),
        ]
        if self.scores:
            rows = [list(each.scores.values()) for each in answers]
            columns += [pa.array([row[place] for row in rows], pa.float64()) for place in range(len(self.scores))]
        return pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=self.schema(batch.schema))
