"""Promises about the answers that are given are kept as often as they say."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.risk_control import control_fwer
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy.stats import binomtest

from bertsmith.evaluation.accept_rule import parse
from bertsmith.evaluation.acceptance import NEVER, Accepted, Confidence, choose
from bertsmith.evaluation.fixed_sequence import Scored, candidates, p_values, plan, rows_needed
from bertsmith.evaluation.intervals import wilson
from bertsmith.tasks.single_label import SingleLabel
from tests.evaluation.fakes import GoldRows
from tests.tasks.made import rows_of, soft_of

Array = np.ndarray[Any, Any]
LABELS = ("a", "b", "c", "d")
RUNS = 200
MOST_BROKEN = 15
"""Of 200 runs at delta = 0.05: a method that breaks its promise exactly that often stays below in 96 of 100 proofs."""
SHAPES: dict[str, Callable[[Array], Array]] = {
    "calibrated": lambda score: score,
    "too sure": lambda score: 0.55 + 0.44 * score,
    "a cliff": lambda score: np.where(score > 0.75, 0.985, 0.5),
    "not monotone": lambda score: np.where(score > 0.97, 0.93, np.where(score > 0.7, 0.99, 0.6)),
    "just missed everywhere": lambda score: np.full(len(score), 0.9499),
}


def draw(generator: np.random.Generator, rows: int, shape: str, *, ties: bool = False) -> tuple[Confidence, Array]:
    """Draw answers, and the true probability of each to be right."""
    score = 1 / (1 + np.exp(-2.5 - 2 * generator.normal(size=rows)))
    score = np.round(score, 1) if ties else score
    truth = SHAPES[shape](score)
    guess = generator.integers(4, size=rows)
    return Confidence(score, guess, generator.random(rows) < truth, LABELS, rows), truth


def broken(rule: str, shape: str, *, rows: int, ties: bool = False, by_label: bool = False) -> tuple[int, int]:
    """Count the runs that make a promise, and those whose promise is broken in truth."""
    generator = np.random.default_rng(0)
    population, truth = draw(generator, 20_000, shape, ties=ties)
    made = wrong = 0
    for _ in range(RUNS):
        sides = [draw(generator, rows, shape, ties=ties)[0] for _ in range(2)]
        found = choose(parse(rule), delta=0.05, validation=sides[0], calibration=sides[1], by_label=by_label)
        given_ = found.given(population)
        made += found.guaranteed
        wrong += found.guaranteed and not keeps(found, population, truth, given_)
    return made, wrong


def keeps(found: Accepted, population: Confidence, truth: Array, given_: Array) -> bool:
    """Say whether a promise holds in truth: for each group of labels with a threshold of its own, where it has some."""
    if found.rule.kind == "refuse":
        return bool(1 - given_.mean() <= found.rule.number)
    groups = found._thresholds(population)
    return all(
        truth[given_ & (groups == threshold)].mean() >= found.rule.number
        for threshold in np.unique(groups)
        if (given_ & (groups == threshold)).any()
    )


@pytest.mark.parametrize(
    ("shape", "ties"), [*((shape, False) for shape in SHAPES), ("a cliff", True), ("not monotone", True)]
)
def test_promise_is_kept(shape: str, ties: bool) -> None:
    """Of 200 trainings with a known truth at most 15 break "95% right"; where it can be made, it is made."""
    made, wrong = broken("95% right", shape, rows=600, ties=ties)
    assert wrong <= MOST_BROKEN
    if shape in {"calibrated", "a cliff"}:
        assert made >= 0.6 * RUNS


@pytest.mark.parametrize("rule", ["99% right", "80% right", "refuse at most 20%"])
def test_other_promises_are_kept(rule: str) -> None:
    """What holds of 95 % holds of other shares, and of refusals."""
    made, wrong = broken(rule, "calibrated", rows=400)
    assert wrong <= MOST_BROKEN
    assert made >= 0.9 * RUNS or rule.startswith("99")


@pytest.mark.parametrize("rows", [30])
def test_few_rows_break_no_promise(rows: int) -> None:
    """With hardly any rows there are few promises, and they hold as often."""
    made, wrong = broken("90% right", "calibrated", rows=rows)
    assert wrong <= MOST_BROKEN
    assert made < RUNS


@pytest.mark.parametrize("shape", ["calibrated", "just missed everywhere"])
def test_promise_of_each_label_is_kept(shape: str) -> None:
    """With a threshold for each label, all of their promises hold together in at least 185 of 200 trainings."""
    made, wrong = broken("90% right" if shape == "calibrated" else "95% right", shape, rows=1500, by_label=True)
    assert wrong <= MOST_BROKEN
    assert made >= 0.6 * RUNS or shape == "just missed everywhere"


@given(st.integers(1, 400), st.data(), st.sampled_from([0.01, 0.05, 0.2]))
def test_p_values_are_exact(accepted: int, data: st.DataObject, risk: float) -> None:
    """The p-value is that of scipy's exact binomial test, and never above MAPIE's Bentkus bound for binary losses."""
    wrong = data.draw(st.integers(0, accepted))
    found = p_values(np.array([wrong]), np.array([accepted]), risk=risk)[0]
    assert found == pytest.approx(binomtest(wrong, accepted, risk, alternative="less").pvalue, abs=1e-12)
    # A share that is whole after it was multiplied back: MAPIE rounds errors up.
    share = np.array([np.nextafter(wrong / accepted, 0)])
    theirs = compute_hoeffding_bentkus_p_value(share, accepted, np.array([risk]), binary=True).item()
    assert theirs <= found + 1e-9 or wrong / accepted > risk or theirs == pytest.approx(found, rel=1e-6)


@given(st.lists(st.sampled_from([0.0, 0.01, 0.05, 0.06, 0.5]), min_size=1, max_size=8))
def test_sequence_is_that_of_mapie(chances: list[float]) -> None:
    """Testing stops at the first claim that stands, as MAPIE's fixed sequence does."""
    expected = len(control_fwer(np.array(chances), 0.05, "fixed_sequence"))
    failed = [place for place, chance in enumerate(chances) if chance > 0.05]
    assert expected == (failed[0] if failed else len(chances))


