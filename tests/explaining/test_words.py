"""Words, what tokens add to them, and which of them a model reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith import encoders
from bertsmith.data.encode import TokenEncoder
from bertsmith.explaining.words import reading, word_spans, word_weights, words_read

LONG = " ".join(["good film and bad food"] * 12)
TEXTS = st.text(st.sampled_from("ab é'\u2019!-_ 你好ไทย\u0301\n"), max_size=25)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't, o\u2019clock 'so'", ["I", "don't", ",", "o\u2019clock", "'", "so", "'"]),
        ("rock'n'roll well-made", ["rock'n'roll", "well", "-", "made"]),
        ("我爱ABC的", ["我", "爱", "ABC", "的"]),
        ("กำไร", ["ก", "ำ", "ไ", "ร"]),
        ("e\u0301te\u0301 😀", ["e\u0301te\u0301", "😀"]),
        ("", []),
        (" \n", []),
    ],
)
def test_words_are_what_people_call_words(text, expected):
    """Apostrophes join, other signs stand alone, scripts without blanks are parted by letters."""
    assert words(text) == expected


@given(TEXTS)
def test_words_are_in_order_and_leave_out_blanks_alone(text):
    """Words never overlap, and every character that is no blank is in one."""
    spans = word_spans(text)
    inside = [place for start, end in spans for place in range(start, end)]
    assert inside == sorted(set(inside))
    assert all(start < end for start, end in spans)
    # A mark that follows a blank stands alone in the text, and may be left out.
    missed = {text[place] for place in set(range(len(text))) - set(inside)}
    assert all(each.isspace() for each in missed)


@given(TEXTS, st.data())
def test_nothing_is_lost_between_tokens_and_words(text, data):
    """The weights of words add up to those of tokens, wherever tokens begin and end."""
    place = st.integers(0, len(text))
    offsets = [sorted(data.draw(st.tuples(place, place))) for _ in range(4)]
    weights = np.array([1.0, -2.0, 4.0, 8.0])
    spans = word_spans(text)
    found = word_weights(spans, np.array(offsets), weights, characters=len(text))
    assert found.shape == (len(spans),)
    assert found.sum() == pytest.approx(weights.sum() if spans else 0)


def test_tokens_are_shared_by_characters():
    """A token inside a word is its own, one over several words is shared, a blank counts for the word after it."""
    text = "ab cd ef"
    offsets = np.array([(0, 1), (1, 2), (1, 5), (5, 6), (8, 8)])
    found = word_weights(word_spans(text), offsets, np.array([1, 2, 3, 10, 100.0]), characters=len(text))
    assert found.tolist() == [1 + 2 + 1, 2, 110]


def test_words_that_the_tokenizer_drops_are_not_called_unread():
    """Unread are words of which no token is read, though they have some."""
    offsets, read = np.array([(0, 1), (1, 2), (3, 5)]), np.array([True, False, False])
    assert words_read([(0, 2), (3, 5), (6, 7)], offsets, read, characters=7).tolist() == [True, False, True]


def encoder_for(folder, **settings) -> TokenEncoder:
    source = encoders.find(str(folder))
    return TokenEncoder(source.tokenizer(), settings.pop("max_length", 12), source.pad_id, **settings)


@pytest.mark.parametrize("pair", [None, "", "yes it was", LONG])
@pytest.mark.parametrize("text", ["good film", "", LONG])
@pytest.mark.parametrize(("long", "stride"), [("head", None), ("head-tail", None), ("windows", None), ("windows", 0)])
def test_reading_says_which_token_stands_where(tiny_encoder, text, pair, long, stride):
    """Each window's tokens are those of the text in one piece, at the places that reading gives; special ones are -1."""
    tokens = encoder_for(tiny_encoder, long=long, stride=stride)
    encoded = tokens.encode([text], None if pair is None else [pair])
    found = reading(tokens, text, pair, encoded.window_lengths.tolist())
    whole = tokens.tokenizer.encode(text, pair)
    ids = [number for number, sequence in zip(whole.ids, whole.sequence_ids, strict=True) if sequence is not None]
    for window, row in zip(found.windows, encoded.pad([0])["input_ids"], strict=True):
        known = window >= 0
        assert row[: len(window)][known].tolist() == [ids[place] for place in window[known]]
        assert int((~known).sum()) == (2 if pair is None else 3)
    assert int((~found.read).sum()) == encoded.cut[0]
    spans = [offset for offset, sequence in zip(whole.offsets, whole.sequence_ids, strict=True) if sequence is not None]
    assert [tuple(each) for each in found.offsets[:, 1:].tolist()] == spans


def test_reading_knows_which_end_of_equal_words_is_read(tiny_encoder):
    """Where all words are equal, ids tell nothing, and places are right all the same."""
    expected = {"head": [*range(10)], "head-tail": [0, 1, 2, *range(23, 30)]}
    for long, places in expected.items():
        tokens = encoder_for(tiny_encoder, long=long)
        assert reading(tokens, "good " * 30, None, [12]).windows[0].tolist() == [-1, *places, -1]
    tokens = encoder_for(tiny_encoder, long="windows", stride=3)
    windows = reading(tokens, "good " * 24, None, [12, 12, 12]).windows
    assert [window[1:-1].tolist() for window in windows] == [[*range(0, 10)], [*range(7, 17)], [*range(14, 24)]]


def test_a_first_text_that_is_cut_through_a_word_is_read_as_it_was_encoded(tiny_encoder):
    """The beginning of a word may be other pieces than in one piece; windows still have their places."""
    tokens = encoder_for(tiny_encoder, max_length=9, long="windows")
    text, pair = "we filmy filmyx goodly stuffs", "was it very good at the shop or on the bed"
    encoded = tokens.encode([text], [pair])
    found = reading(tokens, text, pair, encoded.window_lengths.tolist())
    assert [len(window) for window in found.windows] == encoded.window_lengths.tolist()
    assert int((~found.read).sum()) == encoded.cut[0]
