"""What rows may have in common: groups of rows, found without looking at which of them were answered right.

Because no answer is looked at, testing every group for errors and correcting for their number is fair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csc_matrix

from bertsmith.data.times import read_times
from bertsmith.errors import DataError
from bertsmith.examples import Examples
from bertsmith.tasks.protocol import Array

FEWEST = 5
"""Rows that a group has at least, and that are outside of it at least."""
FEW_VALUES = 50
"""A column of more different values is cut into quarters where they are numbers, else only its most frequent count."""
MOST_WORDS = 2000
"""Words that are looked at, the most frequent first: each one more makes it harder for the others to be believed."""
QUARTERS = ("lowest", "second", "third", "highest")
_TIMES = ("earliest", "second", "third", "latest")
_LENGTHS = ("shortest", "short", "long", "longest")
_ROWS_AT_A_TIME = 32_768
_NO_WORD = r"[^\pL\pN\pM]+"
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_SCRIPTS = {
    "Latin": r"\p{Latin}",
    "Cyrillic": r"\p{Cyrillic}",
    "Greek": r"\p{Greek}",
    "Arabic": r"\p{Arabic}",
    "Hebrew": r"\p{Hebrew}",
    "Devanagari": r"\p{Devanagari}",
    "Bengali": r"\p{Bengali}",
    "Tamil": r"\p{Tamil}",
    "Thai": r"\p{Thai}",
    "Georgian": r"\p{Georgian}",
    "Armenian": r"\p{Armenian}",
    "Korean": r"\p{Hangul}",
    "Japanese": r"[\p{Hiragana}\p{Katakana}]",
    "Chinese": r"\p{Han}",
}
"""Writing systems by their letters. A text with kana counts as Japanese, whatever number of Han signs it has."""


@dataclass(frozen=True)
class Group:
    """Rows that have something in common.

    Attributes:
        column: What was looked at: length, script, word, or the name of a column.
        value: What the rows have there.
        name: Both in words.
        rows: Their positions, int64 `(rows,)`, ascending.
    """

    column: str
    value: str
    name: str
    rows: Array


def find_groups(examples: Examples, tokens: Array, *, texts: bool) -> list[Group]:
    """Group rows by length, writing system, file, group, time, every other column, and the words of their texts.

    Args:
        examples: The rows.
        tokens: Length of each text in tokens, `(rows,)`.
        texts: False where no word of a text may be named.

    Returns:
        Groups of at least `FEWEST` rows that leave out as many; of groups with the same rows the first.
    """
    found: dict[bytes, Group] = {}
    for group in _all_groups(examples, tokens, texts=texts):
        if FEWEST <= len(group.rows) <= len(examples) - FEWEST:
            found.setdefault(group.rows.tobytes(), group)
    return list(found.values())


def _all_groups(examples: Examples, tokens: Array, *, texts: bool) -> Iterator[Group]:
    yield from _by_length(np.asarray(tokens, np.float64))
    yield from _by_script(examples)
    yield from _by_value("file", examples.column("file"))
    if "group" in examples:
        yield from _by_column(examples.columns.used().get("group", "group"), examples.column("group"))
    if "time" in examples:
        yield from _by_time(examples)
    if examples.extra is not None:
        for name in examples.extra.column_names:
            yield from _by_column(name, examples.extra.column(name))
    if texts:
        yield from _by_word(examples)


def _by_length(tokens: Array) -> Iterator[Group]:
    for value, rows in zip(_LENGTHS, _quarters(tokens), strict=True):
        if len(rows):
            low, high = tokens[rows].min(), tokens[rows].max()
            told = f"{low:,.0f} tokens" if low == high else f"{low:,.0f} to {high:,.0f} tokens"
            yield Group("length", value, f"texts of {told}", rows)


def _quarters(values: Array) -> list[Array]:
    """Cut rows into quarters by value: equal values stay together, NaN is in none."""
    known = values[np.isfinite(values)]
    if not len(known):
        return [np.zeros(0, np.int64)] * 4
    borders = np.quantile(known, [0.25, 0.5, 0.75], method="lower")
    quarter = np.where(np.isfinite(values), np.searchsorted(borders, values, side="left"), -1)
    return [np.flatnonzero(quarter == place) for place in range(4)]


def _by_script(examples: Examples) -> Iterator[Group]:
    scripts = _scripts(examples)
    for place, name in enumerate(_SCRIPTS):
        rows = np.flatnonzero(scripts == place)
        if len(rows):
            yield Group("script", name, f"texts in {name} letters", rows)


def _scripts(examples: Examples) -> Array:
    """Say which writing system most letters of each text are of, -1 where it has no letters, int64 `(rows,)`."""
    texts = examples.column("text")
    found = np.where(pc.match_substring_regex(texts, "[A-Za-z]").to_numpy(), 0, -1).astype(np.int64)
    others = np.flatnonzero(~pc.string_is_ascii(texts).to_numpy())
    texts = texts.take(pa.array(others))
    counts = np.zeros((len(others), len(_SCRIPTS)), np.int64)
    for place, letters in enumerate(_SCRIPTS.values()):
        counts[:, place] = pc.count_substring_regex(texts, letters).to_numpy()
    names = list(_SCRIPTS)
    kana = counts[:, names.index("Japanese")] > 0
    counts[kana, names.index("Japanese")] += counts[kana, names.index("Chinese")]
    counts[kana, names.index("Chinese")] = 0
    found[others] = np.where(counts.any(axis=1), counts.argmax(axis=1), -1)
    return found


def _by_column(name: str, column: pa.ChunkedArray) -> Iterator[Group]:
    """Group by each value; numbers of many different values by quarter."""
    if pa.types.is_nested(column.type) or pa.types.is_null(column.type):
        return
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    numbers = _numbers(column) if pc.count_distinct(column).as_py() > FEW_VALUES else None
    if numbers is None:
        yield from _by_value(name, column)
        return
    for value, rows in zip(QUARTERS, _quarters(numbers), strict=True):
        if len(rows):
            low, high = numbers[rows].min(), numbers[rows].max()
            yield Group(name, f"{value} quarter", f"rows with {name!r} from {low:g} to {high:g}", rows)


def _by_time(examples: Examples) -> Iterator[Group]:
    name, cells = examples.columns.used().get("time", "time"), examples.column("time")
    try:
        times = np.asarray(read_times(examples, np.arange(len(examples))), np.float64)
    except DataError:  # rows to be scored need no time
        return
    for value, rows in zip(_TIMES, _quarters(times), strict=True):
        if len(rows):
            first, last = (cells[int(rows[place])].as_py() for place in (times[rows].argmin(), times[rows].argmax()))
            yield Group(name, f"{value} quarter", f"rows with {name!r} from {first} to {last}", rows)


def _numbers(column: pa.ChunkedArray) -> Array | None:
    """Read a column as numbers, NaN where it is empty; None where it holds something else."""
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    column = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, kind), column)
    if pc.all(pc.match_substring_regex(column, _NUMBER)).as_py() is not True:
        return None
    found = pc.utf8_trim_whitespace(column).cast(pa.float64())
    return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)


def _by_value(name: str, column: pa.ChunkedArray) -> Iterator[Group]:
    """Group by each value, at most `FEW_VALUES` of them, the most frequent ones."""
    encoded = pc.dictionary_encode(_as_text(column)).combine_chunks()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    ids = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), np.int64)
    sizes = np.bincount(ids[ids >= 0], minlength=len(encoded.dictionary))
    for place in np.argsort(-sizes, kind="stable")[:FEW_VALUES].tolist():
        if sizes[place] >= FEWEST:
            value = encoded.dictionary[place].as_py()
            shown = "is empty" if value == "" else f"is {value!r}"
            yield Group(name, value, f"rows whose {name!r} {shown}", np.flatnonzero(ids == place))


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return pa.chunked_array([[None if each is None else repr(each) for each in column.to_pylist()]], pa.string())
    return column.cast(pa.string())


def _by_word(examples: Examples) -> Iterator[Group]:
    words, has = words_of_rows(examples)
    if not words:
        return
    rows = np.diff(has.indptr)
    usable = np.flatnonzero((rows >= FEWEST) & (rows <= len(examples) - FEWEST))
    for place in usable[np.argsort(-rows[usable], kind="stable")][:MOST_WORDS].tolist():
        found = np.sort(has.indices[has.indptr[place] : has.indptr[place + 1]]).astype(np.int64)
        yield Group("word", words[place], f"texts with the word {words[place]!r}", found)


def words_of_rows(examples: Examples) -> tuple[list[str], csc_matrix]:
    """Find the words of each row, in lower case.

    Returns:
        The words, and which rows have each: 1 or not stored, `(rows, words)`.
    """
    columns = [examples.column(name) for name in ("text", "text_pair") if name in examples]
    parts = []
    for begin in range(0, len(examples), _ROWS_AT_A_TIME):
        texts = [pc.fill_null(column.slice(begin, _ROWS_AT_A_TIME), "") for column in columns]
        joined = pc.utf8_lower(pc.binary_join_element_wise(*texts, " "))
        parts += pc.utf8_trim(pc.replace_substring_regex(joined, _NO_WORD, " "), " ").chunks
    lists = pc.split_pattern(pa.chunked_array(parts, pa.string()).cast(pa.large_string()), " ")
    encoded = pc.dictionary_encode(pa.concat_arrays(lists.chunks).flatten())
    begins = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
    words = encoded.dictionary.to_pylist()
    rows = np.repeat(np.arange(len(examples)), np.diff(begins))
    column = encoded.indices.to_numpy()
    named = np.array([word != "" for word in words], bool)[column] if words else np.zeros(0, bool)
    ones = np.ones(int(named.sum()), np.int8)
    has = csc_matrix((ones, (rows[named], column[named])), shape=(len(examples), len(words)), dtype=np.int32)
    has.sum_duplicates()
    return words, has
