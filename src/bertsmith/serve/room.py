"""The account of a queue: how many tokens are under way, for whom, and how long that will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bertsmith.serve import refusals
from bertsmith.serve.tickets import Done, Ticket

_SPECIAL = 2
"""Tokens that a text has besides those of its characters."""
_COLD = 20
"""Batches that are not enough to refuse anybody by."""


@dataclass(frozen=True)
class BatchSettings:
    """How requests wait and are put together.

    Attributes:
        max_queue_tokens: Tokens that may wait or be computed; what would make them more is refused (429).
        batch_tokens: Tokens of a batch; None takes 512 for each thread that computes it.
        max_wait_s: Seconds that a new request may have to wait for its first turn; where the queue is longer it is
            refused (429). None leaves it to `max_queue_tokens`.
        deadline_s: Seconds after which a request that has no answer is given up (504).
        max_text_tokens: Tokens of a text, whole; a longer one is refused (413). None leaves it to the model, which cuts
            texts as in training.
    """

    max_queue_tokens: int = 262_144
    batch_tokens: int | None = None
    max_wait_s: float | None = 0.5
    deadline_s: float = 30.0
    max_text_tokens: int | None = None


class Room:
    """How many tokens are under way, and how fast they are worked on. Not safe for several threads by itself.

    Attributes:
        tokens: Of all requests that have no answer yet; of texts that are no tokens yet, as many as are expected.
        ahead: Of those, what is worked on before a newcomer's first turn: of every request one batch at most.
        requests: Requests that have no answer yet.
    """

    def __init__(self, turn: int) -> None:
        """Begin with nothing; `turn` is the tokens of a batch."""
        self.tokens = self.ahead = self.requests = 0
        self._turn = turn
        self._rate, self._batches = 0.0, 0
        self._tokens_a_character = 0.25

    @property
    def is_measured(self) -> bool:
        """True once the rate rests on more than the first batches, which are slow: nothing is in the caches yet."""
        return self._batches >= _COLD

    def learn_from(self, other: Room) -> None:
        """Take over what another account of the same work has measured."""
        self._rate, self._batches, self._tokens_a_character = other._rate, other._batches, other._tokens_a_character

    @property
    def rate(self) -> float:
        """Tokens a second that the engine computed of late; 0 before it did any."""
        return self._rate

    def seconds(self, tokens: int) -> float:
        """How long the engine needs for so many tokens, as far as is known; 0 where nothing is."""
        return tokens / self._rate if self._rate else 0.0

    def expected(self, texts: Sequence[str], pairs: Sequence[str] | None, *, most: int | None) -> int:
        """Guess the tokens of texts from their characters, 1 at least.

        Args:
            texts: The texts.
            pairs: The second texts, if any.
            most: Tokens that a text has at most; None where there is no such bound.
        """
        characters = sum(map(len, texts)) + sum(map(len, pairs or ()))
        guessed = int(characters * self._tokens_a_character) + _SPECIAL * len(texts)
        return max(1, guessed if most is None else min(guessed, most * len(texts)))

    def check(self, tokens: int, settings: BatchSettings) -> None:
        """Refuse a request of so many tokens where there is no room for it.

        Raises:
            Refused: 413 where it is too large at any time, 429 where it is now.
        """
        most, longest = settings.max_queue_tokens, settings.max_wait_s
        if tokens > most:
            raise refusals.too_many(tokens, most)
        if self.tokens + tokens > most:
            raise refusals.full(
                f"{self.tokens:,} tokens wait, and {most:,} is the most that may", self.seconds(self.tokens)
            )
        wait = self.seconds(self.ahead)
        if longest is not None and self.is_measured and wait > longest:
            raise refusals.full(
                f"A request would wait for {wait:.1f} s, and {longest:g} s is the most that it may", wait
            )

    def enter(self, ticket: Ticket, expected: int) -> None:
        """Take a request in that is thought to have so many tokens."""
        self.requests += 1
        ticket.expected = expected
        self._hold(ticket, expected)

    def counted(self, ticket: Ticket, texts: int, *, tokens: int, characters: int) -> None:
        """Put the true tokens of some of its texts for those that were expected."""
        share = ticket.expected * texts // ticket.uncounted
        ticket.expected -= share
        ticket.uncounted -= texts
        ticket.tokens += tokens
        self._hold(ticket, tokens - share)
        if not ticket.uncounted:
            ticket.tokenized = time.perf_counter() - ticket.begun
        if characters:
            found = max(0, tokens - _SPECIAL * texts) / characters
            self._tokens_a_character += 0.05 * (min(1.0, found) - self._tokens_a_character)

    def done(self, ticket: Ticket, done: Done) -> bool:
        """Keep some answers of a request; True where none is missing any more."""
        ticket.done.append(done)
        ticket.waiting -= len(done.places)
        self._hold(ticket, -done.tokens)
        return not ticket.waiting

    def leave(self, ticket: Ticket) -> None:
        """Let a request go, answered or not."""
        self._hold(ticket, -ticket.held)
        self.requests -= 1

    def computed(self, tokens: int, seconds: float) -> None:
        """Learn how fast the engine is; the last ten batches or so count as much as all before them."""
        found = tokens / max(seconds, 1e-6)
        self._batches += 1
        share = max(0.1, 1 / self._batches)
        self._rate += share * (found - self._rate)

    def _hold(self, ticket: Ticket, change: int) -> None:
        before, after = ticket.held, ticket.held + change
        ticket.held = after
        self.tokens += change
        self.ahead += min(after, self._turn) - min(before, self._turn)
