"""Gold labels in all their shapes: lists, cut cells, 0/1 columns, vectors, shares, votes of annotators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.cells import Cells, as_array, shown
from bertsmith.data.lists import Array, Flat, strings
from bertsmith.errors import DataError
from bertsmith.examples import LabelSet

TOLERANCE = 1e-3
"""By how much shares may miss 1; they are rounded when they are written."""
_EVERY_LIST = "Every row needs a list; an empty one means none of the labels"
_EVERY_LABEL = "Every row needs a label"

Arrays = dict[str, pa.ChunkedArray | pa.Array]


def from_lists(cells: Cells, notes: list[str], *, labelled: bool) -> Arrays:
    """Read lists of labels: names, or class ids, which become names.

    Raises:
        DataError: A row has no list, or an element that is no label.
    """
    flat = Flat.of(cells.lists())
    return {"labels": _label_lists(cells, flat, notes, labelled=labelled)}


def from_cut_text(cells: Cells, separator: str, notes: list[str], *, labelled: bool) -> Arrays:
    """Cut each cell at the separator; an empty cell is an empty list, and what is a list already stays one.

    Raises:
        DataError: A cell is missing, or is no text.
    """
    if cells.is_nested:
        return from_lists(cells, notes, labelled=labelled)
    texts = strings(as_array(cells.column))
    if texts is None:
        raise DataError(
            f"{cells.source}: column '{cells.name}' holds {cells.type}, not labels separated by {separator!r}.",
            tip="Name the column of labels with --label COLUMN.",
        )
    flat = Flat.of(pc.split_pattern(texts, separator))
    trimmed = Flat(pc.utf8_trim_whitespace(flat.values), flat.parents, flat.missing)
    filled = np.asarray(pc.not_equal(trimmed.values, "").to_numpy(zero_copy_only=False), dtype=bool)
    return {"labels": _label_lists(cells, trimmed.keep(filled), notes, labelled=labelled)}


def from_vectors(cells: Cells, *, labelled: bool) -> Arrays:
    """Read vectors of 0 and 1, one place a label; the labels are called "0", "1", ….

    Raises:
        DataError: A row has no vector, one of another length, or one with other numbers.
    """
    matrix, missing = _matrix(cells, labelled=labelled)
    _refuse_other_numbers(cells, matrix, missing)
    return {"labels": _chosen(matrix == 1, [str(place) for place in range(matrix.shape[1])], missing)}


def from_one_hot(cells: Cells, *, labelled: bool) -> Arrays:
    """Read vectors with one 1, whose place is the class.

    Raises:
        DataError: A row has no vector, or one with none or several 1.
    """
    matrix, missing = _matrix(cells, labelled=labelled)
    _refuse_other_numbers(cells, matrix, missing)
    several = np.flatnonzero((matrix.sum(axis=1) != 1) & ~missing)
    if len(several):
        place = int(several[0])
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' holds {_cell(cells, place)}, which is no one-hot vector: "
            "exactly one 1 is expected.",
            tip="Where rows may have several labels, say --task multi-label.",
        )
    return {"label": _best(matrix, [str(place) for place in range(matrix.shape[1])], missing)}


def from_shares(cells: Cells, *, labelled: bool) -> Arrays:
    """Read the share of each class: lists, or objects such as {"pos": 0.7, "neg": 0.3}.

    Raises:
        DataError: A row has none, or its shares are negative, not finite, or do not add up to 1.
    """
    nested = as_array(cells.nested())
    if pa.types.is_struct(nested.type):
        matrix, missing, names = _keyed(cells, nested, labelled=labelled)
    else:
        matrix, missing = _matrix(cells, labelled=labelled)
        names = [str(place) for place in range(matrix.shape[1])]
    _refuse_no_shares(cells, matrix, missing)
    return _soft(matrix, names, missing)


def from_columns(columns: Sequence[Cells], *, labelled: bool) -> Arrays:
    """Read one column of 0 and 1 for each label; the labels are called as the columns.

    Raises:
        DataError: A cell is neither 0 nor 1.
    """
    flags = [_flags(cells, labelled=labelled) for cells in columns]
    matrix = np.column_stack(flags)
    return {"labels": _chosen(matrix == 1, [cells.name for cells in columns], np.isnan(matrix).any(axis=1))}


def from_votes(columns: Sequence[Cells], *, labelled: bool) -> Arrays:
    """Read one column for each annotator: the share of votes of each label, and the label of most votes.

    Of equal shares, the label that comes first in the label set is taken.

    Raises:
        DataError: A row has no vote, or a column holds no labels.
    """
    votes = [_votes(cells) for cells in columns]
    labels = LabelSet.of(value for each in votes for value in each.drop_null().unique().to_pylist())
    ids = np.column_stack(
        [
            np.asarray(pc.fill_null(pc.index_in(each, pa.array(labels.names, pa.string())), -1).to_numpy())
            for each in votes
        ]
    )
    missing = np.asarray((ids < 0).all(axis=1))
    if labelled and missing.any():
        _refuse_no_vote(columns, np.flatnonzero(missing))
    counts = np.stack([(ids == label).sum(axis=1) for label in range(len(labels))], axis=1).astype(np.float64)
    flat = pa.concat_arrays(votes).take(
        pa.array(np.arange(len(ids) * len(votes)).reshape(len(votes), len(ids)).T.ravel(), pa.int64())
    )
    offsets = pa.array(np.arange(len(ids) + 1) * len(votes), pa.int32())
    return _soft(counts, list(labels.names), missing) | {"votes": pa.ListArray.from_arrays(offsets, flat)}


def is_flag(column: pa.ChunkedArray) -> bool:
    """Whether every cell of a column is 0 or 1."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return True
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        known = pc.is_in(column, pa.array([0, 1]).cast(kind))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        known = pc.is_in(column, pa.array(["0", "1"]).cast(kind))
    else:
        return False
    return bool(len(column)) and bool(pc.all(known).as_py())


