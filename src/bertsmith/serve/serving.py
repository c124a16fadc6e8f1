"""A server as a process: its socket, its models, and uvicorn around the application."""

from __future__ import annotations

import logging.config
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bertsmith import threads
from bertsmith.errors import BertsmithError
from bertsmith.serve import log
from bertsmith.serve.metrics import Metrics, forget_worker, share_metrics
from bertsmith.serve.settings import ServeSettings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from bertsmith.serve.models import Models
    from bertsmith.serve.server import Server
    from bertsmith.serve.together import Member

Told = Callable[[ServeSettings, socket.socket, list[str]], None]
_LAST_S = 5.0
"""Seconds that a worker has beyond those that its requests have."""


def load_models(settings: ServeSettings, watcher: Metrics) -> Models:
    """Load and verify what is to be served, with this worker's share of the CPU threads.

    Raises:
        BertsmithError: A run is incomplete or was changed, or what its engine needs is not installed.
    """
    from bertsmith.serve.lifecycle import threads_each
    from bertsmith.serve.model import LoadSettings
    from bertsmith.serve.models import Models
    from bertsmith.serve.room import BatchSettings

    number = threads_each(settings.workers, settings.threads)
    threads.limit_libraries(number)
    batch = BatchSettings(
        max_queue_tokens=settings.max_queue_tokens,
        batch_tokens=settings.batch_tokens,
        max_wait_s=settings.max_wait_s,
        deadline_s=settings.deadline_s,
        max_text_tokens=settings.max_tokens,
    )
    models = Models.load(settings.runs, LoadSettings(settings.engine, number), batch, watcher=watcher)
    models.tell(watcher.drifting)
    return models


def make_server(settings: ServeSettings, models: Models, watcher: Metrics, *, member: Member | None = None) -> Server:
    """Make the server of one process; `run_at(sock)` starts it."""
    import uvicorn

    from bertsmith.serve.app import create_app
    from bertsmith.serve.heads import speaking
    from bertsmith.serve.lifecycle import WAITING
    from bertsmith.serve.server import Server

    app = create_app(settings, models, watcher=watcher)
    config = uvicorn.Config(
        app,
        http=speaking(app.state.turning_away),
        ws="none",
        log_config=log.configuration(log_texts=settings.log_texts),
        access_log=False,
        server_header=False,
        # A client that a proxy speaks for is not taken at its word.
        proxy_headers=False,
        # So many are accepted at once: of a socket that workers share, one that took all would leave none to others.
        backlog=WAITING if settings.workers == 1 else 1,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
        lifespan="on",
    )
    return Server(config, member=member)


def serve_forever(settings: ServeSettings, sock: socket.socket, *, told: Told) -> int:
    """Serve until told to stop.

    Args:
        settings: How.
        sock: Where; it listens, or holds the port for several workers.
        told: Called with the models' names once they are loaded.

    Returns:
        0, or 1 where the application did not start, or did not end within its time.

    Raises:
        BertsmithError: A model cannot be loaded.
    """
    if settings.workers > 1:
        return _serve_by_many(settings, sock, told)
    _ignore("SIGHUP")
    watcher = Metrics()
    models = load_models(settings, watcher)
    server = make_server(settings, models, watcher)
    told(settings, sock, list(models.names))
    return 0 if server.run_at(sock) else 1


def _serve_by_many(settings: ServeSettings, sock: socket.socket, told: Told) -> int:
    from bertsmith.serve.lifecycle import Hooks, Supervisor
    from bertsmith.serve.model import name_of

    logging.config.dictConfig(log.configuration(log_texts=settings.log_texts))
    folder = share_metrics()
    names = [name_of(run) for run in settings.runs]
    hooks = Hooks(begun=partial(told, settings, sock, names), ended=forget_worker)
    grace_s = settings.grace_s + _LAST_S
    try:
        return Supervisor(_work, (settings, sock), workers=settings.workers, grace_s=grace_s, hooks=hooks).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _work(line: Connection, number: int, settings: ServeSettings, sock: socket.socket) -> None:
    """Serve in one process of several."""
    from bertsmith.serve.sockets import of_worker
    from bertsmith.serve.together import Failed, Member

    # A terminal sends these to all processes; what they mean is the supervisor's to say.
    _ignore("SIGHUP", "SIGINT")
    logging.config.dictConfig(log.configuration(log_texts=settings.log_texts))
    watcher = Metrics()
    try:
        models = load_models(settings, watcher)
        # One of them watches for all.
        mine = replace(settings, reload=settings.reload and number == 0)
        server = make_server(mine, models, watcher, member=Member(line, models))
    except BertsmithError as error:
        line.send(Failed(error))
        return
    with of_worker(sock) as own:
        server.run_at(own)


def _ignore(*names: str) -> None:
    """Ignore signals until somebody takes them; SIGHUP ends a process that does not."""
    for name in names:
        if hasattr(signal, name) and threading.current_thread() is threading.main_thread():
            signal.signal(getattr(signal, name), signal.SIG_IGN)
