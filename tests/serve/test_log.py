"""One JSON line a request, with its id, and no text in it."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.serve import problems
from bertsmith.serve.asked import Asked, Refused, Served
from bertsmith.serve.log import REQUESTS, JsonLines, RequestLog, configuration, request_id
from tests.serve.asgi_call import Reply, call, well

SECRET = "my card number is 4929"


def logged(app, caplog, *, log_texts: bool = False, path: str = "/classify", **headers: str) -> tuple[Reply, dict]:
    """Send a request; give the reply and the line that it left."""
    ticks = iter((1.0, 1.25))
    caplog.clear()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    with caplog.at_level(logging.INFO, logger=REQUESTS):
        reply = call(
            RequestLog(app, answer=problems.answer, log_texts=log_texts, clock=lambda: next(ticks)), path, headers=given
        )
    (record,) = caplog.records
    return reply, json.loads(JsonLines(log_texts=log_texts).format(record))


async def handler(scope, receive, send):
    """Notes what a route notes."""
    empty = np.zeros((1, 2))
    served = Served(
        [],
        empty,
        empty,
        np.arange(2),
        [0],
        model="m",
        version="abc",
        tokens=7,
        tokenized_s=0.5,
        queued_s=0.25,
        computed_s=0.125,
    )
    scope["bertsmith"] |= {"route": "/classify", "model": "m", "texts": 1, "served": served, "asked": Asked((SECRET,))}
    await well(scope, receive, send)


def test_a_line_has_what_a_request_was(caplog):
    """Every field of the line, and nothing more."""
    reply, line = logged(handler, caplog, path=f"/classify/{SECRET}", X_Request_ID="abc-1")
    assert reply.headers["x-request-id"] == "abc-1"
    assert {name: value for name, value in line.items() if name not in ("time", "process")} == {
        "level": "info", "logger": "bertsmith.requests", "event": "request", "request_id": "abc-1", "method": "POST",
        "route": "/classify", "status": 200, "seconds": 0.25, "bytes": 4, "client": "10.1.2.3", "model": "m", "texts": 1,
        "version": "abc", "tokens": 7, "tokenized_s": 0.5, "queued_s": 0.25, "computed_s": 0.125,
    }  # fmt: skip


def test_texts_are_logged_only_where_that_was_asked(caplog):
    """With --log-texts the line has the texts."""
    _, line = logged(handler, caplog, log_texts=True)
    assert (line["asked"], line["asked_pairs"]) == ([SECRET], None)


async def failing(scope, receive, send):
    """Fails with a text in its message, and in that of its cause."""
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"no answer to {SECRET}") from error


def test_a_failure_is_a_500_with_an_id_and_no_text(caplog):
    """What is uncaught becomes a problem with the request's id; the log names kinds and places, and quotes nothing."""
    reply, line = logged(failing, caplog, X_Request_ID="id-7")
    assert (reply.status, reply.headers["x-request-id"]) == (500, "id-7")
    assert reply.json == {
        "type": "urn:bertsmith:internal-error",
        "title": "Internal error",
        "status": 500,
        "detail": "the server failed at this request; its log knows more under the request's id.",
        "request_id": "id-7",
    }
    assert (line["level"], line["status"], line["error"]["kind"], line["error"]["because"]["kind"]) == (
        "error", 500, "ValueError", "KeyError",
    )  # fmt: skip
    assert line["error"]["at"][-1].startswith("test_log.py:")
    assert SECRET not in json.dumps(line)
    _, asked = logged(failing, caplog, log_texts=True)
    assert asked["error"]["message"] == f"no answer to {SECRET}"


def test_a_refusal_is_logged_by_its_title(caplog):
    """The title is the same for all who meet it; the detail may quote a text, so it stays out."""

    async def refusing(scope, receive, send):
        scope["bertsmith"]["refused"] = Refused(422, "wrong input", f"got {SECRET}")
        await well(scope, receive, send)

    _, line = logged(refusing, caplog)
    assert line["refused"] == "wrong input"
    assert SECRET not in json.dumps(line)
    assert logged(refusing, caplog, log_texts=True)[1]["detail"] == f"got {SECRET}"


def test_a_client_that_left_is_499_and_a_route_that_is_none_is_said(caplog):
    """Where nothing was sent the status is 499, and an unknown path is not quoted."""

    async def silent(scope, receive, send):
        return None

    _, line = logged(silent, caplog, path="/" + SECRET)
    assert (line["status"], line["route"]) == (499, "(none)")


@settings(deadline=None)
@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_only_plain_ids_are_taken(given_id):
    """An id comes back as it was if it is plain, else a new one is made: nothing can be smuggled into header or log."""
    reply = call(RequestLog(well, answer=problems.answer), headers={"X-Request-ID": given_id})
    found = reply.headers["x-request-id"]
    plain = (
        0 < len(given_id) <= 128
        and given_id[0].isalnum()
        and all(each.isalnum() or each in "._:-" for each in given_id)
    )
    if plain and given_id.isascii():
        assert found == given_id
    else:
        assert len(found) == 32
        assert set(found) <= set("0123456789abcdef")


def test_lines_are_one_line_each():
    """Line breaks and other control characters of a message are escaped."""
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "a\nb\u2028c\x1b[31m"})
    text = JsonLines().format(record)
    assert len(text.splitlines()) == 1
    assert json.loads(text)["event"] == "a\nb\u2028c\x1b[31m"


@pytest.mark.parametrize("log_texts", [False, True])
def test_the_configuration_is_one_that_logging_takes(log_texts):
    """The loggers of uvicorn write JSON too, and its line a request, which has the path, is off."""
    import logging.config

    names = ("bertsmith", "uvicorn", "uvicorn.access")
    before = {
        name: (each.handlers[:], each.level, each.propagate) for name in names for each in [logging.getLogger(name)]
    }
    try:
        logging.config.dictConfig(configuration(log_texts=log_texts))
        assert isinstance(logging.getLogger("uvicorn").handlers[0].formatter, JsonLines)
        assert not logging.getLogger("uvicorn.access").isEnabledFor(logging.ERROR)
    finally:
        for name, (handlers, level, propagate) in before.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def test_every_request_without_an_id_gets_one_of_its_own():
    """Ids are 32 digits, none twice, and another process has others: what it draws is not what this one drew."""
    ids = [request_id({"headers": []}) for _ in range(1000)]
    assert len({*ids}) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    script = "from bertsmith.serve.log import request_id; print(request_id({'headers': []}))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert other[:22] != ids[0][:22]