def scored(score: list[float], right: list[bool]) -> Scored:
    return Scored(np.array(score), np.array(right, bool))


def test_sequence_stops_at_the_first_failure() -> None:
    """A looser threshold that would pass is not reached where a stricter one before it fails."""
    score = np.concatenate([np.full(100, 0.9), np.full(40, 0.8), np.full(1000, 0.7)])
    right = np.concatenate([np.ones(100, bool), np.zeros(40, bool), np.ones(1000, bool)])
    good = Scored(score, np.ones(len(score), bool))
    fixed = plan(Scored(score[:100], right[:100]), 11.4, risk=0.05)
    assert fixed.thresholds.tolist() == [0.0]
    thresholds = candidates(score)
    assert thresholds == pytest.approx([0.85, 0.75, 0.0])
    steps = type(fixed)(thresholds, 0.0)
    assert steps.passed(good, risk=0.05, level=0.05) == 3
    assert steps.passed(Scored(score, right), risk=0.05, level=0.05) == 1
    assert (p_values(np.array([40]), np.array([1140]), risk=0.05) < 0.05).all()


@given(st.lists(st.sampled_from([0.2, 0.3, 0.5, 0.50000001, 0.9, 1.0]), min_size=1, max_size=60))
def test_counts_above_thresholds(scores: list[float]) -> None:
    """Answers that reach a threshold are counted as comparing each one does; thresholds descend to 0."""
    answers = Scored(np.array(scores), np.arange(len(scores)) % 3 > 0)
    thresholds = candidates(answers.score)
    accepted, wrong = answers.above(thresholds)
    reached = answers.score[None] >= thresholds[:, None]
    assert accepted.tolist() == reached.sum(axis=1).tolist()
    assert wrong.tolist() == (reached & ~answers.right).sum(axis=1).tolist()
    assert (np.diff(thresholds) < 0).all()
    assert thresholds[-1] == 0
    assert len(thresholds) == len(set(scores))


