"""Headers of every answer, and what pages of other sites may not do."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertsmith.serve import problems
from bertsmith.serve.security import HEADERS, Guard, hosts_for
from bertsmith.serve.settings import ServeSettings
from tests.serve.asgi_call import call, well


def guard(app=well, *, origins: tuple[str, ...] = (), hosts: frozenset[str] | None = None) -> Guard:
    return Guard(app, answer=problems.answer, origins=origins, hosts=hosts)


def test_every_answer_has_the_headers():
    """An answer, and a refusal of the guard itself, load nothing, are no frame and are kept nowhere."""
    for reply in (call(guard()), call(guard(), headers={"Sec-Fetch-Site": "cross-site"})):
        assert {name.decode(): value.decode() for name, value in HEADERS.items()}.items() <= reply.headers.items()
    assert reply.headers["content-security-policy"] == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def test_what_an_answer_says_itself_stays():
    """The page's own policy is not replaced, whatever the case of its name."""

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Security-Policy", b"own")]})
        await send({"type": "http.response.body", "body": b""})

    reply = call(guard(page), "/ui", method="GET")
    assert reply.headers["Content-Security-Policy"] == "own"
    assert "content-security-policy" not in reply.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # a program
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost:8000", "Host": "localhost:8000"}, 403),
        ({"Origin": "http://localhost:8000", "Host": "localhost:8000"}, 200),
        ({"Origin": "https://evil.example", "Host": "localhost:8000"}, 403),
        ({"Origin": "null", "Host": "localhost:8000"}, 403),
        ({"Origin": "http://localhost:8001", "Host": "localhost:8000"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://shop.example"}, 200),
    ],
)
def test_pages_of_other_sites_may_not_post(headers, status):
    """What a browser sends for a page of another site is refused, unless that site was let in by its origin."""
    assert call(guard(origins=("https://shop.example",)), headers=headers).status == status


def test_reading_is_left_to_the_browser():
    """A GET of another site is answered: without CORS the browser keeps the answer from its page."""
    reply = call(guard(), method="GET", headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})
    assert reply.status == 200
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert not any(name.startswith("access-control") for name in reply.headers)


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("LOCALHOST", 200), ("evil.example:8000", 421),
     ("localhost.evil.example", 421), ("", 421), ("a b[", 421), ("[", 421)],
)  # fmt: skip
def test_another_name_is_not_answered_on_loopback(host, status):
    """A name that was bent to this machine (DNS rebinding) reaches nothing, not even with GET."""
    hosts = hosts_for(ServeSettings(runs=(Path("a"),)))
    assert call(guard(hosts=hosts), method="GET", headers={"Host": host}).status == status


def test_the_refusal_of_a_name_says_which_are_known():
    """The names that would be answered are told."""
    reply = call(guard(hosts=frozenset({"localhost", "::1"})), headers={"Host": "evil.example"})
    assert reply.json["detail"] == (
        "without API keys this server answers to ::1, localhost only. Got 'evil.example' as Host."
    )


def test_any_name_is_answered_where_keys_or_everyone_decide():
    """Behind a proxy the Host header is the public name: with keys, or with --no-auth, it is not looked at."""
    for more in ({"api_key_file": Path("k")}, {"no_auth": True}, {"host": "0.0.0.0"}):
        assert hosts_for(ServeSettings(runs=(Path("a"),), **more)) is None
