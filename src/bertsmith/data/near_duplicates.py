"""Equal and nearly equal texts: what must not stand on two sides of a split.

Equal texts are found exactly, at the speed of Arrow. Nearly equal ones are looked for with MinHash and
locality-sensitive hashing (Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3), and every
pair that comes up is joined only if the exact Jaccard index of its word pairs reaches the threshold.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from bertsmith.examples import Examples

Ints = np.ndarray[Any, np.dtype[np.int64]]
Shingles = tuple[np.ndarray[Any, np.dtype[np.uint64]], Ints]
"""Hashes of word pairs, text after text, and where each text's begin: `(texts + 1,)`."""

FEWEST_WORDS = 6
"""Shorter texts are only joined when all their words are equal. At five words a sixth one would be let pass,
and "How do I top up?" is another wish than "How do I top up automatically?"."""
PERMUTATIONS = 64
RECALL = 0.98
"""Probability at least with which a pair that is exactly at the threshold is looked at."""
CROWD = 50
"""A text with more look-alikes is compared with the likeliest only, and is no longer put into the index."""

_ROWS_AT_A_TIME = 100_000
_TEXTS_AT_A_TIME = 4_096
_PAIRS_AT_A_TIME = 20_000

_BETWEEN = pa.scalar(" \x1f ", pa.large_string())
_BLANK = r"\t-\r\x{1c}-\x{1f}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_BLANKS = f"[ {_BLANK}]{{2,}}|[{_BLANK}]"
_APOSTROPHE = r"['\x{2019}\x{2bc}`]"
_WITHOUT_BLANKS = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"
"""Scripts that put no blanks between words; each of their characters is taken for a word."""


@dataclass(frozen=True)
class TextGroups:
    """Which rows have equal or nearly equal texts. Numbers count up in the order of first rows.

    Attributes:
        exact: int64 `(rows,)`: rows whose texts are equal but for case, blanks and Unicode composition share
            a number.
        near: int64 `(rows,)`: the same, but near duplicates share a number too (coarser than `exact`).
        sampled: Rows that the search for near duplicates looked at, when it did not look at all, else None.
            Texts that differ in punctuation only are always found.
    """

    exact: Ints
    near: Ints
    sampled: int | None


def group_texts(examples: Examples, *, seed: int, threshold: float = 0.8, limit: int = 200_000) -> TextGroups:
    """Find rows with equal or nearly equal texts; a text and its `text_pair` count as one text.

    Two texts are near duplicates when they have the same words in the same order, or when both have at least
    6 words and the Jaccard index of their sets of word pairs is at least `threshold`. Groups hold neighbours
    of neighbours too, so two texts of a group may differ more than that. Questions about contexts are compared
    for equality only.

    The numbers are the same on every machine and under every PYTHONHASHSEED.

    Args:
        examples: Labelled or unlabelled texts.
        seed: Chooses the sample, where there is one.
        threshold: Jaccard index in (0, 1].
        limit: Distinct texts that are searched at most (the index needs about 5 KB a text), else a sample.
    """
    exact, texts = _encode(_normalised(examples))
    wording_of_text, wordings = _encode(_worded(texts))
    wording = wording_of_text[exact]
    # Questions about one context share nearly all their words and are not copies of each other.
    long = np.flatnonzero(_words(wordings) >= (FEWEST_WORDS if "answers" not in examples else np.inf))
    searched = _sample(long, limit, seed)
    joined = _join(len(wordings), searched[_near_pairs(wordings.take(pa.array(searched)), threshold)])
    sampled = None
    if len(searched) < len(long):
        skipped = np.setdiff1d(long, searched)
        sampled = int(len(wording) - np.isin(wording, skipped).sum())
    return TextGroups(exact, renumbered(joined[wording]), sampled)


def renumbered(numbers: Ints) -> Ints:
    """Number groups 0, 1, 2 … in the order of their first rows.

    >>> renumbered(np.array([7, 3, 7, 9])).tolist()
    [0, 1, 0, 2]
    """
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return np.asarray(order[inverse], dtype=np.int64)