def test_plan_uses_no_calibration_row() -> None:
    """The thresholds that are tried are the same whatever the calibration rows are: only which passes differs."""
    generator = np.random.default_rng(3)
    validation = draw(generator, 500, "calibrated")[0]
    tried = set(plan(validation.scored, 1.0, risk=0.05).thresholds.tolist())
    for _ in range(20):
        calibration = draw(generator, 500, "calibrated")[0]
        found = choose(parse("95% right"), delta=0.05, validation=validation, calibration=calibration)
        assert found.threshold in tried


def some(rows: int, *, right: float = 1.0, foreign: int = 0, score: float = 0.9) -> Confidence:
    """Make answers of one score, of which the first are right."""
    hit = np.arange(rows) < round(right * rows)
    return Confidence(np.full(rows, score), np.zeros(rows, np.int64), hit, LABELS, rows + foreign)


def test_all_right_rows_carry_a_promise_from_59_on() -> None:
    """0.95 ** 59 is below 0.05: 59 rows without an error are the fewest that carry "95% right"."""
    for rows, kept in ((58, False), (59, True)):
        found = choose(parse("95% right"), delta=0.05, validation=some(200), calibration=some(rows))
        assert (found.guaranteed, found.threshold, found.as_decision()) == (kept, 0.0, {})


def test_rows_that_cannot_carry_it_refuse_nothing() -> None:
    """Nothing is refused, the promise is not made, and about how many rows would do is told."""
    found = choose(parse("95% right"), delta=0.05, validation=some(40), calibration=some(50))
    assert (found.threshold, found.coverage, found.guaranteed, found.as_decision()) == (0.0, 1.0, False, {})
    assert found.rows_needed == 93
    assert found.sentence == (
        "nothing is refused for its score: 50 calibration rows cannot carry the promise '95% right'; about 93 would"
    )


def test_as_many_rows_as_told_carry_it() -> None:
    """Rows as many as were said to be needed carry the promise in about four of five trainings or more."""
    generator = np.random.default_rng(5)
    known = draw(generator, 150, "calibrated")[0]
    needed = rows_needed(draw(generator, 20_000, "calibrated")[0].scored, 1.0, risk=0.05, delta=0.05)
    assert needed is not None
    assert not choose(parse("95% right"), delta=0.05, validation=known, calibration=known).guaranteed
    made = 0
    for _ in range(100):
        sides = [draw(generator, rows, "calibrated")[0] for rows in (5000, needed)]
        made += choose(parse("95% right"), delta=0.05, validation=sides[0], calibration=sides[1]).guaranteed
    assert 70 <= made <= 97


def test_a_hopeless_promise_says_so() -> None:
    """Where even the surest answers are too often wrong, no number of rows is named."""
    found = choose(parse("95% right"), delta=0.05, validation=some(900, right=0.8), calibration=some(900, right=0.8))
    assert found.rows_needed is None
    assert found.sentence == (
        "nothing is refused for its score: 900 calibration rows cannot carry the promise '95% right'; how many would "
        "cannot be told, for too many of the surest answers are wrong, or too few are known"
    )


def test_no_rows_at_all() -> None:
    """Without validation rows thresholds from the promise down are tried; without calibration rows none is chosen."""
    nothing = some(0)
    found = choose(parse("95% right"), delta=0.05, validation=nothing, calibration=nothing)
    assert (found.guaranteed, found.coverage, found.rows) == (False, None, 0)
    assert found.as_json()["test"] is None
    generator = np.random.default_rng(6)
    large = draw(generator, 4000, "a cliff")[0]
    alone = choose(parse("95% right"), delta=0.05, validation=nothing, calibration=large)
    assert alone.guaranteed
    assert alone.coverage is not None
    assert alone.coverage > 0.6


