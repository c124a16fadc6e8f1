"""What a request is while it is worked on: its texts, what of it is done, and whoever waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from bertsmith.encoded import Encoded, number_column, text_column
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.inference.predictor import Given
from bertsmith.serve.asked import Gone, Served
from bertsmith.tasks.protocol import Answer, Rows

Array = np.ndarray[Any, Any]
_AT_ONCE = 3
"""Requests of a batch that are settled at a time: each is a millisecond's work for the loop, in which others wait."""


class Span(NamedTuple):
    """Some neighbouring texts of a request, not yet tokens."""

    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Block:
    """Texts that were turned into tokens together.

    Attributes:
        encoded: Their tokens.
        texts: The texts.
        pairs: The second texts, if any.
    """

    encoded: Encoded
    texts: list[str]
    pairs: list[str] | None


class Piece(NamedTuple):
    """One text as tokens: the row of a block, and its place among the texts of its request."""

    block: Block
    row: int
    place: int


class Done(NamedTuple):
    """Some answers of a request, and which of its texts they belong to."""

    places: Sequence[int]
    answers: Sequence[Answer]
    given: Given
    units: Array
    cut: Array
    tokens: int


@dataclass(eq=False)
class Ticket:
    """A request that was accepted. Its lists are the batcher's, under the batcher's lock.

    Attributes:
        texts: The texts.
        pairs: The second texts, if any.
        future: What waits for the answer: in the loop of `loop`, or, without one, in another thread.
        loop: The loop of whoever waits.
        gone: Whether the client left.
        expected: Tokens that the texts are thought to have which are not counted yet.
        held: Tokens that it takes up in the queue.
        tokens: Tokens that were counted.
        uncounted: Texts whose tokens are not counted yet.
        waiting: Texts without an answer.
        settled: True once it has an answer or was given up.
    """

    texts: list[str]
    pairs: list[str] | None
    future: asyncio.Future[Served] | Future[Served]
    loop: asyncio.AbstractEventLoop | None = None
    gone: Gone | None = None
    expected: int = 0
    held: int = 0
    tokens: int = 0
    uncounted: int = 0
    waiting: int = 0
    settled: bool = False
    begun: float = field(default_factory=time.perf_counter)
    tokenized: float = 0.0
    computed_s: float = 0.0
    done: list[Done] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.waiting = self.uncounted = len(self.texts)

    def served(self, *, model: str, version: str) -> Served:
        """Put all answers together, in the order of the texts."""
        now = time.perf_counter()
        places = np.concatenate([np.asarray(each.places, dtype=np.int64) for each in self.done])
        order = np.argsort(places, kind="stable")
        counts = np.concatenate([each.units for each in self.done])
        answers = [answer for each in self.done for answer in each.answers]
        return Served(
            [answers[place] for place in order.tolist()],
            _ordered([each.given.logits for each in self.done], counts, order),
            _ordered([each.given.probabilities for each in self.done], counts, order),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[order])]),
            np.concatenate([each.cut for each in self.done])[order].tolist(),
            foreignness=self._foreignness(order),
            model=model,
            version=version,
            tokens=self.tokens,
            tokenized_s=self.tokenized,
            queued_s=max(0.0, now - self.begun - self.tokenized - self.computed_s),
            computed_s=self.computed_s,
        )

    def _foreignness(self, order: Array) -> Array | None:
        found = [each.given.foreignness for each in self.done if each.given.foreignness is not None]
        return np.concatenate(found)[order] if found else None


