"""The nouns of serving: what a client asked, what it is served, why it is refused, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from bertsmith.tasks.protocol import Answer

if TYPE_CHECKING:
    from bertsmith.explaining.explanation import Explanation

Array = np.ndarray[Any, Any]
Gone = Callable[[], bool]
"""True once the client has left. It is called from any thread, often, and must not wait."""
Function = Literal["softmax", "sigmoid", "none", ""]
"""What turns logits into scores; "" is what the model itself decides by."""


@dataclass(frozen=True)
class Asked:
    """What one request asks.

    Attributes:
        texts: The texts, at least one.
        pairs: The second texts, as many; None for a model of single texts.
        top_k: Labels wanted of each answer, the best first; None leaves it to the route.
        function: What the scores are to be made with.
        explain: Whether the words that speak for each answer are wanted.
        model: Name of the model; "" is the only one, or the first.
    """

    texts: tuple[str, ...]
    pairs: tuple[str, ...] | None = None
    top_k: int | None = None
    function: Function = ""
    explain: bool = False
    model: str = ""

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, eq=False)
class Served:
    """What one request is served; what it is given in is the wire's.

    A unit is what has logits of its own: a text, or, for a model of tags or of questions, a word or token of it.

    Attributes:
        answers: One a text, in their order: a `Prediction`, or what the model's task has instead.
        logits: float32 `(units, outputs)`.
        probabilities: What the task decides by, float64, of the same shape; for texts with labels `(texts, labels)`.
        units: First unit of each text, and the number of units: int64 `(texts + 1,)`.
        cut: Tokens that each text lost because it was too long.
        foreignness: How unlike all that was learned each text is, float64 `(texts,)`; None where the model has no
            scope.
        explanations: One a text where they were asked for; else empty.
        model: Name of the model.
        version: Version of the model that answered.
        tokens: Tokens computed.
        tokenized_s: Seconds until all texts were tokens.
        queued_s: Seconds waited besides.
        computed_s: Seconds in the engine.
    """

    answers: Sequence[Answer]
    logits: Array
    probabilities: Array
    units: Array
    cut: Sequence[int]
    foreignness: Array | None = None
    explanations: Sequence[Explanation] = ()
    model: str = ""
    version: str = ""
    tokens: int = 0
    tokenized_s: float = 0.0
    queued_s: float = 0.0
    computed_s: float = 0.0

    def __len__(self) -> int:
        return len(self.answers)


class Refused(Exception):  # noqa: N818 - it is no error of ours
    """A request that is not answered, and why: an answer of HTTP with a status of 400 or more.

    Attributes:
        status: Status of HTTP.
        title: What it is called, the same for every request with this fault.
        detail: What was found here, what was expected, what to do.
        retry_after: Seconds after which another try is worth while; None where it is not.
    """

    def __init__(self, status: int, title: str, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Callable[..., Refused], tuple[object, ...]]:
        return _refused, (self.status, self.title, self.detail, self.retry_after)


class Watcher(Protocol):
    """Told what goes on inside a batcher, from any thread; it must not wait."""

    def queued(self, model: str, tokens: int, requests: int) -> None:
        """So many tokens of so many requests wait or are computed; told whenever that changes."""
        ...

    def computed(self, model: str, rows: int, tokens: int, seconds: float) -> None:
        """A batch went through the engine."""
        ...


class Unwatched:
    """A watcher that looks away."""

    def queued(self, model: str, tokens: int, requests: int) -> None:
        """Take no notice."""

    def computed(self, model: str, rows: int, tokens: int, seconds: float) -> None:
        """Take no notice."""


def _refused(status: int, title: str, detail: str, retry_after: float | None) -> Refused:
    return Refused(status, title, detail, retry_after=retry_after)
