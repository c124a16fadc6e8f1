"""Tables: Python objects of every accepted kind become the same Arrow table."""

from __future__ import annotations

import datetime
from typing import Any

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.data.tables import as_parts, as_table
from bertsmith.errors import BertsmithError, DataError, UsageError

ACCEPTED = (
    "a path, a list of (text, label) pairs, a list of dicts, a dict of lists, an Arrow, pandas or polars "
    "table, or a datasets.Dataset or DatasetDict"
)
DICT = {"text": ["NA", "", "b\r\nc"], "label": ["null", "y", "x"]}
CLASSES = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def rows_of(table: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def classified(texts: list[str], labels: list[int]) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=CLASSES)


@pytest.mark.parametrize(
    "data",
    [
        list(zip(*DICT.values(), strict=True)),
        [list(row) for row in zip(*DICT.values(), strict=True)],
        rows_of(DICT),
        DICT,
        {name: np.array(values, dtype=object) for name, values in DICT.items()},
        {name: np.array(values) for name, values in DICT.items()},
        pa.table(DICT),
        pa.RecordBatch.from_pydict(DICT),
        pd.DataFrame(DICT, index=[7, 8, 9]),
        pl.DataFrame(DICT),
        datasets.Dataset.from_dict(DICT),
    ],
    ids=[
        "pairs",
        "lists",
        "dicts",
        "dict",
        "objects",
        "numpy",
        "table",
        "batch",
        "pandas",
        "polars",
        "datasets",
    ],
)
def test_every_kind_gives_the_same_table(data: Any) -> None:
    """The same rows come out, whichever way they are handed in; NA and null stay text."""
    assert as_table(data).to_pydict() == DICT


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_text_is_kept(rows: list[tuple[str, str]]) -> None:
    """Texts and labels go through lists, pandas and polars unchanged."""
    frame = {"text": [row[0] for row in rows], "label": [row[1] for row in rows]}
    for data in (rows, rows_of(frame), pd.DataFrame(frame), pl.DataFrame(frame)):
        assert as_table(data).to_pydict() == frame


def test_texts_alone_will_do_without_labels() -> None:
    """A list of texts is a table of one column."""
    assert as_table(["a", "b"], labelled=False).to_pydict() == {"text": ["a", "b"]}


def test_types_are_kept_and_mixtures_become_text() -> None:
    """Numbers and dates stay what they are; a column of several kinds becomes text."""
    day = datetime.date(2026, 1, 2)
    table = as_table(
        {"int": [1, 2], "bool": [True, None], "float": [1, 0.5], "day": [day, day], "mixed": [1, "a"],
         "odd": [day, "a"],
         "numpy": list(np.array([3, 4], np.int8)), "big": [2**70, 1]}
    )  # fmt: skip
    assert table.to_pydict() == {
        "int": [1, 2], "bool": [True, None], "float": [1.0, 0.5], "day": [day, day], "mixed": ["1", "a"],
        "odd": ["2026-01-02", "a"], "numpy": [3, 4], "big": [str(2**70), "1"],
    }  # fmt: skip


def test_pandas_mixtures_and_gaps() -> None:
    """A pandas column of several types is taken value by value; NaN and None are missing."""
    frame = pd.DataFrame({"text": ["a", None, "c"], "label": [1, "x", np.nan], 3: [1, 2, 3]})
    assert as_table(frame).to_pydict() == {
        "text": ["a", None, "c"],
        "label": ["1", "x", None],
        "3": [1, 2, 3],
    }


def test_a_dict_may_lack_a_key() -> None:
    """In a list of dicts a key that is not there is a missing value."""
    assert as_table([{"text": "a"}, {"label": "x"}]).to_pydict() == {
        "text": ["a", None],
        "label": [None, "x"],
    }


