"""Spans of tokens in windows: where gold answers stand, and which spans a model finds best.

A question's context is read in one window or more. The units of a window are its [CLS] token, which stands for
"no answer here", and then its context tokens; question tokens and padding are no units and cannot be answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.encoded import Encoded
from bertsmith.examples import Examples
from bertsmith.tasks.protocol import Array

MOST_TOKENS = 30
"""Tokens that an answer may have, as in BERT's own SQuAD script; 99 % of SQuAD's answers are shorter."""
N_BEST = 20
"""Starts and ends of a window that are paired, and spans that are kept of a question, as in BERT's script."""

_WINDOWS_AT_A_TIME = 512


@dataclass(frozen=True)
class Spans:
    """The best spans of each question, best first, no two with the same characters.

    Attributes:
        begins: Where each question's spans begin, int64 `(rows + 1,)`; a context without tokens has none.
        starts: Character in the context at which each span starts, int64 `(spans,)`.
        ends: Character before which it ends, int64 `(spans,)`.
        scores: Start plus end logit, float64 `(spans,)`.
        null: Score of "no answer", the lowest that any window gives it, float64 `(rows,)`.
    """

    begins: Array
    starts: Array
    ends: Array
    scores: Array
    null: Array

    @property
    def found(self) -> Array:
        """Which questions have a span, bool `(rows,)`."""
        return np.asarray(np.diff(self.begins) > 0)

    @property
    def margin(self) -> Array:
        """By how much "no answer" scores above the best span, float64 `(rows,)`; infinite where there is no span."""
        margin = np.full(len(self.null), np.inf)
        margin[self.found] = self.null[self.found] - self.scores[self.begins[:-1][self.found]]
        return margin


def best_spans(encoded: Encoded, scores: Array) -> Spans:
    """Find the best spans of each question.

    In each window the 20 best starts are paired with the 20 best ends; pairs whose end comes before their start
    or that have more than `MOST_TOKENS` tokens fall out (where that leaves none, all spans are looked at). Those
    of all windows of a question are ranked by start plus end logit, and the 20 best are kept.

    Args:
        encoded: The windows, with a unit for each [CLS] and context token.
        scores: Start and end logits, `(units, 2)`.
    """
    scores = np.asarray(scores, np.float64)
    begins = window_begins(encoded)
    owners = unit_rows(encoded)[begins]
    rows = len(encoded)
    null = np.full(rows, np.inf)
    np.minimum.at(null, owners, scores[begins].sum(axis=1))
    firsts, lasts, totals = (np.concatenate(parts) for parts in zip(*_pieces(scores, begins), strict=True))
    starts = np.asarray(encoded.unit_starts, np.int64)[firsts]
    ends = np.asarray(encoded.unit_ends, np.int64)[lasts]
    window = np.searchsorted(begins, firsts, side="right") - 1
    kept = _ranked(owners[window], starts, ends, totals)
    counts = np.bincount(owners[window][kept], minlength=rows)
    return Spans(np.concatenate([[0], np.cumsum(counts)]), starts[kept], ends[kept], totals[kept], null)


def gold_units(examples: Examples, encoded: Encoded) -> Array:
    """Mark where each window's answer starts and ends, float32 `(units, 2)`.

    It is the first gold answer, where all its tokens stand in the window; else the window's [CLS] token.

    Args:
        examples: Contexts and answers.
        encoded: Their windows.
    """
    rows, begins = unit_rows(encoded), window_begins(encoded)
    first, end = (each[rows] for each in first_answers(examples))
    visible = encoded.unit_ends > encoded.unit_starts  # neither [CLS] nor a blank
    inside = visible & (encoded.unit_ends > first) & (encoded.unit_starts < end)
    places = np.arange(len(rows))
    # Beyond every unit where no token of the answer is in the window.
    start = np.minimum.reduceat(np.where(inside, places, len(rows)), begins)
    last = np.maximum.reduceat(np.where(inside, places, -1), begins)
    whole = _is_whole(encoded, rows[begins], start, last)
    targets = np.zeros((len(rows), 2), np.float32)
    targets[np.where(whole, start, begins), 0] = 1
    targets[np.where(whole, last, begins), 1] = 1
    return targets


def first_answers(examples: Examples) -> tuple[Array, Array]:
    """Give the characters of each first gold answer without its outer blanks, two int64 `(rows,)`.

    Start and end are equal where there is no answer.
    """
    column = examples.column("answers")
    first = pc.list_element(_padded(column), 0)
    texts = pc.fill_null(pc.struct_field(first, "text"), "")
    starts = pc.fill_null(pc.struct_field(first, "start"), 0)
    bare = _integers(pc.utf8_length(pc.utf8_trim_whitespace(texts)))
    leading = _integers(pc.utf8_length(texts)) - _integers(pc.utf8_length(pc.utf8_ltrim_whitespace(texts)))
    start = _integers(starts) + np.where(bare > 0, leading, 0)
    return start, start + bare


