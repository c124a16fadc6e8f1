"""The application: the routes, and what stands before them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match

from bertsmith import __version__
from bertsmith.serve import keys, log, metrics, page_routes, problems, security
from bertsmith.serve.asked import Refused
from bertsmith.serve.front import Front
from bertsmith.serve.reloading import reloading
from bertsmith.serve.routes import OF_DEFAULT, Routes
from bertsmith.serve.settings import ServeSettings
from bertsmith.serve.turning_away import TurningAway
from bertsmith.serve.wire import openapi

if TYPE_CHECKING:
    from bertsmith.serve.models import Models


def create_app(settings: ServeSettings, models: Models, *, watcher: metrics.Metrics | None = None) -> FastAPI:
    """Make the application that serves some models.

    Args:
        settings: Limits, keys, and what else is offered.
        models: What answers; it starts with the application.
        watcher: The figures that the models tell of their queues; None makes new ones.

    Raises:
        UsageError: The address is public and there are no keys, or a setting is wrong.
    """
    routes = Routes(settings, models)
    app = Front(
        routes.all(),
        title="bertsmith",
        version=__version__,
        description=openapi.DESCRIPTION,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # An address that is nearly right is told so; a redirect would lose the body, or name the wrong host.
        redirect_slashes=False,
        lifespan=_started(models),
    )
    app.state.settings, app.state.models, app.state.open_paths, app.state.feedback = settings, models, set(), None
    app.state.turning_away = None
    if watcher is not None:
        app.state.metrics = watcher
    _install(app, settings, models)
    # A page of another site is told by headers that it may read an answer; those of whom is turned away have none.
    if not settings.cors:
        app.state.turning_away = TurningAway(OF_DEFAULT, full=routes.full, counted=app.state.metrics.turned_away)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(RequestValidationError, _wrong)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    return app


def _started(models: Models) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models.start()
        async with reloading(models, watched=app.state.settings.reload):
            yield
        await models.drain(app.state.settings.grace_s)
        models.close()
        if app.state.feedback is not None:
            await asyncio.to_thread(app.state.feedback.close)

    return lifespan


def _install(app: FastAPI, settings: ServeSettings, models: Models) -> None:
    """Add the parts that have routes, then those that stand before all routes, the outermost last."""
    if settings.page:
        page_routes.install(app, settings, models)
        app.add_api_route("/", _to_page, methods=["GET", "HEAD"], include_in_schema=False)
    if settings.feedback:
        from bertsmith.serve import feedback

        feedback.install(app, settings, models)
    metrics.install(app, settings, models)
    keys.install(app, settings, models)
    security.install(app, settings, models)
    log.install(app, settings, models)


def _to_page() -> Response:
    return RedirectResponse("ui")


async def _refused(request: Request, error: Exception) -> Response:
    refused = cast("Refused", error)
    request.scope.setdefault("bertsmith", {})["refused"] = refused
    return problems.response(refused, request.scope)


async def _no_route(request: Request, failure: Exception) -> Response:
    error = cast("HTTPException", failure)
    path, method = request.scope["path"], request.scope["method"]
    if error.status_code == 405:
        allowed = _allowed(request, (error.headers or {}).get("Allow", ""))
        answer = problems.response(
            Refused(405, "wrong method", f"{path[:80]!r} does not take {method}, but {allowed}."), request.scope
        )
        answer.headers["Allow"] = allowed
        return answer
    if error.status_code == 404:
        detail = f"there is no {path[:80]!r} here. GET /openapi.json lists what there is."
        return problems.response(Refused(404, "no such route", detail), request.scope)
    return problems.response(Refused(error.status_code, "refused", str(error.detail)), request.scope)


def _allowed(request: Request, said: str) -> str:
    """List the methods that all routes of a path take; starlette says those of the first alone."""
    routes = [each for each in request.app.routes if each.matches(request.scope)[0] is not Match.NONE]
    found = {method for each in routes for method in getattr(each, "methods", None) or ()}
    return ", ".join(sorted(found.union(each.strip() for each in said.split(",") if each.strip())))


async def _wrong(request: Request, error: Exception) -> Response:
    first = cast("RequestValidationError", error).errors()[0]
    where = ".".join(str(each) for each in first["loc"][1:])
    detail = f"{where}: {first['msg']}." if where else f"{first['msg']}."
    return problems.response(Refused(422, "wrong input", detail), request.scope)


def _described(app: FastAPI) -> dict[str, Any]:
    if not app.openapi_schema:
        # The figures' routes are described by hand, as those that answer are.
        routes = [each for each in app.routes if getattr(each, "path", "") not in openapi.FIGURES]
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=routes)
        settings: ServeSettings = app.state.settings
        app.openapi_schema = openapi.completed(
            found, feedback=bool(settings.feedback), keys=settings.api_key_file is not None
        )
    return app.openapi_schema
