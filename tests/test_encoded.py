"""Encoded rows against loops written out: padding, places of units, rows taken; and what a word is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.encoded import Encoded
from bertsmith.words import WORDS, split_words, words_of

ROWS = [  # one list a row: its windows as (ids, types, [(pick, start, end), ...])
    [([1, 5, 2], [0, 0, 0], [(0, -1, -1), (1, 0, 4)])],
    [([1, 6, 7, 8, 2], [0, 0, 1, 1, 1], []), ([1, 9, 2], [0, 1, 1], [(1, 5, 9)])],
    [([1, 2], [0, 0], [(0, -1, -1)])],
    [([1, 3, 2], [0, 0, 0], [(1, 0, 1)]), ([1, 4, 4, 2], [0, 0, 0, 0], [(1, 1, 2), (2, 2, 3)]), ([4], [1], [])],
]
ROWS_CUT = [0, 7, 0, 1]

token = st.integers(1, 99)
picked = st.tuples(st.integers(0, 9), st.integers(-1, 50), st.integers(-1, 50))
window = st.tuples(st.lists(token, min_size=1, max_size=9), st.lists(picked, max_size=4)).map(
    lambda parts: (parts[0], [number % 2 for number in parts[0]], parts[1])
)
many_rows = st.lists(st.lists(window, min_size=1, max_size=4), min_size=1, max_size=12)


def encoded_of(rows, *, picks=True, pieces=1):
    """Rows as `Encoded`, in as many chunks as asked for."""
    windows = [(number, *each) for number, row in enumerate(rows) for each in row]
    columns = {
        "input_ids": pa.array([ids for _, ids, _, _ in windows], pa.list_(pa.int32())),
        "token_type_ids": pa.array([types for _, _, types, _ in windows], pa.list_(pa.int8())),
        "row": pa.array([number for number, *_ in windows], pa.int64()),
    }
    for place, name in enumerate(("picks", "starts", "ends") if picks else ()):
        columns[name] = pa.array([[pick[place] for pick in each] for *_, each in windows], pa.list_(pa.int32()))
    table = pa.table(columns)
    bounds = np.linspace(0, len(windows), pieces + 1).astype(int)
    parts = [table.slice(one, other - one) for one, other in pairwise(bounds)]
    cut = np.zeros(len(rows), np.int32)
    return Encoded(pa.concat_tables(parts), cut, 16, 0, "max")


def padded_naively(windows, width):
    """What padding must give, one token at a time."""
    ids, types, mask = ([[0] * width for _ in windows] for _ in range(3))
    picks = []
    for place, (window_ids, window_types, window_picks) in enumerate(windows):
        for position, each in enumerate(window_ids):
            ids[place][position], types[place][position], mask[place][position] = each, window_types[position], 1
        picks += [(place, pick) for pick, _, _ in window_picks]
    return ids, types, mask, picks


@settings(max_examples=60, deadline=None)
@given(many_rows, st.data())
def test_padding_equals_a_loop(rows, data):
    """Any rows in any order, of any number of chunks, are padded as a loop over every token pads them."""
    encoded = encoded_of(rows, pieces=data.draw(st.integers(1, 4)))
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=20))
    windows = [each for row in wanted for each in rows[row]]
    ids, types, mask, picks = padded_naively(windows, max(len(each[0]) for each in windows))
    padded = encoded.pad(wanted)
    assert padded["input_ids"].tolist() == ids
    assert padded["token_type_ids"].tolist() == types
    assert padded["attention_mask"].tolist() == mask
    assert list(zip(padded["pick_window"].tolist(), padded["pick_token"].tolist(), strict=True)) == picks
    assert padded["owner"].tolist() == [place for place, row in enumerate(wanted) for _ in rows[row]]
    assert {array.dtype for array in padded.values()} == {np.dtype(np.int64)}


@settings(max_examples=60, deadline=None)
@given(many_rows, st.data())
def test_places_of_units_equal_a_loop(rows, data):
    """Units of rows lie where a running count of picks puts them, with their characters and windows."""
    encoded = encoded_of(rows, pieces=data.draw(st.integers(1, 4)))
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    units, windows, number = [], [], 0
    for row, row_windows in enumerate(rows):
        for _, _, picks in row_windows:
            units += [(row, number, start, end) for _, start, end in picks]
            windows.append(row)
            number += 1
    places = encoded.flat(wanted)
    assert places.tolist() == [place for row in wanted for place, unit in enumerate(units) if unit[0] == row]
    found = zip(encoded.unit_windows[places], encoded.unit_starts[places], encoded.unit_ends[places], strict=True)
    assert list(found) == [units[place][1:] for place in places]
    assert encoded.windows_of(wanted).tolist() == [
        place for row in wanted for place, owner in enumerate(windows) if owner == row
    ]
    assert encoded.owners.tolist() == windows
    assert np.diff(encoded.units).tolist() == [sum(unit[0] == row for unit in units) for row in range(len(rows))]


@settings(max_examples=60, deadline=None)
@given(many_rows, st.data())
def test_rows_taken_are_the_same_rows(rows, data):
    """Rows that were taken pad as they did before, and keep what they lost and how they are pooled."""
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=20))
    encoded = encoded_of(rows, pieces=2)
    taken = encoded.take(wanted)
    before, after = encoded.pad(wanted), taken.pad(range(len(wanted)))
    assert all((before[name] == after[name]).all() for name in before)
    assert before.keys() == after.keys()
    assert taken.unit_starts.tolist() == encoded.unit_starts[encoded.flat(wanted)].tolist()
    assert (len(taken), taken.pooling, taken.max_length) == (len(wanted), "max", 16)


def test_lengths_and_losses_are_those_of_rows():
    """A row is as long as all its windows, and what it lost stays with it."""
    encoded = Encoded(encoded_of(ROWS).table, np.array(ROWS_CUT, np.int32), 16, 0)
    assert encoded.lengths.tolist() == [3, 8, 2, 8]
    assert encoded.window_lengths.tolist() == [3, 5, 3, 2, 3, 4, 1]
    assert encoded.take([3, 1]).tokens_cut.tolist() == [1, 7]
    assert encoded.units.tolist() == [0, 2, 3, 4, 7]
    assert encoded.pooling == "mean"


def test_rows_are_their_own_units():
    """Without picks there is one unit a row, and padding names no picks."""
    encoded = encoded_of(ROWS, picks=False)
    assert not encoded.has_picks
    assert encoded.units.tolist() == [0, 1, 2, 3, 4]
    assert encoded.flat([2, 0]).tolist() == [2, 0]
    assert set(encoded.pad([1])) == {"input_ids", "token_type_ids", "attention_mask", "owner"}


def test_padding_to_a_width():
    """A width that was asked for is kept, and the padding token is the encoder's."""
    encoded = Encoded(encoded_of(ROWS).table, np.array(ROWS_CUT, np.int32), 16, 77)
    padded = encoded.pad_windows([0, 3], width=6)
    assert padded["input_ids"].tolist() == [[1, 5, 2, 77, 77, 77], [1, 2, 77, 77, 77, 77]]
    assert padded["attention_mask"].sum(axis=1).tolist() == [3, 2]


