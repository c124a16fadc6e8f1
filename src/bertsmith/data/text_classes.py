"""The class of each row, as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.examples import Examples, LabelSet
from bertsmith.tasks.protocol import Task

Array = np.ndarray[Any, Any]

SAMPLE_ROWS = 200_000
"""Rows that costly looks are given; of more rows a seeded sample is looked at."""
NO_LABEL = "(none)"
"""The class of rows that may have labels and have none."""
_NAMED = ("label", "labels")
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
    """Number what the rows are labelled with, in the order of its names.

    One label is a class, and so is a set of labels, named by all of them. Numbers, tags and answers are none:
    what is looked for by class (words that give it away, texts that contradict each other) means nothing there.
    """
    if task.role not in _NAMED or task.role not in examples:
        return Classes((), np.full(len(examples), -1, dtype=np.int64))
    numbers = task.classes(examples)
    found, firsts = np.unique(numbers, return_index=True)
    firsts = firsts[found >= 0]
    given = examples.column(task.role).take(pa.array(firsts)).to_pylist()
    named = [each if isinstance(each, str) else " + ".join(sorted(set(each))) or NO_LABEL for each in given]
    names = LabelSet.of(named).names
    places = np.full(int(numbers.max(initial=-1)) + 2, -1, dtype=np.int64)
    places[numbers[firsts]] = [names.index(name) for name in named]
    return Classes(names, places[numbers])


def sample(rows: int, *, limit: int = SAMPLE_ROWS) -> Array | None:
    """Choose the rows to be looked at, in their order; None when all of them are."""
    if rows <= limit:
        return None
    return np.sort(np.random.default_rng(_SEED).choice(rows, limit, replace=False))