def _label_lists(cells: Cells, flat: Flat, notes: list[str], *, labelled: bool) -> pa.ListArray:
    """Check the elements, and merge those that a row has twice."""
    if labelled:
        cells.refuse_missing(flat.missing, _EVERY_LIST)
    values = strings(flat.values)
    if values is None:
        raise DataError(
            f"{cells.where(int(flat.parents[0]))}: column '{cells.name}' holds lists of {flat.values.type}, "
            "where lists of labels are expected.",
            tip='Write labels as names or whole numbers: ["sport", "news"].',
        )
    wrong = pc.fill_null(pc.equal(values, ""), True).to_numpy(zero_copy_only=False)
    if wrong.any():
        place = int(flat.parents[np.flatnonzero(wrong)[0]])
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' holds {_cell(cells, place)}, in which a label is empty.",
            tip="Name every label, or take the empty one out.",
        )
    return _merged(cells, Flat(values, flat.parents, flat.missing), notes).lists()


def _merged(cells: Cells, flat: Flat, notes: list[str]) -> Flat:
    """Keep the first of equal labels of a row."""
    if not len(flat.values):
        return flat
    codes = flat.values.dictionary_encode()
    keys = flat.parents * len(codes.dictionary) + codes.indices.to_numpy()
    _, first = np.unique(keys, return_index=True)
    if len(first) < len(keys):
        kept = np.zeros(len(keys), dtype=bool)
        kept[first] = True
        rows = np.unique(flat.parents[~kept])
        verb = "row names" if len(rows) == 1 else "rows name"
        notes.append(
            f"{cells.source}: {len(rows)} {verb} a label twice in column '{cells.name}'; it counts once "
            f"(row {cells.named(rows)})."
        )
        return flat.keep(kept)
    return flat


