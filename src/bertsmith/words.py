"""What a word is where no one said it: runs of letters and digits, and every other sign by itself."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bertsmith.encoded import number_column

_WORD = re.compile(r"\w+|[^\w\s]")
_MARKS = frozenset({"Mn", "Mc", "Me"})
WORDS = pa.list_(pa.struct({"start": pa.int32(), "end": pa.int32()}))
"""Type of a column of words: character offsets of each, ascending, not overlapping."""


def split_words(text: str) -> list[tuple[int, int]]:
    """Character offsets `(start, end)` of the words of a text, in order.

    Marks that combine with the letter before them (the vowels of Hindi, a decomposed accent) belong to its word.

    >>> split_words("e\u0301te\u0301, 1 kg")
    [(0, 5), (5, 6), (7, 8), (9, 11)]
    """
    spans = [match.span() for match in _WORD.finditer(text)]
    return spans if text.isascii() else _with_marks(text, spans)


def _with_marks(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join marks to the word that they stand in."""
    joined: list[tuple[int, int]] = []
    marked = False
    for start, end in spans:
        is_mark = unicodedata.category(text[start]) in _MARKS
        is_word = is_mark or text[start].isalnum() or text[start] == "_"
        touches = bool(joined) and joined[-1][1] == start
        before = text[joined[-1][0]] if joined else " "
        if touches and ((is_mark and before.isalnum()) or (marked and is_word)):
            joined[-1] = (joined[-1][0], end)
            marked = is_mark or marked
        else:
            joined.append((start, end))
            marked = False
    return joined


def words_of(texts: Sequence[str] | pa.Array | pa.ChunkedArray) -> pa.ListArray:
    """The words of every text, as a column of type `WORDS`."""
    rows = texts.to_pylist() if isinstance(texts, pa.Array | pa.ChunkedArray) else texts
    spans = [split_words(text) for text in rows]
    offsets = np.zeros(len(spans) + 1, dtype=np.int32)
    np.cumsum([len(each) for each in spans], out=offsets[1:])
    flat = np.array([span for each in spans for span in each], dtype=np.int32).reshape(-1, 2)
    struct = pa.StructArray.from_arrays(
        [number_column(flat[:, 0]), number_column(flat[:, 1])], fields=list(WORDS.value_type)
    )
    return pa.ListArray.from_arrays(number_column(offsets), struct)
