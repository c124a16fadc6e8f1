"""encode: texts become token ids in windows, and what had to be cut is recorded.

Token ids of large data lie memory-mapped on disk; those of small data in memory. Rows are encoded twice
only where they are too long: once whole, to know what is lost, and once cut or in windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from tokenizers import Encoding, Tokenizer

from bertsmith.atomic import replacing
from bertsmith.data.picks import Picks, part_of, token_picks, word_picks
from bertsmith.encoded import Array, Encoded, number_column
from bertsmith.threads import guard_forks
from bertsmith.words import words_of

_CHUNK = 4096
IN_MEMORY_ROWS = 100_000
"""Rows above which token ids are kept on disk."""
_ONE_PIECE = 2**31
"""Bytes below which token ids in memory are put in one piece."""
_SURROGATE = re.compile("[\ud800-\udfff]")

_INTS = pa.list_(pa.int32())
_WINDOWS = pa.schema({"input_ids": _INTS, "token_type_ids": pa.list_(pa.int8()), "row": pa.int64()})
_PICKED = pa.schema([*_WINDOWS, *(pa.field(name, _INTS) for name in ("picks", "starts", "ends"))])


class _Piece(NamedTuple):
    """Some tokens of a row, where they are not an `Encoding` of their own."""

    ids: list[int]
    type_ids: list[int]


class _Windows(NamedTuple):
    """The windows of one row, and how many of its tokens are in none."""

    windows: list[Any]
    cut: int


class _Chunk(NamedTuple):
    """Some of the rows to be encoded."""

    texts: list[str]
    pairs: list[str] | None
    words: list[Array]
    begin: int

    @property
    def rows(self) -> list[Any]:
        return self.texts if self.pairs is None else list(zip(self.texts, self.pairs, strict=True))


@dataclass(frozen=True)
class TokenEncoder:
    """Turns texts into token ids, in training and in prediction alike.

    Attributes:
        tokenizer: A fast tokenizer without truncation and padding.
        max_length: Tokens that a window may have, special tokens included.
        pad_id: Id of the padding token.
        units: What gets one row of logits: `row`, `word` (at its first token) or `token` (of the last text).
        long: What becomes of rows that are too long, where units are rows: `head` keeps their beginning,
            `head-tail` a quarter from their beginning and the rest from their end (Sun et al. 2019,
            arXiv 1905.05583), `windows` keeps all. Where units are words or tokens it is always `windows`.
        stride: Tokens that two windows have in common, a quarter of `max_length` if None. Where windows
            would not get on with it, fewer.
        pooling: How the logits of a row's windows become one: `mean` or `max`.
    """

    tokenizer: Tokenizer
    max_length: int
    pad_id: int
    units: str = "row"
    long: str = "head"
    stride: int | None = None
    pooling: str = "mean"

    def encode(
        self,
        texts: pa.ChunkedArray | Sequence[str],
        pairs: pa.ChunkedArray | Sequence[str] | None = None,
        *,
        words: pa.ChunkedArray | pa.ListArray | None = None,
        spill: Path | None = None,
    ) -> Encoded:
        """Encode texts (or pairs of texts).

        Args:
            texts: One text a row.
            pairs: The second texts, where rows are pairs. `head` cuts the longer of the two first; the other
                ways cut the first text to half of `max_length` and treat the second as they treat one text.
            words: Where units are words, list<struct<start: int32, end: int32>>: character offsets of the
                words of each text, ascending, not overlapping; `split_words` of the text if None.
            spill: File for the token ids of more than `IN_MEMORY_ROWS` rows, read back memory-mapped.

        Raises:
            ValueError: Units are words, and rows are pairs.
        """
        if self.units == "word" and pairs is not None:
            raise ValueError("units='word' encodes one text a row, not pairs")
        cut = np.zeros(len(texts), dtype=np.int32)
        batches = (self._encode_chunk(chunk, cut) for chunk in self._chunks(texts, pairs, words))
        schema = _WINDOWS if self.units == "row" else _PICKED
        if spill is not None and len(texts) > IN_MEMORY_ROWS:
            table = _on_disk(batches, spill, schema)
        else:
            table = _in_memory(batches, schema)
        return Encoded(table, cut, self.max_length, self.pad_id, self.pooling)

    @cached_property
    def _whole(self) -> Tokenizer:
        return self._tokenizer(None)

    def _tokenizer(self, strategy: str | None, stride: int = 0) -> Tokenizer:
        guard_forks()
        if strategy is None and self.tokenizer.truncation is None and self.tokenizer.padding is None:
            return self.tokenizer
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if strategy is not None:
            tokenizer.enable_truncation(self.max_length, stride=stride, strategy=strategy)
        return tokenizer

    @cached_property
    def _cutting(self) -> Tokenizer:
        return self._tokenizer("longest_first")

    @cached_property
    def _sliding(self) -> Tokenizer:
        """Makes windows of single texts."""
        return self._tokenizer("only_first", self._stride(self._room(pair=False)))

    @cached_property
    def _sliding_pairs(self) -> Tokenizer:
        """Makes windows of second texts, each with the first text before it."""
        return self._tokenizer("only_second", self._stride(self._room(pair=True) - self._first_room))

    def _stride(self, room: int) -> int:
        wanted = self.max_length // 4 if self.stride is None else self.stride
        return max(0, min(wanted, room - 1))

    def _room(self, *, pair: bool) -> int:
        """Tokens that a window may have without the special ones."""
        return self.max_length - self._whole.num_special_tokens_to_add(pair)

    @cached_property
    def _first_room(self) -> int:
        """Tokens that the first text of a pair that is too long may keep; one at least is left to the second."""
        return max(0, min(self.max_length // 2, self._room(pair=True) - 1))

    def _chunks(
        self,
        texts: pa.ChunkedArray | Sequence[str],
        pairs: pa.ChunkedArray | Sequence[str] | None,
        words: pa.ChunkedArray | pa.ListArray | None,
    ) -> Iterator[_Chunk]:
        for begin in range(0, len(texts), _CHUNK):
            ours = _strings(texts, begin)
            theirs = None if pairs is None else _strings(pairs, begin)
            yield _Chunk(ours, theirs, self._words(ours, words, begin), begin)

    def _words(self, texts: list[str], words: pa.ChunkedArray | pa.ListArray | None, begin: int) -> list[Array]:
        if self.units != "word":
            return []
        return _spans(words_of(texts) if words is None else words[begin : begin + _CHUNK])

    def _encode_chunk(self, chunk: _Chunk, cut: Array) -> pa.RecordBatch:
        """Encode some rows, and note in `cut` what each of them loses."""
        rows = chunk.rows
        whole = self._batch(self._whole, rows)
        windows: list[list[Any]] = [[each] for each in whole]
        too_long = [place for place, each in enumerate(whole) if len(each) > self.max_length]
        again = self._shortened([rows[place] for place in too_long], [whole[place] for place in too_long])
        for place, shortened in zip(too_long, again, strict=True):
            windows[place], cut[chunk.begin + place] = shortened
        return _batch_of(windows, self._picks(chunk, whole, windows), chunk.begin)

    def _batch(self, tokenizer: Tokenizer, rows: list[Any]) -> list[Encoding]:
        """Encodings with character offsets only where units need them: it is a good deal slower."""
        if len(rows) == 1:
            # To hand a single row to the pool of threads and wait for it takes longer than to encode it.
            row = rows[0]
            return [tokenizer.encode(*row) if isinstance(row, tuple) else tokenizer.encode(row)]
        return list(tokenizer.encode_batch_fast(rows) if self.units == "row" else tokenizer.encode_batch(rows))

    def _picks(self, chunk: _Chunk, whole: list[Encoding], windows: list[list[Any]]) -> list[Picks] | None:
        if self.units == "row":
            return None
        if self.units == "word":
            each = zip(chunk.texts, chunk.words, whole, windows, strict=True)
            return [picked for row in each for picked in word_picks(*row)]
        texts, sequence = (chunk.texts, 0) if chunk.pairs is None else (chunk.pairs, 1)
        rows = zip(texts, windows, strict=True)
        return [picked for text, mine in rows for picked in token_picks(text, mine, sequence)]

    def _shortened(self, rows: list[Any], whole: list[Encoding]) -> list[_Windows]:
        """Rows that are too long, as `long` says."""
        if self.units != "row" or self.long == "windows":
            return self._in_windows(rows, whole)
        if self.long == "head-tail":
            return [self._head_tail(each, pair=isinstance(row, tuple)) for row, each in zip(rows, whole, strict=True)]
        heads = self._cutting.encode_batch_fast(rows)
        return [_Windows([head], len(each) - len(head)) for head, each in zip(heads, whole, strict=True)]

    def _in_windows(self, rows: list[Any], whole: list[Encoding]) -> list[_Windows]:
        if not rows or isinstance(rows[0], str):
            sliding, fitting = self._sliding, [(row, 0) for row in rows]
        else:
            sliding, fitting = self._sliding_pairs, list(map(self._with_short_first, rows, whole))
        encodings = self._batch(sliding, [row for row, _ in fitting])
        return [_Windows([each, *each.overflowing], lost) for each, (_, lost) in zip(encodings, fitting, strict=True)]

    def _with_short_first(self, row: tuple[str, str], whole: Encoding) -> tuple[tuple[str, str], int]:
        """A pair whose first text leaves room for the second, and how many tokens it lost."""
        if part_of(whole, 0)[1] <= self._first_room:
            return row, 0
        text, lost = self._at_most(row[0], self._first_room)
        return (text, row[1]), lost

    def _at_most(self, text: str, tokens: int) -> tuple[str, int]:
        """The longest beginning of a text with so many tokens, and how many tokens it lost.

        A beginning may have more tokens than it had in the text, as when a word is cut through.
        """
        ends = [end for _, end in self._whole.encode(text, add_special_tokens=False).offsets]
        for kept in range(tokens, 0, -1):
            beginning = text[: ends[kept - 1]]
            count = len(self._whole.encode(beginning, add_special_tokens=False))
            if count <= tokens:
                return beginning, len(ends) - count
        return "", len(ends)

    def _head_tail(self, whole: Encoding, *, pair: bool) -> _Windows:
        dropped: set[int] = set()
        if pair:
            begin, count = part_of(whole, 0)
            dropped.update(range(begin + self._first_room, begin + count))
        begin, count = part_of(whole, int(pair))
        room = max(0, self.max_length - (len(whole) - len(dropped) - count))
        head = (room + 2) // 4
        dropped.update(range(begin + head, begin + count - (room - head)))
        kept = [place for place in range(len(whole)) if place not in dropped]
        ids, types = whole.ids, whole.type_ids
        return _Windows([_Piece([ids[place] for place in kept], [types[place] for place in kept])], len(dropped))


def _batch_of(windows: list[list[Any]], picks: list[Picks] | None, begin: int) -> pa.RecordBatch:
    """All windows of some rows, the first of them being row `begin`."""
    flat = list(chain.from_iterable(windows))
    rows = np.repeat(np.arange(begin, begin + len(windows), dtype=np.int64), [len(each) for each in windows])
    ids, types = [each.ids for each in flat], [each.type_ids for each in flat]
    columns = [_lists(ids, np.int32), _lists(types, np.int8), number_column(rows)]
    if picks is None:
        return pa.RecordBatch.from_arrays(columns, schema=_WINDOWS)
    columns += [_joined([each[which] for each in picks]) for which in range(3)]
    return pa.RecordBatch.from_arrays(columns, schema=_PICKED)


def _lists(lists: list[list[int]], dtype: Any) -> pa.ListArray:
    lengths = [len(each) for each in lists]
    values = np.fromiter(chain.from_iterable(lists), dtype, sum(lengths))
    return pa.ListArray.from_arrays(_starts(lengths), number_column(values))


def _joined(arrays: list[Array]) -> pa.ListArray:
    values = np.concatenate(arrays).astype(np.int32)
    return pa.ListArray.from_arrays(_starts([len(each) for each in arrays]), number_column(values))


def _starts(lengths: list[int]) -> pa.Array:
    return number_column(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _strings(column: pa.ChunkedArray | Sequence[str], begin: int) -> list[str]:
    part = column[begin : begin + _CHUNK]
    return part.to_pylist() if isinstance(part, pa.ChunkedArray | pa.Array) else [_valid(text) for text in part]


def _valid(text: str) -> str:
    """A text without lone surrogates, which no tokenizer takes, and with all characters at their places."""
    return _SURROGATE.sub("\ufffd", text)


def _spans(words: pa.ChunkedArray | pa.ListArray) -> list[Array]:
    """Character offsets of the words of each row: int32 `(words, 2)`."""
    column = words.combine_chunks() if isinstance(words, pa.ChunkedArray) else words
    offsets = column.offsets.to_numpy()
    starts, ends = (column.values.field(name).to_numpy().astype(np.int32) for name in ("start", "end"))
    flat = np.stack([starts, ends], axis=1)
    return [flat[one:other] for one, other in pairwise(offsets)]


def _in_memory(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    table = pa.Table.from_batches(list(batches), schema=schema)
    return table.combine_chunks() if table.nbytes < _ONE_PIECE else table


def _on_disk(batches: Iterator[pa.RecordBatch], file: Path, schema: pa.Schema) -> pa.Table:
    """Write batches to an Arrow stream and map it into memory, as `datasets` does."""
    from datasets import Dataset

    with replacing(file) as temporary, pa.ipc.new_stream(str(temporary), schema) as stream:
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
    encoding = tokenizer.encode(_valid(text))
    return ShownTokens(
        pieces=tuple(encoding.tokens),
        ids=tuple(encoding.ids),
        special=tuple(bool(flag) for flag in encoding.special_tokens_mask),
        mask=tuple(encoding.attention_mask),
        offsets=tuple(encoding.offsets),
    )
