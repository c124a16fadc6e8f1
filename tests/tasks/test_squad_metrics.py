"""Exact match and F1, held against examples worked by hand and against what must hold for all texts."""

from __future__ import annotations

import string
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.tasks.squad_metrics import answer_scores, exact_match, f1, normalised

TEXTS = st.text(alphabet=st.sampled_from("aAtThHeEnx é.,-'\u2019\u00a0\t1"), max_size=20)


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("The Denver Broncos", "denver broncos"),
        ("  gold\tanniversary\u00a0 ", "gold anniversary"),
        ("Levi's Stadium, in the Bay Area", "levis stadium in bay area"),
        ("$1.2-million", "12million"),
        ("A an THE a", ""),
        ("theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("“quoted”", "“quoted”"),
        ("...", ""),
    ],
)
def test_what_counts_of_an_answer(answer: str, left: str) -> None:
    """Case, ASCII punctuation, articles and blanks do not count; all else does."""
    assert normalised(answer) == left


@pytest.mark.parametrize(
    ("guess", "golds", "exact", "overlap"),
    [
        ("the Denver Broncos!", ["Denver Broncos", "The Broncos"], 1.0, 1.0),
        ("Broncos", ["Denver Broncos", "Carolina"], 0.0, 2 / 3),
        ("Santa Clara, California", ["Santa Clara", "Levi's Stadium"], 0.0, 0.8),
        ("Panthers", ["Denver Broncos"], 0.0, 0.0),
        ("to to be", ["to be or not to be"], 0.0, 2 / 3),
        ("", [], 1.0, 1.0),
        ("anything", [], 0.0, 0.0),
        ("", ["Denver"], 0.0, 0.0),
        ("the", [], 1.0, 1.0),
        ("the", ["The", "band"], 0.0, 0.0),
        ("a", ["the"], 1.0, 1.0),
    ],
)
def test_scores_worked_by_hand(guess: str, golds: list[str], exact: float, overlap: float) -> None:
    """The best gold answer counts; without one, only the empty answer is right."""
    assert exact_match(guess, golds) == exact
    assert f1(guess, golds) == pytest.approx(overlap, abs=1e-15)


@given(TEXTS, st.lists(TEXTS, max_size=4))
def test_bounds(guess: str, golds: list[str]) -> None:
    """Both scores lie between 0 and 1, exact match is 0 or 1, and no exact match scores less than F1 1."""
    scores = answer_scores([guess], [golds])
    exact, overlap = scores[0]
    assert scores.shape == (1, 2)
    assert exact in {0.0, 1.0}
    assert exact <= overlap <= 1.0


@given(TEXTS, st.lists(TEXTS.filter(normalised), min_size=1, max_size=4))
def test_a_gold_answer_is_right_and_more_of_them_never_hurt(guess: str, golds: list[str]) -> None:
    """Each gold answer scores 1, their order is free, and one more can only raise a score."""
    assert (answer_scores(golds, [golds] * len(golds)) == 1).all()
    assert f1(guess, golds) == f1(guess, golds[::-1])
    grown = [f1(guess, golds[:count]) for count in range(1, len(golds) + 1)]
    assert all(fewer <= more for fewer, more in pairwise(grown))


@given(TEXTS)
def test_normalising_twice_changes_no_punctuated_or_upper_case_text(answer: str) -> None:
    """What is left holds neither upper case, ASCII punctuation, articles nor double blanks."""
    left = normalised(answer)
    assert left == left.lower()
    assert not set(left) & set(string.punctuation)
    assert left == " ".join(left.split())
    assert not {"a", "an", "the"} & set(left.split())


def test_no_answers_no_scores() -> None:
    """No rows give an empty array of the same shape."""
    assert np.array_equal(answer_scores([], []), np.zeros((0, 2)))
