"""The noun of encoded rows: token ids of windows, and which of their outputs count.

A row (an example) has one window or more; a unit is what gets one row of logits: the row itself, a word, or a
token of a window. Nothing here loops over rows: a batch is gathered from Arrow's buffers as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids of some rows, in windows, without padding.

    Attributes:
        table: One row a window: `input_ids` list<int32> and `token_type_ids` list<int8>, special tokens included;
            `row` int64, ascending, every row with at least one window. Where units are words or tokens, also
            `picks` list<int32> (ascending places of the tokens whose outputs count) and `starts`, `ends`
            list<int32> (character offsets of each pick; -1, -1 is "no answer in this window").
        cut: Tokens lost by each row, int32 `(rows,)`.
        max_length: Tokens that a window may have.
        pad_id: Id of the padding token.
        pooling: How the logits of a row's windows become one: `mean` or `max`.
    """

    table: pa.Table
    cut: Array
    max_length: int
    pad_id: int
    pooling: str = "mean"

    def __len__(self) -> int:
        return len(self.cut)

    @property
    def has_picks(self) -> bool:
        """Whether units are words or tokens, not rows."""
        return "picks" in self.table.column_names

    @property
    def tokens_cut(self) -> Array:
        """Tokens lost by each row, int32 `(rows,)`."""
        return self.cut

    @cached_property
    def owners(self) -> Array:
        """Row of each window, int64 `(windows,)`."""
        chunks = self.table.column("row").chunks
        return np.concatenate([np.zeros(0, np.int64), *map(_numbers, chunks)])

    @cached_property
    def window_lengths(self) -> Array:
        """Tokens of each window, int64 `(windows,)`."""
        return self._ids.lengths

    @cached_property
    def lengths(self) -> Array:
        """Tokens of all windows of each row, int64 `(rows,)`."""
        return np.diff(_sums(self.window_lengths)[self._firsts])

    def windows_of(self, rows: Sequence[int] | Array) -> Array:
        """Windows of these rows, in their order, int64 `(windows,)`."""
        return _between(self._firsts, rows)

    @cached_property
    def units(self) -> Array:
        """Where each row's units begin in arrays of all units, int64 `(rows + 1,)`."""
        if not self.has_picks:
            return np.arange(len(self) + 1, dtype=np.int64)
        return _sums(self._lists("picks").lengths)[self._firsts]

    @cached_property
    def unit_starts(self) -> Array:
        """First character of each unit, int32 `(units,)`; only where units are words or tokens."""
        return self._lists("starts").flat()

    @cached_property
    def unit_ends(self) -> Array:
        """Character after each unit, int32 `(units,)`; only where units are words or tokens."""
        return self._lists("ends").flat()

    @cached_property
    def unit_windows(self) -> Array:
        """Window of each unit, int64 `(units,)`; only where units are words or tokens."""
        counts = self._lists("picks").lengths
        return np.repeat(np.arange(len(counts), dtype=np.int64), counts)

    def flat(self, rows: Sequence[int] | Array) -> Array:
        """Places of these rows' units in arrays of all units, in their order, int64 `(units of these rows,)`."""
        return _between(self.units, rows)

    def pad(self, rows: Sequence[int] | Array, *, width: int | None = None) -> dict[str, Array]:
        """Collate all windows of rows into arrays padded to the longest of them (or to `width`).

        Returns:
            What `pad_windows` returns, and `owner` int64 `(windows,)`: the place in `rows` of each window.
        """
        padded = self.pad_windows(self.windows_of(rows), width=width)
        counts = np.diff(self._firsts)[np.asarray(rows, dtype=np.int64)]
        padded["owner"] = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        return padded

    def pad_windows(self, windows: Sequence[int] | Array, *, width: int | None = None) -> dict[str, Array]:
        """Collate windows into arrays padded to the longest of them (or to `width`).

        Returns:
            `input_ids`, `token_type_ids`, `attention_mask`: int64 `(windows, tokens)`. Where units are words or
            tokens, also `pick_window` and `pick_token`: int64 `(units of these windows,)`, the place of each
            unit in those arrays.
        """
        wanted = np.asarray(windows, dtype=np.int64)
        lengths = self.window_lengths[wanted]
        tokens = width or int(lengths.max(initial=0))
        real = np.arange(tokens) < lengths[:, None]
        ids = np.full(real.shape, self.pad_id, dtype=np.int64)
        types = np.zeros(real.shape, dtype=np.int64)
        ids[real] = self._ids.gather(wanted)
        types[real] = self._lists("token_type_ids").gather(wanted)
        padded = {"input_ids": ids, "token_type_ids": types, "attention_mask": real.astype(np.int64)}
        return padded | self._places(wanted) if self.has_picks else padded

    def take(self, rows: Sequence[int] | Array) -> Encoded:
        """Some of the rows, in the order given, numbered anew."""
        wanted = np.asarray(rows, dtype=np.int64)
        counts = np.diff(self._firsts)[wanted]
        table = self.table.take(number_column(self.windows_of(wanted)))
        numbers = number_column(np.repeat(np.arange(len(wanted), dtype=np.int64), counts))
        table = table.set_column(table.column_names.index("row"), "row", numbers)
        return replace(self, table=table, cut=self.cut[wanted])

    def _places(self, windows: Array) -> dict[str, Array]:
        picks = self._lists("picks")
        counts = picks.lengths[windows]
        return {
            "pick_window": np.repeat(np.arange(len(windows), dtype=np.int64), counts),
            "pick_token": picks.gather(windows).astype(np.int64),
        }

    @cached_property
    def _firsts(self) -> Array:
        """First window of each row, and the number of windows: int64 `(rows + 1,)`."""
        return np.searchsorted(self.owners, np.arange(len(self) + 1)).astype(np.int64)

    @cached_property
    def _views(self) -> dict[str, _Lists]:
        return {}

    @property
    def _ids(self) -> _Lists:
        return self._lists("input_ids")

    def _lists(self, name: str) -> _Lists:
        if name not in self._views:
            self._views[name] = _Lists.of(self.table.column(name))
        return self._views[name]


