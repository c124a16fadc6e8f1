"""New bundles while a server runs: on SIGHUP, or as soon as one lies there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from bertsmith.serve.asked import Refused
from bertsmith.serve.model import bundle_of

if TYPE_CHECKING:
    from bertsmith.serve.models import Models

EVERY_S = 2.0
"""Seconds between two looks at the bundles."""
_LOG = logging.getLogger("bertsmith.serve")
Stamp = tuple[int, int, int] | None


async def take_new(models: Models, name: str = "") -> None:
    """Reload a model, or all; what is not sound is said in the log, and the old one goes on."""
    try:
        for model in await models.reload(name):
            _LOG.info("%s is now version %s", model.name, model.version)
    except Refused as refused:
        _LOG.error("%s: %s", refused.title, refused.detail)


async def watch(models: Models, *, every_s: float = EVERY_S) -> None:
    """Reload each model whose manifest changes: it is what a run writes last. It never ends.

    Args:
        models: What is served.
        every_s: Seconds between two looks.
    """
    seen = {name: _stamp(models, name) for name in models.names}
    while True:
        await asyncio.sleep(every_s)
        for name, before in seen.items():
            now = _stamp(models, name)
            if now not in (None, before):
                seen[name] = now
                await take_new(models, name)


def _stamp(models: Models, name: str) -> Stamp:
    try:
        status = (bundle_of(models.get(name).folder) / "manifest.json").stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


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

    # Signals come to the main thread alone; in tests the loop runs in another.
    listens = hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread()
    if listens:
        loop.add_signal_handler(signal.SIGHUP, reload_all)
    if watched:
        tasks.add(loop.create_task(watch(models)))
    try:
        yield
    finally:
        if listens:
            loop.remove_signal_handler(signal.SIGHUP)
        for task in tasks:
            task.cancel()
