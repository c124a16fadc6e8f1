"""Security headers on every answer, and no requests from pages of other sites.

A page of any site can make a browser post to an address that only this machine can reach; and a name of that site can
be made to mean such an address (DNS rebinding). Keys stop both; without keys the browser's own words do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bertsmith.serve.asked import Refused

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bertsmith.serve.models import Models
    from bertsmith.serve.settings import ServeSettings

Answer = Callable[[Refused, Any, Any, Any], Awaitable[None]]
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""What an answer may load or run where it says nothing of its own: nothing. The page has a policy of its own."""
HEADERS: dict[bytes, bytes] = {
    b"content-security-policy": POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
    b"cache-control": b"no-store",
}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_ANOTHER_SITE = Refused(
    403,
    "another site's page",
    "a page of another site may not ask here. The server's --cors lets one in by its origin.",
)


class Guard:
    """Adds headers that an answer has not, and refuses what a page of another site sent.

    Whether it did is told as Go's CrossOriginProtection tells it (Valsorda, 2025): by Sec-Fetch-Site, which pages
    cannot forge, and where a browser is too old to send it by Origin. Programs send neither, and are let through.
    """

    def __init__(
        self, app: ASGIApp, *, answer: Answer, origins: Collection[str] = (), hosts: Collection[str] | None = None
    ) -> None:
        """Stand before an application.

        Args:
            app: The application.
            answer: Sends refusals.
            origins: Origins of other sites that may ask, as `https://shop.example`.
            hosts: Names that the Host header may have; None is any.
        """
        self._app = app
        self._answer = answer
        self._origins = frozenset(origins)
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 or 421, or hand on; add the headers in any case."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        allowed = headers.get(b"origin", b"").decode("latin-1") in self._origins
        refused = self._refusal(scope["method"], headers, allowed=allowed)
        sending = _with_headers(send, shared=allowed)
        if refused is None:
            await self._app(scope, receive, sending)
        else:
            await self._answer(refused, scope, receive, sending)

    def _refusal(self, method: str, headers: dict[bytes, bytes], *, allowed: bool) -> Refused | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return Refused(
                421,
                "another host's name",
                f"without API keys this server answers to {', '.join(sorted(self._hosts))} only. Got {host[:80]!r} "
                "as Host.",
            )
        if method in _SAFE or allowed or _from_here(headers, host):
            return None
        return _ANOTHER_SITE


def _from_here(headers: dict[bytes, bytes], host: str) -> bool:
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is None or origin.decode("latin-1").partition("://")[2] == host


def _name_of(host: str) -> str:
    """Take the name from a Host header; "" where it is none.

    >>> _name_of("localhost:8000"), _name_of("[::1]:8000"), _name_of("a b[")
    ('localhost', '::1', '')
    """
    try:
        return urlsplit(f"//{host}").hostname or "" if " " not in host else ""
    except ValueError:
        return ""


def _with_headers(send: Send, *, shared: bool) -> Send:
    wanted = {**HEADERS, b"cross-origin-resource-policy": b"cross-origin"} if shared else HEADERS

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message.get("headers", ())}
            more = [each for each in wanted.items() if each[0] not in there]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sent


def hosts_for(settings: ServeSettings) -> frozenset[str] | None:
    """Say which names a Host header may have: any where there are keys or everyone may ask, else those of loopback."""
    anyone = settings.api_key_file is not None or settings.no_auth or settings.is_public
    return None if anyone else _LOCAL | {settings.host.strip("[]").lower()}


def install(app: FastAPI, settings: ServeSettings, models: Models) -> None:
    """Put the guard before the application; let in the sites of its settings, which are none by default."""
    from starlette.middleware.cors import CORSMiddleware

    from bertsmith.serve import problems

    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
            max_age=600,
        )
    app.add_middleware(Guard, answer=problems.answer, origins=settings.cors, hosts=hosts_for(settings))