def test_rows_out_of_scope_lower_the_coverage_only() -> None:
    """The promise is about the answers that are given; rows refused as foreign are not among them."""
    found = choose(parse("95% right"), delta=0.05, validation=some(100), calibration=some(300, foreign=100))
    assert found.guaranteed
    assert (found.coverage, found.rows) == (0.75, 400)
    assert found.sentence == (
        "at least 95% of the answers given are right (a promise that is broken with a chance of at most 5%); "
        "75.0% of the calibration rows are answered, the others are UNKNOWN"
    )


def test_refusals_count_foreign_rows() -> None:
    """Rows out of scope are refusals; too many of them break the promise before any score is looked at."""
    ladder = Confidence(np.arange(1, 901) / 1000, np.zeros(900, np.int64), np.ones(900, bool), LABELS, 1000)
    found = choose(parse("refuse at most 20%"), delta=0.05, validation=some(0), calibration=ladder)
    given_ = found.given(ladder)
    # At most 178 of 1,000 may be refused so that the share is below 20 % but for a chance of 5 %; 100 are foreign.
    assert (~given_).sum() == 78 == 178 - 100
    assert found.guaranteed
    crowded = choose(parse("refuse at most 10%"), delta=0.05, validation=some(0), calibration=ladder)
    assert (crowded.guaranteed, crowded.threshold) == (False, 0.0)
    assert crowded.sentence == (
        "nothing is refused for its score: 1,000 calibration rows cannot carry the promise 'refuse at most 10%'; "
        "too many rows are out of scope already"
    )
    few = choose(parse("refuse at most 10%"), delta=0.05, validation=some(0), calibration=some(28))
    assert (few.guaranteed, few.rows_needed) == (False, 29)


def test_costs_choose_the_cheapest_threshold() -> None:
    """No other threshold costs less on the calibration rows; equal costs leave it where the score says."""
    generator = np.random.default_rng(7)
    rows = draw(generator, 500, "too sure")[0]
    rule = parse("error costs 10, refusal costs 1")
    found = choose(rule, delta=0.05, validation=some(0), calibration=rows)

    def cost(threshold: float) -> float:
        given_ = rows.score >= threshold
        return float(10 * (given_ & ~rows.right).sum() + (~given_).sum())

    tried = [*candidates(rows.score), 0.9]
    assert cost(found.threshold) == min(cost(each) for each in tried)
    # The true share of right answers is 0.55 + 0.44 score, which is 0.9 at 0.795.
    assert found.threshold == pytest.approx(0.795, abs=0.06)
    assert found.guaranteed is False
    assert choose(rule, delta=0.05, validation=some(0), calibration=some(0)).threshold == pytest.approx(0.9)
    dear = parse("error costs 1, refusal costs 5")
    assert choose(dear, delta=0.05, validation=some(0), calibration=rows).as_decision() == {}


def test_score_and_all_promise_nothing() -> None:
    """A given score is taken as it is, at its very edge too; all gives every answer."""
    edge = some(10, score=0.7)
    found = choose(parse("score >= 0.7"), delta=0.05, validation=edge, calibration=edge)
    assert (found.threshold, found.coverage, found.guaranteed) == (0.7, 1.0, False)
    assert found.as_decision() == {"accept": {"threshold": 0.7}}
    assert found.sentence == (
        "answers with a score of at least 0.7 are given; nothing is promised of them; every calibration row is answered"
    )
    everything = choose(parse("all"), delta=0.05, validation=edge, calibration=edge)
    assert (everything.as_decision(), everything.sentence) == ({}, "every answer is given")


