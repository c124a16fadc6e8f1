"""Slices: what is planted is found, and chance is not believed."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.evaluation.slice_masks import find_groups
from bertsmith.evaluation.slices import find_slices
from bertsmith.examples import Columns, Examples

ROWS = 400


def made(generator: np.random.Generator, *, rows: int = ROWS, words: int = 300) -> tuple[Examples, np.ndarray]:
    """Make rows with words as frequent as in a language, three sources, ages, and lengths."""
    drawn = np.minimum(generator.zipf(1.3, size=(rows, 12)), words)
    texts = [" ".join(f"w{word}" for word in row) for row in drawn]
    table = pa.table({"text": texts, "file": pa.array(["a.csv"] * rows), "row": np.arange(1, rows + 1)})
    extra = pa.table(
        {
            "source": generator.choice(["web", "mail", "phone"], rows),
            "age": pa.array((generator.integers(18, 90, rows) + 0.5).astype(str)),
        }
    )
    return Examples(table, Columns("text", "label"), "a.csv", extra), generator.integers(4, 60, rows)


def has_word(examples: Examples, word: str) -> np.ndarray:
    return np.array([word in text.split() for text in examples.column("text").to_pylist()])


def test_errors_by_chance_name_a_slice_in_at_most_one_run_of_twenty():
    """Where errors fall at random, at most 5 % of 200 runs name any slice."""
    generator = np.random.default_rng(0)
    named = 0
    for share in (0.7, 0.8, 0.9, 0.95):
        examples, tokens = made(generator)
        named += sum(bool(find_slices(examples, generator.random(ROWS) < share, tokens)) for _ in range(50))
    assert named <= 10


def test_a_word_that_fails_is_found():
    """A word whose rows fail four times as often is the first slice, in a sentence with its numbers."""
    generator = np.random.default_rng(1)
    examples, tokens = made(generator)
    planted = has_word(examples, "w7")
    right = np.ones(ROWS, bool)
    right[np.flatnonzero(planted)[::2]] = False
    right[np.flatnonzero(~planted)[::10]] = False
    found = find_slices(examples, right, tokens)[0]
    rows = int(planted.sum())
    share = right[planted].mean()
    assert (found.column, found.value, found.rows) == ("word", "w7", rows)
    assert found.right.value == share
    assert found.rest == right[~planted].mean()
    points = 100 * (found.rest - share)
    low, high = -100 * found.difference.high, -100 * found.difference.low
    assert found.sentence == (
        f"Of {rows} texts with the word 'w7' {share:.1%} are right, of the others {found.rest:.1%}: "
        f"{points:.1f} points less [{low:.1f}, {high:.1f}]."
    )
    assert found.as_json()["low"] <= found.as_json()["difference"] <= found.as_json()["high"] < 0


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [
        ("source", "mail", "rows whose 'source' is 'mail'"),
        ("age", "highest quarter", "rows with 'age' from 71.5 to 89.5"),
        ("length", "longest", "texts of 46 to 59 tokens"),
    ],
)
def test_a_column_or_a_length_that_fails_is_found(column, value, name):
    """A value of a column, a quarter of a number and a quarter of the lengths are found, with their names."""
    generator = np.random.default_rng(2)
    examples, tokens = made(generator)
    group = next(
        each for each in find_groups(examples, tokens, texts=True) if (each.column, each.value) == (column, value)
    )
    right = generator.random(ROWS) < 0.95
    right[group.rows] = generator.random(len(group.rows)) < 0.6
    first = find_slices(examples, right, tokens)[0]
    assert (first.column, first.value, first.name) == (column, value, name)


@pytest.mark.parametrize("empty", [False, True])
def test_the_latest_rows_are_a_slice(empty):
    """Rows are cut into quarters by their time; where a row has none, nothing is said of times."""
    days = [f"2026-{1 + row // 28:02}-{1 + row % 28:02}" for row in range(200)]
    right = np.array([row < 150 or row % 2 == 0 for row in range(200)])
    if empty:
        days[3] = ""
    table = pa.table({"text": ["x"] * 200, "time": days, "file": ["a.csv"] * 200, "row": np.arange(1, 201)})
    found = find_slices(Examples(table, Columns("text", time="day"), "a.csv"), right, np.ones(200))
    named = [("day", "latest quarter", "rows with 'day' from 2026-06-11 to 2026-08-04", 50)]
    assert [(each.column, each.value, each.name, each.rows) for each in found] == ([] if empty else named)


def test_a_slice_that_fails_less_is_not_named():
    """Only where it fails more is said, not where it does better."""
    generator = np.random.default_rng(3)
    examples, tokens = made(generator)
    right = generator.random(ROWS) < 0.6
    right[has_word(examples, "w7")] = True
    assert "w7" not in [each.value for each in find_slices(examples, right, tokens)]


def test_writing_systems_are_told_by_most_letters():
    """Each text is of the writing system of most of its letters; kana make Japanese of Han signs."""
    texts = [
        "Guten Tag",
        "привет друг ok",
        "λέξη",
        "مرحبا",
        "שלום",
        "नमस्ते",
        "สวัสดี",
        "안녕",
        "日本語を話す",
        "你好",
        "123 !?",
    ]
    every = texts * 5
    table = pa.table({"text": every, "file": ["a.csv"] * 55, "row": np.arange(1, 56)})
    groups = find_groups(Examples(table, Columns("text"), "a.csv"), np.ones(55), texts=False)
    told = {each.value: sorted({every[row] for row in each.rows}) for each in groups if each.column == "script"}
    assert told == {
        "Latin": ["Guten Tag"], "Cyrillic": ["привет друг ok"], "Greek": ["λέξη"], "Arabic": ["مرحبا"],
        "Hebrew": ["שלום"], "Devanagari": ["नमस्ते"], "Thai": ["สวัสดี"], "Korean": ["안녕"],
        "Japanese": ["日本語を話す"], "Chinese": ["你好"],
    }  # fmt: skip


def test_no_word_is_named_where_texts_may_not_be_kept():
    """With texts=False a failing word stays unnamed, and no word stands in what is returned."""
    generator = np.random.default_rng(1)
    examples, tokens = made(generator)
    right = ~has_word(examples, "w7")
    found = find_slices(examples, right, tokens, texts=False)
    assert "w7" not in json.dumps([each.as_json() for each in found])
    assert find_slices(examples, right, tokens, texts=True)[0].value == "w7"


@pytest.mark.parametrize("right", [True, False])
def test_where_all_rows_are_alike_there_is_no_slice(right):
    """All right or all wrong: no kind of rows fails more than the others."""
    examples, tokens = made(np.random.default_rng(0))
    assert find_slices(examples, np.full(ROWS, right), tokens) == []


def test_slices_with_the_same_rows_are_one():
    """Two words that always come together are one slice."""
    texts = [f"common {'twin sister' if row % 4 == 0 else 'other'}" for row in range(80)]
    table = pa.table({"text": texts, "file": ["a.csv"] * 80, "row": np.arange(1, 81)})
    found = find_slices(Examples(table, Columns("text"), "a.csv"), np.arange(80) % 4 != 0, np.ones(80))
    assert [each.value for each in found] == ["twin"]


def test_the_p_value_is_fishers():
    """A single group's p-value is that of scipy's one-sided Fisher test."""
    from scipy.stats import fisher_exact

    table = pa.table({"text": ["x"] * 60, "file": ["a.csv"] * 60, "row": np.arange(1, 61)})
    extra = pa.table({"source": ["web"] * 20 + [None] * 40})
    right = np.ones(60, bool)
    right[:9] = right[20:23] = False
    (found,) = find_slices(Examples(table, Columns("text"), "a.csv", extra), right, np.ones(60))
    assert found.p == pytest.approx(fisher_exact([[9, 11], [3, 37]], alternative="greater").pvalue)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=12), st.one_of(st.none(), st.text(max_size=3), st.just("7"))),
        min_size=2,
        max_size=40,
    ),
    st.randoms(use_true_random=False),
)
def test_any_texts_and_columns_can_be_looked_at(rows, random):
    """Whatever the texts and cells are, groups are found without an error, each of rows that exist."""
    texts, cells = zip(*rows, strict=True)
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    cells = [None if cell is None else cell.encode("utf-8", "replace").decode() for cell in cells]
    count = len(rows)
    table = pa.table({"text": pa.array(texts, pa.string()), "file": ["a.csv"] * count, "row": np.arange(1, count + 1)})
    extra = pa.table({"cell": pa.array(cells, pa.string())})
    examples = Examples(table, Columns("text"), "a.csv", extra)
    tokens = np.array([random.randint(1, 9) for _ in rows])
    for group in find_groups(examples, tokens, texts=True):
        assert np.array_equal(np.unique(group.rows), group.rows)
        assert 0 <= group.rows.min() <= group.rows.max() < count
    find_slices(examples, np.array([random.random() < 0.5 for _ in rows]), tokens)
