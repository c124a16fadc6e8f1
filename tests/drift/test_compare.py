"""Whole comparisons: few false alarms, planted changes found, neither many nor few rows mislead."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bertsmith.drift.compare import compare
from bertsmith.drift.facts import ANSWERED
from bertsmith.drift.features import FEATURES
from bertsmith.drift.reference import Reference

LABELS = tuple("abcdefgh")
SHARES = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.07, 0.05, 0.03])


def facts(rows: int, seed: object, *, longer: float = 1.0, shares: np.ndarray = SHARES) -> dict[str, object]:
    """Facts of rows of known distributions, all features of a classifier."""
    generator = np.random.default_rng(seed)
    return {
        "length": (3 + generator.negative_binomial(3, 0.15, rows) * longer).astype(int),
        "unknown_tokens": generator.poisson(0.05, rows),
        "characters_per_token": generator.normal(4.2, 0.6, rows),
        "confidence": generator.beta(8, 0.6, rows),
        "label": [LABELS[place] for place in generator.choice(len(LABELS), rows, p=shares)],
        "answered": [ANSWERED[place] for place in generator.binomial(1, 0.05, rows)],
        "out_of_scope": generator.gumbel(-8, 2, rows),
    }


def drift(reference: Reference, new: dict[str, object]):
    seen = reference.empty()
    seen.add(new)
    return compare(reference, seen)


@pytest.mark.parametrize(("then", "now"), [(120, 40), (1_000, 9_000)])
def test_rows_of_the_same_kind_are_seldom_called_drifted(then, now):
    """Of 100 comparisons without a change at most 5 % (and what 100 runs vary by) find one; p-values alone likewise."""
    found = [
        drift(Reference.of_facts(facts(then, (run, 0)), labels=LABELS), facts(now, (run, 1))) for run in range(100)
    ]
    limit = 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(found))
    assert np.mean([each.drifted for each in found]) <= limit
    assert np.mean([min(shift.p for shift in each.shifts) <= 0.05 for each in found]) <= limit


def test_a_planted_change_is_named_with_where_it_went():
    """Texts three times as long: their length moved, nothing else did, and the sentence says from what to what."""
    before, now = facts(800, 1), facts(400, 2, longer=3)
    found = drift(Reference.of_facts(before, labels=LABELS), now)
    assert [each.feature for each in found.shifts] == list(FEATURES)[:7]
    assert [each.feature for each in found.shifts if each.moved] == ["length"]
    assert found.drifted
    shares = [f"{(each['length'] >= 33).mean():.0%}".replace("%", " %") for each in (now, before)]
    assert found.sentence == f"lengths moved: 33 tokens or more in {shares[0]} of the rows, before in {shares[1]}."
    json.dumps(found.as_json(), allow_nan=False)


def test_a_label_that_becomes_frequent_is_named():
    """Where the rarest label comes to a quarter of the rows, it is that label that the sentence names."""
    shares = np.append(SHARES[:-1] * 0.75 / 0.97, 0.25)
    found = drift(Reference.of_facts(facts(800, 3), labels=LABELS), facts(400, 4, shares=shares))
    moved = [each for each in found.shifts if each.moved]
    assert [each.feature for each in moved] == ["label"]
    assert moved[0].change is not None
    assert moved[0].change.where == "'h'"
    assert moved[0].change.now == pytest.approx(0.25, abs=0.05)


def test_a_million_rows_do_not_make_a_trifle_a_change():
    """A change that is certain and tiny is told as one that does not matter."""
    found = drift(Reference.of_facts(facts(20_000, 5), labels=LABELS), facts(300_000, 6, longer=1.1))
    length = found.shifts[0]
    assert length.p < 1e-6
    assert 0 < length.psi < 0.1
    assert length.sentence == "steady: it differs by less than matters"
    assert found.sentence == "nothing moved: 300,000 rows are like those of the run."


def test_few_rows_say_how_many_would_do():
    """Ten rows that show nothing are no proof that nothing moved; about a hundred are asked for."""
    found = drift(Reference.of_facts(facts(800, 7), labels=LABELS), facts(10, 8))
    assert not found.drifted
    assert found.sentence == (
        "nothing moved that 10 rows could show. A large change would be seen with about 102 rows."
    )
    assert found.shifts[0].sentence == "cannot tell: 10 rows show no large change; about 102 would"


def test_a_small_run_says_that_it_cannot_tell():
    """Where the run itself has few rows, more new ones would not help, and that is what is said."""
    found = drift(Reference.of_facts({"length": facts(20, 9)["length"]}), {"length": facts(5_000, 10)["length"]})
    assert found.sentence == (
        "nothing moved that 5,000 rows could show. The run has too few rows of its own to compare lengths."
    )
    assert found.shifts[0].sentence == "cannot tell: the run has only 20 rows to compare with"


def test_what_only_one_side_has_is_not_compared():
    """A feature without counts on either side has no line, and the others are corrected for fewer looks."""
    reference = Reference.of_facts(facts(300, 11), labels=LABELS)
    found = drift(reference, {"length": facts(300, 12)["length"]})
    assert [each.feature for each in found.shifts] == ["length"]
    assert drift(reference, {}).sentence == "nothing moved: 0 rows are like those of the run."