def test_labels_that_cannot_carry_it_are_refused() -> None:
    """Labels with enough rows have thresholds of their own; the others share one, or are never given."""
    generator = np.random.default_rng(8)

    def side(rows: int) -> Confidence:
        guess = generator.choice(4, size=rows, p=[0.6, 0.3, 0.05, 0.05])
        score = generator.random(rows)
        right = generator.random(rows) < np.where(guess < 2, 0.99, 0.5)
        return Confidence(score, guess, right, LABELS, rows)

    calibration = side(1000)
    found = choose(parse("95% right"), delta=0.05, validation=side(1000), calibration=calibration, by_label=True)
    assert found.by_label == {"a": 0.0, "b": 0.0, "c": NEVER, "d": NEVER}
    assert found.as_decision() == {"accept": {"by_label": found.by_label}}
    assert found.given(calibration).tolist() == (calibration.guess < 2).tolist()
    assert (found.alone, found.as_json()["alone"]) == (("a", "b"), ["a", "b"])
    assert found.sentence == (
        "at least 95% of the answers given are right (a promise that is broken with a chance of at most 5%), "
        'for each of 2 labels by itself; always refused, for want of rows or of right answers: "c", "d"; '
        f"{found.coverage:.1%} of the calibration rows are answered, the others are UNKNOWN"
    )
    hopeless = some(500, right=0.5)
    nothing = choose(parse("95% right"), delta=0.05, validation=hopeless, calibration=hopeless, by_label=True)
    assert (nothing.by_label, nothing.guaranteed) == (None, False)


def test_labels_that_carry_it_only_together_are_named() -> None:
    """Labels with hardly any row share a threshold; the sentence counts those that stand alone and names the others."""
    generator = np.random.default_rng(9)
    names = ("often", *(f"rare {number}" for number in range(7)))

    def side(rows: int) -> Confidence:
        guess = np.where(generator.random(rows) < 0.6, 0, generator.integers(1, 8, size=rows))
        return Confidence(generator.random(rows), guess, np.ones(rows, bool), names, rows)

    found = choose(parse("95% right"), delta=0.05, validation=side(400), calibration=side(400), by_label=True)
    assert found.alone == ("often",)
    assert set((found.by_label or {}).values()) == {0.0}
    assert found.sentence == (
        "at least 95% of the answers given are right (a promise that is broken with a chance of at most 5%), for 1 "
        'label by itself and for 7 labels only taken together: "rare 0", "rare 1", "rare 2", "rare 3", "rare 4" and '
        "2 more; every calibration row is answered"
    )


@pytest.mark.parametrize("rows", [0, 5, 28])
def test_costs_of_too_few_rows_say_so(rows: int) -> None:
    """Where errors as rare as a refusal is cheap could be missing by chance, the sentence says so, and how many would do."""
    found = choose(
        parse("error costs 10, refusal costs 1"), delta=0.05, validation=some(0), calibration=some(rows, score=0.6)
    )
    # 0.9 ** 29 is the first power of 0.9 below 0.05.
    assert (found.guaranteed, found.rows_needed, found.threshold) == (False, 29, 0.0 if rows else 0.9)
    given_ = "every answer is" if rows else "answers with a score of at least 0.9 are"
    assert found.sentence == (
        f"{given_} given, where errors (costs 10) and refusals (costs 1) cost least; nothing is promised of them; "
        f"{rows} calibration rows are too few to choose it by, about 29 would do"
        + ("; every calibration row is answered" if rows else "")
    )


def test_costs_of_enough_rows() -> None:
    """With enough rows, or where a refusal costs no less than an error, nothing is said of too few."""
    enough = choose(
        parse("error costs 10, refusal costs 1"), delta=0.05, validation=some(0), calibration=some(29, score=0.6)
    )
    dear = choose(parse("error costs 1, refusal costs 1"), delta=0.05, validation=some(0), calibration=some(1))
    assert (enough.rows_needed, dear.rows_needed, dear.as_decision()) == (None, None, {})
    assert dear.sentence == (
        "every answer is given, where errors (costs 1) and refusals (costs 1) cost least; nothing is promised of them; "
        "every calibration row is answered"
    )