def _encode(texts: pa.ChunkedArray) -> tuple[Ints, pa.LargeStringArray]:
    """Number distinct texts in the order in which they come, and give them."""
    encoded = pc.dictionary_encode(texts).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # no rows, no chunks
        return np.zeros(0, dtype=np.int64), pa.array([], pa.large_string())
    return np.asarray(encoded.indices.to_numpy(), dtype=np.int64), encoded.dictionary


def _slices(rows: int) -> Iterator[tuple[int, int]]:
    return ((start, _ROWS_AT_A_TIME) for start in range(0, rows, _ROWS_AT_A_TIME))


def _normalised(examples: Examples) -> pa.ChunkedArray:
    """Lower case, NFC, single blanks; slice by slice, so that what lies between takes little memory."""
    columns = [examples.column(name) for name in ("text", "text_pair") if name in examples]
    done = []
    for start, rows in _slices(len(examples)):
        parts = [_plain(column.slice(start, rows)) for column in columns]
        done.append(parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, _BETWEEN))
    return _chunked(done)


def _plain(texts: pa.ChunkedArray) -> pa.Array:
    whole = pa.concat_arrays(texts.cast(pa.large_string()).chunks)
    lower = pc.utf8_lower(pc.utf8_normalize(pc.fill_null(whole, ""), form="NFC"))
    return _single_blanks(lower)


def _single_blanks(texts: pa.Array) -> pa.Array:
    return pc.utf8_trim(pc.replace_substring_regex(texts, _BLANKS, " "), " ")


def _worded(texts: pa.LargeStringArray) -> pa.ChunkedArray:
    """Leave words with one blank between them: no punctuation."""
    done = []
    for start, rows in _slices(len(texts)):
        bare = pc.replace_substring_regex(texts.slice(start, rows), _APOSTROPHE, "")
        words = pc.replace_substring_regex(bare, r"\p{P}+", " ")
        spaced = pc.replace_substring_regex(words, _WITHOUT_BLANKS, r" \1 ")
        done.append(
            _kept(pc.utf8_trim(pc.replace_substring_regex(spaced, " {2,}", " "), " "), texts.slice(start, rows))
        )
    return _chunked(done)


def _kept(wordings: pa.Array, texts: pa.Array) -> pa.Array:
    """Texts of nothing but punctuation stay as they are: ":)" is not ":("."""
    return pc.if_else(pc.equal(wordings, ""), texts, wordings)


def _chunked(slices: list[pa.Array]) -> pa.ChunkedArray:
    return pa.chunked_array(slices, pa.large_string())


def _words(wordings: pa.LargeStringArray) -> Ints:
    return np.asarray(pc.count_substring(wordings, " ").to_numpy(), dtype=np.int64) + 1


def _sample(numbers: Ints, limit: int, seed: int) -> Ints:
    if len(numbers) <= limit:
        return numbers
    drawn = np.random.Generator(np.random.PCG64(seed)).random(len(numbers))
    return np.asarray(np.sort(numbers[np.argsort(drawn, kind="stable")[:limit]]))


