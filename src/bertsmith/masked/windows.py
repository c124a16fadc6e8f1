"""Windows: texts as pieces of at most so many tokens, each token with the word that it belongs to; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

Array = np.ndarray[Any, Any]
LONGEST_WORD = 16
"""Tokens of a word; what is longer (an address, a script without blanks) counts as several words."""
_TEXTS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Windows:
    """Token ids of windows, end to end.

    Attributes:
        ids: int32 `(tokens,)`: all windows, special tokens included.
        words: int32 `(tokens,)`: number of the token's word in its window, from 0 and ascending; -1 for tokens
            that are never masked: special ones, and those that the tokenizer does not know.
        starts: int64 `(windows + 1,)`: where each window begins.
    """

    ids: Array
    words: Array
    starts: Array

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> Array:
        """Tokens of each window, int64 `(windows,)`."""
        return np.diff(self.starts)

    def ids_of(self, window: int) -> Array:
        """Return the ids of one window."""
        return self.ids[self.starts[window] : self.starts[window + 1]]

    def words_of(self, window: int) -> Array:
        """Return the word of each token of one window."""
        return self.words[self.starts[window] : self.starts[window + 1]]


def make_windows(tokenizer: Tokenizer, texts: Sequence[str], *, max_length: int, special: frozenset[int]) -> Windows:
    """Tokenize texts and cut each into windows, between words; a text without tokens has none.

    Args:
        tokenizer: Without truncation and padding.
        texts: One or more windows each.
        max_length: Tokens of a window, special tokens included.
        special: Ids that are never masked.
    """
    before, after = _around(tokenizer)
    room = max_length - len(before) - len(after)
    ids: list[Array] = []
    words: list[Array] = []
    for tokens, numbers in _tokenized(tokenizer, texts, special):
        for begin, end in _cuts(numbers, room):
            ids.append(np.concatenate([before, tokens[begin:end], after]))
            words.append(_in_window(numbers[begin:end], tokens[begin:end], len(before), len(after), special))
    starts = np.concatenate([[0], np.cumsum([len(each) for each in ids], dtype=np.int64)]).astype(np.int64)
    empty = [np.zeros(0, np.int32)]
    return Windows(np.concatenate(ids or empty), np.concatenate(words or empty), starts)


def count_special(tokenizer: Tokenizer) -> int:
    """Return how many special tokens a window has around its text."""
    return sum(len(each) for each in _around(tokenizer))


def _around(tokenizer: Tokenizer) -> tuple[Array, Array]:
    """Return the special tokens before and after a text."""
    encoding = tokenizer.encode("a")
    inner = np.flatnonzero(np.asarray(encoding.special_tokens_mask) == 0)
    ids = np.asarray(encoding.ids, np.int32)
    return ids[: inner[0]], ids[inner[-1] + 1 :]


def _tokenized(tokenizer: Tokenizer, texts: Sequence[str], special: frozenset[int]) -> Iterator[tuple[Array, Array]]:
    """Give the ids of each text and the number of each token's unit: a word that is cut nowhere."""
    known = np.fromiter(special, np.int32, len(special))
    for begin in range(0, len(texts), _TEXTS_AT_ONCE):
        for encoding in tokenizer.encode_batch(list(texts[begin : begin + _TEXTS_AT_ONCE]), add_special_tokens=False):
            ids = np.asarray(encoding.ids, np.int32)
            if len(ids):
                words = np.array([-1 if each is None else each for each in encoding.word_ids], np.int64)
                yield ids, _units(words, np.isin(ids, known))


def _units(words: Array, alone: Array) -> Array:
    """Number the runs of tokens of one word; tokens that stand alone and every 16th token of a run begin a new one.

    >>> _units(np.array([0, 0, 1, 1, 1]), np.array([False, False, False, True, False])).tolist()
    [0, 0, 1, 2, 3]
    """
    new = np.ones(len(words), bool)
    new[1:] = (words[1:] != words[:-1]) | alone[1:] | alone[:-1]
    firsts = np.flatnonzero(new)
    place = np.arange(len(words)) - firsts[np.cumsum(new) - 1]
    return np.cumsum(new | (place % LONGEST_WORD == 0)) - 1


def _cuts(units: Array, room: int) -> Iterator[tuple[int, int]]:
    """Cut tokens into stretches of at most `room`, between units where that is possible."""
    begin = 0
    while begin < len(units):
        end = min(begin + room, len(units))
        if end < len(units) and units[end] == units[end - 1]:
            first = int(np.searchsorted(units, units[end]))
            end = first if first > begin else end
        yield begin, end
        begin = end


def _in_window(units: Array, tokens: Array, before: int, after: int, special: frozenset[int]) -> Array:
    known = np.isin(tokens, np.fromiter(special, np.int32, len(special)))
    words = np.full(len(tokens), -1, np.int32)
    words[~known] = np.unique(units[~known], return_inverse=True)[1]
    return np.pad(words, (before, after), constant_values=-1)


__all__ = ["LONGEST_WORD", "Windows", "count_special", "make_windows"]
