"""Builds labelled words for the tests of token labels, without a tokenizer: a token a word, a window a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from bertsmith.encoded import Encoded
from bertsmith.examples import Columns, Examples
from bertsmith.tasks.protocol import Rows
from bertsmith.tasks.tags import Tagged
from bertsmith.tasks.token_labels import TokenLabels
from bertsmith.words import WORDS

IOB_TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
IOBES_TAGS = [*IOB_TAGS, "E-PER", "S-PER", "E-LOC", "S-LOC"]
POS_TAGS = ["ADJ", "NOUN", "VERB"]


def sentences_of(tags: Sequence[str]) -> st.SearchStrategy[list[list[str]]]:
    """Lists of sentences of any tags, empty ones among them."""
    return st.lists(st.lists(st.sampled_from(tags), max_size=8), min_size=1, max_size=6)


def examples_of(tags: Sequence[Sequence[str | None] | None], words: Sequence[Sequence[str]] | None = None) -> Examples:
    """Rows with these tags; the words are w0, w1 … where none are given."""
    words = words or [[f"w{place}" for place in range(len(each or []))] for each in tags]
    places = []
    for each in words:
        starts = np.cumsum([0, *(len(word) + 1 for word in each)])
        places.append([{"start": int(s), "end": int(s) + len(word)} for s, word in zip(starts, each, strict=False)])
    table = pa.table(
        {
            "text": pa.array([" ".join(each) for each in words], pa.string()),
            "words": pa.array(places, WORDS),
            "tags": pa.array(tags, pa.list_(pa.string())),
            "file": pa.array(["ner.conll"] * len(words)),
            "row": pa.array(range(1, len(words) + 1), pa.int64()),
        }
    )
    return Examples(table, Columns(tokens="words", tags="tags"), "ner.conll")


def encoded_of(examples: Examples) -> Encoded:
    """A token a word, between two special ones, in one window a row."""
    words: list[list[dict[str, int]]] = examples.column("words").to_pylist()
    ids = [list(range(len(each) + 2)) for each in words]
    columns: dict[str, Any] = {
        "input_ids": pa.array(ids, pa.list_(pa.int32())),
        "token_type_ids": pa.array([[0] * len(each) for each in ids], pa.list_(pa.int8())),
        "row": pa.array(range(len(words)), pa.int64()),
        "picks": pa.array([list(range(1, len(each) + 1)) for each in words], pa.list_(pa.int32())),
        "starts": pa.array([[word["start"] for word in each] for each in words], pa.list_(pa.int32())),
        "ends": pa.array([[word["end"] for word in each] for each in words], pa.list_(pa.int32())),
    }
    return Encoded(pa.table(columns), np.zeros(len(words), np.int32), 64, 0)


def rows_of(examples: Examples) -> Rows:
    """Rows as the stages hand them to the task."""
    task, encoded = TokenLabels(), encoded_of(examples)
    labels = task.labels(examples)
    return Rows(examples, encoded, task.targets(examples, encoded, labels), np.ones(len(examples)), labels)


def tagged_of(sentences: Sequence[Sequence[str]]) -> Tagged:
    """Tags as the task reads them."""
    return Tagged.of(examples_of(sentences))


def sentences_in(tagged: Tagged) -> list[list[str]]:
    """Tags as people write them."""
    tags = [tagged.names[tag] for tag in tagged.ids.tolist()]
    return [tags[begin:end] for begin, end in zip(tagged.offsets[:-1], tagged.offsets[1:], strict=True)]


def sure_of(guesses: Sequence[Sequence[str]], names: Sequence[str], sure: float = 0.9) -> np.ndarray[Any, Any]:
    """Probabilities that choose these tags."""
    flat = [names.index(tag) for each in guesses for tag in each]
    probabilities = np.full((len(flat), len(names)), (1 - sure) / max(1, len(names) - 1))
    probabilities[np.arange(len(flat)), flat] = sure
    return probabilities
