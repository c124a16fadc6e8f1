"""A real server in a thread, for tests with real clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WAIT_S = 30.0


@contextmanager
def served(app: Any, **config: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """Serve on a free port of this machine; give the address, and what stops it before the end.

    Args:
        app: An ASGI application.
        config: More of uvicorn's settings.
    """
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", log_config=None, ws="none", **config))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + WAIT_S
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.01)

    def stop() -> None:
        server.should_exit = True
        thread.join(WAIT_S)

    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", stop
    finally:
        stop()
