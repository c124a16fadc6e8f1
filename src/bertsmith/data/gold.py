"""The columns of gold answers become canonical: one reader for each way in which they may stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data import labels_column
from bertsmith.data.answer_column import from_answers
from bertsmith.data.batches import NESTED
from bertsmith.data.cells import FLOAT, Cells, as_array, shown
from bertsmith.data.labels_column import Arrays
from bertsmith.data.roles import Shape
from bertsmith.data.span_columns import from_spans
from bertsmith.data.token_columns import from_tags
from bertsmith.errors import DataError
from bertsmith.examples import Columns
from bertsmith.tasks import ROLES

GOLD_PARTS = frozenset(["annotators", *ROLES.values()])
"""Parts of a table that hold gold answers."""
_WHOLE = r"^[+-]?\d+$"


@dataclass(frozen=True)
class Gold:
    """Gold answers on their way to canonical columns.

    Attributes:
        columns: The user's columns of gold answers.
        ready: Canonical columns that are there already, such as the text.
        shape: How the gold answers stand.
        notes: Where is told what was mended.
        labelled: True when every row needs a gold answer.
        named: Which column plays which part.
    """

    columns: Sequence[Cells]
    ready: Arrays
    shape: Shape
    notes: list[str]
    labelled: bool
    named: Columns

    @property
    def cells(self) -> Cells:
        """The only column, or the first of several."""
        return self.columns[0]


def gold_arrays(gold: Gold) -> Arrays:
    """Read gold answers.

    Raises:
        DataError: A row has none, or one that is wrong.
    """
    return _FORMS[gold.shape.form](gold)


def _plain(gold: Gold) -> Arrays:
    """Labels as text: 1 is "1", true is "true", an empty cell is missing."""
    cells = gold.cells
    _refuse_nested(cells)
    if pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type):
        labels = _float_labels(cells)
    else:
        labels = _labels(cells)
    if gold.labelled:
        _refuse_gaps(cells, labels)
        _refuse_floats(cells, labels)
    return {"label": labels}


def _levels(gold: Gold) -> Arrays:
    """Labels that have an order: as `_plain`, but numbers with a fraction are levels too."""
    cells = gold.cells
    if pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type):
        labels = pa.chunked_array([_shortest(cells)])
    else:
        labels = _labels(cells)
    if gold.labelled:
        _refuse_gaps(cells, labels)
    return {"label": labels}


def _numbers(gold: Gold) -> Arrays:
    """Numbers to be learned: all finite."""
    cells = gold.cells
    values = cells.numbers()
    empty = pc.is_null(cells.column)
    if cells.is_text:
        empty = pc.or_kleene(empty, pc.equal(pc.utf8_trim_whitespace(cells.column), ""))
    elif pa.types.is_floating(cells.type) and not gold.labelled:
        empty = pc.or_kleene(empty, pc.is_nan(cells.column))
    missing = np.asarray(pc.fill_null(empty, True).to_numpy(), dtype=bool)
    if gold.labelled:
        cells.refuse_missing(missing, "Every row needs a number")
    wrong = np.flatnonzero(~np.isfinite(values) & ~missing)
    if len(wrong):
        place = int(wrong[0])
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' must be a finite number. "
            f"Got {shown(cells.column[place].as_py())} instead.",
            tip="Mend or drop the row. If the column holds classes, say --task single-label.",
        )
    return {"value": pa.array(values, pa.float64(), mask=missing)}


def _tags(gold: Gold) -> Arrays:
    words = gold.ready["words"]
    return from_tags(gold.cells, words, str(gold.named.tokens), labelled=gold.labelled)


def _spans(gold: Gold) -> Arrays:
    return from_spans(gold.cells, gold.ready["text"].to_pylist(), gold.notes, labelled=gold.labelled)


def _answers(gold: Gold) -> Arrays:
    return from_answers(gold.cells, gold.ready["text_pair"].to_pylist(), gold.notes, labelled=gold.labelled)


_FORMS: dict[str, Callable[[Gold], Arrays]] = {
    "plain": _plain,
    "levels": _levels,
    "one-hot": lambda gold: labels_column.from_one_hot(gold.cells, labelled=gold.labelled),
    "shares": lambda gold: labels_column.from_shares(gold.cells, labelled=gold.labelled),
    "votes": lambda gold: labels_column.from_votes(gold.columns, labelled=gold.labelled),
    "lists": lambda gold: labels_column.from_lists(gold.cells, gold.notes, labelled=gold.labelled),
    "cut": lambda gold: labels_column.from_cut_text(
        gold.cells, gold.shape.separator, gold.notes, labelled=gold.labelled
    ),
    "vectors": lambda gold: labels_column.from_vectors(gold.cells, labelled=gold.labelled),
    "columns": lambda gold: labels_column.from_columns(gold.columns, labelled=gold.labelled),
    "numbers": _numbers,
    "tags": _tags,
    "spans": _spans,
    "answers": _answers,
}


def _labels(cells: Cells) -> pa.ChunkedArray:
    """Write labels as text; an empty cell is missing."""
    if pa.types.is_boolean(cells.type):
        return pc.if_else(cells.column, "true", "false").cast(pa.string())
    if pa.types.is_binary(cells.type) or pa.types.is_large_binary(cells.type):
        raise DataError(f"{cells.source}: column '{cells.name}' holds bytes, not labels.")
    labels = cells.column.cast(pa.string())
    empty = pc.fill_null(pc.equal(labels, ""), False)
    return pc.if_else(empty, pa.scalar(None, pa.string()), labels)


def _shortest(cells: Cells) -> pa.Array:
    """Write numbers as short as can be: 1.0 is "1"."""
    numbers = as_array(cells.column.cast(pa.float64()))
    distinct = numbers.dictionary_encode(null_encoding="mask")
    names = [repr(each).removesuffix(".0") for each in distinct.dictionary.to_pylist()]
    found = pa.array(names, pa.string()).take(distinct.indices)
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.string()), found)


def _refuse_gaps(cells: Cells, labels: pa.ChunkedArray) -> None:
    missing = np.asarray(pc.is_null(labels).to_numpy(), dtype=bool)
    cells.refuse_missing(missing, "Every row needs a label")


def _refuse_floats(cells: Cells, labels: pa.ChunkedArray) -> None:
    """Refuse labels that are measurements."""
    floats = pc.match_substring_regex(labels, FLOAT)
    if not len(labels) or not pc.all(floats).as_py():
        return
    broken = pc.invert(pc.match_substring_regex(labels, _WHOLE))
    if pc.any(broken).as_py():
        place = int(pc.index(broken, True).as_py())
        raise _floats(f"{cells.where(place)}: label {labels[place].as_py()!r} in column '{cells.name}'")


def _float_labels(cells: Cells) -> pa.ChunkedArray:
    place = int(pc.index(pc.is_valid(cells.column), True).as_py())
    if place < 0:
        return cells.column.cast(pa.string())
    raise _floats(f"{cells.where(place)}: label {cells.column[place].as_py()} in column '{cells.name}'")


def _floats(found: str) -> DataError:
    return DataError(
        f"{found} is a number with a fraction or a point. Labels must be classes: names or whole numbers.",
        tip="Write classes as 0, 1, 2 (not 1.0), or learn the numbers themselves with --task regression.",
    )


def _refuse_nested(cells: Cells) -> None:
    """Refuse lists and objects where one label is expected."""
    row = (cells.field.metadata or {}).get(NESTED)
    if row is None and not pa.types.is_nested(cells.type):
        return
    place = cells.first_valid() if row is None else int(row) - 1
    raise DataError(
        f"{cells.where(place)}: column '{cells.name}' holds a list or an object, where one label is expected.",
        tip="Rows with several labels are for --task multi-label.",
    )


__all__ = ["GOLD_PARTS", "Gold", "gold_arrays"]