class Batch:
    """Texts of several requests that go through the engine at once."""

    def __init__(self, taken: Iterable[tuple[Ticket, list[Piece]]]) -> None:
        """Order what was taken by the blocks it lies in, so that each is gathered from once."""
        pieces = [(ticket, piece) for ticket, mine in taken for piece in mine]
        blocks = {id(piece.block): piece.block for _, piece in pieces}
        number = {each: place for place, each in enumerate(blocks)}
        pieces.sort(key=lambda each: number[id(each[1].block)])
        self.pieces = pieces
        self.tickets = list(dict.fromkeys(ticket for ticket, _ in pieces))
        self.blocks = list(blocks.values())

    def __len__(self) -> int:
        return len(self.pieces)

    def rows(self, labels: LabelSet) -> Rows:
        """Make rows for the engine and the task."""
        parts = []
        for block in self.blocks:
            wanted = np.array([piece.row for _, piece in self.pieces if piece.block is block], dtype=np.int64)
            whole = len(wanted) == len(block.texts) and bool((wanted == np.arange(len(wanted))).all())
            parts.append(block.encoded if whole else block.encoded.take(wanted))
        encoded = joined(parts)
        texts = {"text": text_column([piece.block.texts[piece.row] for _, piece in self.pieces])}
        pair = None
        if self.pieces[0][1].block.pairs is not None:
            pair = "text_pair"
            texts[pair] = text_column([(piece.block.pairs or [])[piece.row] for _, piece in self.pieces])
        examples = Examples(pa.table(texts), Columns("text", text_pair=pair), "texts")
        return Rows(examples, encoded, np.zeros(0), np.ones(len(encoded)), labels)

    def shared(self, rows: Rows, given: Given, answers: Sequence[Answer]) -> Iterable[tuple[Ticket, Done]]:
        """Give each request its part: the neighbouring rows that are its own."""
        units = rows.encoded.units
        for begin, end in self._runs():
            first, last = int(units[begin]), int(units[end])
            foreignness = None if given.foreignness is None else given.foreignness[begin:end]
            mine = Given(given.logits[first:last], given.probabilities[first:last], foreignness)
            places = [piece.place for _, piece in self.pieces[begin:end]]
            counts, cut = np.diff(units[begin : end + 1]), rows.encoded.cut[begin:end]
            tokens = int(rows.encoded.lengths[begin:end].sum())
            yield self.pieces[begin][0], Done(places, answers[begin:end], mine, counts, cut, tokens)

    def _runs(self) -> Iterable[tuple[int, int]]:
        begin = 0
        for place in range(1, len(self.pieces) + 1):
            if place == len(self.pieces) or self.pieces[place][0] is not self.pieces[begin][0]:
                yield begin, place
                begin = place


def joined(parts: Sequence[Encoded]) -> Encoded:
    """Put encoded rows one after the other, numbered anew; they come from one encoder."""
    if len(parts) == 1:
        return parts[0]
    before = np.cumsum([0, *(len(part) for part in parts)])
    owners = np.concatenate([part.owners + begin for part, begin in zip(parts, before[:-1], strict=True)])
    table = pa.concat_tables([part.table for part in parts])
    table = table.set_column(table.column_names.index("row"), "row", number_column(owners))
    cut = np.concatenate([part.cut for part in parts])
    first = parts[0]
    return Encoded(table, cut, first.max_length, first.pad_id, first.pooling)


def settle(ticket: Ticket, outcome: Served | Exception) -> None:
    """Give a request its answer or its error, in its own loop; nothing happens where nobody waits any more."""
    future = ticket.future
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def settle_all(settled: Sequence[tuple[Ticket, Served | Exception]]) -> None:
    """Settle requests from any thread; each loop is woken once."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Ticket, Served | Exception]]] = {}
    for ticket, outcome in settled:
        if ticket.loop is None:
            settle(ticket, outcome)
        else:
            loops.setdefault(ticket.loop, []).append((ticket, outcome))
    for loop, mine in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(_settle_here, loop, mine)


def _settle_here(loop: asyncio.AbstractEventLoop, settled: Sequence[tuple[Ticket, Served | Exception]]) -> None:
    """Settle some, and the others once the loop has seen to whoever came meanwhile."""
    for ticket, outcome in settled[:_AT_ONCE]:
        settle(ticket, outcome)
    if len(settled) > _AT_ONCE:
        loop.call_soon(_settle_here, loop, settled[_AT_ONCE:])


def _ordered(parts: Sequence[Array], counts: Array, order: Array) -> Array:
    """Put the units of texts in the order of the texts: `(units, outputs)`."""
    found = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if bool((order == np.arange(len(order))).all()):
        return found
    each = np.split(found, np.cumsum(counts)[:-1])
    return np.concatenate([each[place] for place in order.tolist()])
