"""Sets of labels: Arrow lists as matrices and as numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.examples import LabelSet
from bertsmith.tasks.protocol import Array


def set_matrix(lists: pa.ChunkedArray, labels: LabelSet) -> Array:
    """Say which labels each row has, bool `(rows, labels)`.

    A row that was not labelled has none, and a label without a name is none.

    Raises:
        DataError: A label is not of this set.
    """
    matrix = np.zeros((len(lists), len(labels)), dtype=bool)
    each = _each(lists)
    named = pc.is_valid(each)
    rows = np.asarray(pc.list_parent_indices(lists).to_numpy())[named.to_numpy()]
    matrix[rows, labels.ids(each.filter(named))] = True
    return matrix


def distinct_sets(lists: pa.ChunkedArray) -> Array:
    """Number the sets of labels, in whatever order they are written; -1 where a row was not labelled.

    Returns:
        int64 `(rows,)`.
    """
    names = LabelSet.of(_each(lists).drop_null().unique().to_pylist())
    _, numbers = numbered_rows(set_matrix(lists, names))
    return np.asarray(np.where(pc.is_null(lists).to_numpy(), -1, numbers))


def numbered_rows(matrix: Array) -> tuple[Array, Array]:
    """Number the distinct rows of a bool matrix, `(rows, columns)`.

    Returns:
        The first row of each number, int64 `(distinct,)`, and the number of each row, int64 `(rows,)`.
    """
    numbers = np.zeros(len(matrix), dtype=np.int64)
    # Words of 64 columns: sorting whole numbers is ten times faster than sorting rows.
    for begin in range(0, matrix.shape[1], 64):
        packed = np.packbits(matrix[:, begin : begin + 64], axis=1)
        padded = np.zeros((len(matrix), 8), np.uint8)
        padded[:, : packed.shape[1]] = packed
        words, places = np.unique(padded.view(np.uint64)[:, 0], return_inverse=True)
        _, numbers = np.unique(numbers * len(words) + places.reshape(-1), return_inverse=True)
    _, firsts = np.unique(numbers, return_index=True)
    return firsts, numbers.reshape(-1).astype(np.int64)


def _each(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.list_flatten(lists).cast(pa.string())