def test_no_rows_at_all():
    """No rows are encoded, padded and taken without a complaint."""
    encoded = encoded_of(ROWS).take([])
    assert len(encoded) == 0
    assert encoded.pad([])["input_ids"].shape == (0, 0)
    assert encoded.flat([]).tolist() == []
    assert encoded.units.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't stop, now!", ["Don", "'", "t", "stop", ",", "now", "!"]),
        ("naïve 3.5%", ["naïve", "3", ".", "5", "%"]),
        ("你好。 a_b\r\n😀", ["你好", "。", "a_b", "😀"]),
        ("  \t\n", []),
    ],
)
def test_words_of_a_text(text, words):
    """Runs of letters and digits are words, and so is every other sign."""
    assert [text[start:end] for start, end in split_words(text)] == words


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_words_hold_every_sign(text):
    """Words ascend, do not overlap, are not empty, and leave out blanks alone."""
    ends = [0]
    for start, end in split_words(text):
        assert ends[-1] <= start < end
        assert text[ends[-1] : start].strip() == ""
        ends.append(end)
    assert text[ends[-1] :].strip() == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text()), st.booleans())
def test_a_column_of_words_is_the_words_of_each_text(texts, as_column):
    """The words of a column are the words of its texts one by one, in the type of a column of words."""
    column = words_of(pa.chunked_array([pa.array(texts, pa.string())]) if as_column else texts)
    assert column.type == WORDS
    assert column.to_pylist() == [[{"start": start, "end": end} for start, end in split_words(text)] for text in texts]
