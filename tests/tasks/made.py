"""Rows made for the tests of tasks on whole texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.encoded import Encoded
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.tasks import Rows, Task

SHARES = pa.list_(pa.struct([("name", pa.string()), ("share", pa.float64())]))


def examples_of(**columns: Any) -> Examples:
    """Make rows of reviews.csv with these canonical columns, in two chunks each."""
    tables = {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()}
    rows = len(next(iter(tables.values())))
    known = {"text": pa.array([f"text {row}" for row in range(rows)]), "file": pa.array(["reviews.csv"] * rows)}
    table = pa.table({**known, "row": pa.array(np.arange(1, rows + 1)), **tables})
    halves = pa.concat_tables([table.slice(0, rows // 2), table.slice(rows // 2)])
    return Examples(halves, Columns("text"), "reviews.csv")


def encoded_of(rows: int) -> Encoded:
    """Make one window of one token a row."""
    table = pa.table(
        {
            "input_ids": pa.array([[1]] * rows, pa.list_(pa.int32())),
            "token_type_ids": pa.array([[0]] * rows, pa.list_(pa.int8())),
            "row": pa.array(np.arange(rows)),
        }
    )
    return Encoded(table, np.zeros(rows, np.int32), 8, 0)


def rows_of(task: Task, examples: Examples, labels: LabelSet | None = None) -> Rows:
    """Prepare rows as the stages do, all of weight 1."""
    labels = labels or task.labels(examples)
    encoded = encoded_of(len(examples))
    return Rows(examples, encoded, task.targets(examples, encoded, labels), np.ones(len(examples)), labels)


def soft_of(shares: np.ndarray[Any, Any], names: list[str], **columns: Any) -> Examples:
    """Make rows with soft labels, whose label is the name of the largest share."""
    lists = [[{"name": name, "share": share} for name, share in zip(names, row, strict=True)] for row in shares]
    best = [names[place] for place in shares.argmax(axis=1)]
    return examples_of(label=best, shares=pa.array(lists, SHARES), **columns)
