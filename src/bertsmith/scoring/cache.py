"""A text that was answered before is not answered again: the answers of a job, the latest used of them kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.inference.predictor import Predictor

Key = str | tuple[str, str]
Parts = Mapping[str, Any]
MOST_BYTES = 64 << 20
_ENTRY, _SCORE = 400, 130
"""Bytes that an answer, and each of its scores, take in memory beside its text; rounded up."""


@dataclass(frozen=True)
class Known:
    """An answer as columns hold it, and whether its text was cut."""

    parts: Parts
    cut: bool


@dataclass(frozen=True)
class Answers:
    """The answers to some rows, in their order.

    Attributes:
        parts: The parts of each answer.
        cut: Rows whose text was cut.
        repeated: Rows whose text had been answered before.
    """

    parts: list[Parts]
    cut: int
    repeated: int


class AnswerCache:
    """Remembers answers by their texts, in at most so many bytes; the one that was not asked for longest goes first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """Begin empty."""
        self._most = most_bytes
        self._bytes = 0
        self._known: OrderedDict[Key, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Key) -> Known | None:
        """Return what was answered to a text, or to a pair of texts; None where it is not remembered."""
        found = self._known.get(key)
        if found is not None:
            self._known.move_to_end(key)
        return found

    def keep(self, key: Key, known: Known) -> None:
        """Remember an answer that is not remembered yet."""
        self._known[key] = known
        self._bytes += _cost(key, known)
        while self._bytes > self._most:
            self._bytes -= _cost(*self._known.popitem(last=False))


def _cost(key: Key, known: Known) -> int:
    # A string of characters beyond Latin-1 takes up to four bytes each.
    texts = 4 * (len(key) if isinstance(key, str) else len(key[0]) + len(key[1]))
    values = sum(len(value) for value in known.parts.values() if isinstance(value, dict | list | str))
    return _ENTRY + texts + _SCORE * values


def answer_once(predictor: Predictor, table: pa.Table, *, scores: bool, cache: AnswerCache) -> Answers:
    """Answer rows, each text once.

    Args:
        predictor: Gives the answers.
        table: Canonical rows: `text`, perhaps `text_pair`, perhaps `words`.
        scores: True to keep the probability of every label.
        cache: What was answered before; it is added to.
    """
    if "words" in table.column_names:
        found = _ask(predictor, table, scores=scores)
        return Answers([each.parts for each in found], sum(each.cut for each in found), 0)
    lists = [table.column(name).to_pylist() for name in ("text", "text_pair") if name in table.column_names]
    keys: Sequence[Key] = lists[0] if len(lists) == 1 else list(zip(*lists, strict=True))
    known = {key: cache.get(key) for key in dict.fromkeys(keys)}
    first = {key: place for place, key in reversed(list(enumerate(keys))) if known[key] is None}
    fresh = sorted(first.items(), key=lambda each: each[1])
    if fresh:
        asked = _ask(predictor, table.take(np.array([place for _, place in fresh])), scores=scores)
        for (key, _), answer in zip(fresh, asked, strict=True):
            known[key] = answer
            cache.keep(key, answer)
    found = [each for key in keys if (each := known[key]) is not None]
    return Answers([each.parts for each in found], sum(each.cut for each in found), len(keys) - len(fresh))


def _ask(predictor: Predictor, table: pa.Table, *, scores: bool) -> list[Known]:
    pairs, words = (table.column(name) if name in table.column_names else None for name in ("text_pair", "words"))
    rows = predictor.rows(table.column("text"), pairs, words=words)
    cut = (rows.encoded.tokens_cut > 0).tolist()
    answers = predictor.answer(rows)
    return [Known(each.as_json(scores=scores), bool(lost)) for each, lost in zip(answers, cut, strict=True)]
