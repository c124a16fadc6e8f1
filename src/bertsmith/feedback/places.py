"""Where feedback lies: an SQLite file, or a PostgreSQL database by its URL."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from bertsmith.errors import UsageError

SQLITE = b"SQLite format 3\0"
_POSTGRESQL = {"postgres", "postgresql", "postgresql+psycopg"}
_TIP = "Give a file, such as feedback.db, or a URL, such as postgresql://user@host/database."
_SECRET = {"password", "sslpassword"}


def is_url(place: str) -> bool:
    """Whether a place is a URL.

    >>> is_url("postgresql://me@db/feedback"), is_url("feedback.db")
    (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", place) is not None


def database_url(place: str) -> str:
    """Return the URL that SQLAlchemy takes.

    >>> database_url("feedback.db"), database_url("postgres://me@db/feedback")
    ('sqlite:///feedback.db', 'postgresql+psycopg://me@db/feedback')

    Raises:
        UsageError: It names no file, or a database of another kind.
    """
    if not is_url(place):
        if not place:
            raise UsageError("no place for feedback was given.", tip=_TIP)
        return f"sqlite:///{place}"
    kind, _, rest = place.partition("://")
    if kind in _POSTGRESQL:
        return f"postgresql+psycopg://{rest}"
    if kind == "sqlite" and rest.startswith("/") and rest.strip("/") and not rest.startswith("/:memory:"):
        return place
    found = "is no file" if kind == "sqlite" else "is neither an SQLite file nor PostgreSQL"
    raise UsageError(f"{without_password(place)}: {found}.", tip=_TIP)


def sqlite_file(place: str) -> Path | None:
    """Return the file of an SQLite database; None where the place is another one's URL.

    >>> sqlite_file("sqlite:///data/feedback.db").as_posix(), sqlite_file("postgresql://db/feedback")
    ('data/feedback.db', None)
    """
    url = database_url(place)
    if not is_url(place):
        return Path(place)
    return Path(url.removeprefix("sqlite:///").partition("?")[0]) if url.startswith("sqlite:///") else None


def without_password(place: str) -> str:
    """Return a place as it may be shown and written down; a password comes from PGPASSWORD or ~/.pgpass then.

    >>> without_password("postgresql://me:secret@db:5432/feedback?password=secret&sslmode=require")
    'postgresql://me@db:5432/feedback?sslmode=require'
    """
    if not is_url(place):
        return place
    parts = urlsplit(place)
    user, at, host = parts.netloc.rpartition("@")
    query = urlencode([pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in _SECRET])
    # Put together by hand: urlunsplit leaves out the slashes of an empty host.
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}{query and '?'}{query}"


def lasting(place: str) -> str:
    """Return a place as a recipe keeps it: the whole path of a file, or a URL without its password."""
    return without_password(place) if is_url(place) else str(Path(place).resolve())


def holds_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database, as its first bytes say."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError:
        return False


__all__ = ["database_url", "holds_sqlite", "is_url", "lasting", "sqlite_file", "without_password"]
