"""Words of texts where no one said what a word is."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.words import split_words, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 5 o'clock.", ["It", "'", "s", "5", "o", "'", "clock", "."]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("cafe\u0301 au lait", ["cafe\u0301", "au", "lait"]),
        ("naïve—yes", ["naïve", "—", "yes"]),
        ("a_b c", ["a_b", "c"]),
        (" \n\t", []),
        ("", []),
    ],
)
def test_words_are_runs_of_letters_and_single_signs(text, words):
    """Letters with their marks stand together, every other sign by itself, and blanks are no words."""
    assert [text[start:end] for start, end in split_words(text)] == words


@given(st.text())
def test_no_sign_is_lost_and_words_do_not_overlap(text):
    """Everything but blanks is in exactly one word, in the order of the text."""
    spans = split_words(text)
    assert all(start < end for start, end in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    covered = {place for start, end in spans for place in range(start, end)}
    assert {place for place, sign in enumerate(text) if not sign.isspace()} == covered


@given(st.text(alphabet="ab\u0301\u093f ,"))
def test_a_mark_never_stands_apart_from_its_letter(text):
    """A mark right after a letter or another of its marks is in the same word."""
    ends = {end for _, end in split_words(text)}
    for place in range(1, len(text)):
        if unicodedata.category(text[place]).startswith("M") and text[place - 1].isalnum():
            assert place not in ends


def test_a_column_of_texts_gives_a_column_of_words():
    """The Arrow column holds the same words."""
    texts = ["a b", "", "c!"]
    found = [[(word["start"], word["end"]) for word in row] for row in words_of(texts).to_pylist()]
    assert found == [split_words(text) for text in texts]
