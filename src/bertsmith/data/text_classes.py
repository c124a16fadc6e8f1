"""The class of each row, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.examples import Examples
from bertsmith.tasks.protocol import Task

Array = np.ndarray[Any, Any]

SAMPLE_ROWS = 200_000
"""Rows that costly looks are given; of more rows a seeded sample is looked at."""
_SEED = 17


@dataclass(frozen=True)
class Classes:
    """The class of each row.

    Attributes:
        names: Labels of the data; none where it is not labelled.
        ids: Position in `names` of each row's label, -1 where it has none, int64 `(rows,)`.
    """

    names: tuple[str, ...]
    ids: Array

    @cached_property
    def sizes(self) -> Array:
        """Rows of each class, int64 `(classes,)`."""
        return np.bincount(self.ids[self.ids >= 0], minlength=len(self.names))

    @property
    def labelled(self) -> int:
        """Rows that have a label."""
        return int(self.sizes.sum())

    def take(self, rows: Array) -> Classes:
        """Return the classes of some rows; names stay as they are."""
        return Classes(self.names, self.ids[rows])


def classes_of(examples: Examples, task: Task) -> Classes:
    """Number the labels of the rows in the order of the task's label set."""
    if "label" not in examples:
        return Classes((), np.full(len(examples), -1, dtype=np.int64))
    names = task.labels(examples).names
    column = examples.column("label").cast(pa.string())
    found = pc.index_in(column, value_set=pa.array(names, pa.string()), skip_nulls=True)
    return Classes(names, np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64))


def sample(rows: int, *, limit: int = SAMPLE_ROWS) -> Array | None:
    """Choose the rows to be looked at, in their order; None when all of them are."""
    if rows <= limit:
        return None
    return np.sort(np.random.default_rng(_SEED).choice(rows, limit, replace=False))
