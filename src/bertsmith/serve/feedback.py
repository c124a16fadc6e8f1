"""What people say of answers: `POST /feedback` keeps it, `DELETE /feedback/{id}` takes it back, old entries go.

The database is asked in threads, so that a slow one keeps no answer waiting.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from bertsmith.errors import DataError
from bertsmith.feedback.entry import Entry
from bertsmith.feedback.opening import open_store
from bertsmith.serve.asked import Refused
from bertsmith.serve.calls import Answering, Call
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
_FIELDS = ("text", "text_pair", "model", "answer", "right", "correction", "comment")


def install(app: Starlette, settings: ServeSettings, models: Models) -> None:
    """Open the store (it is made where there is none), and add the routes.

    Raises:
        UsageError: The place is no file and no URL of PostgreSQL.
        MissingExtraError: SQLAlchemy or psycopg is not installed.
        DataError: The database cannot be reached, or holds something else.
    """
    store = open_store(settings.feedback, create=True)
    app.state.feedback = store
    keeper = _Keeper(settings, models, store)
    app.router.routes += [
        _route("/feedback", keeper.add, "POST"),
        _route("/feedback/{id}", keeper.delete, "DELETE"),
    ]
    if settings.feedback_days is not None:
        store.purge(days=settings.feedback_days)
        threading.Thread(target=_purge_for_good, args=(store, settings.feedback_days), daemon=True).start()


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
    def __init__(self, settings: ServeSettings, models: Models, store: Store) -> None:
        self._limits = settings.limits
        self._models = models
        self._store = store

    async def add(self, call: Call) -> Response:
        """Keep one entry."""
        given = json_object(read_json(await call.body(self._limits.max_body), most_depth=self._limits.max_depth))
        refuse_unknown(given, _FIELDS)
        name = given.get("model")
        model = self._models.get("" if name is None else _string(given, "model"))
        most = self._limits.max_characters
        for field in ("text", "text_pair"):
            if isinstance(given.get(field), str) and len(given[field]) > most:
                raise Refused(413, "too large", f"'{field}' has more than {most:,} characters.")
        entry = entry_of(given, model)
        try:
            await asyncio.to_thread(self._store.add, entry)
        except DataError as error:
            raise _down() from error
        return _json({"id": entry.id, "created": entry.created.isoformat()}, 201)

    async def delete(self, call: Call) -> Response:
        """Delete one entry for good."""
        wanted = call.parameter("id")
        known = len(wanted) == 32 and set(wanted) <= set("0123456789abcdef")
        try:
            found = known and await asyncio.to_thread(self._store.delete, wanted)
        except DataError as error:
            raise _down() from error
        if not found:
            raise Refused(404, "no such feedback", f"there is no feedback {wanted[:40]!r} here.")
        return Response(status_code=204)


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
    if isinstance(answer.get("label"), str):
        return str(answer["label"])
    if isinstance(answer.get("labels"), list):
        return json.dumps(answer["labels"], ensure_ascii=False)
    return repr(answer["value"]) if isinstance(answer.get("value"), int | float) else None


def _string(given: Mapping[str, Any], name: str, called: str = "") -> str:
    value = given.get(name)
    if not isinstance(value, str):
        raise wrong(f"'{called or name}' must be a string. Got {shown(value)} instead.")
    return value


def _down() -> Refused:
    detail = "the feedback could not be kept or deleted, since its database does not answer. Try again."
    return Refused(503, "no database", detail, retry_after=_RETRY_SECONDS)


def _purge_for_good(store: Store, days: float) -> None:
    """Delete old entries now and then, as long as the process lives; a database that is down is tried again."""
    resting = threading.Event()
    while not resting.wait(PURGE_SECONDS):
        try:
            store.purge(days=days)
        except DataError:
            continue


def _route(path: str, answer: Any, method: str) -> Route:
    return Route(path, Answering(answer, route=path), methods=[method], include_in_schema=False)


def _json(value: Any, status: int) -> Response:
    return Response(as_bytes(value), status, {"Cache-Control": "no-store"}, "application/json")


__all__ = ["PURGE_SECONDS", "entry_of", "install"]
