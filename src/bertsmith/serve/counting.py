"""Counts requests as they pass, and hands some of their rows to what watches for drift."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from bertsmith.serve.asked import Asked, Served
from bertsmith.serve.drifting import Drifting
from bertsmith.serve.log import LEFT

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bertsmith.drift.compare import Drift
    from bertsmith.serve.model import Model
    from bertsmith.serve.models import Models


class Counts(Protocol):
    """What counts: `Metrics`, which says what each of these does."""

    def requested(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that is over."""
        ...

    def answered(self, served: Served, *, labels: Sequence[str], seconds: float) -> None:
        """Count a request's answers."""
        ...

    def drifting(self, model: Model) -> Drifting | None:
        """Return what watches a model for drift."""
        ...

    def drifted(self, model: str, verdict: Drift) -> None:
        """Note what became of the rows of a model."""
        ...


class CountRequests:
    """Counts requests and what they were served, after the answer has left."""

    def __init__(
        self, app: ASGIApp, *, metrics: Counts, models: Models, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._models = models
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request, and count it once it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = self._clock(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except BaseException:
            status = status or (LEFT if isinstance(sys.exception(), asyncio.CancelledError) else 500)
            raise
        finally:
            self._count(scope, status or LEFT, self._clock() - begin)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.requested(scope, status, seconds)
        facts = scope.get("bertsmith", {})
        served, asked = facts.get("served"), facts.get("asked")
        if isinstance(served, Served) and served.model in self._models.names:
            model = self._models.get(served.model)
            self._metrics.answered(served, labels=model.labels, seconds=seconds)
            if isinstance(asked, Asked):
                self._watch(model, asked, served)

    def _watch(self, model: Model, asked: Asked, served: Served) -> None:
        drifting = self._metrics.drifting(model)
        if drifting is not None and drifting.take(asked, served):
            looking = asyncio.get_running_loop().run_in_executor(None, self._look, model.name, drifting)
            looking.add_done_callback(_complain)

    def _look(self, name: str, drifting: Drifting) -> None:
        verdict = drifting.look()
        if verdict is not None:
            self._metrics.drifted(name, verdict)


def _complain(looking: asyncio.Future[None]) -> None:
    if not looking.cancelled() and looking.exception() is not None:
        logging.getLogger(__name__).error("drift is not watched", exc_info=looking.exception())
