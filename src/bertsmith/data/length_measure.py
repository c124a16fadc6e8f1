"""How many tokens texts have, exactly and for all rows.

WordPiece tokenizers of the BERT kind never look across a blank, so each distinct word is tokenized once and
the counts are added up: 1 000 000 rows take seconds instead of minutes. All other tokenizers get every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bertsmith.examples import Examples

Array = np.ndarray[Any, Any]

SHORTEST = 8
"""The smallest max length, whatever the texts are."""
_ROWS_AT_A_TIME = 32_768
_TEXTS_AT_A_TIME = 2_048
_WORDS_KEPT = 1_000_000


@dataclass(frozen=True)
class Lengths:
    """How long the texts of all rows are, as the tokenizer sees them.

    Attributes:
        tokens: Tokens of each row before anything is cut, special tokens included, of pairs both texts,
            int32 `(rows,)`.
        unknown: How many of them are the unknown token, int32 `(rows,)`.
    """

    tokens: Array
    unknown: Array


def measure_lengths(examples: Examples, tokenizer: Tokenizer) -> Lengths:
    """Count the tokens of every row; threads are the tokenizer's own.

    Args:
        examples: Texts or pairs of texts.
        tokenizer: A fast tokenizer; its truncation and padding are not applied.
    """
    counter = _Counter(_plain(tokenizer))
    columns = [examples.column(name) for name in ("text", "text_pair") if name in examples]
    special = tokenizer.num_special_tokens_to_add(len(columns) == 2)
    counts = sum((counter.column(column) for column in columns), np.zeros((2, len(examples)), dtype=np.int32))
    return Lengths(tokens=counts[0] + np.int32(special), unknown=counts[1])


def choose_max_length(lengths: Array, *, limit: int, share: float = 0.99) -> int:
    """Choose the smallest max length that holds a share of the rows whole.

    Args:
        lengths: Tokens of each row, `(rows,)`.
        limit: What the encoder takes at most; never exceeded.
        share: Share of the rows that must not be cut, above 0 and at most 1.

    Returns:
        At least 8 unless `limit` is smaller.
    """
    held = math.ceil(share * len(lengths) - 1e-9)
    needed = int(np.partition(lengths, held - 1)[held - 1]) if held else 0
    return min(max(needed, SHORTEST), limit)


class _Words:
    """Counts of the words that came up so far, so that none of them is tokenized twice."""

    def __init__(self) -> None:
        self._known: pa.Array = pa.array([], pa.large_string())
        self._counts = np.zeros((2, 0), dtype=np.int32)

    def counts(self, words: pa.Array, count: Callable[[pa.Array], Array]) -> Array:
        """Return the counts of distinct words, int32 `(2, words)`; `count` counts those that are new."""
        place = pc.index_in(words, value_set=self._known)
        new = words.filter(pc.is_null(place))
        counted = np.concatenate([self._counts, count(new)], axis=1)
        found = np.asarray(pc.fill_null(place, -1).to_numpy(), dtype=np.int64)
        found[found < 0] = np.arange(len(self._known), counted.shape[1])
        if len(self._known) < _WORDS_KEPT:
            self._known, self._counts = pa.concat_arrays([self._known, new]), counted
        return counted[:, found]


@dataclass(frozen=True)
class _Counter:
    tokenizer: Tokenizer
    words: _Words = field(default_factory=_Words)

    def column(self, texts: pa.ChunkedArray) -> Array:
        """Count tokens and unknown tokens without special ones, int32 `(2, rows)`."""
        count = self._by_word if _never_looks_across_blanks(self.tokenizer) else self.by_text
        parts = [count(part) for part in _slices(texts)]
        return np.concatenate([np.zeros((2, 0), dtype=np.int32), *parts], axis=1)

    def _by_word(self, texts: pa.Array) -> Array:
        words = pc.split_pattern(texts, " ")
        distinct = pc.dictionary_encode(words.flatten())
        of_word = self.words.counts(distinct.dictionary, self.by_text)[:, distinct.indices.to_numpy()]
        ends = np.cumsum(pc.list_value_length(words).to_numpy())
        sums = np.concatenate([np.zeros((2, 1), dtype=np.int64), of_word.cumsum(axis=1, dtype=np.int64)], axis=1)
        return np.diff(sums[:, np.concatenate([[0], ends])], axis=1).astype(np.int32)

    def by_text(self, texts: pa.Array) -> Array:
        """Encode each text; int32 `(2, texts)`."""
        unknown = unknown_id(self.tokenizer)
        counts = np.zeros((2, len(texts)), dtype=np.int32)
        for begin in range(0, len(texts), _TEXTS_AT_A_TIME):
            batch = texts.slice(begin, _TEXTS_AT_A_TIME).to_pylist()
            encodings = self.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            place = slice(begin, begin + len(batch))
            counts[0, place] = [len(each) for each in encodings]
            if unknown is not None:
                counts[1, place] = [each.ids.count(unknown) for each in encodings]
        return counts


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Id of the token for what the tokenizer does not know; None where it knows everything."""
    name: str = getattr(tokenizer.model, "unk_token", None) or "<unk>"
    found: int | None = tokenizer.token_to_id(name)
    return found


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _slices(texts: pa.ChunkedArray) -> Iterator[pa.Array]:
    for begin in range(0, len(texts), _ROWS_AT_A_TIME):
        part = pc.fill_null(texts.slice(begin, _ROWS_AT_A_TIME).cast(pa.large_string()), "")
        yield pa.concat_arrays(part.chunks)


def _never_looks_across_blanks(tokenizer: Tokenizer) -> bool:
    """True where a text's tokens are those of its words one by one."""
    normalizer = tokenizer.normalizer
    return (
        isinstance(tokenizer.model, WordPiece)
        and isinstance(tokenizer.pre_tokenizer, BertPreTokenizer)
        and (normalizer is None or isinstance(normalizer, BertNormalizer))
    )