def _matrix(cells: Cells, *, labelled: bool) -> tuple[Array, Array]:
    """Read lists of equally many numbers: float64 `(rows, numbers)`, and which rows have none."""
    flat = Flat.of(cells.lists())
    if labelled:
        cells.refuse_missing(flat.missing, _EVERY_LABEL)
    lengths = flat.lengths
    there = np.flatnonzero(~flat.missing)
    width = int(lengths[there[0]]) if len(there) else 0
    uneven = there[lengths[there] != width]
    if len(uneven):
        place, found = int(uneven[0]), int(lengths[uneven[0]])
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' holds {found} number{'s' * (found != 1)}, "
            f"{width} expected, as in the rows before.",
            tip="Every row needs one number a class.",
        )
    matrix = np.zeros((len(flat.missing), width))
    matrix[there] = _floats(cells, flat).reshape(len(there), width)
    return matrix, flat.missing


def _floats(cells: Cells, flat: Flat) -> Array:
    kind = flat.values.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)) and len(flat.values):
        raise DataError(
            f"{cells.where(int(flat.parents[0]))}: column '{cells.name}' holds {_cell(cells, int(flat.parents[0]))}, "
            "where a list of numbers is expected.",
            tip="Several labels a row: --task multi-label. One label a row: write it as text.",
        )
    number = flat.values.cast(pa.int8()) if pa.types.is_boolean(kind) else flat.values
    values = np.asarray(number.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        place = int(flat.parents[wrong[0]])
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' holds {_cell(cells, place)}, "
            "in which a number is missing or not finite.",
            tip="Every row needs one number a class.",
        )
    return values


def _keyed(cells: Cells, nested: pa.StructArray, *, labelled: bool) -> tuple[Array, Array, list[str]]:
    """Read objects of numbers; a class that an object does not name has the share 0."""
    missing = np.asarray(pc.is_null(nested).to_numpy(zero_copy_only=False), dtype=bool)
    if labelled:
        cells.refuse_missing(missing, _EVERY_LABEL)
    names = [field.name for field in nested.type]
    for field in nested.type:
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            raise DataError(
                f"{cells.where(cells.first_valid())}: column '{cells.name}' holds {_cell(cells, cells.first_valid())}, "
                f"in which '{field.name}' is no number.",
                tip='The share of each class is expected: {"pos": 0.7, "neg": 0.3}.',
            )
    given = [pc.fill_null(pc.struct_field(nested, name).cast(pa.float64()), 0.0) for name in names]
    matrix = np.column_stack([each.to_numpy(zero_copy_only=False) for each in given])
    return np.asarray(matrix, dtype=np.float64), missing, names


def _refuse_no_shares(cells: Cells, matrix: Array, missing: Array) -> None:
    with np.errstate(invalid="ignore"):
        sums = matrix.sum(axis=1)
        good = np.isfinite(matrix).all(axis=1) & (matrix >= 0).all(axis=1) & (np.abs(sums - 1) <= TOLERANCE)
    wrong = np.flatnonzero(~(good | missing))
    if len(wrong):
        place = int(wrong[0])
        negative = (matrix[place] < 0).any()
        found = "one of which is below 0" if negative else f"which add up to {sums[place]:.6g}"
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' holds the numbers {_cell(cells, place)}, {found}. "
            "Shares of classes are at least 0 and add up to 1.",
            tip="Divide each row by its sum, or name another column with --label COLUMN.",
        )


def _refuse_other_numbers(cells: Cells, matrix: Array, missing: Array) -> None:
    wrong = np.flatnonzero(~np.isin(matrix, [0, 1]).all(axis=1) & ~missing)
    if len(wrong):
        place = int(wrong[0])
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' holds {_cell(cells, place)}, where a list of 0 and 1 is "
            "expected.",
            tip="Every row needs a 1 for each label that it has, and a 0 for each other.",
        )