@given(st.text())
def test_names_of_labels_cannot_write_on_the_terminal(name: str) -> None:
    """Whatever a label is called, the sentence is one line of printable ASCII, and the name can be read out of it."""
    found = Accepted(parse("95% right"), 0.05, by_label={name: NEVER}, coverage=0.5, guaranteed=True)
    assert found.sentence.isascii()
    assert found.sentence.isprintable()
    quoted = found.sentence.partition("right answers: ")[2].removesuffix(
        "; 50.0% of the calibration rows are answered, the others are UNKNOWN"
    )
    assert json.loads(quoted) == name


def test_measured_on_test_rows() -> None:
    """Coverage counts all rows, right answers the given ones; both have Wilson's interval."""
    test = Confidence(
        np.array([0.9, 0.8, 0.4]), np.array([0, 1, 1]), np.array([True, False, True]), LABELS, 4
    )  # fmt: skip
    found = Accepted(parse("score >= 0.5"), 0.05, threshold=0.5)
    assert found.on_test(test) == {"rows": 4, "coverage": wilson(2, 4).as_json(), "right": wilson(1, 2).as_json()}
    assert found.risk_coverage(test) == [
        {"threshold": 0.9, "coverage": 0.25, "right": 1.0},
        {"threshold": 0.8, "coverage": 0.5, "right": 0.5},
        {"threshold": 0.4, "coverage": 0.75, "right": pytest.approx(2 / 3)},
    ]
    assert Accepted(parse("all"), 0.05, threshold=NEVER).on_test(test)["right"] is None


def test_curve_has_few_points_and_ends_at_everything() -> None:
    """However many rows, at most 200 points, the last of which gives every answer in scope."""
    rows = draw(np.random.default_rng(9), 5000, "calibrated")[0]
    curve = Accepted(parse("all"), 0.05).risk_coverage(rows)
    assert len(curve) == 200
    assert [curve[-1]["coverage"], curve[-1]["right"]] == [1.0, pytest.approx(rows.right.mean())]
    assert all(a["coverage"] < b["coverage"] for a, b in itertools.pairwise(curve))


def test_json_holds_what_scripts_rely_on() -> None:
    """`decide` has its keys, all of them JSON, and null where a thing is not there."""
    found = choose(parse("95% right"), delta=0.05, validation=some(300), calibration=some(300))
    told = found.as_json(some(100))
    assert list(told) == [
        "accept", "target", "delta", "threshold", "by_label", "alone", "coverage", "guaranteed", "rows", "rows_needed",
        "sentence", "test", "risk_coverage",
    ]  # fmt: skip
    assert (told["accept"], told["target"], told["delta"], told["threshold"]) == ("95% right", 0.95, 0.05, 0.0)
    assert (told["coverage"], told["guaranteed"], told["rows_needed"]) == (1.0, True, None)


def test_confidence_of_answers() -> None:
    """The score is that of the guess; rows out of scope are counted and left out."""
    rows = GoldRows(np.array([0, 1, 2, 2]))
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8], [0.2, 0.3, 0.5]])
    foreign = np.array([False, False, False, True])
    found = Confidence.of(SingleLabel(), rows, probabilities, foreign=foreign)  # type: ignore[arg-type]
    assert (found.score.tolist(), found.guess.tolist()) == ([0.7, 0.6, 0.8], [0, 0, 2])
    assert (found.right.tolist(), found.total, len(found)) == ([True, False, True], 4, 3)
    nothing = Confidence.of(SingleLabel(), rows.take(np.arange(0)), np.zeros((0, 3)))  # type: ignore[arg-type]
    assert (len(nothing), nothing.total) == (0, 0)


def test_soft_labels_are_right_where_the_largest_share_is_guessed() -> None:
    """Of a row that is 60 % a and 40 % b, the answer a is right, however sure the model is."""
    task = SingleLabel()
    rows = rows_of(task, soft_of(np.array([[0.6, 0.4], [0.6, 0.4]]), ["a", "b"]))
    found = Confidence.of(task, rows, np.array([[0.99, 0.01], [0.3, 0.7]]))
    assert found.right.tolist() == [True, False]
