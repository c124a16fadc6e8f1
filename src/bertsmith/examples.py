"""The nouns of labelled text: Columns, Examples, LabelSet, and the answers to a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.errors import DataError

UNKNOWN = "UNKNOWN"
"""The answer of a model that declines."""
SIDES = ("train", "validation", "calibration", "test")


@dataclass(frozen=True)
class Columns:
    """Which column of the user's table plays which part; None where there is none.

    Several columns that form one part (0/1 columns of labels, annotators) are a tuple. Where the text comes as
    `tokens`, `text` is None. Of `label`, `labels`, `value`, `tags`, `answers` and `annotators` there is one at most.
    """

    text: str | None = None
    label: str | None = None
    text_pair: str | None = None
    id: str | None = None
    group: str | None = None
    time: str | None = None
    weight: str | None = None
    tokens: str | None = None
    labels: str | tuple[str, ...] | None = None
    value: str | None = None
    tags: str | None = None
    answers: str | None = None
    annotators: tuple[str, ...] | None = None

    def used(self) -> dict[str, str]:
        """Return part → column name, for the parts that there are; several names are joined by commas."""
        return {part: ",".join(names) for part, names in self.names().items()}

    def inputs(self) -> Columns:
        """Return the parts that a model reads, without gold answers, ids and the like."""
        return Columns(self.text, text_pair=self.text_pair, tokens=self.tokens)

    def names(self) -> dict[str, tuple[str, ...]]:
        """Return part → column names, for the parts that there are."""
        parts = ((part.name, getattr(self, part.name)) for part in fields(self))
        return {part: (names,) if isinstance(names, str) else names for part, names in parts if names is not None}


@dataclass(frozen=True)
class Examples:
    """Labelled (or unlabelled) texts as one Arrow table.

    Attributes:
        table: Columns in canonical names, one row an example:
            `text` string (never null); `label` string (null where a row has none), absent in unlabelled
            data; `text_pair` string; `weight` float64; `id`, `group`, `time` as the file has them;
            `file` dictionary<string>: the source as shown to people; `row` int64: the row in that file,
            counted from 1 (a header is not counted); `given` string: "validation" or "test" where the
            user gave that side as a file of its own, else null.
        columns: What the canonical columns were called in the source.
        source: The source in words, for messages.
        extra: The user's other columns, in the same order of rows.
        notes: What was chosen on the user's behalf, one sentence each.
    """

    table: pa.Table
    columns: Columns
    source: str
    extra: pa.Table | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, column: str) -> bool:
        return column in self.table.column_names

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one canonical column."""
        return self.table.column(name)

    def take(self, indices: np.ndarray[Any, Any]) -> Examples:
        """Return the examples at these positions, in this order."""
        picked = pa.array(np.asarray(indices, dtype=np.int64))
        extra = None if self.extra is None else self.extra.take(picked)
        return Examples(self.table.take(picked), self.columns, self.source, extra, self.notes)

    def where(self, indices: Iterable[int], limit: int) -> tuple[str, ...]:
        """Name rows for people, as `file:row`; at most `limit` of them."""
        picked = list(indices)[:limit]
        file = self.column("file").take(pa.array(picked, pa.int64())).to_pylist()
        row = self.column("row").take(pa.array(picked, pa.int64())).to_pylist()
        return tuple(f"{name}:{number}" for name, number in zip(file, row, strict=True))


