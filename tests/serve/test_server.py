"""A server that stops says so with every answer, before it closes anything."""

from __future__ import annotations

import pytest

from bertsmith.serve.server import Goodbye
from tests.serve.asgi_call import call, well


@pytest.mark.parametrize(("said", "closes"), [(False, None), (True, "close")])
def test_answers_close_their_connection_once_goodbye_is_said(said: bool, closes: str | None) -> None:
    """Not before: the client would have to connect anew for every text."""
    goodbye = Goodbye(well)
    goodbye.is_said = said
    assert call(goodbye).headers.get("connection") == closes
