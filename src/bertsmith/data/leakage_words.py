"""Words that give the label away: markers that every row of a class has, and label names inside texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from bertsmith.data.text_classes import Classes, sample
from bertsmith.examples import Examples
from bertsmith.findings import Finding
from bertsmith.tasks.label_wording import finding_at, listed, of_rows

Array = np.ndarray[Any, Any]

FEWEST_ROWS = 10
"""A class with fewer rows has words of its own by chance."""
RECALL = 0.95
"""Share of a class's rows that have its marker, at least."""
PRECISION = 0.99
"""Share of the marker's rows that are of the class, at least."""
MANY_MARKED = 0.1
"""Share of the rows above which markers are no matter of one narrow topic."""
NAMED = 0.3
"""Share of the rows that name their label, above which it is said."""
NAMED_ELSEWHERE = 0.1
"""A name is no giveaway when rows of other labels have it more than this much as often."""
ROWS_COMPARED = 10_000
"""Rows of other labels that are searched for a label's name, about."""
MOST_LABELS = 1000
_ROWS_AT_A_TIME = 32_768
_NO_WORD = r"[^\pL\pN]+"


@dataclass(frozen=True)
class _Sampled:
    """The rows that are looked at.

    Attributes:
        examples: All rows.
        rows: Positions of the rows that are looked at, `(looked at,)`.
        classes: Their classes.
        partial: True when there are more rows.
    """

    examples: Examples
    rows: Array
    classes: Classes
    partial: bool

    @cached_property
    def texts(self) -> pa.ChunkedArray:
        """Lower-case words of each text between single blanks, with a blank at both ends."""
        columns = [self.examples.column(name) for name in ("text", "text_pair") if name in self.examples]
        picked = [column.take(pa.array(self.rows)) for column in columns]
        parts = []
        for begin in range(0, len(self.rows), _ROWS_AT_A_TIME):
            texts = [pc.fill_null(column.slice(begin, _ROWS_AT_A_TIME), "") for column in picked]
            parts.extend(_worded(pc.binary_join_element_wise(" ", *texts, " ", " ")).chunks)
        return pa.chunked_array(parts, pa.string())

    @property
    def note(self) -> str:
        """Say so when not all rows were looked at."""
        return f", in a sample of {len(self.rows):,} rows" if self.partial else ""


def word_findings(examples: Examples, classes: Classes) -> Iterator[Finding]:
    """Look for single words that predict the label; of more than 200 000 rows in a seeded sample.

    Args:
        examples: The rows.
        classes: Their labels, at least two.
    """
    if len(classes.names) > MOST_LABELS:
        return
    rows = sample(len(examples))
    partial = rows is not None
    rows = np.arange(len(examples)) if rows is None else rows
    sampled = _Sampled(examples, rows, classes.take(rows), partial)
    yield from _markers(sampled)
    yield from _names(sampled)


