"""What `group_texts` promises, against brute force."""

import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.data.near_duplicates import TextGroups, group_texts, renumbered
from bertsmith.examples import Columns, Examples

VOCABULARY = [f"{first}{second}" for first in "bcdfghjklm" for second in ("a", "en", "ir", "om", "und")]


def examples(texts, pairs=None):
    columns = {"text": pa.array(texts, pa.string())}
    if pairs is not None:
        columns["text_pair"] = pa.array(pairs, pa.string())
    return Examples(pa.table(columns), Columns("text"), "made up")


def grouped(texts, pairs=None, **settings) -> TextGroups:
    return group_texts(examples(texts, pairs), **{"seed": 0, **settings})


def joined(left, right):
    return len(set(grouped([left, right]).near.tolist())) == 1


def word_pairs(text):
    words = re.sub(r"[^\w\s]", " ", text.lower()).split()
    return set(itertools.pairwise(words))


def jaccard(left, right):
    return len(left & right) / len(left | right)


def mutated_texts(count, seed):
    """Make families of texts: a parent, and children with a few words replaced, dropped or added."""
    draw = np.random.default_rng(seed)
    texts = []
    while len(texts) < count:
        parent = list(draw.choice(VOCABULARY, int(draw.integers(7, 60))))
        for _ in range(int(draw.integers(1, 6))):
            child = list(parent)
            for _ in range(int(draw.integers(0, 4))):
                child[int(draw.integers(len(child)))] = str(draw.choice(VOCABULARY))
            texts.append(" ".join(child[int(draw.integers(0, 2)) :]).capitalize() + str(draw.choice([".", "!", ""])))
    return texts[:count]


def partition(numbers):
    return {tuple(np.flatnonzero(numbers == number).tolist()) for number in set(numbers.tolist())}


@given(st.lists(st.text(alphabet="aAbÉé \t\n\u00a0\u3000.", max_size=5), min_size=1, max_size=30))
def test_exact_groups_are_those_of_lower_case_and_single_blanks(texts):
    """Texts share an exact number just when they are equal but for case and blanks."""
    plain = [" ".join(text.lower().split()) for text in texts]
    numbers = [plain.index(text) for text in plain]
    np.testing.assert_array_equal(grouped(texts).exact, renumbered(np.array(numbers)))


def test_composed_and_decomposed_letters_are_equal():
    """An é that is one code point equals an é that is two."""
    assert grouped(["caf\u00e9", "cafe\u0301"]).exact.tolist() == [0, 0]


def test_all_pairs_above_the_threshold_are_found_and_no_others_joined():
    """At least 95 % of all pairs at 0.8 and above share a group; no group crosses brute-force components."""
    texts = mutated_texts(400, seed=3)
    sets = [word_pairs(text) for text in texts]
    alike = [(i, j) for i in range(len(texts)) for j in range(i) if jaccard(sets[i], sets[j]) >= 0.8]
    component = np.arange(len(texts))
    for i, j in alike:
        component[component == component[i]] = component[j]
    near = grouped(texts).near
    assert len(alike) > 100
    assert np.mean([near[i] == near[j] for i, j in alike]) >= 0.95
    for rows in partition(near):
        assert len(set(component[list(rows)].tolist())) == 1


@pytest.mark.parametrize("threshold", [0.5, 0.65, 0.9, 1.0])
def test_other_thresholds_hold_too(threshold):
    """Recall and precision hold for other thresholds than 0.8."""
    texts = mutated_texts(150, seed=8)
    sets = [word_pairs(text) for text in texts]
    similar = np.array([[jaccard(a, b) for a in sets] for b in sets])
    near = grouped(texts, threshold=threshold).near
    same = near[:, None] == near[None, :]
    assert same[similar >= threshold].mean() >= 0.95
    pairs_only = [rows for rows in partition(near) if len(rows) == 2]
    assert pairs_only
    assert all(similar[rows] >= threshold for rows in pairs_only)


