"""What a promise rests on: independent rows, and rows from elsewhere that count as wrong answers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.deciding import one_a_group
from bertsmith.evaluation.accept_rule import parse
from bertsmith.evaluation.acceptance import Confidence, choose

RISK = 0.08


def answers(generator: np.random.Generator, clusters: int, size: int) -> tuple[Confidence, np.ndarray]:
    """Answers in groups whose members are all right or all wrong; a score of s is right with a chance of s."""
    score = np.repeat(generator.beta(6, 1.2, clusters), size)
    right = np.repeat(generator.random(clusters), size) < score
    groups = np.repeat(np.arange(clusters), size)
    return Confidence(score, np.zeros(len(score), np.int64), right, ("a",), len(score)), groups


def drawn(found: Confidence, groups: np.ndarray, seed: int) -> Confidence:
    kept = one_a_group(groups, seed=seed)
    return Confidence(found.score[kept], found.guess[kept], found.right[kept], found.labels, len(kept))


def truly_right(threshold: float) -> float:
    """The share of right answers among those with this score or more, of very many."""
    score = np.random.default_rng(0).beta(6, 1.2, 400_000)
    return float(score[score >= threshold].mean())


def test_rows_that_belong_together_do_not_break_the_promise():
    """Of 200 trainings with ten alike rows a group at most 15 break it; counting all rows, many more do."""
    broken = {"one a group": 0, "all rows": 0}
    for seed in range(200):
        generator = np.random.default_rng(seed)
        sides = [answers(generator, 100, 10) for _ in range(2)]
        few = [drawn(*side, seed) for side in sides]
        for name, (validation, calibration) in (("one a group", few), ("all rows", [side[0] for side in sides])):
            found = choose(parse("92% right"), delta=0.05, validation=validation, calibration=calibration)
            broken[name] += found.guaranteed and truly_right(found.threshold) < 1 - RISK
    assert broken["one a group"] <= 15
    assert broken["all rows"] > 15


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 5))
def test_each_group_gives_one_row(groups, seed):
    """Every group is there once, positions ascend, and the same seed draws the same rows."""
    kept = one_a_group(np.array(groups, np.int64), seed=seed)
    assert sorted(np.array(groups, np.int64)[kept].tolist()) == sorted(set(groups))
    assert kept.tolist() == sorted(kept.tolist()) == one_a_group(np.array(groups, np.int64), seed=seed).tolist()


def test_answers_to_foreign_rows_are_wrong_answers():
    """Rows with none of the labels count in the total, and as wrong where they are answered."""
    own = Confidence(np.array([0.9, 0.8]), np.array([0, 1]), np.array([True, True]), ("a", "b"), 3)
    foreign = Confidence(np.array([0.95]), np.array([1]), np.array([True]), ("a", "b"), 4)
    both = own.beside(foreign)
    assert both.right.tolist() == [True, True, False]
    assert (len(both), both.total) == (3, 7)
