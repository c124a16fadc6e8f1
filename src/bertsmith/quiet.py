"""Keep the libraries' own bars and reports off the user's screen, and off the network."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars, load reports and warnings for a while."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def onnx_runtime() -> Any:
    """Import ONNX Runtime, and let it send nothing.

    From 1.29 on, its builds for Linux report the name and the hashes of every model they load to their maker, unless
    the environment says otherwise when they are imported (its docs/Privacy.md); the thread that does it would also
    abort a forked process at its end.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    onnxruntime = importlib.import_module("onnxruntime")
    onnxruntime.disable_telemetry_events()
    return onnxruntime
