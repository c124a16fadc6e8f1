"""What people say of answers: `POST /feedback` keeps it, `GET` lists it, `DELETE` takes it back, old entries go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from bertsmith.errors import DataError
from bertsmith.feedback.entry import Entry
from bertsmith.feedback.opening import open_store
from bertsmith.serve.asked import Refused
from bertsmith.serve.bodies import body_of
from bertsmith.serve.calls import Answering, Call
from bertsmith.serve.limits import TOO_LARGE
from bertsmith.serve.settings import ServeSettings
from bertsmith.serve.wire.fields import boolean, json_object, refuse_unknown, shown, wrong
from bertsmith.serve.wire.plain_json import as_bytes
from bertsmith.serve.wire.strict_json import read_json

if TYPE_CHECKING:
    from bertsmith.feedback.store import Store
    from bertsmith.serve.model import Model
    from bertsmith.serve.models import Models

PURGE_SECONDS = 3_600.0
"""How often old entries are looked for."""
_RETRY_SECONDS = 5.0
_THREADS = 2
_MOST_WAITING = 64
"""Requests that may wait for the database; it is slow or down where there are more."""
_MOST_ENTRIES = 1_000
_FIELDS = ("text", "text_pair", "model", "answer", "right", "correction", "comment")
_NO_KEYS = Refused(
    403,
    "admin key needed",
    "what people wrote is listed for a key that was made with --admin, and this server runs without keys. "
    "`bertsmith review` lists it too.",
)
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Page:
    """Which entries `GET /feedback` gives.

    Attributes:
        limit: So many at most.
        after: Id of the entry that they follow; "" begins with the oldest.
        corrected: Only those that say what is right.
        model: Only those about this model; "" takes all.
    """

    limit: int = 100
    after: str = ""
    corrected: bool = False
    model: str = ""


def install(app: Starlette, settings: ServeSettings, models: Models) -> None:
    """Open the store (it is made where there is none), and add the routes; `app.state.feedback.close` ends it.

    Raises:
        UsageError: The place is no file and no URL of PostgreSQL.
        MissingExtraError: SQLAlchemy or psycopg is not installed.
        DataError: The database cannot be reached, or holds something else.
    """
    keeper = _Keeper(settings, models, open_store(settings.feedback, create=True))
    app.state.feedback = keeper
    app.router.routes += [
        _route("/feedback", keeper.add, "POST"),
        _route("/feedback", keeper.listed, "GET"),
        _route("/feedback/{id}", keeper.delete, "DELETE"),
    ]
    if settings.feedback_days is not None:
        keeper.purge(settings.feedback_days)


def entry_of(given: Mapping[str, Any], model: Model) -> Entry:
    """Read what a client said of an answer.

    Args:
        given: The body: `text`, `text_pair` for a model of pairs, `answer` as the model gave it, and `right` true, or
            a `correction` (a label; a list of labels; a number), or neither where it is only known to be wrong.
        model: The model that answered.

    Raises:
        Refused: 422; a field is missing, of another type, or contradicts another.
    """
    text, pair = _string(given, "text"), given.get("text_pair")
    if model.info.pair != (pair is not None):
        needs = "answers pairs: 'text_pair' is missing." if model.info.pair else "answers single texts: no 'text_pair'."
        raise wrong(f"The model {model.name!r} {needs}")
    answer = json_object(given.get("answer") or {}, "'answer'")
    correction = given.get("correction")
    score = answer.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float | None):
        raise wrong(f"'answer.score' must be a number. Got {shown(score)} instead.")
    try:
        return Entry(
            text,
            model.name,
            right=boolean(given, "right", default=False),
            correction=None if correction is None else _correction(correction, model),
            text_pair=None if pair is None else _string(given, "text_pair"),
            version=model.version,
            label=_said(answer),
            guess=_string(answer, "guess", "answer.guess") if answer.get("guess") is not None else None,
            score=score,
            unknown=boolean(answer, "unknown", default=False),
            comment=_string(given, "comment") if given.get("comment") is not None else "",
        )
    except DataError as error:
        raise wrong(error.message) from error


class _Keeper:
    """Answers the routes. The database is asked in threads of its own: a slow one keeps no text waiting."""

    def __init__(self, settings: ServeSettings, models: Models, store: Store) -> None:
        self._settings = settings
        self._models = models
        self._store = store
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="feedback")
        self._waiting = 0
        self._ended = threading.Event()

    async def add(self, call: Call) -> Response:
        """Keep one entry."""
        limits = self._settings.limits
        given = json_object(read_json(await body_of(call, self._settings), most_depth=limits.max_depth))
        refuse_unknown(given, _FIELDS)
        name = given.get("model")
        model = self._models.get("" if name is None else _string(given, "model"))
        for field in ("text", "text_pair"):
            _check_size(given.get(field), field, limits.max_characters)
        entry = entry_of(given, model)
        await self._asked(lambda: self._store.add(entry))
        return _json({"id": entry.id, "created": entry.created.isoformat()}, 201)

    async def listed(self, call: Call) -> Response:
        """Give entries, the oldest first, so many at a time."""
        if self._settings.api_key_file is None:
            raise _NO_KEYS
        page = page_of(call.scope.get("query_string", b""))
        found = await self._asked(lambda: self._read(page))
        if found is None:
            raise _unknown_entry(page.after)
        last = found[page.limit - 1].id if len(found) > page.limit else None
        return _json({"entries": [_told(each) for each in found[: page.limit]], "next": last}, 200)

    async def delete(self, call: Call) -> Response:
        """Delete one entry for good."""
        wanted = call.parameter("id")
        if not is_id(wanted) or not await self._asked(lambda: self._store.delete(wanted)):
            raise _unknown_entry(wanted)
        return Response(status_code=204)

    def purge(self, days: float) -> None:
        """Delete old entries now, and now and then until the end; a database that is down is tried again."""
        self._store.purge(days=days)
        threading.Thread(target=self._purge_until_the_end, args=(days,), name="purge", daemon=True).start()

    def close(self) -> None:
        """Finish what was begun, and give the database's connections back."""
        self._ended.set()
        self._threads.shutdown()
        self._store.close()

    def _read(self, page: Page) -> list[Entry] | None:
        """Read a page and one entry more; None where the entry that it follows is not there."""
        from bertsmith.feedback.store import Wanted

        after = self._store.find(page.after) if page.after else None
        if page.after and after is None:
            return None
        wanted = Wanted(page.corrected, page.model, after=after)
        with contextlib.closing(self._store.entries(wanted)) as entries:
            return list(itertools.islice(entries, page.limit + 1))

    async def _asked(self, ask: Callable[[], _Found]) -> _Found:
        """Ask the database in a thread.

        Raises:
            Refused: 503 where it does not answer, or so slowly that many wait already.
        """
        if self._waiting >= _MOST_WAITING:
            raise _down()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        except DataError as error:
            raise _down() from error
        finally:
            self._waiting -= 1

    def _purge_until_the_end(self, days: float) -> None:
        while not self._ended.wait(PURGE_SECONDS):
            with contextlib.suppress(DataError):
                self._store.purge(days=days)