@given(st.lists(st.text(alphabet="ab .'?", max_size=12), min_size=1, max_size=20))
def test_near_is_coarser_than_exact(texts):
    """Rows that share an exact number share a near number."""
    groups = grouped(texts)
    for rows in partition(groups.exact):
        assert len(set(groups.near[list(rows)].tolist())) == 1


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("how do I top up?", "How do I top-up"),
        ("Yup", "yup..."),
        (
            "one two three four five six seven eight nine",
            "one two three four five six seven eight nine ten eleven",
        ),
        ("don't stop", "dont stop!"),
        ("I can not find where my new card is now", "I can not find where my new card is"),
        ("我的银行卡丢了\uff0c怎么办\uff1f", "我的银行卡丢了 怎么办"),
    ],
)
def test_texts_that_say_the_same_are_joined(left, right):
    """Punctuation, case, hyphens and what leaves a Jaccard index of just 0.8 keep texts together."""
    assert joined(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("card not working", "card is working"),
        ("my card is working", "my card is not working"),
        ("how do I top up?", "how do I top up automatically?"),
        ("how do I activate my new card", "how do I cancel my new card"),
        (":)", ":("),
        ("not good", "good not"),
        ("", "."),
        ("卡不能用", "卡能用"),
        ("write C++", "write C"),
    ],
)
def test_short_texts_that_differ_in_a_word_are_not_joined(left, right):
    """A word that turns the meaning of a short text keeps texts apart."""
    assert not joined(left, right)


def test_a_text_pair_counts_as_one_text():
    """Pairs are compared as a whole, and a word may not wander over the border."""
    groups = grouped(["a b", "A  b", "a", "a b"], ["c", "c", "b c", "d"])
    assert groups.exact.tolist() == [0, 0, 1, 2]
    assert groups.near.tolist() == [0, 0, 1, 2]


def test_a_missing_text_pair_counts_as_an_empty_one():
    """A null in text_pair is no error."""
    assert grouped(["a", "a", "a"], [None, "", "b"]).exact.tolist() == [0, 0, 1]


def test_a_crowd_of_look_alikes_is_one_group():
    """A template that differs in one word of forty is one group, though most of it is not in the index."""
    template = " ".join(f"word{number}" for number in range(40))
    near = grouped([f"{template} order {number}" for number in range(2_000)]).near
    assert set(near.tolist()) == {0}


def test_a_sample_is_said_to_be_one():
    """Above the limit a sample is searched and counted; short texts and other punctuation need no search."""
    texts = mutated_texts(60, seed=5)
    rows = [*texts, "short one", texts[0] + " !"]
    groups = grouped(rows, limit=20)
    distinct = len({" ".join(re.sub(r"[^\w\s]", " ", text.lower()).split()) for text in texts})
    assert 20 < groups.sampled < len(rows)
    assert groups.sampled <= 20 + 1 + len(rows) - distinct
    assert groups.near[0] == groups.near[-1]
    assert grouped(rows, limit=len(rows)).sampled is None


def test_the_sample_follows_the_seed():
    """The same seed looks at the same rows, another at others."""
    texts = mutated_texts(300, seed=6)
    found = [grouped(texts, limit=100, seed=seed).near.tolist() for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_no_rows_give_no_groups():
    """An empty table has empty groups."""
    groups = grouped([])
    assert (groups.exact.tolist(), groups.near.tolist(), groups.sampled) == ([], [], None)


def test_rows_in_many_chunks_are_grouped_as_in_one():
    """How Arrow cut the column makes no difference."""
    texts = mutated_texts(40, seed=9)
    table = pa.table({"text": pa.chunked_array([texts[:7], [], texts[7:8], texts[8:]])})
    cut = group_texts(Examples(table, Columns("text"), "made up"), seed=0)
    assert cut.near.tolist() == grouped(texts).near.tolist()


def test_pythons_hash_seed_makes_no_difference():
    """Two processes with different PYTHONHASHSEED find the same groups."""
    program = (
        "import json, sys, pyarrow as pa\n"
        "from bertsmith.examples import Columns, Examples\n"
        "from bertsmith.data.near_duplicates import group_texts\n"
        "table = pa.table({'text': json.load(sys.stdin)})\n"
        "print(group_texts(Examples(table, Columns('text'), ''), seed=4, limit=120).near.tolist())\n"
    )
    texts = json.dumps(mutated_texts(200, seed=1))
    answers = [
        subprocess.run(
            [sys.executable, "-c", program],
            input=texts,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert answers[0] == answers[1]
