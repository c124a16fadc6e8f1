"""Which tokens of a row's windows count, and the characters that each of them stands for.

All offsets are characters of the original text, without the blanks that some tokenizers count to a token.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding

from bertsmith.encoded import Array

_IS_BLANK = np.array([chr(code).isspace() for code in range(0x3002)])


class Picks(NamedTuple):
    """What counts in one window, all int32 `(picks,)`: places of tokens, and the characters of each."""

    places: Array
    starts: Array
    ends: Array


def token_picks(text: str, windows: list[Encoding], sequence: int) -> list[Picks]:
    """Of every window first its [CLS] with offsets -1, -1 and then every token of one of its texts.

    Args:
        text: The text that the tokens stand in.
        windows: All windows of the row.
        sequence: 0 for the first text of the windows, 1 for the second.
    """
    blanks = _Blanks(text)
    none = np.full((1, 2), -1, dtype=np.int32)
    picks = []
    for window in windows:
        first, count = part_of(window, sequence)
        offsets = np.concatenate([none, blanks.trimmed(_offsets(window, first, count))])
        places = np.concatenate([[0], np.arange(first, first + count)]).astype(np.int32)
        picks.append(Picks(places, offsets[:, 0], offsets[:, 1]))
    return picks


def word_picks(text: str, words: Array, whole: Encoding, windows: list[Encoding]) -> list[Picks]:
    """The first token of every word, in the one window where it stands farthest from the edges.

    The pick of a word without a token (a sign that the tokenizer drops) is the last token before it, or else
    the first window's [CLS]. The windows are those of one text, each as far from the one before it.

    Args:
        text: The text that was encoded.
        words: Character offsets of its words, int32 `(words, 2)`, ascending, not overlapping.
        whole: The text in one piece.
        windows: The text in windows.
    """
    first, count = part_of(whole, 0)
    anchors = _anchors(words, _Blanks(text).trimmed(_offsets(whole, first, count)))
    begins, ends = _extents(windows, count)
    chosen = best_windows(anchors, begins, ends)
    places = np.where(anchors < 0, 0, first + anchors - begins[chosen]).astype(np.int32)
    bounds = np.searchsorted(chosen, np.arange(len(windows) + 1))
    return [Picks(places[one:other], words[one:other, 0], words[one:other, 1]) for one, other in pairwise(bounds)]


def best_windows(places: Array, begins: Array, ends: Array) -> Array:
    """The window of each place in which it is farthest from the nearer edge, the first of equals.

    From one window to the next the better one changes once, in the middle of what both hold.

    Args:
        places: Places of tokens in the whole text, ascending; one before the text belongs to the first window.
        begins: First place of each window, ascending.
        ends: Place after each window's last, ascending.

    Returns:
        int64 `(places,)`.
    """
    changes = (ends[:-1] - 1 + begins[1:]) // 2 + 1
    return np.searchsorted(changes, places, side="right").astype(np.int64)


def part_of(window: Encoding, sequence: int) -> tuple[int, int]:
    """Place of the first token of one of a window's texts, and how many tokens that text has there."""
    sequences = window.sequence_ids
    count = sequences.count(sequence)
    return (sequences.index(sequence) if count else 0), count


def _extents(windows: list[Encoding], tokens: int) -> tuple[Array, Array]:
    """Where windows begin and end in the whole text; all but the last are of one size."""
    sizes = np.array([part_of(window, 0)[1] for window in windows[:1] + windows[-1:]], dtype=np.int64)
    if len(windows) == 1:
        return np.zeros(1, dtype=np.int64), sizes[:1]
    step = (tokens - int(sizes[1])) // (len(windows) - 1)
    begins = np.arange(len(windows), dtype=np.int64) * step
    return begins, np.minimum(begins + sizes[0], tokens)


def _anchors(words: Array, offsets: Array) -> Array:
    """First token of each word, else the last token before it, else -1: int64 `(words,)`."""
    seen = np.flatnonzero(offsets[:, 0] < offsets[:, 1])
    starts, ends = offsets[seen, 0], np.maximum.accumulate(offsets[seen, 1])
    following = np.searchsorted(ends, words[:, 0], side="right")
    touching = np.append(starts, np.iinfo(np.int32).max)[following] < words[:, 1]
    return np.concatenate([[-1], seen])[following + touching].astype(np.int64)


def _offsets(window: Encoding, first: int, count: int) -> Array:
    flat = chain.from_iterable(window.offsets[first : first + count])
    return np.fromiter(flat, np.int32, 2 * count).reshape(-1, 2)


class _Blanks:
    """The blanks of a text, to take them off the ends of tokens."""

    def __init__(self, text: str) -> None:
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        blank = _IS_BLANK[np.minimum(codes, len(_IS_BLANK) - 1)]
        places = np.arange(len(codes), dtype=np.int32)
        after = np.where(blank, len(codes), places)
        self._following = np.append(np.minimum.accumulate(after[::-1])[::-1], len(codes)).astype(np.int32)
        self._preceding = np.append(0, np.maximum.accumulate(np.where(blank, 0, places + 1))).astype(np.int32)

    def trimmed(self, offsets: Array) -> Array:
        """Offsets without blanks at their ends; those of blanks alone become empty: int32 `(tokens, 2)`."""
        starts = np.minimum(self._following[offsets[:, 0]], offsets[:, 1])
        return np.stack([starts, np.maximum(self._preceding[offsets[:, 1]], starts)], axis=1)
