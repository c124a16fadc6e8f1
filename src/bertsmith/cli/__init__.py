"""The command line: one thin file per verb, one error boundary (`boundary.py`)."""

from __future__ import annotations

from bertsmith.cli.boundary import main

__all__ = ["main"]
