"""An event loop of a test's own, whatever runs in the thread of the tests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def in_own_loop(coroutine: Coroutine[Any, Any, Any], *, seconds: float = 60) -> None:
    """Run it to its end, in a thread: Playwright leaves a running loop in the thread of the tests that come after its own."""

    async def bounded() -> None:
        await asyncio.wait_for(coroutine, seconds)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, bounded()).result()