@dataclass(frozen=True, eq=False)
class _Lists:
    """Zero-copy views of a list column: of every chunk its offsets and its values."""

    chunks: tuple[tuple[Array, Array], ...]
    dtype: Any

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> _Lists:
        chunks = tuple(
            (_numbers(chunk.offsets).astype(np.int64), _numbers(chunk.values)) for chunk in column.chunks if len(chunk)
        )
        return cls(chunks, column.type.value_type.to_pandas_dtype())

    @cached_property
    def lengths(self) -> Array:
        """Values of each list, int64 `(lists,)`."""
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(offsets) for offsets, _ in self.chunks)])

    @cached_property
    def _firsts(self) -> Array:
        """First list of each chunk, and the number of lists."""
        return _sums(np.array([len(offsets) - 1 for offsets, _ in self.chunks], dtype=np.int64))

    def flat(self) -> Array:
        """All values, one list after the other."""
        parts = (values[offsets[0] : offsets[-1]] for offsets, values in self.chunks)
        return np.concatenate([np.zeros(0, self.dtype), *parts])

    def gather(self, lists: Array) -> Array:
        """Values of some lists, one after the other."""
        lengths = self.lengths[lists]
        places = _sums(lengths)
        gathered = np.empty(int(places[-1]), dtype=self.dtype)
        chunk_of = np.searchsorted(self._firsts, lists, side="right") - 1
        for chunk in np.unique(chunk_of):
            offsets, values = self.chunks[chunk]
            mine = np.flatnonzero(chunk_of == chunk)
            begins = offsets[lists[mine] - self._firsts[chunk]]
            gathered[_ranges(places[mine], lengths[mine])] = values[_ranges(begins, lengths[mine])]
        return gathered


def number_column(numbers: Array) -> pa.Array:
    """View numbers, `(rows,)`, as a column, without a copy.

    `pa.array` would import pandas where it is installed, which takes longer than answering a text.

    >>> number_column(np.array([3, 1])).to_pylist()
    [3, 1]
    """
    values = np.ascontiguousarray(numbers)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def _numbers(column: pa.Array) -> Array:
    """View a column of numbers without gaps, `(rows,)`, as `number_column` does the other way round."""
    dtype = column.type.to_pandas_dtype()
    values = column.buffers()[1]
    found = np.zeros(0, dtype) if values is None else np.frombuffer(values, dtype)
    return found[column.offset : column.offset + len(column)]


def text_column(texts: Sequence[str]) -> pa.Array:
    """Make a column of texts; of a few without pandas, as `number_column` does.

    >>> text_column(["a", "é"]).to_pylist()
    ['a', 'é']
    """
    if len(texts) > _FEW:
        return pa.array(texts, pa.string())
    builder = pa.lib.StringBuilder()
    builder.append_values(texts)
    return builder.finish()


_FEW = 1000


def _sums(counts: Array) -> Array:
    """Running sums that begin with zero: int64 `(counts + 1,)`."""
    sums = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=sums[1:])
    return sums


def _ranges(begins: Array, lengths: Array) -> Array:
    """The numbers from each begin on, as many as its length says, one range after the other."""
    sums = _sums(lengths)
    ranges: Array = np.arange(sums[-1], dtype=np.int64) + np.repeat(begins - sums[:-1], lengths)
    return ranges


def _between(firsts: Array, rows: Sequence[int] | Array) -> Array:
    """All places of some rows, where `firsts` says at which place each row begins."""
    wanted = np.asarray(rows, dtype=np.int64)
    return _ranges(firsts[wanted], firsts[wanted + 1] - firsts[wanted])
