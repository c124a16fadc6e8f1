"""Arrow lists taken apart and put together, without a Python object a cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Flat:
    """The elements of all lists of a column, one after the other.

    Attributes:
        values: The elements.
        parents: The row of each element, int64, ascending.
        missing: Which rows have no list, bool `(rows,)`.
    """

    values: pa.Array
    parents: Array
    missing: Array

    @classmethod
    def of(cls, lists: pa.ListArray) -> Flat:
        """Take a column of lists apart."""
        missing = np.asarray(pc.is_null(lists).to_numpy(zero_copy_only=False), dtype=bool)
        parents = np.asarray(pc.list_parent_indices(lists).to_numpy(zero_copy_only=False), dtype=np.int64)
        return cls(pc.list_flatten(lists), parents, missing)

    @property
    def lengths(self) -> Array:
        """Elements of each row, int64 `(rows,)`."""
        return np.bincount(self.parents, minlength=len(self.missing)).astype(np.int64)

    def places(self) -> Array:
        """Position of each element in its list, int64 `(elements,)`."""
        lengths = self.lengths
        starts = np.cumsum(lengths) - lengths
        return np.asarray(np.arange(len(self.parents)) - starts[self.parents])

    def keep(self, kept: Array) -> Flat:
        """Keep the elements that are marked, or at ascending positions."""
        places = np.flatnonzero(kept) if kept.dtype == bool else kept
        return Flat(self.values.take(pa.array(places, pa.int64())), self.parents[places], self.missing)

    def lists(self, *, gaps: bool = True) -> pa.ListArray:
        """Put the lists together; rows without one are null, or empty without `gaps`."""
        offsets = pa.array(np.concatenate([[0], np.cumsum(self.lengths)]), pa.int32())
        if gaps and self.missing.any():
            return pa.ListArray.from_arrays(offsets, self.values, mask=pa.array(self.missing))
        return pa.ListArray.from_arrays(offsets, self.values)


def strings(values: pa.Array) -> pa.Array | None:
    """Write texts, whole numbers and truth values as labels are written; None for other kinds."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        return strings(values.cast(kind.value_type))
    if pa.types.is_boolean(kind):
        return pc.if_else(values, "true", "false").cast(pa.string())
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if is_text or pa.types.is_integer(kind) or pa.types.is_null(kind):
        return values.cast(pa.string())
    return None


__all__ = ["Array", "Flat", "strings"]
