"""Many requests, one engine: a bounded queue of tokens, and batches in which every request has its turn.

A request goes through two threads: the server's loop, which accepts it or refuses it at once; and one of those that
turn texts into tokens, run the engine, a batch at a time, and turn logits into answers. There are as many of these as
the engine takes calls at a time. While they work, what comes in is queued and makes up the next batch, so batches are
as large as the load and nobody waits for one to fill. Where an answer stands in a batch, and beside what, does not
change it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import numpy as np

from bertsmith import threads as cpu
from bertsmith.explaining.explanation import Explanation
from bertsmith.serve import refusals
from bertsmith.serve.asked import Asked, Gone, Refused, Served, Unwatched, Watcher
from bertsmith.serve.explained import Array, explain_all
from bertsmith.serve.fair_queue import FairQueue
from bertsmith.serve.limits import WRONG, check_shape, readable
from bertsmith.serve.model import Model
from bertsmith.serve.room import BatchSettings, Room
from bertsmith.serve.tickets import Batch, Block, Done, Piece, Span, Ticket, settle_all

_Part = TypeVar("_Part", Span, Piece)
_LOG = logging.getLogger("bertsmith.serve")
_TOKENS_OF_A_THREAD = 512
"""Tokens of a batch for each thread: enough to keep it busy, and a fraction of a second on a small encoder."""
_SPAN = 64
"""Texts of a request that are turned into tokens at a time."""
_CHARACTERS = 16_384
"""Characters that are turned into tokens at a time."""
_POLL_S = 0.01
_SWEEP_S = 0.05
"""Seconds between two looks through a full queue for clients that left."""


class Batcher:
    """Answers requests with one model."""

    def __init__(self, model: Model, settings: BatchSettings | None = None, *, watcher: Watcher | None = None) -> None:
        """Prepare to answer; `start` begins.

        Args:
            model: What answers.
            settings: How requests wait.
            watcher: Told of the queue and of batches.
        """
        self.model = model
        self.settings = settings or BatchSettings()
        self._watcher: Watcher = watcher or Unwatched()
        engine = model.predictor.engine
        self._calls = getattr(engine, "calls", 1)
        threads = (getattr(engine, "threads", None) or cpu.allowed()) // self._calls
        self._batch_tokens = self.settings.batch_tokens or _TOKENS_OF_A_THREAD * threads
        self._computing, self._swept = 0, 0.0
        self._changed = threading.Condition()
        self._texts: FairQueue[Ticket, Span] = FairQueue()
        self._pieces: FairQueue[Ticket, Piece] = FairQueue()
        self._room = Room(self._batch_tokens)
        self._asking = 0
        self._accepting, self._stopping = True, False
        self._explaining = ThreadPoolExecutor(2, thread_name_prefix="explain")

    @property
    def queue_tokens(self) -> int:
        """Tokens that wait or are computed."""
        return self._room.tokens

    def follow(self, old: Batcher) -> None:
        """Expect to be as fast as one whose place this takes, until it is known better."""
        with self._changed:
            self._room.learn_from(old._room)

    def watch(self, watcher: Watcher) -> None:
        """Tell this one of the queue and of batches from now on."""
        self._watcher = watcher

    def start(self) -> Batcher:
        """Start the threads; once."""
        for _ in range(self._calls):
            threading.Thread(target=self._work, name=f"engine {self.model.name}", daemon=True).start()
        return self

    async def ask(self, asked: Asked, *, deadline: float | None = None, gone: Gone | None = None) -> Served:
        """Answer a request.

        A task that is cancelled while it waits here gives its place in the queue back.

        Args:
            asked: The request.
            deadline: Seconds that it may take; None takes the settings'.
            gone: Whether the client left; asked before each step.

        Raises:
            Refused: 413 or 422 where it cannot be answered; 429 or 503 where it cannot be answered now; 504 where its
                time ran out; 500 where the engine failed.
        """
        self._check(asked)
        begun, seconds = time.perf_counter(), self.settings.deadline_s if deadline is None else deadline
        self._asking += 1
        try:
            served = await self._answer(asked, seconds, gone=gone)
            if not asked.explain:
                return served
            return await self._explained(asked, served, begun + seconds, gone)
        finally:
            self._asking -= 1

    async def ask_beside(self, asked: Asked, *, deadline: float) -> Served:
        """Answer a request of the server's own, for which there is room even where the queue is full.

        Raises:
            Refused: As with `ask`.
        """
        if not self._accepting:
            raise refusals.shutting_down()
        self._check(asked)
        return await self._answer(asked, deadline, beside=True)

    def check_room(self, tokens: int = 1) -> None:
        """Refuse a request at once, as `ask` would; for the time before its body was read.

        Raises:
            Refused: 429 or 503.
        """
        with self._changed:
            self._check_room(tokens)

    async def drain(self, grace_s: float) -> bool:
        """Accept nothing more, and wait until what was accepted is answered; False where the time did not suffice."""
        self._accepting = False
        until = time.perf_counter() + grace_s
        while self._asking and time.perf_counter() < until:
            await asyncio.sleep(_POLL_S)
        return not self._asking

    def close(self) -> None:
        """Stop the threads; whoever still waits is refused."""
        with self._changed:
            self._accepting, self._stopping = False, True
            left = {*self._texts.keys(), *self._pieces.keys()}
            self._changed.notify_all()
        for ticket in left:
            self._end(ticket, refusals.shutting_down())
        self._explaining.shutdown(wait=False, cancel_futures=True)

    # accept

    def _check(self, asked: Asked) -> None:
        check_shape(asked, pair=self.model.info.pair)
        if asked.explain and not self.model.has_scores:
            raise Refused(422, WRONG, f"Only the labels of texts can be explained; this is a {self.model.task} model.")

    async def _answer(self, asked: Asked, seconds: float, *, gone: Gone | None = None, beside: bool = False) -> Served:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Served] = loop.create_future()
        pairs = None if asked.pairs is None else readable(asked.pairs)
        ticket = Ticket(readable(asked.texts), pairs, future, loop, gone)
        self._accept(ticket, inner=beside)
        timer = loop.call_later(seconds, self._end, ticket, refusals.late(seconds))
        try:
            return await future
        except asyncio.CancelledError:
            self._end(ticket, None)
            raise
        finally:
            timer.cancel()

    def _accept(self, ticket: Ticket, *, inner: bool = False) -> None:
        """Put a request in the queue; one that belongs to an accepted one always has room."""
        expected = self._room.expected(ticket.texts, ticket.pairs, most=self._most_of_a_text)
        spans = [Span(begin, min(begin + _SPAN, len(ticket.texts))) for begin in range(0, len(ticket.texts), _SPAN)]
        costs = [sum(map(len, ticket.texts[begin:end])) + end - begin for begin, end in spans]
        with self._changed:
            if not inner:
                self._check_room(expected)
            self._room.enter(ticket, expected)
            self._texts.add(ticket, spans, costs)
            self._changed.notify()
        self._tell()

    @property
    def _most_of_a_text(self) -> int | None:
        """Tokens that a text has at most, where the rest is cut."""
        info = self.model.info
        return None if info.long == "windows" or self.model.predictor.task.unit != "row" else info.max_length

    def _check_room(self, tokens: int) -> None:
        if not self._accepting:
            raise refusals.shutting_down()
        if self._room.tokens + tokens > self.settings.max_queue_tokens:
            self._sweep()
        self._room.check(tokens, self.settings)

    def _sweep(self) -> None:
        """Let those go whose clients left, under the lock."""
        now = time.perf_counter()
        if now < self._swept + _SWEEP_S:
            return
        self._swept = now
        for ticket in {*self._texts.keys(), *self._pieces.keys()}:
            if ticket.gone is not None and ticket.gone():
                self._end(ticket, refusals.left())

    def _end(self, ticket: Ticket, outcome: Refused | None) -> None:
        """Give a request up: free its place, and tell whoever waits for it."""
        with self._changed:
            if ticket.settled:
                return
            self._leave(ticket)
            self._texts.drop(ticket)
            self._pieces.drop(ticket)
        self._tell()
        if outcome is not None:
            settle_all([(ticket, outcome)])

    def _leave(self, ticket: Ticket) -> None:
        ticket.settled = True
        self._room.leave(ticket)

    def _tell(self) -> None:
        self._watcher.queued(self.model.name, self._room.tokens, self._room.requests)

    def _fail(self, tickets: list[Ticket], what: str) -> None:
        _LOG.exception("%s: %s failed; requests that are told so: %d", self.model.name, what, len(tickets))
        for ticket in tickets:
            self._end(ticket, refusals.failed())

    # work

    def _work(self) -> None:
        # Whoever is refused is to be told at once, however much there is to compute.
        cpu.give_way()
        while self._waited():
            self._tokenize_some()
            self._compute_some()

    def _waited(self) -> bool:
        """Wait until there is something to do; False once there is nothing more to be done."""
        with self._changed:
            while not (self._texts or self._pieces or self._stopping):
                self._changed.wait()
            return not self._stopping

    def _tokenize_some(self) -> None:
        """Turn texts into tokens where there are not enough for a batch."""
        with self._changed:
            taken = self._texts.take(_CHARACTERS) if self._pieces.cost < self._batch_tokens else []
        try:
            self._tokenize(taken)
        except Exception:  # whatever goes wrong with these requests, the next ones are to be answered
            self._fail([ticket for ticket, _ in taken], "the tokenizer")

    def _tokenize(self, taken: list[tuple[Ticket, list[Span]]]) -> None:
        spans = [(ticket, span) for ticket, mine in self._present(taken) for span in mine]
        if not spans:
            return
        texts = [text for ticket, (begin, end) in spans for text in ticket.texts[begin:end]]
        paired = spans[0][0].pairs is not None
        pairs = [text for ticket, (begin, end) in spans for text in (ticket.pairs or [])[begin:end]] if paired else None
        block = Block(self.model.predictor.tokens.encode(texts, pairs), texts, pairs)
        row = 0
        for ticket, span in spans:
            self._counted(ticket, span, block, row)
            row += span.end - span.begin
        with self._changed:
            self._changed.notify()
        self._tell()

    def _counted(self, ticket: Ticket, span: Span, block: Block, row: int) -> None:
        """Put the texts of a span, now tokens, in the queue of the engine: those of a length one after the other."""
        rows = range(row, row + span.end - span.begin)
        lengths = block.encoded.lengths[rows.start : rows.stop]
        most = self.settings.max_text_tokens or math.inf
        whole = lengths + block.encoded.cut[rows.start : rows.stop]
        if whole.max() > most:
            self._end(ticket, refusals.too_long(span.begin + int(whole.argmax()) + 1, int(whole.max()), int(most)))
            return
        characters = sum(map(len, block.texts[rows.start : rows.stop]))
        order = (-lengths).argsort(kind="stable").tolist()
        pieces = [Piece(block, row + place, span.begin + place) for place in order]
        with self._changed:
            if ticket.settled:
                return
            self._room.counted(ticket, len(rows), tokens=int(lengths.sum()), characters=characters)
            self._pieces.add(ticket, pieces, lengths[order].tolist())

    def _compute_some(self) -> None:
        with self._changed:
            taken = self._pieces.take(self._batch_tokens)
        present = self._present(taken)
        if not present:
            return
        batch = Batch(present)
        try:
            self._compute(batch)
        except Exception:  # the engine may raise anything, and must live on
            self._fail(batch.tickets, "the engine")

    def _compute(self, batch: Batch) -> None:
        model = self.model.predictor
        with self._changed:
            self._computing += 1
        begun = time.perf_counter()
        try:
            rows = batch.rows(model.labels)
            given = model.ask(rows)
        finally:
            seconds = time.perf_counter() - begun
            with self._changed:
                beside, self._computing = self._computing, self._computing - 1
        if not np.isfinite(given.logits).all():
            raise ArithmeticError("a logit is not a number")
        tokens = int(rows.encoded.lengths.sum())
        with self._changed:
            self._room.computed(beside * tokens, seconds)
        self._watcher.computed(self.model.name, len(batch), tokens, seconds)
        self._share(batch, batch.shared(rows, given, model.decode(rows, given)), seconds)

    def _share(self, batch: Batch, parts: Iterable[tuple[Ticket, Done]], seconds: float) -> None:
        ready: list[Ticket] = []
        with self._changed:
            for ticket in batch.tickets:
                ticket.computed_s += seconds
            for ticket, done in parts:
                if not ticket.settled and self._room.done(ticket, done):
                    self._leave(ticket)
                    ready.append(ticket)
        self._tell()
        model = self.model
        settle_all([(ticket, ticket.served(model=model.name, version=model.version)) for ticket in ready])

    # words

    async def _explained(self, asked: Asked, served: Served, until: float, gone: Gone | None) -> Served:
        left = threading.Event()

        def through(texts: list[str], pairs: list[str] | None) -> Array:
            return self._wait(texts, pairs, until, lambda: left.is_set() or (gone is not None and gone()))

        def work() -> list[Explanation]:
            return explain_all(self.model.predictor, asked.texts, asked.pairs, through=through)

        try:
            found = await asyncio.get_running_loop().run_in_executor(self._explaining, work)
        finally:
            left.set()
        return replace(served, explanations=found)

    def _wait(self, texts: list[str], pairs: list[str] | None, until: float, gone: Gone) -> Array:
        """Ask for a request that was accepted, in a thread that may wait."""
        if gone():
            raise refusals.left()
        future: Future[Served] = Future()
        ticket = Ticket(readable(texts), None if pairs is None else readable(pairs), future, gone=gone)
        self._accept(ticket, inner=True)
        try:
            return future.result(max(0.0, until - time.perf_counter())).probabilities
        except TimeoutError:
            self._end(ticket, None)
            raise refusals.late(self.settings.deadline_s) from None

    def _present(self, taken: list[tuple[Ticket, list[_Part]]]) -> list[tuple[Ticket, list[_Part]]]:
        """Leave out requests whose clients left."""
        for ticket, _ in taken:
            if ticket.gone is not None and not ticket.settled and ticket.gone():
                self._end(ticket, refusals.left())
        return [(ticket, pieces) for ticket, pieces in taken if not ticket.settled]
