"""The nouns of labelled text: Columns, Examples, LabelSet, Prediction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.errors import DataError

SIDES = ("train", "validation", "calibration", "test")


@dataclass(frozen=True)
class Columns:
    """Which column of the user's table plays which part; None where there is none."""

    text: str
    label: str | None = None
    text_pair: str | None = None
    id: str | None = None
    group: str | None = None
    time: str | None = None
    weight: str | None = None

    def used(self) -> dict[str, str]:
        """Return part → column name, for the parts that there are."""
        pairs = ((part.name, getattr(self, part.name)) for part in fields(self))
        return {part: name for part, name in pairs if name is not None}


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
    """

    label: str
    guess: str
    score: float
    unknown: bool = False
    scores: dict[str, float] = field(default_factory=dict, repr=False)


def _is_whole_number(value: str) -> bool:
    return value.isascii() and value.removeprefix("-").isdigit()