def _flags(cells: Cells, *, labelled: bool) -> Array:
    """Read cells of 0 and 1 as float64; NaN where one is missing in unlabelled data."""
    column = cells.column
    if pa.types.is_boolean(cells.type):
        column = column.cast(pa.int8())
        values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    else:
        values = cells.numbers()
    empty = np.asarray(pc.is_null(column).to_numpy(), dtype=bool)
    if cells.is_text:
        empty |= np.asarray(pc.fill_null(pc.equal(column, ""), True).to_numpy(), dtype=bool)
    if labelled:
        cells.refuse_missing(empty, "A column of one label holds 0 or 1")
    wrong = np.flatnonzero(~np.isin(values, [0, 1]) & ~empty)
    if len(wrong):
        place = int(wrong[0])
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' holds {shown(cells.column[place].as_py())}. "
            "A column of one label holds 0 or 1.",
            tip="Where each row has one label, name its column with --label COLUMN.",
        )
    return np.where(empty, np.nan, values)


def _votes(cells: Cells) -> pa.Array:
    """Read what one annotator said as labels; null where there is no vote."""
    column = as_array(cells.column)
    if pa.types.is_floating(cells.type):
        whole = pc.all(pc.equal(column, pc.round(column))).as_py()
        column = column.cast(pa.int64()) if whole is not False else column
    labels = strings(column)
    if labels is None:
        raise DataError(
            f"{cells.source}: column '{cells.name}' holds {cells.type}, where an annotator's labels are expected.",
            tip="Labels are names or whole numbers.",
        )
    return pc.if_else(pc.equal(labels, ""), pa.scalar(None, pa.string()), labels)


def _refuse_no_vote(columns: Sequence[Cells], rows: Array) -> None:
    names = ", ".join(f"'{cells.name}'" for cells in columns)
    verb = "row is" if len(rows) == 1 else "rows are"
    raise DataError(
        f"{columns[0].where(int(rows[0]))}: no annotator gave a label (columns {names}). Every row needs one vote.",
        tip=f"{len(rows)} {verb} so: {columns[0].named(rows)}. Drop them.",
    )


def _soft(matrix: Array, names: Sequence[str], missing: Array) -> Arrays:
    """Give shares that add to 1 exactly, and the label of the largest; rows without any have an empty list."""
    rows, width = matrix.shape
    sums = np.where(missing, 1.0, matrix.sum(axis=1))
    label = pa.array(list(names), pa.string()).take(pa.array(np.tile(np.arange(width), rows)))
    share = pa.array((matrix / sums[:, None]).ravel(), pa.float64())
    flat = Flat(
        pa.StructArray.from_arrays([label, share], ["name", "share"]), np.repeat(np.arange(rows), width), missing
    )
    return {
        "label": _best(matrix, names, missing),
        "shares": flat.keep(~np.repeat(missing, width)).lists(gaps=False),
    }


def _best(matrix: Array, names: Sequence[str], missing: Array) -> pa.Array:
    """Name the largest of each row, the first of equals."""
    best = matrix.argmax(axis=1) if matrix.shape[1] else np.zeros(len(matrix), np.int64)
    return pa.array(list(names), pa.string()).take(pa.array(best, pa.int64(), mask=missing))


def _chosen(matrix: Array, names: Sequence[str], missing: Array) -> pa.ListArray:
    """Name the labels that are marked in each row."""
    rows, labels = np.nonzero(matrix & ~missing[:, None])
    return Flat(pa.array(list(names), pa.string()).take(pa.array(labels)), rows, missing).lists()


def _cell(cells: Cells, place: int) -> str:
    value = cells.column[place].as_py()
    return value if isinstance(value, str) and len(value) <= 60 else shown(value)


__all__ = [
    "TOLERANCE", "Arrays", "from_columns", "from_cut_text", "from_lists", "from_one_hot", "from_shares",
    "from_vectors", "from_votes", "is_flag",
]  # fmt: skip
