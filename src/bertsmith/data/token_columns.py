"""Words and their tags: lists of tokens beside lists of tags."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.cells import Cells
from bertsmith.data.labels_column import Arrays
from bertsmith.data.lists import Flat, strings
from bertsmith.errors import DataError
from bertsmith.words import WORDS


def from_tokens(cells: Cells, *, labelled: bool) -> Arrays:
    """Join each row's tokens by one blank, and keep where each word stands.

    Raises:
        DataError: A cell is no list of texts, a token is empty, or (in labelled data) a row has no tokens.
    """
    flat = Flat.of(cells.lists())
    values = strings(flat.values)
    if values is None:
        raise DataError(
            f"{cells.source}: column '{cells.name}' holds lists of {flat.values.type}, "
            "where lists of words are expected.",
            tip="Name the column of words with --text COLUMN.",
        )
    wrong = np.flatnonzero(pc.fill_null(pc.equal(values, ""), True).to_numpy(zero_copy_only=False))
    if len(wrong):
        place = int(wrong[0])
        number = int(flat.places()[place]) + 1
        raise DataError(
            f"{cells.where(int(flat.parents[place]))}: word {number} in column '{cells.name}' is empty.",
            tip="Take it out, and its tag with it.",
        )
    if labelled:
        cells.refuse_missing(flat.lengths == 0, "Every row needs words")
    filled = Flat(values, flat.parents, flat.missing).lists(gaps=False)
    return {"text": pc.binary_join(filled, " "), "words": _words(Flat.of(filled))}


def from_tags(cells: Cells, words: pa.ListArray, tokens: str, *, labelled: bool) -> Arrays:
    """Read one tag a word.

    Args:
        cells: The tags; whole numbers become text.
        words: The words of each row.
        tokens: What their column is called.
        labelled: True when every row needs tags.

    Raises:
        DataError: A row has no tags, too few or too many, or an empty one.
    """
    flat = Flat.of(cells.lists())
    if labelled:
        cells.refuse_missing(flat.missing, "Every word needs a tag")
    values = strings(flat.values)
    if values is None:
        raise DataError(
            f"{cells.source}: column '{cells.name}' holds lists of {flat.values.type}, "
            "where lists of tags are expected.",
            tip="Name the column of tags with --label COLUMN.",
        )
    expected = Flat.of(words).lengths
    uneven = np.flatnonzero((flat.lengths != expected) & ~flat.missing)
    if len(uneven):
        place = int(uneven[0])
        raise DataError(
            f"{cells.where(place)}: column '{cells.name}' has {_many(int(flat.lengths[place]), 'tag')}, "
            f"column '{tokens}' has {_many(int(expected[place]), 'word')}. Every word needs one tag.",
            tip=f"Rows so: {len(uneven)} ({cells.named(uneven)}). Mend them, or drop them.",
        )
    wrong = np.flatnonzero(pc.fill_null(pc.equal(values, ""), True).to_numpy(zero_copy_only=False))
    if len(wrong):
        place = int(wrong[0])
        raise DataError(
            f"{cells.where(int(flat.parents[place]))}: tag {int(flat.places()[place]) + 1} in column '{cells.name}' "
            "is empty. Every word needs one tag.",
            tip="Words outside of every entity are tagged O.",
        )
    return {"tags": Flat(values, flat.parents, flat.missing).lists()}


def _words(flat: Flat) -> pa.ListArray:
    """Say where each token stands in its row's text, tokens being joined by one blank."""
    lengths = pc.utf8_length(flat.values).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(lengths + 1)
    first = np.cumsum(flat.lengths) - flat.lengths
    before = np.concatenate([[0], ends])[first]
    starts = ends - lengths - 1 - before[flat.parents]
    struct = pa.StructArray.from_arrays(
        [pa.array(starts, pa.int32()), pa.array(starts + lengths, pa.int32())], fields=list(WORDS.value_type)
    )
    return Flat(struct, flat.parents, flat.missing).lists(gaps=False)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


__all__ = ["from_tags", "from_tokens"]
