"""A table of feedback: written by many workers at once, read in order, deleted for good.

SQLite is opened in WAL mode (readers and one writer do not wait for each other) with `secure_delete`, so that the
bytes of a deleted text are overwritten; its file is readable for its owner alone.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from bertsmith.errors import DataError
from bertsmith.feedback.entry import Entry
from bertsmith.feedback.places import database_url, sqlite_file

_BUSY_SECONDS = 10
_CONNECT_SECONDS = 5
_ROWS_AT_A_TIME = 1_000
_LOCK = 0x6265727473
"""PostgreSQL's advisory lock under which the table is made: several workers start at once."""


class _Moment(sa.TypeDecorator[datetime.datetime]):
    """A moment in UTC; SQLite has no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, dialect: sa.Dialect) -> datetime.datetime | None:
        return None if value is None else value.astimezone(datetime.UTC)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime.datetime | None:
        if value is None:
            return None
        moment: datetime.datetime = value
        return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


_TABLE = sa.Table(
    "bertsmith_feedback",
    sa.MetaData(),
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("created", _Moment, nullable=False, index=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("text_pair", sa.Text),
    sa.Column("label", sa.Text),
    sa.Column("guess", sa.Text),
    sa.Column("score", sa.Double),
    sa.Column("unknown", sa.Boolean, nullable=False),
    sa.Column("right", sa.Boolean, nullable=False),
    sa.Column("correction", sa.Text),
    sa.Column("comment", sa.Text, nullable=False),
)
_NAMES = [each.name for each in fields(Entry)]


@dataclass(frozen=True)
class Wanted:
    """Which entries are read.

    Attributes:
        corrected: Only those that say what is right.
        model: Only those of this model; "" takes all.
        before: Only those made until then (the moment itself included); None takes all.
        after: Only those that follow this one in the order of time; None takes all.
        least_certain: So many with the lowest score, the lowest first; None takes all, in order of time.
    """

    corrected: bool = False
    model: str = ""
    before: datetime.datetime | None = None
    after: Entry | None = None
    least_certain: int | None = None

    def query(self) -> sa.Select[Any]:
        """Word it in SQL; entries of one moment are put in the order of their ids."""
        found = sa.select(_TABLE)
        if self.corrected:
            found = found.where(_TABLE.c.correction.is_not(None))
        if self.model:
            found = found.where(_TABLE.c.model == self.model)
        if self.before is not None:
            found = found.where(_TABLE.c.created <= self.before)
        if self.after is not None:
            same = sa.and_(_TABLE.c.created == self.after.created, _TABLE.c.id > self.after.id)
            found = found.where(sa.or_(_TABLE.c.created > self.after.created, same))
        if self.least_certain is None:
            return found.order_by(_TABLE.c.created, _TABLE.c.id)
        found = found.where(_TABLE.c.score.is_not(None))
        return found.order_by(_TABLE.c.score, _TABLE.c.created, _TABLE.c.id).limit(self.least_certain)


class Store:
    """Feedback in a database; usable from several threads, and from several processes that each open it.

    Every method raises DataError where the database cannot be reached or written.
    """

    def __init__(self, place: str, *, shown: str, create: bool) -> None:
        """Open a place (`open_store` says what is missing, and is the way to come here)."""
        self.shown = shown
        self._file = sqlite_file(place)
        with self._said("opened"):
            self._engine = _engine(place, self._file)
        try:
            if create:
                self._create()
            self._require_table()
        except DataError:
            self._engine.dispose()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give its connections back."""
        self._engine.dispose()

    def add(self, entry: Entry) -> None:
        """Keep an entry; when this returns, it is on disk."""
        with self._said("written"), self._engine.begin() as connection:
            connection.execute(sa.insert(_TABLE), {name: getattr(entry, name) for name in _NAMES})

    def count(self) -> int:
        """Count the entries."""
        with self._said("read"), self._engine.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(_TABLE)) or 0)

    def entries(self, wanted: Wanted | None = None) -> Generator[Entry, None, None]:
        """Read entries, some at a time, so that any number of them fits into memory."""
        query = (wanted or Wanted()).query()
        # A reader that stops halfway leaves no cursor open.
        with (
            self._said("read"),
            self._engine.connect() as connection,
            connection.execution_options(yield_per=_ROWS_AT_A_TIME).execute(query) as found,
        ):
            for row in found.mappings():
                yield Entry(**row)

    def find(self, entry_id: str) -> Entry | None:
        """Read one entry; None where there is none with this id."""
        with self._said("read"), self._engine.connect() as connection:
            row = connection.execute(sa.select(_TABLE).where(_TABLE.c.id == entry_id)).mappings().first()
        return None if row is None else Entry(**row)

    def delete(self, entry_id: str) -> bool:
        """Delete an entry for good; False where there is none with this id."""
        return self._delete(_TABLE.c.id == entry_id) > 0

    def purge(self, *, days: float) -> int:
        """Delete entries that are older than so many days, and count them."""
        return self._delete(_TABLE.c.created < datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days))

    def _delete(self, which: sa.ColumnElement[bool]) -> int:
        with self._said("written"), self._engine.begin() as connection:
            deleted = connection.execute(sa.delete(_TABLE).where(which)).rowcount
        if deleted and self._file is not None:
            # What was deleted still stands in the log of writes until that is put into the file and emptied.
            with self._said("written"), self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    def _create(self) -> None:
        if self._file is not None:
            _make_private(self._file, self.shown)
        with self._said("made"), self._engine.begin() as connection:
            if self._file is None:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            connection.execute(CreateTable(_TABLE, if_not_exists=True))
            for index in _TABLE.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))

    def _require_table(self) -> None:
        with self._said("read"), self._engine.connect() as connection:
            look = sa.inspect(connection)
            found = {each["name"] for each in look.get_columns(_TABLE.name)} if look.has_table(_TABLE.name) else set()
        missing = [name for name in _NAMES if name not in found]
        if missing:
            what = f"its table '{_TABLE.name}' has no column '{missing[0]}'" if found else f"no table '{_TABLE.name}'"
            raise DataError(
                f"{self.shown}: {what}.", tip="Give the store that bertsmith serve --feedback made, or a new place."
            )

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            # The driver's own words, in one line: they name the fault, and never the values.
            words = " ".join(str(getattr(error, "orig", None) or error).split())
            raise DataError(f"{self.shown}: cannot be {what}: {words}.") from error


def _engine(place: str, file: Path | None) -> sa.Engine:
    if file is None:
        return sa.create_engine(
            database_url(place),
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=2,
            connect_args={"connect_timeout": _CONNECT_SECONDS},
        )
    url = sa.URL.create("sqlite", database=str(file))
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": _BUSY_SECONDS})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={_BUSY_SECONDS * 1000}", "journal_mode=WAL", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _make_private(file: Path, shown: str) -> None:
    """Make the file, readable for its owner alone; the files that SQLite puts beside it get the same rights."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        raise DataError(f"{shown}: cannot be made: {error.strerror}.") from error


__all__ = ["Store", "Wanted"]
