"""API keys: who may ask. The file holds hashes; a request's key is hashed and compared in constant time.

A key is 256 random bits, so one round of sha256 is as good as scrypt would be: nobody can try 2**256 keys however fast
each trial is. A slow hash protects passwords, which people choose; here it would only let strangers keep the server
busy with wrong keys.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
import tomllib
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith.atomic import write_text
from bertsmith.errors import DataError, UsageError
from bertsmith.serve.asked import Refused
from bertsmith.serve.stamps import stamp

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bertsmith.serve.models import Models
    from bertsmith.serve.settings import ServeSettings

Answer = Callable[[Refused, Any, Any, Any], Awaitable[None]]
"""Sends a refusal in the shape of the route that was asked: refusal, scope, receive, send."""
PREFIX = "bertsmith_"
"""Begins every key, so that scanners for leaked secrets can find one."""
OPEN = frozenset({"/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/favicon.ico"})
"""Paths that are read without a key: whether the server is well is asked by machines that have none."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_SECONDS_BETWEEN_LOOKS = 1.0
_MISSING = "Make one: bertsmith keys add NAME --file FILE"


@dataclass(frozen=True)
class Key:
    """One key, as the file holds it.

    Attributes:
        name: Whose it is; it stands in the logs.
        sha256: Of the key's characters, 64 hexadecimal digits.
        created: The day, as YYYY-MM-DD.
        admin: True where it may also reload models and read or delete feedback.
    """

    name: str
    sha256: str
    created: str = ""
    admin: bool = False


def parse_keys(text: str, *, source: str) -> tuple[Key, ...]:
    r"""Read a file of keys.

    Args:
        text: TOML: a table `[[key]]` each, with `name`, `sha256`, and perhaps `created` and `admin`.
        source: Name of the file, for messages.

    Raises:
        DataError: It is no TOML, or an entry is wrong; the message says which and how.

    >>> parse_keys("[[key]]\nname = 'shop'\nsha256 = '" + "0" * 64 + "'", source="keys.toml")[0].name
    'shop'
    """
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{source}: not readable as TOML: {error}.", tip=_MISSING) from error
    entries = content.get("key", [])
    if set(content) - {"key"} or not isinstance(entries, list):
        raise DataError(f"{source}: must hold tables [[key]] and nothing else.", tip=_MISSING)
    keys = tuple(_key(entry, f"{source}: key {place}") for place, entry in enumerate(entries, 1))
    for place, key in enumerate(keys):
        if any(key.name == other.name for other in keys[:place]):
            raise DataError(f"{source}: key {place + 1} has the name '{key.name}', which another one has too.")
    return keys


def _key(entry: object, where: str) -> Key:
    if not isinstance(entry, dict) or set(entry) - {"name", "sha256", "created", "admin"}:
        raise DataError(f"{where} must have 'name' and 'sha256', and perhaps 'created' and 'admin'.")
    name, digest, admin = entry.get("name"), entry.get("sha256"), entry.get("admin", False)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise DataError(f"{where}: 'name' must be 1 to 64 letters, digits, '.', '_' and '-'. Got {name!r} instead.")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise DataError(
            f"{where}: 'sha256' must be 64 hexadecimal digits in lower case.",
            tip="A key itself never stands in the file. " + _MISSING,
        )
    if not isinstance(admin, bool):
        raise DataError(f"{where}: 'admin' must be true or false. Got {admin!r} instead.")
    return Key(name, digest, str(entry.get("created", "")), admin)


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read the keys of a file.

    Raises:
        UsageError: There is no such file, or it may not be read.
        DataError: It is no file of keys.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.", tip=_MISSING) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no UTF-8 text.", tip=_MISSING) from error
    return parse_keys(text, source=str(path))


