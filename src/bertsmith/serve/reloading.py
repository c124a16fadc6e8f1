"""New bundles while a server runs: on SIGHUP, or as soon as one lies there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from bertsmith.bundle import locate
from bertsmith.serve.asked import Refused
from bertsmith.serve.stamps import Stamp, stamps

if TYPE_CHECKING:
    from bertsmith.serve.models import Models

EVERY_S = 2.0
"""Seconds between two looks at the bundles."""
_LOG = logging.getLogger("bertsmith.serve")
_HANG_UP: int | None = getattr(signal, "SIGHUP", None)
Files = dict[str, Stamp]


async def take_new(models: Models, name: str = "") -> None:
    """Reload a model, or all; what is not sound is said in the log, and the old one goes on."""
    try:
        for model in await models.reload(name):
            _LOG.info("%s is now version %s", model.name, model.version)
    except Refused as refused:
        _LOG.error("%s: %s", refused.title, refused.detail)


async def watch(models: Models, *, every_s: float = EVERY_S) -> None:
    """Reload each model whose files changed: those of its bundle, and of the exports in it. It never ends.

    A model is loaded once its files are as they were at the look before, so that one that is being copied is not; what
    is refused is tried again as soon as the files change again.

    Args:
        models: What is served.
        every_s: Seconds between two looks.
    """
    taken = {name: _files(models, name) for name in models.names}
    seen = dict(taken)
    while True:
        await asyncio.sleep(every_s)
        for name in models.names:
            before, seen[name] = seen[name], _files(models, name)
            if seen[name] == before and before not in ({}, taken[name]):
                taken[name] = before
                await take_new(models, name)


def _files(models: Models, name: str) -> Files:
    return stamps(locate(models.get(name).folder))


@contextlib.asynccontextmanager
async def reloading(models: Models, *, watched: bool) -> AsyncIterator[None]:
    """Reload on SIGHUP, and where `watched` on every change, as long as the context lasts."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def reload_all() -> None:
        task = loop.create_task(take_new(models))
        # The loop holds tasks weakly.
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    with _hearing(loop, reload_all):
        if watched:
            tasks.add(loop.create_task(watch(models)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@contextlib.contextmanager
def _hearing(loop: asyncio.AbstractEventLoop, told: Callable[[], None]) -> Iterator[None]:
    """Take SIGHUP, which is as it was afterwards; signals come to the main thread alone."""
    if _HANG_UP is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(_HANG_UP)
    loop.add_signal_handler(_HANG_UP, told)
    try:
        yield
    finally:
        loop.remove_signal_handler(_HANG_UP)
        signal.signal(_HANG_UP, before or signal.SIG_DFL)