def page_of(query: bytes) -> Page:
    """Read which entries are wanted, from the query of the address.

    >>> page_of(b"limit=2&corrected=true")
    Page(limit=2, after='', corrected=True, model='')

    Raises:
        Refused: 422; a name is unknown, or a value is not of its kind.
    """
    given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    refuse_unknown(given, [each.name for each in fields(Page)])
    limit, corrected, after = given.get("limit", "100"), given.get("corrected", "false"), given.get("after", "")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= _MOST_ENTRIES):
        raise wrong(f"'limit' must be a whole number from 1 to {_MOST_ENTRIES:,}. Got {shown(limit)} instead.")
    if corrected not in {"true", "false"}:
        raise wrong(f"'corrected' must be true or false. Got {shown(corrected)} instead.")
    if after and not is_id(after):
        raise wrong(f"'after' must be the id of an entry. Got {shown(after)} instead.")
    return Page(int(limit), after, corrected == "true", given.get("model", ""))


def is_id(value: str) -> bool:
    """Say whether something can be the id of an entry.

    >>> is_id("0" * 32), is_id("0" * 31), is_id("g" * 32)
    (True, False, False)
    """
    return len(value) == 32 and set(value) <= set("0123456789abcdef")


def _check_size(value: Any, field: str, most: int) -> None:
    if isinstance(value, str) and len(value) > most:
        found = f"'{field}' has {len(value):,} characters"
        raise Refused(413, TOO_LARGE, f"{found}; {most:,} is the most it may have. Send it in parts.")


def _told(entry: Entry) -> dict[str, Any]:
    found = {each.name: getattr(entry, each.name) for each in fields(Entry)}
    return {"id": found.pop("id"), "created": found.pop("created").isoformat(), **found}


def _unknown_entry(wanted: str) -> Refused:
    return Refused(404, "no such feedback", f"there is no feedback {wanted[:40]!r} here.")


def _correction(value: Any, model: Model) -> str:
    """Write what is right as the store keeps it."""
    if model.task in {"single-label", "ordered"}:
        if isinstance(value, str) and value in model.labels:
            return value
        raise wrong(f"'correction' must be a label of the model {model.name!r}. Got {shown(value)} instead.")
    if model.task == "multi-label":
        if isinstance(value, list) and all(isinstance(each, str) and each in model.labels for each in value):
            return json.dumps(value, ensure_ascii=False)
        raise wrong(f"'correction' must be a list of labels of the model {model.name!r}. Got {shown(value)} instead.")
    if model.task == "regression":
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300:
            return repr(value)
        raise wrong(f"'correction' must be a number. Got {shown(value)} instead.")
    raise wrong(f"The model {model.name!r} takes no correction: leave it out, and say in 'comment' what is right.")


def _said(answer: Mapping[str, Any]) -> str | None:
    """Write what was answered as a correction is written."""
    for name in ("label", "answer"):
        if isinstance(answer.get(name), str):
            return str(answer[name])
    if isinstance(answer.get("labels"), list):
        return json.dumps(answer["labels"], ensure_ascii=False)
    value = answer.get("value")
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _string(given: Mapping[str, Any], name: str, called: str = "") -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise wrong(f"'{called or name}' must be a string. Got {shown(value)} instead.")
    return value


def _down() -> Refused:
    return Refused(503, "no database", "the database does not answer. Try again.", retry_after=_RETRY_SECONDS)


def _route(path: str, answer: Any, method: str) -> Route:
    return Route(path, Answering(answer, route=path), methods=[method], include_in_schema=False)


def _json(value: Any, status: int) -> Response:
    return Response(as_bytes(value), status, {"Cache-Control": "no-store"}, "application/json")


__all__ = ["PURGE_SECONDS", "Page", "entry_of", "install", "is_id", "page_of"]
