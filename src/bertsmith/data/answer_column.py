"""Gold answers to questions: spans of the context, mended where their place is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.data.cells import Cells, as_array, shown
from bertsmith.data.labels_column import Arrays
from bertsmith.errors import DataError

ANSWERS = pa.list_(pa.struct({"text": pa.string(), "start": pa.int32()}))
"""Type of a column of answers: their texts, and where each starts in the context, in characters."""


def from_answers(cells: Cells, contexts: Sequence[str], notes: list[str], *, labelled: bool) -> Arrays:
    """Read lists of answers, as SQuAD and the Hub write them; an empty list is a question without an answer.

    An answer that does not stand where it should is looked for in the context, and taken where it stands
    nearest. One that stands nowhere is left out; where no other is left, the row is refused: it would teach
    that its question has no answer.

    Raises:
        DataError: A row has no list, an answer without a text, or only answers that are not in its context.
    """
    given = as_array(cells.nested()).to_pylist()
    if labelled:
        missing = np.array([each is None for each in given], dtype=bool)
        cells.refuse_missing(missing, "Every row needs a list of answers; an empty one means that there is none")
    found: list[list[dict[str, Any]] | None] = []
    moved: list[int] = []
    dropped: list[int] = []
    strangers: list[int] = []
    for place, (context, cell) in enumerate(zip(contexts, given, strict=True)):
        if cell is None:
            found.append(None)
            continue
        asked = list(_each(cells, place, cell))
        placed = [{"text": text, "start": nearest(context, text, start)} for text, start in asked]
        kept = [answer for answer in placed if answer["start"] is not None]
        moved += [place] * any(
            answer["start"] not in {start, None} and start is not None
            for answer, (_, start) in zip(placed, asked, strict=True)
        )
        strangers += [place] * (not kept and bool(asked))
        dropped += [place] * (len(kept) < len(asked))
        found.append(kept)
    _refuse_strangers(cells, given, strangers)
    _tell(cells, moved, "answers of {} did not stand where they should and were found nearby", notes)
    _tell(cells, dropped, "answers of {} that are not in the context were left out, others being there", notes)
    return {"answers": pa.array(found, ANSWERS)}


def nearest(context: str, text: str, start: int | None) -> int | None:
    """Find a text in a context, as near to a place as can be; None where it is not in it.

    >>> nearest("a cat, a dog, a cat", "a cat", 12)
    14
    """
    if start is None:
        start = 0
    if start >= 0 and context.startswith(text, start):
        return start
    after = context.find(text, max(0, start))
    before = context.rfind(text, 0, max(0, min(start, len(context))) + len(text))
    there = [place for place in (before, after) if place >= 0]
    return min(there, key=lambda place: abs(place - start)) if there else None


def _each(cells: Cells, place: int, cell: Any) -> Iterator[tuple[str, int | None]]:
    """Give text and place of each answer: from a list of objects, or from an object of lists."""
    for answer in _listed(cell):
        text = answer.get("text")
        start = answer.get("start", answer.get("answer_start"))
        start = answer.get("answer_start") if start is None else start
        if not isinstance(text, str) or not text or not isinstance(start, int | None):
            raise DataError(
                f"{cells.where(place)}: column '{cells.name}' holds {shown(answer)}, where an answer is expected.",
                tip='An answer looks like {"text": "Paris", "answer_start": 17}; a list without any means none.',
            )
        yield text, start


def _listed(cell: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(cell, Mapping):
        yield from (each if isinstance(each, Mapping) else {"text": each} for each in cell)
        return
    starts = cell.get("answer_start", cell.get("start"))
    texts = cell.get("text")
    if isinstance(texts, list):
        starts = starts if isinstance(starts, list) and len(starts) == len(texts) else [None] * len(texts)
        yield from ({"text": text, "start": start} for text, start in zip(texts, starts, strict=True))
    else:
        yield cell


def _refuse_strangers(cells: Cells, given: Sequence[Any], places: Sequence[int]) -> None:
    if places:
        rows = np.array(places)
        count = "1 row is" if len(rows) == 1 else f"{len(rows)} rows are"
        raise DataError(
            f"{cells.where(places[0])}: column '{cells.name}' holds {shown(given[places[0]])}, which does not stand in "
            "the context.",
            tip=f"{count} so: {cells.named(rows)}. An answer must be a part of its context, letter by letter.",
        )


def _tell(cells: Cells, places: Sequence[int], what: str, notes: list[str]) -> None:
    if places:
        rows = np.array(places)
        count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
        notes.append(f"{cells.source}: {what.format(count)} (row {cells.named(rows)}).")


__all__ = ["ANSWERS", "from_answers", "nearest"]
