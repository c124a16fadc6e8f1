"""Marked spans of a text become BIO tags of its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.data.cells import Cells, as_array, shown
from bertsmith.data.labels_column import Arrays
from bertsmith.errors import DataError
from bertsmith.words import split_words, words_of

SPAN_KEYS = {"start", "end", "label"}


@dataclass
class _Row:
    """The words of one text, and their tags so far."""

    where: str
    name: str
    text: str
    words: list[tuple[int, int]]
    tags: list[str] = field(default_factory=list)
    taken: dict[int, dict[str, Any]] = field(default_factory=dict)
    widened: bool = False

    def mark(self, span: dict[str, Any]) -> None:
        """Tag the words of one span; a span that cuts a word is widened to all of it.

        Raises:
            DataError: It lies outside of the text, covers no word, or a word has a tag already.
        """
        start, end = self._bounds(span)
        inside = [place for place, (first, last) in enumerate(self.words) if first < end and last > start]
        if not inside:
            raise self._refused(span, "which covers no word", "Mend it, or take it out.")
        twice = next((self.taken[place] for place in inside if place in self.taken), None)
        if twice is not None:
            first, last = self.words[next(place for place in inside if place in self.taken)]
            raise self._refused(
                span,
                f"which shares the word {self.text[first:last]!r} with {shown(twice)}",
                "A word has one tag: keep one of the two.",
            )
        self.widened |= self.words[inside[0]][0] < start or self.words[inside[-1]][1] > end
        for number, place in enumerate(inside):
            self.tags[place] = f"{'I' if number else 'B'}-{span['label']}"
            self.taken[place] = span

    def _bounds(self, span: dict[str, Any]) -> tuple[int, int]:
        start: Any = span.get("start")
        end: Any = span.get("end")
        good = isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(self.text)
        if not good or span.get("label") in {None, ""}:
            raise self._refused(
                span,
                f"where a start and an end (not included) within the text's {len(self.text)} characters, and a label, "
                "are expected",
                "Offsets are characters from 0.",
            )
        return start, end

    def _refused(self, span: dict[str, Any], reason: str, tip: str) -> DataError:
        return DataError(f"{self.where}: column '{self.name}' holds the span {shown(span)}, {reason}.", tip=tip)


def from_spans(cells: Cells, texts: Sequence[str], notes: list[str], *, labelled: bool) -> Arrays:
    """Turn marked spans into one BIO tag a word, words being those of `bertsmith.words`.

    Args:
        cells: Lists of objects with `start`, `end` (not included) and `label`; offsets are characters.
        texts: The text of each row.
        notes: Where widened spans are told.
        labelled: True when every row needs a list.

    Raises:
        DataError: A span lies outside of the text, covers no word, or shares a word with another.
    """
    spans = as_array(cells.nested()).to_pylist()
    if labelled:
        missing = np.array([each is None for each in spans], dtype=bool)
        cells.refuse_missing(missing, "Every row needs a list of spans; an empty one means none")
    tags: list[list[str] | None] = []
    widened: list[int] = []
    for place, (text, marked) in enumerate(zip(texts, spans, strict=True)):
        row = _Row(cells.where(place), cells.name, text, split_words(text))
        row.tags = ["O"] * len(row.words)
        for span in marked or ():
            row.mark(span)
        tags.append(None if marked is None else row.tags)
        widened += [place] * row.widened
    if widened:
        rows = np.array(widened)
        count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
        notes.append(
            f"{cells.source}: in {count}, spans of column '{cells.name}' that cut a word were widened to all of it "
            f"(row {cells.named(rows)})."
        )
    return {"words": words_of(texts), "tags": pa.array(tags, pa.list_(pa.string()))}


__all__ = ["SPAN_KEYS", "from_spans"]
