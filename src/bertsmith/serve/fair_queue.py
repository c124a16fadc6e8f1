"""A queue of requests in which none waits for another's whole: each gives a little in turn, until a batch is full.

Deficit round robin (Shreedhar and Varghese 1996, doi 10.1109/90.502236), with tokens for bytes; what a turn leaves
unused is not kept, since every turn gives one piece at least.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Piece = TypeVar("Piece")


@dataclass(eq=False)
class _Line(Generic[Piece]):
    """What one request has waiting."""

    waiting: deque[tuple[Piece, int]] = field(default_factory=deque)
    cost: int = 0


class FairQueue(Generic[Key, Piece]):
    """Requests by their keys, each with pieces that cost something. Not safe to use from several threads at once.

    >>> queue = FairQueue()
    >>> queue.add("many", ["m1", "m2", "m3"], [4, 4, 4])
    >>> queue.add("one", ["o1"], [4])
    >>> queue.take(8), queue.cost
    ([('many', ['m1']), ('one', ['o1'])], 8)
    """

    def __init__(self) -> None:
        self._lines: dict[Key, _Line[Piece]] = {}
        self._turns: deque[Key] = deque()
        self._cost = 0

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, key: Key) -> bool:
        return key in self._lines

    def keys(self) -> list[Key]:
        """The requests that wait, in the order of their turns."""
        return list(self._turns)

    @property
    def cost(self) -> int:
        """What all that waits costs together."""
        return self._cost

    def cost_of(self, key: Key) -> int:
        """What waits of one request costs."""
        line = self._lines.get(key)
        return line.cost if line is not None else 0

    def add(self, key: Key, pieces: Sequence[Piece], costs: Sequence[int]) -> None:
        """Put pieces behind those that this request has waiting; a new request has its turn after all others."""
        if not pieces:
            return
        if key not in self._lines:
            self._lines[key] = _Line()
            self._turns.append(key)
        line = self._lines[key]
        line.waiting.extend(zip(pieces, costs, strict=True))
        line.cost += sum(costs)
        self._cost += sum(costs)

    def take(self, budget: int) -> list[tuple[Key, list[Piece]]]:
        """Take pieces that cost no more than `budget` together, or the next one if that alone costs more.

        Every request has a turn before any has a second; a turn is an equal share of the budget, one piece at least.
        The next call goes on where this one ended.
        """
        taken: dict[Key, list[Piece]] = {}
        left, first = budget, True
        while self._turns:
            share = max(1, left // len(self._turns))
            begun = len(self._turns)
            for _ in range(begun):
                key = self._turns[0]
                if not first and self._lines[key].waiting[0][1] > left:
                    return list(taken.items())
                pieces, cost = self._turn(key, min(share, left))
                taken.setdefault(key, []).extend(pieces)
                left, first = left - cost, False
        return list(taken.items())

    def drop(self, key: Key) -> int:
        """Forget a request, and say what its pieces would have cost."""
        line = self._lines.pop(key, None)
        if line is None:
            return 0
        self._turns.remove(key)
        self._cost -= line.cost
        return line.cost

    def _turn(self, key: Key, share: int) -> tuple[list[Piece], int]:
        """Take one piece of a request, and more as long as its share pays for them; then it is the others' turn."""
        line = self._lines[key]
        pieces: list[Piece] = []
        spent = 0
        while line.waiting and (not pieces or spent + line.waiting[0][1] <= share):
            piece, cost = line.waiting.popleft()
            pieces.append(piece)
            spent += cost
        line.cost -= spent
        self._cost -= spent
        self._turns.popleft()
        if line.waiting:
            self._turns.append(key)
        else:
            del self._lines[key]
        return pieces, spent
