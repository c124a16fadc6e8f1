"""bertsmith serve: what is wrong is said before a model is loaded."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bertsmith.cli.serve import serve
from bertsmith.errors import UsageError
from bertsmith.serve.settings import ServeSettings
from bertsmith.serve.sockets import listening


def test_a_port_that_is_taken_is_said_at_once():
    """Nothing is loaded where nobody could ask."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as error, listening(ServeSettings(runs=(Path("toy"),), port=port)):
            pass
    assert str(error.value) == (
        f"cannot listen at 127.0.0.1, port {port}: Address already in use.\n"
        "  Take another with --port; --port 0 takes a free one."
    )


def test_a_public_address_is_not_opened_by_oversight(tmp_path):
    """Strangers are let in only where that was said."""
    with pytest.raises(UsageError) as error:
        serve(tmp_path, host="0.0.0.0")
    assert error.value.message == "'0.0.0.0' can be reached from other machines, and there are no API keys."


def test_wrong_settings_are_said_by_their_flags(tmp_path):
    """A flag out of its range is named before the run is looked at."""
    with pytest.raises(UsageError) as error:
        serve(tmp_path, max_body=3)
    assert error.value.message == "'--max-body' must be at least 64. Got 3 instead."