@dataclass(frozen=True)
class LabelSet:
    """The labels of a model in the order of its logits: the user's strings, untouched.

    >>> LabelSet.of(["b", "a", "b"]).names
    ('a', 'b')
    >>> LabelSet.of(["10", "9"]).names
    ('9', '10')
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, values: Iterable[str]) -> LabelSet:
        """Collect distinct values; whole numbers are put in numeric order, all else in order of code points."""
        distinct = set(values)
        numeric = all(_is_whole_number(value) for value in distinct)
        return cls(tuple(sorted(distinct, key=(lambda value: (int(value), value)) if numeric else None)))

    def __len__(self) -> int:
        return len(self.names)

    def ids(self, values: pa.ChunkedArray | Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Map label names to positions.

        Raises:
            DataError: A value is no label of this set.
        """
        array = values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([pa.array(values, pa.string())])
        found = pc.index_in(array.cast(pa.string()), value_set=pa.array(self.names, pa.string()))
        if found.null_count:
            unknown = array.filter(pc.is_null(found)).unique().to_pylist()
            raise DataError(
                f"unknown label {unknown[0]!r}. The model's labels are {', '.join(self.names[:20])}"
                f"{' …' if len(self) > 20 else ''}.",
                tip="Rows to be scored need the labels that the model was trained with.",
            )
        return np.asarray(found.to_numpy(), dtype=np.int64)

    def id2label(self) -> dict[int, str]:
        """Return position → name, as a model's config has it."""
        return dict(enumerate(self.names))


@dataclass(frozen=True)
class Prediction:
    """The answer to one text.

    Attributes:
        label: The answer; UNKNOWN where the model declines.
        guess: The most probable label, never UNKNOWN.
        score: The probability of `guess`.
        unknown: True where `label` is UNKNOWN.
        scores: Label → probability, for every label.
        out_of_scope: How unlike all that was learned the text is, in the units of the model's scope; None where
            the model has none.
        foreign: True where that is beyond the scope's threshold.
    """

    label: str
    guess: str
    score: float
    unknown: bool = False
    scores: dict[str, float] = field(default_factory=dict, repr=False)
    out_of_scope: float | None = None
    foreign: bool = False

    @property
    def line(self) -> str:
        """The answer and how sure it is, as a terminal shows them."""
        why = " (text from elsewhere)" if self.foreign else ""
        perhaps = f"  perhaps {self.guess}" if self.unknown else ""
        return f"{self.label}  {self.score:.3f}{perhaps}{why}"

    def as_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return what `predict --json` prints; `scores` adds every label's probability."""
        answer = {"label": self.label, "guess": self.guess, "score": self.score, "unknown": self.unknown}
        beyond = {} if self.out_of_scope is None else {"out_of_scope": self.out_of_scope, "foreign": self.foreign}
        return answer | beyond | ({"scores": self.scores} if scores else {})

    def placed(self, out_of_scope: float, *, foreign: bool, refuse: bool) -> Prediction:
        """Return this answer with its place in the model's scope; UNKNOWN where it is foreign and that is refused."""
        found = replace(self, out_of_scope=out_of_scope, foreign=foreign)
        return replace(found, label=UNKNOWN, unknown=True) if foreign and refuse else found


@dataclass(frozen=True)
class LabelsPrediction:
    """The answer to one text that may have any number of labels.

    Attributes:
        labels: The labels that are as probable as their thresholds ask, the most probable first; may be none.
        unknown: True where there are none.
        scores: Label → probability, for every label.
    """

    labels: tuple[str, ...]
    unknown: bool = False
    scores: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def line(self) -> str:
        """The labels, each with its probability; UNKNOWN where there are none."""
        return ", ".join(f"{label} {self.scores[label]:.3f}" for label in self.labels) or UNKNOWN

    def as_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return what `predict --json` prints; `scores` adds every label's probability."""
        answer: dict[str, Any] = {"labels": list(self.labels), "unknown": self.unknown}
        return answer | {"scores": self.scores} if scores else answer


@dataclass(frozen=True)
class NumberPrediction:
    """The answer to one text that has a number.

    Attributes:
        value: The number, in the units of the training rows.
    """

    value: float

    @property
    def line(self) -> str:
        """The number, as a terminal shows it."""
        return f"{self.value:.4g}"

    def as_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return what `predict --json` prints; a number has no scores of labels."""
        return {"value": self.value}


def _is_whole_number(value: str) -> bool:
    return value.isascii() and value.removeprefix("-").isdigit()
