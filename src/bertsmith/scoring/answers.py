"""Answers as columns beside the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class AnswerColumns:
    """What the columns of the answers are called in a file that has columns of its own.

    Attributes:
        answer: The parts of an answer, as its task names and types them.
        prefix: `predicted_` (as often as needed) where the file has a column of one of these names already.
        labels: Labels whose scores get a column each, in the order of the model; empty when only the answer is
            wanted.
    """

    answer: pa.Schema
    prefix: str = ""
    labels: tuple[str, ...] = ()

    @classmethod
    def beside(cls, names: list[str], answer: pa.Schema, *, labels: tuple[str, ...] = ()) -> AnswerColumns:
        """Choose names that do not clash with the file's own; all get the prefix, or none."""
        prefix = ""
        own = [*answer.names, *(f"score:{label}" for label in labels)]
        while any(prefix + name in names for name in own):
            prefix += "predicted_"
        return cls(answer, prefix, labels)

    @property
    def names(self) -> dict[str, str]:
        """Part of an answer → its column."""
        return {name: self.prefix + name for name in self.answer.names}

    def schema(self, own: pa.Schema) -> pa.Schema:
        """The file's own columns, then the answers."""
        fields = [pa.field(self.prefix + field.name, field.type) for field in self.answer]
        fields += [pa.field(f"{self.prefix}score:{label}", pa.float64()) for label in self.labels]
        return pa.schema([*own, *fields])

    def join(self, batch: pa.RecordBatch, found: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
        """Put the parts of answers (as their `as_json` gives them) beside a batch of rows."""
        columns = [pa.array([each[field.name] for each in found], field.type) for field in self.answer]
        columns += [pa.array([each["scores"][label] for each in found], pa.float64()) for label in self.labels]
        return pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=self.schema(batch.schema))