ERRORS: dict[str, tuple[Any, type[BertsmithError], str]] = {
    "number": (42, UsageError, f"int cannot be read as data.\n  Give {ACCEPTED}."),
    "none": ([], DataError, "data: no rows.\n  At least two rows with different labels are needed."),
    "texts": (
        ["a"],
        DataError,
        f"data: row 1: a pair (text, label) is expected, str found.\n  Give {ACCEPTED}.",
    ),
    "triple": (
        [("a", "x"), ("b", "y", "z")],
        DataError,
        f"data: row 2: a pair (text, label) is expected, tuple of 3 found.\n  Give {ACCEPTED}.",
    ),
    "not all dicts": ([{"a": 1}, "b"], DataError, "data: row 2: a dict is expected, str found."),
    "lengths": (
        {"text": ["a", "b"], "label": ["x"]},
        DataError,
        "data: the columns differ in length: 'text' has 2, 'label' has 1.",
    ),
    "no list": (
        {"text": "abc"},
        DataError,
        f"data: 'text' must be a list of values, one a row.\n  Give {ACCEPTED}.",
    ),
    "series": (
        pd.Series(["a"]),
        UsageError,
        "Series cannot be read as data.\n  Give a DataFrame with its columns.",
    ),
    "stream": (
        datasets.Dataset.from_dict(DICT).to_iterable_dataset(),
        UsageError,
        "data: IterableDataset cannot be read as data.\n  Load the data set without streaming=True.",
    ),
    "twice": (
        pd.DataFrame([["a", "b"]], columns=["text", "text"]),
        DataError,
        "data: 2 columns are named 'text' (columns 1, 2).\n  Give every column a name of its own.",
    ),
    "surrogate": (
        [("a", "x"), ("\ud83d", "y")],
        DataError,
        "data: row 2: column 'text' holds half of a surrogate pair, which is no character.\n"
        "  The text was cut within an emoji, or decoded wrongly. Mend or drop it.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_does_not_fit_is_refused_in_words(case: str) -> None:
    """Objects that are no table are refused with what was found and what is accepted."""
    data, kind, message = ERRORS[case]
    with pytest.raises(kind) as caught:
        as_table(data)
    assert str(caught.value) == message


def test_class_ids_become_names() -> None:
    """A ClassLabel's numbers become its names, in the order of a selection; -1 is missing."""
    dataset = classified(["a", "b", "c"], [1, 0, -1])
    selected = dataset.select([2, 0, 1])
    assert as_table(selected).to_pydict() == {
        "text": ["c", "a", "b"],
        "label": [None, "pos", "neg"],
    }


def test_splits_become_sides() -> None:
    """Of a DatasetDict, train is split; validation (or dev, val) and test are given; the rest is left."""
    data = datasets.DatasetDict(
        test=classified(["t"], [1]), dev=classified(["v"], [0]), train=classified(["a", "b"], [0, 1]),
        unsupervised=classified(["u"], [-1]), val=classified(["w"], [0]),
    )  # fmt: skip
    parts = as_parts(data, name="imdb")
    assert [(part.name, part.given, part.table.column("text").to_pylist()) for part in parts.parts] == [
        ("imdb/train", None, ["a", "b"]),
        ("imdb/test", "test", ["t"]),
        ("imdb/dev", "validation", ["v"]),
    ]
    assert parts.notes == (
        "imdb: the split 'unsupervised' (1 row) was left out.",
        "imdb: the split 'val' (1 row) was left out.",
    )


def test_a_test_split_with_secret_labels_is_left_out() -> None:
    """Test rows of a contest, whose labels are all -1, are no test side."""
    parts = as_parts(datasets.DatasetDict(train=classified(["a"], [0]), test=classified(["t", "u"], [-1, -1])))
    assert [part.name for part in parts.parts] == ["data/train"]
    assert parts.notes == ("data: the split 'test' was left out, since its labels are kept secret (-1).",)


def test_without_a_train_split_there_is_a_question() -> None:
    """The only split is taken whatever its name; of several without train none is."""
    only = datasets.DatasetDict(test=classified(["a"], [0]))
    assert [(part.name, part.given) for part in as_parts(only).parts] == [("data/test", None)]
    two = datasets.DatasetDict(test=classified(["a"], [0]), extra=classified(["a"], [0]))
    with pytest.raises(DataError) as caught:
        as_parts(two)
    assert str(caught.value) == (
        "data: no split 'train'. Its splits are test, extra.\n  Give one of them: data['NAME']."
    )
