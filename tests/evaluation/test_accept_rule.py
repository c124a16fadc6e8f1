"""The rule of acceptance as people write it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.errors import RecipeError
from bertsmith.evaluation.accept_rule import Rule, parse

BLANKS = st.sampled_from(["", " ", "  ", "\t"])
WIDE = st.sampled_from([" ", "  ", "\t "])
CASES = st.sampled_from([str.lower, str.upper, str.title])


@given(st.floats(0.01, 99.99).map(lambda x: round(x, 2)), BLANKS, WIDE, st.sampled_from(["", "at least "]), CASES)
def test_a_share_of_right_answers_is_read(percent, blank, wide, prefix, case) -> None:
    """Whatever the blanks and capitals, the percentage is the promise."""
    given_rule = case(f"{prefix}{percent}{blank}%{wide}right")
    assert parse(given_rule) == Rule("right", percent / 100, given=given_rule)
    assert parse(given_rule).target == percent / 100


@given(st.floats(0, 1).map(lambda x: round(x, 4)), BLANKS, BLANKS)
def test_a_score_is_read(score, left, right) -> None:
    """A score from 0 to 1 is the threshold, and promises nothing."""
    rule = parse(f" score{left}>={right}{score:.4f} ")
    assert (rule.kind, rule.number, rule.target) == ("score", score, None)


@given(st.floats(0.01, 1000).map(lambda x: round(x, 2)), st.floats(0.01, 1000).map(lambda x: round(x, 2)))
def test_costs_are_read(error, refusal) -> None:
    """Both costs are read, each into its place."""
    rule = parse(f"error costs {error}, refusal costs {refusal}")
    assert (rule.kind, rule.number, rule.refusal, rule.target) == ("costs", error, refusal, None)
    assert parse(f"an error costs {error} a refusal costs {refusal}").refusal == refusal


def test_refusals_and_all_are_read() -> None:
    """The share that may be refused is the promise; all promises nothing."""
    assert parse("Refuse at most 10 %") == Rule("refuse", 0.1, given="Refuse at most 10 %")
    assert (parse("refuse at most 2.5%").number, parse("refuse at most 2.5%").target) == (0.025, None)
    assert parse("ALL") == Rule("all", given="ALL")


@pytest.mark.parametrize(
    "rule", ["", "95%", "95 right", "score > 0.7", "score >= x", "-5% right", "all of them", "٩٥% right"]
)
def test_any_other_words_are_refused(rule) -> None:
    """One message names the five forms and what was found."""
    with pytest.raises(RecipeError) as caught:
        parse(rule)
    assert str(caught.value) == (
        '\'accept\' must be "95% right", "score >= 0.7", "refuse at most 10%", "error costs 10, refusal costs 1" or '
        f'"all", with numbers of your own. Got {rule!r} instead.'
    )


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("100% right", "the percentage in 'accept' must be above 0 and below 100"),
        ("0% right", "the percentage in 'accept' must be above 0 and below 100"),
        ("refuse at most 100%", "the percentage in 'accept' must be above 0 and below 100"),
        ("score >= 1.01", "the score in 'accept' must be from 0 to 1"),
        ("error costs 0, refusal costs 1", "the costs in 'accept' must be above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(rule, wanted) -> None:
    """A number that no promise can have is told with its range."""
    with pytest.raises(RecipeError) as caught:
        parse(rule)
    assert str(caught.value) == f"{wanted}. Got {rule!r} instead."


@given(st.text(max_size=40))
def test_no_text_breaks_it(text) -> None:
    """Any text is a rule or a RecipeError, and a rule keeps its words."""
    with contextlib.suppress(RecipeError):
        assert parse(text).given == text
