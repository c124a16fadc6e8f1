"""A server as a process: its socket, its models, and uvicorn around the application."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bertsmith import threads
from bertsmith.errors import UsageError
from bertsmith.serve.asked import Watcher
from bertsmith.serve.metrics import Metrics, share_metrics
from bertsmith.serve.settings import ServeSettings

if TYPE_CHECKING:
    import uvicorn

    from bertsmith.serve.models import Models

Told = Callable[[ServeSettings, socket.socket, list[str]], None]
_WAITING = 2048
"""Connections that the system holds for us until they are accepted."""


@contextlib.contextmanager
def listening(settings: ServeSettings) -> Iterator[socket.socket]:
    """Take the port before any model is loaded, so that it is said at once where it is taken.

    Raises:
        UsageError: The address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        sock = socket.create_server((settings.host.strip("[]"), settings.port), family=family, backlog=_WAITING)
    except OSError as error:
        raise UsageError(
            f"cannot listen at {settings.host}, port {settings.port}: {os.strerror(error.errno or 0)}.",
            tip="Take another with --port; --port 0 takes a free one.",
        ) from error
    with sock:
        yield sock


def load_models(settings: ServeSettings, watcher: Watcher) -> Models:
    """Load and verify what is to be served.

    Raises:
        BertsmithError: A run is incomplete or was changed, or what its engine needs is not installed.
    """
    from bertsmith.serve.batching import BatchSettings
    from bertsmith.serve.model import LoadSettings
    from bertsmith.serve.models import Models

    number = settings.threads or max(1, threads.allowed() // settings.workers)
    threads.limit_libraries(number)
    batch = BatchSettings(
        max_queue_tokens=settings.max_queue_tokens,
        batch_tokens=settings.batch_tokens,
        deadline_s=settings.deadline_s,
        max_text_tokens=settings.max_tokens,
    )
    return Models.load(settings.runs, LoadSettings(settings.engine, number), batch, watcher=watcher)


def make_server(settings: ServeSettings, models: Models, watcher: Metrics) -> uvicorn.Server:
    """Make the server of one process; `run(sockets=[…])` starts it."""
    import uvicorn

    from bertsmith.serve.app import create_app
    from bertsmith.serve.log import configuration

    config = uvicorn.Config(
        create_app(settings, models, watcher=watcher),
        log_config=configuration(log_texts=settings.log_texts),
        access_log=False,
        server_header=False,
        # A client that a proxy speaks for is not taken at its word.
        proxy_headers=False,
        backlog=_WAITING,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
        lifespan="on",
    )
    return uvicorn.Server(config)


def serve_forever(settings: ServeSettings, sock: socket.socket, *, told: Told) -> int:
    """Serve until told to stop.

    Args:
        settings: How.
        sock: Where; it listens already.
        told: Called with the models' names once they are loaded.

    Returns:
        0, or 1 where the application did not start.
    """
    if settings.workers > 1:
        return _serve_by_many(settings, sock, told)
    watcher = Metrics()
    models = load_models(settings, watcher)
    server = make_server(settings, models, watcher)
    told(settings, sock, list(models.names))
    # On SIGTERM and SIGINT uvicorn finishes what was accepted, and then sends itself the signal again.
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[sock])
    return 0 if server.started else 1


def _serve_by_many(settings: ServeSettings, sock: socket.socket, told: Told) -> int:
    from bertsmith.serve.lifecycle import Supervisor
    from bertsmith.serve.model import name_of

    told(settings, sock, [name_of(run) for run in settings.runs])
    folder = share_metrics()
    try:
        return Supervisor(_work, (settings, sock), workers=settings.workers, grace_s=settings.grace_s).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _work(settings: ServeSettings, sock: socket.socket) -> None:
    """Serve in one process of several."""
    watcher = Metrics()
    make_server(settings, load_models(settings, watcher), watcher).run(sockets=[sock])