def _join(count: int, pairs: Ints) -> Ints:
    """Give each of `count` things the number of its group; `pairs` `(pairs, 2)` belong together."""
    edges = csr_matrix((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return np.asarray(connected_components(edges, directed=False)[1], dtype=np.int64)


def _near_pairs(wordings: pa.LargeStringArray, threshold: float) -> Ints:
    """Return pairs of positions, `(pairs, 2)`, whose Jaccard index is at least `threshold`."""
    if len(wordings) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    pairs = _candidates(_sketches(wordings), _rows_of_a_band(threshold))
    involved, compact = np.unique(pairs, return_inverse=True)
    compact = compact.reshape(pairs.shape)
    sets = _sets(wordings.take(pa.array(involved)))
    return pairs[_jaccard(sets, compact) >= threshold]


def _rows_of_a_band(threshold: float) -> int:
    """Take the longest bands (fewest wrong candidates) that still find pairs at the threshold."""
    lengths = np.arange(1, PERMUTATIONS // 2 + 1)
    found = 1 - (1 - threshold**lengths) ** (PERMUTATIONS // lengths)
    return int(lengths[found >= RECALL].max(initial=1))


def _candidates(sketches: np.ndarray[Any, np.dtype[np.uint32]], rows: int) -> Ints:
    """Return pairs of texts that share a band of their sketches, as datasketch finds them."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=PERMUTATIONS, params=(PERMUTATIONS // rows, rows))
    sketch = MinHash(num_perm=PERMUTATIONS)
    left, right = array("q"), array("q")
    for text, values in enumerate(sketches):
        sketch.hashvalues = values
        found = sorted(index.query(sketch))
        if len(found) <= CROWD:
            index.insert(text, sketch, check_duplication=False)
        else:
            found = _likeliest(sketches, text, found)
        left.extend([text] * len(found))
        right.extend(found)
    return np.stack([np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)], axis=1)


def _likeliest(sketches: np.ndarray[Any, Any], text: int, found: list[int]) -> list[int]:
    alike = (sketches[found] == sketches[text]).sum(axis=1)
    best = np.argsort(-alike, kind="stable")[:CROWD]
    return [found[position] for position in best.tolist()]


def _sketches(wordings: pa.LargeStringArray) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Compute MinHash values, uint32 `(texts, PERMUTATIONS)`.

    datasketch hashes shingle by shingle, which takes minutes for 200 000 texts; only its index is used. The
    hash functions are as in its scheme `affine64` (odd factor, offset), of which the upper half is kept.
    """
    draw = np.random.Generator(np.random.PCG64(1))
    factors = draw.integers(0, 2**64, PERMUTATIONS, dtype=np.uint64) | np.uint64(1)
    offsets = draw.integers(0, 2**64, PERMUTATIONS, dtype=np.uint64)
    sketches = np.empty((len(wordings), PERMUTATIONS), dtype=np.uint32)
    for start in range(0, len(wordings), _TEXTS_AT_A_TIME):
        hashes, begins = _shingles(wordings.slice(start, _TEXTS_AT_A_TIME))
        for column, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
            permuted = (hashes * factor + offset) >> np.uint64(32)
            sketches[start : start + _TEXTS_AT_A_TIME, column] = np.minimum.reduceat(permuted, begins[:-1])
    return sketches


def _shingles(wordings: pa.LargeStringArray) -> Shingles:
    """Hash each text's word pairs; every text has at least two words."""
    lists = pc.split_pattern(wordings, " ")
    encoded = pc.dictionary_encode(lists.flatten())
    words = _word_hashes(encoded.dictionary)[encoded.indices.to_numpy()]
    begins = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
    inside = np.ones(len(words) - 1, dtype=bool)
    inside[begins[1:-1] - 1] = False
    pairs = _mixed(_mixed(words[:-1]) + words[1:])[inside]
    return pairs, begins - np.arange(len(begins))


def _word_hashes(words: pa.LargeStringArray) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Hash distinct words, the same in every process (Python's own hash is not)."""
    digests = (hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words.to_pylist())
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mixed(values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Spread the bits: the finalizer of MurmurHash3 (Austin Appleby)."""
    mixed = values ^ (values >> np.uint64(33))
    mixed = mixed * np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xC4CEB9FE1A85EC53)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def _sets(wordings: pa.LargeStringArray) -> csr_matrix:
    """Return which text has which word pair: 0 or 1, `(texts, word pairs)`."""
    if not len(wordings):
        return csr_matrix((0, 0), dtype=np.int32)
    hashes, begins = _shingles(wordings)
    distinct, columns = np.unique(hashes, return_inverse=True)
    ones = np.ones(len(columns), dtype=np.int32)
    sets = csr_matrix((ones, columns, begins), shape=(len(wordings), len(distinct)))
    sets.sum_duplicates()
    sets.data[:] = 1
    return sets


def _jaccard(sets: csr_matrix, pairs: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Compute exact Jaccard indices, `(pairs,)`."""
    sizes = np.diff(sets.indptr)
    result = np.empty(len(pairs))
    for start in range(0, len(pairs), _PAIRS_AT_A_TIME):
        left, right = pairs[start : start + _PAIRS_AT_A_TIME].T
        common = np.asarray(sets[left].multiply(sets[right]).sum(axis=1)).ravel()
        result[start : start + _PAIRS_AT_A_TIME] = common / (sizes[left] + sizes[right] - common)
    return result