def gold_texts(examples: Examples) -> list[list[str]]:
    """Give the texts of each question's gold answers; none where it has no answer."""
    column = _whole(examples.column("answers"))
    texts = pc.struct_field(column.flatten(), "text").to_pylist()
    counts = _integers(pc.fill_null(pc.list_value_length(column), 0))
    ends = np.cumsum(counts)
    begins = ends - counts
    return [texts[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def answerable(examples: Examples) -> Array:
    """Say which questions have a gold answer, bool `(rows,)`."""
    return _integers(pc.fill_null(pc.list_value_length(_whole(examples.column("answers"))), 0)) > 0


def unit_rows(encoded: Encoded) -> Array:
    """Give the row of each unit, int64 `(units,)`."""
    return np.repeat(np.arange(len(encoded)), np.diff(encoded.units))


def window_begins(encoded: Encoded) -> Array:
    """Give the first unit of each window, its [CLS] token, int64 `(windows,)`."""
    return np.flatnonzero(np.diff(encoded.unit_windows, prepend=-1))


def _is_whole(encoded: Encoded, owners: Array, start: Array, last: Array) -> Array:
    """Say which windows hold all tokens that the answer has in any window of its row, bool `(windows,)`."""
    some = last >= 0
    first_character = np.asarray(encoded.unit_starts, np.int64)[np.where(some, start, 0)]
    last_character = np.asarray(encoded.unit_ends, np.int64)[np.where(some, last, 0)]
    lowest = np.full(len(encoded), np.iinfo(np.int64).max)
    highest = np.full(len(encoded), -1)
    np.minimum.at(lowest, owners[some], first_character[some])
    np.maximum.at(highest, owners[some], last_character[some])
    return np.asarray(some & (first_character == lowest[owners]) & (last_character == highest[owners]))


def _pieces(scores: Array, begins: Array) -> Iterator[tuple[Array, Array, Array]]:
    """Give first unit, last unit and score of each window's spans, some hundred windows at a time."""
    sizes = np.diff(begins, append=len(scores))
    yield np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    for at in range(0, len(begins), _WINDOWS_AT_A_TIME):
        few = slice(at, at + _WINDOWS_AT_A_TIME)
        if sizes[few].max() > 1:
            yield _spans_of_windows(scores, begins[few] + 1, sizes[few] - 1)


def _spans_of_windows(scores: Array, begins: Array, sizes: Array) -> tuple[Array, Array, Array]:
    """Pair the best starts and ends of windows whose context tokens begin here; flat arrays come back."""
    places = np.arange(sizes.max())
    real = places < sizes[:, None]
    values = scores[np.where(real, begins[:, None] + places, 0)]
    values[~real] = -np.inf
    firsts, lasts = _top(values[..., 0]), _top(values[..., 1])
    left, right = firsts[:, :, None], lasts[:, None, :]
    fits = (right >= left) & (right - left < MOST_TOKENS) & (right < sizes[:, None, None])
    start, end = (np.take_along_axis(values[..., side], each, 1) for side, each in enumerate((firsts, lasts)))
    totals = np.where(fits, start[:, :, None] + end[:, None, :], -np.inf).reshape(len(sizes), -1)
    best = _top(totals)
    window, rank = np.nonzero(np.isfinite(np.take_along_axis(totals, best, 1)))
    pair = best[window, rank]
    first, last = firsts[window, pair // firsts.shape[1]], lasts[window, pair % lasts.shape[1]]
    paired = (window, first, last, totals[window, pair])
    missed = np.flatnonzero(~np.isfinite(totals).any(axis=1) & (sizes > 0))
    both = zip(paired, _any_spans(values[missed], missed), strict=True)
    window, first, last, total = (np.concatenate(each) for each in both)
    return begins[window] + first, begins[window] + last, total


def _any_spans(values: Array, windows: Array) -> tuple[Array, Array, Array, Array]:
    """Look at all spans of some windows, `(windows, tokens, 2)`: window, first, last and score of the best one."""
    tokens = values.shape[1]
    later = np.minimum(np.arange(tokens)[:, None] + np.arange(min(MOST_TOKENS, tokens)), tokens - 1)
    totals = (values[:, :, None, 0] + values[:, later, 1]).reshape(len(values), later.size)
    best = totals.argmax(axis=1)
    first = best // later.shape[1]
    return windows, first, later.reshape(-1)[best], totals[np.arange(len(values)), best]


def _top(values: Array) -> Array:
    """Give the places of the `N_BEST` highest of each line, highest first, the earlier of equals first."""
    count = min(N_BEST, values.shape[1])
    some = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(-np.take_along_axis(values, some, 1), axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)


def _ranked(rows: Array, starts: Array, ends: Array, scores: Array) -> Array:
    """Choose spans and put them in order: by row, best first, each pair of characters once, `N_BEST` of a row."""
    order = np.lexsort((-scores, ends, starts, rows))
    same = np.zeros(len(order), dtype=bool)
    same[1:] = np.all([np.diff(each[order]) == 0 for each in (rows, starts, ends)], axis=0)
    kept = order[~same & (ends > starts)[order]]
    kept = kept[np.lexsort((ends[kept], starts[kept], -scores[kept], rows[kept]))]
    begins = np.searchsorted(rows[kept], rows[kept], side="left")
    return kept[np.arange(len(kept)) - begins < N_BEST]


def _padded(answers: pa.ChunkedArray) -> pa.Array:
    """Make lists without answers null, so that each other list has a first one."""
    column = _whole(answers)
    return pc.if_else(pc.greater(pc.list_value_length(column), 0), column, pa.scalar(None, column.type))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks else whole


def _integers(values: pa.Array) -> Array:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.int64)