def _worded(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.replace_substring_regex(pc.utf8_lower(texts), _NO_WORD, " ")


def _markers(sampled: _Sampled) -> Iterator[Finding]:
    """Find words that nearly all rows of a class have, and nearly no others."""
    words, word, label, rows = _rows_of_words(sampled)
    sizes = sampled.classes.sizes[label]
    everywhere = np.bincount(word, weights=rows, minlength=len(words))[word]
    found = (sizes >= FEWEST_ROWS) & (rows >= RECALL * sizes) & (rows >= PRECISION * everywhere)
    best = _strongest(label[found], word[found], rows[found] / sizes[found])
    if not best:
        return
    names = sampled.classes.names
    shown = [f"'{words[each]}' for {names[which]!r}" for which, each in best]
    marked = np.flatnonzero(np.isin(sampled.classes.ids, [which for which, _ in best]))
    yield finding_at(
        sampled.examples,
        sampled.rows[marked],
        kind="leaking-word",
        severity="warning" if len(marked) > MANY_MARKED * len(sampled.rows) else "note",
        message=f"Words that stand in nearly all rows of a label and hardly elsewhere{sampled.note}: "
        f"{listed(shown)}; these labels have {of_rows(len(marked), len(sampled.rows))}.",
        remedy="Remove the words if they will not be there in real use: the model learns nothing but them.",
    )


def _rows_of_words(sampled: _Sampled) -> tuple[pa.Array, Array, Array, Array]:
    """Count rows by word and label.

    Returns:
        The distinct words; and, one entry for each word and label that occur together, the word's position,
        the label's, and the number of rows, int64 `(pairs,)`.
    """
    lists = pc.split_pattern(pc.utf8_trim(sampled.texts.cast(pa.large_string()), " "), " ")
    encoded = pc.dictionary_encode(pa.concat_arrays(lists.chunks).flatten())
    begins = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
    column = encoded.indices.to_numpy().copy()  # Arrow's own memory must not be sorted in place
    has = csr_matrix((np.ones(len(column), np.int32), column, begins), shape=(len(lists), len(encoded.dictionary)))
    has.sum_duplicates()
    has.data[:] = 1
    counts = (_one_hot(sampled.classes) @ has).tocoo()
    return encoded.dictionary, counts.col.astype(np.int64), counts.row.astype(np.int64), counts.data


def _one_hot(classes: Classes) -> csr_matrix:
    """Say which rows each class has: 0 or 1, `(classes, rows)`."""
    rows = np.flatnonzero(classes.ids >= 0)
    where = (classes.ids[rows], rows)
    return csr_matrix((np.ones(len(rows), np.int32), where), shape=(len(classes.names), len(classes.ids)))


def _strongest(labels: Array, words: Array, recall: Array) -> list[tuple[int, int]]:
    """Choose for each label the word that most of its rows have: pairs of positions, label and word."""
    best: dict[int, int] = {}
    for place in np.lexsort((words, -recall)).tolist():
        best.setdefault(int(labels[place]), int(words[place]))
    return sorted(best.items())


def _names(sampled: _Sampled) -> Iterator[Finding]:
    """Find rows whose text has the label's own name, where it is not just a common word of the data."""
    found = [_rows_that_name(sampled, label) for label in range(len(sampled.classes.names))]
    rows = np.sort(np.concatenate(found))
    if len(rows) <= NAMED * sampled.classes.labelled:
        return
    most = sorted(range(len(found)), key=lambda label: -len(found[label]))
    shown = [repr(sampled.classes.names[label]) for label in most if len(found[label])]
    yield finding_at(
        sampled.examples,
        sampled.rows[rows],
        kind="label-in-text",
        severity="warning",
        message=f"The label's own name stands in the text{sampled.note}: "
        f"{of_rows(len(rows), len(sampled.rows))}, most often {listed(shown)}.",
        remedy="Remove it from the text if it will not be there in real use; if people write so, it is fine.",
    )


def _rows_that_name(sampled: _Sampled, label: int) -> Array:
    name = _worded(pa.chunked_array([[f" {sampled.classes.names[label]} "]]))[0].as_py()
    nowhere = np.zeros(0, dtype=np.int64)
    if not any(character.isalpha() for character in name) or len(name.strip()) < 2:
        return nowhere
    own = sampled.classes.ids == label
    rows = np.flatnonzero(own)
    has = rows[_contain(sampled.texts, rows, name)]
    if len(has) <= NAMED_ELSEWHERE * len(rows):
        return has if len(has) else nowhere
    others = np.flatnonzero(~own)
    others = others[:: max(1, len(others) // ROWS_COMPARED)]
    elsewhere = _contain(sampled.texts, others, name).mean() if len(others) else 0.0
    return nowhere if elsewhere > NAMED_ELSEWHERE * len(has) / len(rows) else has


def _contain(texts: pa.ChunkedArray, rows: Array, name: str) -> Array:
    return np.asarray(pc.match_substring(texts.take(pa.array(rows)), name).to_numpy(), dtype=bool)
