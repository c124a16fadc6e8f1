"""encode: texts become token ids, and what had to be cut is recorded.

Token ids of large data lie memory-mapped on disk; those of small data in memory. Rows are encoded twice
only where they are too long: once whole, to know what is lost, and once cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from bertsmith.atomic import replacing

Array = np.ndarray[Any, Any]
_CHUNK = 4096
IN_MEMORY_ROWS = 100_000
"""Rows above which token ids are kept on disk."""

_SCHEMA = pa.schema(
    {
        "input_ids": pa.list_(pa.int32()),
        "token_type_ids": pa.list_(pa.int8()),
        "tokens_cut": pa.int32(),
    }
)


@dataclass(frozen=True)
class Encoded:
    """Token ids of some rows, without padding.

    Attributes:
        table: `input_ids` list<int32> and `token_type_ids` list<int8>, special tokens included;
            `tokens_cut` int32: how many tokens of the row were lost.
        max_length: Tokens that a row may have.
        pad_id: Id of the padding token.
    """

    table: pa.Table
    max_length: int
    pad_id: int

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def lengths(self) -> Array:
        """Tokens of each row, int64 `(rows,)`."""
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(offsets) for offsets, _, _ in self._chunks)])

    @cached_property
    def tokens_cut(self) -> Array:
        """Tokens lost by each row, int32 `(rows,)`."""
        return np.asarray(self.table.column("tokens_cut").to_numpy(), dtype=np.int32)

    def pad(self, rows: Sequence[int] | Array, *, width: int | None = None) -> dict[str, Array]:
        """Collate rows into arrays padded to the longest of them (or to `width`).

        Returns:
            `input_ids`, `token_type_ids`, `attention_mask`: int64 `(rows, tokens)`.
        """
        longest = width or max(int(self.lengths[row]) for row in rows)
        ids = np.full((len(rows), longest), self.pad_id, dtype=np.int64)
        types = np.zeros((len(rows), longest), dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for place, row in enumerate(rows):
            chunk = int(np.searchsorted(self._starts, row, side="right")) - 1
            offsets, values, segments = self._chunks[chunk]
            begin, end = offsets[row - self._starts[chunk]], offsets[row - self._starts[chunk] + 1]
            ids[place, : end - begin] = values[begin:end]
            types[place, : end - begin] = segments[begin:end]
            mask[place, : end - begin] = 1
        return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}

    @cached_property
    def _chunks(self) -> list[tuple[Array, Array, Array]]:
        """Zero-copy views of every chunk: offsets, token ids, segment ids."""
        views = []
        ids, types = self.table.column("input_ids"), self.table.column("token_type_ids")
        for one, other in zip(ids.chunks, types.chunks, strict=True):
            offsets = one.offsets.to_numpy().astype(np.int64)
            views.append((offsets, one.values.to_numpy(), other.values.to_numpy()))
        return views

    @cached_property
    def _starts(self) -> Array:
        sizes = [len(offsets) - 1 for offsets, _, _ in self._chunks]
        return np.cumsum([0, *sizes])[:-1]


@dataclass(frozen=True)
class TokenEncoder:
    """Turns texts into token ids, in training and in prediction alike.

    Attributes:
        tokenizer: A fast tokenizer without truncation and padding.
        max_length: Tokens that a row may have, special tokens included.
        pad_id: Id of the padding token.
    """

    tokenizer: Tokenizer
    max_length: int
    pad_id: int

    @cached_property
    def _cutting(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.enable_truncation(self.max_length, strategy="longest_first")
        return tokenizer

    @cached_property
    def _whole(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def encode(
        self,
        texts: pa.ChunkedArray | Sequence[str],
        pairs: pa.ChunkedArray | Sequence[str] | None = None,
        *,
        spill: Path | None = None,
    ) -> Encoded:
        """Encode texts (or pairs of texts).

        Args:
            texts: One text a row.
            pairs: The second texts, where rows are pairs; the longer of the two is cut first.
            spill: File for the token ids of more than `IN_MEMORY_ROWS` rows, read back memory-mapped.
        """
        batches = self._batches(texts, pairs)
        if spill is not None and len(texts) > IN_MEMORY_ROWS:
            table = _on_disk(batches, spill)
        else:
            table = pa.Table.from_batches(list(batches), schema=_SCHEMA)
        return Encoded(table, self.max_length, self.pad_id)

    def _batches(
        self, texts: pa.ChunkedArray | Sequence[str], pairs: pa.ChunkedArray | Sequence[str] | None
    ) -> Iterator[pa.RecordBatch]:
        for begin in range(0, len(texts), _CHUNK):
            rows: list[Any] = _strings(texts, begin)
            if pairs is not None:
                rows = list(zip(rows, _strings(pairs, begin), strict=True))
            yield self._encode_chunk(rows)

    def _encode_chunk(self, rows: list[Any]) -> pa.RecordBatch:
        encodings: list[Encoding] = self._whole.encode_batch_fast(rows)
        counts = np.array([len(each) for each in encodings], dtype=np.int32)
        too_long = np.flatnonzero(counts > self.max_length)
        for place, cut in zip(
            too_long, self._cutting.encode_batch_fast([rows[place] for place in too_long]), strict=True
        ):
            encodings[place] = cut
        lengths = np.array([len(each) for each in encodings], dtype=np.int32)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        ids = np.fromiter((token for each in encodings for token in each.ids), np.int32, int(lengths.sum()))
        types = np.fromiter((part for each in encodings for part in each.type_ids), np.int8, int(lengths.sum()))
        columns = [
            pa.ListArray.from_arrays(offsets, pa.array(ids)),
            pa.ListArray.from_arrays(offsets, pa.array(types)),
            pa.array(counts - lengths, pa.int32()),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


def _strings(column: pa.ChunkedArray | Sequence[str], begin: int) -> list[str]:
    part = column[begin : begin + _CHUNK]
    return part.to_pylist() if isinstance(part, pa.ChunkedArray | pa.Array) else list(part)


def _on_disk(batches: Iterator[pa.RecordBatch], file: Path) -> pa.Table:
    """Write batches to an Arrow stream and map it into memory, as `datasets` does."""
    from datasets import Dataset

    with replacing(file) as temporary, pa.ipc.new_stream(str(temporary), _SCHEMA) as stream:
        for batch in batches:
            stream.write_batch(batch)
    table: pa.Table = Dataset.from_file(str(file)).data.table
    return table


@dataclass(frozen=True)
class ShownTokens:
    """A text as the model sees it; all lists have one entry a token."""

    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    special: tuple[bool, ...]
    mask: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


def show_tokens(tokenizer: Tokenizer, text: str) -> ShownTokens:
    """Tokenize one text for people to look at, special tokens included."""
    encoding = tokenizer.encode(text)
    return ShownTokens(
        pieces=tuple(encoding.tokens),
        ids=tuple(encoding.ids),
        special=tuple(bool(flag) for flag in encoding.special_tokens_mask),
        mask=tuple(encoding.attention_mask),
        offsets=tuple(encoding.offsets),
    )