def add_key(path: Path, name: str, *, admin: bool = False) -> str:
    """Make a key, add its hash to a file (made where there is none), and return the key: it is kept nowhere.

    Raises:
        UsageError: The name is none, or is taken.
        DataError: The file is no file of keys.

    >>> add_key(Path("keys.toml"), "shop")                                            # doctest: +SKIP
    'bertsmith_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"a key's name must be 1 to 64 letters, digits, '.', '_' and '-'. Got {name!r} instead.")
    there = read_keys(path) if path.exists() else ()
    if any(key.name == name for key in there):
        raise UsageError(
            f"{path}: there is a key '{name}' already.",
            tip="Take another name; remove the old key once its owner has the new one.",
        )
    secret = PREFIX + secrets.token_urlsafe(32)
    _write(path, (*there, Key(name, _digest(secret), datetime.now(UTC).date().isoformat(), admin)))
    return secret


def remove_key(path: Path, name: str) -> None:
    """Take a key out of a file; servers that read the file refuse it within about a second.

    Raises:
        UsageError: There is no such file or key.
        DataError: The file is no file of keys.
    """
    there = read_keys(path)
    if all(key.name != name for key in there):
        names = ", ".join(key.name for key in there) or "none"
        raise UsageError(f"{path}: there is no key '{name}'. There is: {names}.")
    _write(path, tuple(key for key in there if key.name != name))


def _write(path: Path, keys: tuple[Key, ...]) -> None:
    parts = ["# Keys of bertsmith serve: hashes, from which no key can be made again.\n"]
    for key in keys:
        admin = "admin = true\n" * key.admin
        parts.append(f'[[key]]\nname = "{key.name}"\nsha256 = "{key.sha256}"\ncreated = "{key.created}"\n{admin}')
    write_text(path, "\n".join(parts))


def _digest(secret: str) -> str:
    # Headers are latin-1; surrogates and the like can be in no key, but must not raise.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class KeyFile:
    """The keys of a file, read again when it changes, so that keys are added and removed without a restart.

    A file that became unreadable leaves the keys as they were, and the log says so; one without any key lets nobody in.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Read a file.

        Raises:
            UsageError: There is no such file, or no key in it.
            DataError: It is no file of keys.
        """
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = stamp(path)
        self._keys = read_keys(path)
        self._looked = clock()
        if not self._keys:
            raise UsageError(f"{path}: there is no key in it.", tip=_MISSING)

    def find(self, secret: str) -> Key | None:
        """Return whose key it is; None where it is nobody's.

        Every hash is compared, each in constant time, so that how long it takes tells nothing about any of them.
        """
        digest = _digest(secret)
        found = None
        for key in self._current():
            if hmac.compare_digest(digest, key.sha256):
                found = key
        return found

    def _current(self) -> tuple[Key, ...]:
        now = self._clock()
        if now - self._looked >= _SECONDS_BETWEEN_LOOKS:
            with self._lock:
                self._looked = now
                self._look()
        return self._keys

    def _look(self) -> None:
        now = stamp(self._path)
        if now == self._stamp:
            return
        self._stamp = now
        try:
            self._keys = read_keys(self._path)
        except (UsageError, DataError) as error:
            logging.getLogger(__name__).error("the keys stay as they were: %s", error.message)
        else:
            logging.getLogger(__name__).info("the keys were read again: %d", len(self._keys))


def check_open(settings: ServeSettings) -> None:
    """Refuse to start where strangers could ask and nobody said that they may.

    Raises:
        UsageError: The address is public, and there are neither keys nor --no-auth; or there are both.
    """
    keys = settings.api_key_file is not None
    if keys and settings.no_auth:
        raise UsageError("--api-key-file and --no-auth contradict each other.", tip="Leave one of them out.")
    if settings.is_public and not (keys or settings.no_auth):
        raise UsageError(
            f"'{settings.host}' can be reached from other machines, and there are no API keys.",
            tip="Make one (bertsmith keys add NAME --file FILE) and start with --api-key-file FILE, or let everyone "
            "in with --no-auth.",
        )


class RequireKey:
    """Lets a request through that has a key: `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Without keys everyone is let through; to /admin only where that was said.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyFile | None,
        answer: Answer,
        open_paths: Collection[str] = OPEN,
        admin: bool = True,
    ) -> None:
        """Stand before an application.

        Args:
            app: The application.
            keys: Who may ask; None is everyone.
            answer: Sends refusals.
            open_paths: Paths that need no key to be read (GET and HEAD). It may grow later.
            admin: Whether /admin is open where there are no keys.
        """
        self._app = app
        self._keys = keys
        self._answer = answer
        self._open = open_paths
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 403, or hand on; the key's name is put in `scope["bertsmith"]["key"]`."""
        refused = self._refusal(scope) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await self._answer(refused, scope, receive, _challenging(send) if refused.status == 401 else send)

    def _refusal(self, scope: Scope) -> Refused | None:
        if self._keys is None:
            return None if self._admin or not _wants_admin(scope) else _CLOSED
        if scope["path"] in self._open and scope["method"] in ("GET", "HEAD"):
            return None
        secret = _secret(scope)
        key = self._keys.find(secret) if secret else None
        if key is None:
            return _UNKNOWN if secret else _NO_KEY
        scope.setdefault("bertsmith", {})["key"] = key.name
        return _NO_ADMIN if _wants_admin(scope) and not key.admin else None


_NO_KEY = Refused(401, "key needed", "this server wants an API key: send the header 'Authorization: Bearer KEY'.")
_UNKNOWN = Refused(401, "unknown key", "the API key is not known here: it may have been removed, or be mistyped.")
_NO_ADMIN = Refused(403, "admin key needed", "this needs a key that was made with --admin.")
_CLOSED = Refused(
    403,
    "admin key needed",
    "this needs a key that was made with --admin, and the server runs without keys. A model is also reloaded by the "
    "signal SIGHUP.",
)


def _wants_admin(scope: Scope) -> bool:
    path = scope["path"]
    reads_feedback = path.startswith("/feedback") and scope["method"] != "POST"
    return bool(path.startswith("/admin") or reads_feedback)


def _secret(scope: Scope) -> str:
    """Take the key from the headers; "" where there is none."""
    headers: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope["headers"]}
    kind, _, secret = headers.get(b"authorization", "").partition(" ")
    return secret.strip() if kind.lower() == "bearer" else headers.get(b"x-api-key", "").strip()


def _challenging(send: Send) -> Send:
    """Say with a refusal how to ask, as RFC 9110 wants it of 401."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"www-authenticate", b'Bearer realm="bertsmith"')]}
        await send(message)

    return sent


def install(app: FastAPI, settings: ServeSettings, models: Models) -> None:
    """Put keys before the application, as its settings want them.

    Raises:
        UsageError: The address is public and there are no keys, or there is no such file.
        DataError: The file is no file of keys.
    """
    from bertsmith.serve import problems

    check_open(settings)
    keys = None if settings.api_key_file is None else KeyFile(settings.api_key_file)
    open_paths: set[str] = app.state.open_paths
    open_paths.update(OPEN)
    app.add_middleware(
        RequireKey, keys=keys, answer=problems.answer, open_paths=open_paths, admin=not settings.is_public
    )
