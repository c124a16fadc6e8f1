"""What gives the label away besides the text: other columns, the order of rows, and single words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.leakage_words import word_findings
from bertsmith.data.text_classes import Classes
from bertsmith.examples import Examples
from bertsmith.findings import Finding
from bertsmith.tasks.label_wording import of_rows

Array = np.ndarray[Any, Any]

PURE = 0.99
"""Share of the rows whose label a column predicts, above which it is said."""
FEWEST_ROWS = 20
"""On fewer rows a column predicts the label by chance."""
FEW_VALUES = 10
"""A column of so few values (or up to two a label) is the label in other words, not who wrote the text."""


def leakage_findings(examples: Examples, classes: Classes) -> Iterator[Finding]:
    """Look for what predicts the label too well. bertsmith itself learns from the text only.

    Args:
        examples: The rows.
        classes: Their labels; nothing is looked for when fewer than two labels occur.
    """
    if len(classes.names) < 2 or classes.labelled < FEWEST_ROWS:
        return
    for role, name, column in _other_columns(examples):
        yield from _column(classes, role, name, column)
    yield from _order(examples, classes)
    yield from word_findings(examples, classes)


def _other_columns(examples: Examples) -> Iterator[tuple[str, str, pa.ChunkedArray]]:
    """Give the part that a column plays, its name in the source, and the column."""
    used = examples.columns.used()
    for part in ("id", "group", "time"):
        if part in examples:
            yield part, used.get(part, part), examples.column(part)
    if examples.extra is not None:
        for name in examples.extra.column_names:
            yield "extra", name, examples.extra.column(name)


def _column(classes: Classes, role: str, name: str, column: pa.ChunkedArray) -> Iterator[Finding]:
    values = _numbered(column)
    if values is None:
        return
    rows = np.flatnonzero((values >= 0) & (classes.ids >= 0))
    right, distinct = _predicted(values[rows], classes.ids[rows], len(classes.names))
    majority = int(np.bincount(classes.ids[rows], minlength=1).max())
    beats_guessing = len(rows) - right < 0.1 * (len(rows) - majority)
    if 2 * len(rows) < classes.labelled or right <= PURE * len(rows) or not beats_guessing:
        return
    says = f"Column '{name}' ({distinct:,} different values) predicts the label of {of_rows(right, len(rows))}"
    yield (
        _same_as_label(role, name, says, right)
        if distinct <= max(FEW_VALUES, 2 * len(classes.names))
        else _shared(role, name, says, right)
    )


def _numbered(column: pa.ChunkedArray) -> Array | None:
    """Number the values of a column, -1 where there is none; None for lists and other nested values."""
    if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
        return None
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    indices = pc.index_in(column, value_set=column.drop_null().unique(), skip_nulls=True)
    return np.asarray(pc.fill_null(indices, -1).to_numpy(), dtype=np.int64)


def _predicted(values: Array, labels: Array, classes: int) -> tuple[int, int]:
    """Count the rows whose label the other rows of the same value predict, and the distinct values.

    A value that occurs once predicts nothing: ids do not give the label away.
    """
    if not len(values):
        return 0, 0
    pairs, counts = np.unique(values * classes + labels, return_counts=True)
    best = np.zeros(int(values.max()) + 1, dtype=np.int64)
    np.maximum.at(best, pairs // classes, counts)
    return int(best[best > 1].sum()), int((best > 0).sum())


def _same_as_label(role: str, name: str, says: str, count: int) -> Finding:
    if role == "group":
        return Finding(
            "leaking-column",
            "warning",
            f"{says}: it is the label in other words.",
            "Do not split by it: a group stays on one side, so a label is learned or measured but not both.",
            count=count,
        )
    return Finding(
        "leaking-column",
        "note",
        f"{says}: it is the label in other words.",
        "Only the text is learned from, so it does no harm; do not put it into the text.",
        count=count,
    )


def _shared(role: str, name: str, says: str, count: int) -> Finding:
    if role == "group":
        return Finding(
            "leaking-column",
            "note",
            f"{says}.",
            "Groups stay on one side of the split, so the score is honest for new groups.",
            count=count,
        )
    return Finding(
        "leaking-column",
        "warning",
        f"{says}.",
        f"If rows of one '{name}' are alike, the test score is too good: split with --group '{name}'.",
        count=count,
    )


def _order(examples: Examples, classes: Classes) -> Iterator[Finding]:
    """Notice one file whose rows stand label after label."""
    ids = classes.ids[_not_given(examples)]
    ids = ids[ids >= 0]
    if len(ids) < FEWEST_ROWS or len(pc.unique(examples.column("file").cast(pa.string()))) > 1:
        return
    occurring = len(np.unique(ids))
    if occurring > 1 and 2 * occurring <= len(ids) and int((ids[1:] != ids[:-1]).sum()) == occurring - 1:
        yield Finding(
            "sorted-by-label",
            "note",
            f"The {len(ids):,} rows stand label after label.",
            "No harm: rows are shuffled before they are split; but the first rows alone are no fair sample.",
            count=len(ids),
        )


def _not_given(examples: Examples) -> Array:
    """Say which rows are of no given side, bool `(rows,)`."""
    if "given" not in examples:
        return np.ones(len(examples), dtype=bool)
    return np.asarray(pc.is_null(examples.column("given")).to_numpy(), dtype=bool)
