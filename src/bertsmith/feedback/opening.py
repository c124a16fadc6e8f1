"""Opening a feedback store: what is missing is named before SQLAlchemy is loaded."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from bertsmith.errors import MissingExtraError, UsageError
from bertsmith.feedback.places import sqlite_file, without_password

if TYPE_CHECKING:
    from bertsmith.feedback.store import Store


def open_store(place: str, *, create: bool = False) -> Store:
    """Open a feedback store.

    Args:
        place: An SQLite file, or the URL of a PostgreSQL database.
        create: Make file and table where they are not there yet.

    Raises:
        UsageError: There is no such file, or the place is of another kind.
        MissingExtraError: A package for it is not installed.
        DataError: It cannot be reached, is no database, or holds something else.
    """
    file = sqlite_file(place)
    if file is not None and not create and not file.is_file():
        raise UsageError(
            f"{file}: there is no such feedback store.",
            tip=f"bertsmith serve RUN --feedback {file} makes it when the first feedback comes.",
        )
    _require("sqlalchemy")
    if file is None:
        _require("psycopg")
    from bertsmith.feedback.store import Store

    return Store(place, shown=without_password(place), create=create)


def _require(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError("a feedback store", "serve", package)


__all__ = ["open_store"]
