"""The words that an explanation marks, and which of them the model reads.

A word is a run of letters and digits; an apostrophe inside belongs to it, every other sign is a word by itself. Where
a script puts no blanks between words (Chinese, Japanese, Thai and their like) each letter is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer, models, pre_tokenizers, processors

from bertsmith.data.encode import TokenEncoder
from bertsmith.words import split_words

Array = np.ndarray[Any, Any]
Span = tuple[int, int]
_APOSTROPHES = frozenset("'\u2019")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SPECIAL = -1


def word_spans(text: str) -> list[Span]:
    """Return the characters `(start, end)` of the words of a text, in order.

    >>> word_spans("I don't, 你好!")
    [(0, 1), (2, 7), (7, 8), (9, 10), (10, 11), (11, 12)]
    """
    spans = _with_apostrophes(text, split_words(text))
    if not _UNSPACED.search(text):
        return spans
    return [part for span in spans for part in _letters(text, span)]


def _with_apostrophes(text: str, spans: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in spans:
        before = joined[-1] if joined else (0, 0)
        apostrophe = before[1] - 1
        touches = (
            before[1] == start
            and apostrophe > 0
            and text[apostrophe] in _APOSTROPHES
            and text[apostrophe - 1].isalnum()
            and text[start].isalnum()
        )
        if touches and len(joined) > 1 and joined[-2][1] == apostrophe:
            joined[-2:] = [(joined[-2][0], end)]
        else:
            joined.append((start, end))
    return joined


def _letters(text: str, span: Span) -> Iterator[Span]:
    """Part a word before and after each letter of a script without blanks; marks stay with their letters."""
    cuts = [
        place
        for place in range(span[0] + 1, span[1])
        if _UNSPACED.search(text[place - 1 : place + 1]) and not unicodedata.category(text[place]).startswith("M")
    ]
    return pairwise([span[0], *cuts, span[1]])


@dataclass(frozen=True)
class Reading:
    """What a model reads of a text or of a pair of texts.

    Attributes:
        offsets: Of each token of the texts in one piece, without special tokens, the text (0 or 1) and its characters
            there: int64 `(tokens, 3)`.
        windows: Of each window, the place in `offsets` of each of its tokens, -1 for special ones: int64.
    """

    offsets: Array
    windows: tuple[Array, ...]

    @property
    def read(self) -> Array:
        """Which tokens stand in a window, bool `(tokens,)`."""
        found = np.zeros(len(self.offsets) + 1, dtype=bool)
        for window in self.windows:
            found[window] = True
        return found[:-1]

    def summed(self, weights: Array) -> Array:
        """Add up what each token got in all windows, float64 `(tokens,)`.

        Args:
            weights: Weights of the windows' tokens, `(windows, padded tokens)`; those of special tokens are left out.
        """
        found = np.zeros(len(self.offsets) + 1)
        for window, row in zip(self.windows, weights, strict=True):
            np.add.at(found, window, row[: len(window)])
        return found[:-1]


def reading(tokens: TokenEncoder, text: str, pair: str | None, lengths: Sequence[int]) -> Reading:
    """Find out which characters each token of a row's windows stands for.

    Windows hold token ids alone. So the texts are encoded once more with a number for each token in place of its
    piece: what is cut and how windows slide depends on how many tokens there are, never on which.

    Args:
        tokens: What encoded the row.
        text: The row's text.
        pair: Its second text.
        lengths: Tokens of each of the row's windows.
    """
    whole = tokens.tokenizer.encode(text, pair)
    sequences = [_number(each) for each in whole.sequence_ids]
    kept = [place for place, each in enumerate(sequences) if each >= 0]
    offsets = np.array([(sequences[place], *whole.offsets[place]) for place in kept], np.int64).reshape(-1, 3)
    numbered = replace(tokens, tokenizer=_numbering(whole, len(kept)))
    first = int((offsets[:, 0] == 0).sum())
    # A first text that is cut through a word may have fewer tokens in its windows than it had in one piece.
    for left in range(first, -1, -1):
        windows = _windows(numbered, range(left), None if pair is None else range(first, len(kept)))
        if [len(window) for window in windows] == list(lengths):
            return Reading(offsets, windows)
    raise AssertionError(f"no reading has windows of {list(lengths)} tokens")


def _numbering(whole: Encoding, count: int) -> Tokenizer:
    """Make a tokenizer whose tokens are numbers between blanks, with as many special tokens in the same places."""
    vocabulary = {str(number): number for number in range(count)} | {"special": count, "unknown": count + 1}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="unknown"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = [{0: "$A", 1: "$B"}.get(_number(each), "special") for each in whole.sequence_ids]
    template = [mark for place, mark in enumerate(marks) if mark == "special" or mark not in marks[:place]]
    # No token tells where an empty text stands; it does not matter where.
    template[:0] = [mark for mark in ("$A", "$B")[: whole.n_sequences] if mark not in template]
    single, pair = (None, " ".join(template)) if "$B" in template else (" ".join(template), None)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single or "$A", pair=pair or "$A $B", special_tokens=[("special", count)]
    )
    return tokenizer


def _number(sequence: int | None) -> int:
    return _SPECIAL if sequence is None else sequence


def _windows(numbered: TokenEncoder, first: range, second: range | None) -> tuple[Array, ...]:
    texts = [" ".join(map(str, each)) for each in (first, second) if each is not None]
    encoded = numbered.encode(texts[:1], texts[1:] or None)
    padded = encoded.pad([0])
    special = padded["input_ids"] > max(first.stop, second.stop if second else 0) - 1
    places = np.where(special, _SPECIAL, padded["input_ids"])
    return tuple(row[:length] for row, length in zip(places, encoded.window_lengths, strict=True))


def word_weights(words: Sequence[Span], offsets: Array, weights: Array, *, characters: int) -> Array:
    """Share what tokens got out to the words that they stand in, float64 `(words,)`; nothing is lost.

    A token that touches several words is shared by characters. One that touches none (a blank) counts for the word
    after it, or else for the last.

    Args:
        words: Characters of each word, in order.
        offsets: Characters of each token of the text, `(tokens, 2)`.
        weights: `(tokens,)`.
        characters: Length of the text.
    """
    found = np.zeros(len(words))
    owners = _owners(words, characters)
    ends = np.array([end for _, end in words], np.int64)
    for (start, end), weight in zip(offsets, weights, strict=True):
        mine = owners[start:end]
        mine = mine[mine >= 0]
        if not len(mine) and len(words):
            mine = np.minimum(np.searchsorted(ends, [start], side="right"), len(words) - 1)
        np.add.at(found, mine, weight / max(len(mine), 1))
    return found


def words_read(words: Sequence[Span], offsets: Array, read: Array, *, characters: int) -> Array:
    """Say of which words at least one token is read, bool `(words,)`; words without a token are not missed.

    Args:
        words: Characters of each word, in order.
        offsets: Characters of each token of the text, `(tokens, 2)`.
        read: Which tokens are read, bool `(tokens,)`.
        characters: Length of the text.
    """
    owners = _owners(words, characters)
    seen, known = (np.zeros(len(words) + 1, dtype=bool) for _ in range(2))
    for (start, end), is_read in zip(offsets, read, strict=True):
        known[owners[start:end]] = True
        seen[owners[start:end]] |= is_read
    return np.asarray((seen | ~known)[:-1])


def _owners(words: Sequence[Span], characters: int) -> Array:
    """Say which word each character belongs to, -1 for none, int64 `(characters,)`."""
    owners = np.full(characters, -1, np.int64)
    for word, (start, end) in enumerate(words):
        owners[start:end] = word
    return owners
