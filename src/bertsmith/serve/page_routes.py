"""The page at /ui: its files, what it is told about the models, and the report and card of a run.

The page is hand-written and needs nothing from elsewhere: its files lie in `page/`, and every address in it is
relative, so that it also works behind a proxy that puts the server under a path of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response

from bertsmith.bundle import locate
from bertsmith.serve.asked import Refused
from bertsmith.serve.model import Model

if TYPE_CHECKING:
    from fastapi import FastAPI

    from bertsmith.serve.models import Models
    from bertsmith.serve.settings import ServeSettings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What the page may load and run: its own files. Trusted types make sure that no text ever becomes markup."""
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""A report has an origin of its own and runs nothing; the stricter policy that it carries holds beside this one."""
_SCRIPTS = ("page.js", "question.js", "feedback.js", "file.js", "live.js", "ask.js", "draw.js", "csv.js", "rows.js")
_KINDS = {
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(_SCRIPTS, "text/javascript; charset=utf-8"),
}
PUBLIC = frozenset({"/ui", "/ui/", *(f"/ui/{name}" for name in _KINDS)})
"""Paths that say nothing about the models: those who have no key yet may have them."""


@dataclass(frozen=True)
class PageModel:
    """What the page is told about one model.

    Attributes:
        name: As requests call it.
        task: Name of the task.
        labels: Names in the order of the logits.
        pair: True where each text has a second one.
        columns: What the text columns were called in the training data: `text`, `text_pair`.
        engine: What computes: torch, onnx or onnx-int8.
        version: Tells this bundle from others of the same name.
        explains: True where the words of a text can be marked.
        report: The run's report (HTML); None where there is none.
        card: The model card (Markdown); None where there is none.
    """

    name: str
    task: str
    labels: tuple[str, ...]
    pair: bool
    columns: dict[str, str]
    engine: str
    version: str
    explains: bool
    report: Path | None = None
    card: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what the page reads; paths of the server are not told."""
        return {
            "name": self.name,
            "task": self.task,
            "labels": list(self.labels),
            "pair": self.pair,
            "columns": self.columns,
            "engine": self.engine,
            "version": self.version,
            "explains": self.explains,
            "report": self.report is not None,
            "card": self.card is not None,
        }


@dataclass(frozen=True)
class PageFacts:
    """What the page is told about the server.

    Attributes:
        models: At least one; the first is asked unless another is chosen.
        feedback: True where `POST /feedback` takes corrections.
        most_texts: Texts that one request may have.
        most_bytes: Bytes that the body of one request may have.
    """

    models: tuple[PageModel, ...]
    feedback: bool
    most_texts: int
    most_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return what `GET /ui/facts` answers."""
        return {
            "models": [each.as_json() for each in self.models],
            "feedback": self.feedback,
            "most_texts": self.most_texts,
            "most_bytes": self.most_bytes,
        }


def install(app: FastAPI, settings: ServeSettings, models: Models) -> None:
    """Add the page; its files need no key, what it is told of the models does."""

    def facts() -> PageFacts:
        explains = settings.max_explained > 0
        shown = tuple(page_model(models.get(name), explains=explains) for name in models.names)
        return PageFacts(shown, bool(settings.feedback), settings.max_texts, settings.max_body)

    app.include_router(page_router(facts))
    app.state.open_paths |= PUBLIC


def page_model(model: Model, *, explains: bool = True) -> PageModel:
    """Describe a model that is served.

    Args:
        model: The model; a run's report lies beside its bundle.
        explains: False where the server does not mark words.
    """
    bundle = locate(model.folder)
    return PageModel(
        model.name,
        model.task,
        model.labels,
        model.info.pair,
        model.info.columns,
        model.engine,
        model.version,
        explains and model.has_scores,
        report=_there(bundle.parent / "report.html"),
        card=_there(bundle / "README.md"),
    )


def page_router(facts: Callable[[], PageFacts]) -> APIRouter:
    """Make the routes of the page.

    Args:
        facts: Says what is served now; it is asked anew each time, since models are swapped while the server runs.

    Returns:
        `GET /ui`, its files, `GET /ui/facts`, and `GET /models/{name}/report` and `/card`.
    """
    router = APIRouter()
    answers = _Answers(facts)
    for path, answer in (
        ("/ui", answers.page), ("/ui/", answers.slash), ("/ui/facts", answers.told), ("/ui/{name}", answers.file)
    ):  # fmt: skip
        router.add_api_route(path, answer, methods=["GET", "HEAD"], include_in_schema=False)
    for path, paper, kind in (("report", answers.report, "text/html"), ("card", answers.card, "text/markdown")):
        router.add_api_route(
            f"/models/{{name}}/{path}",
            paper,
            methods=["GET"],
            response_class=Response,
            summary=f"The {path} of a model",
            responses={
                200: {"content": {kind: {}}, "description": f"The {path}."},
                404: {"content": {"application/problem+json": {}}, "description": "There is none."},
            },
        )
    return router


class _Answers:
    """Answers the routes of the page."""

    def __init__(self, facts: Callable[[], PageFacts]) -> None:
        self._facts = facts

    def page(self, request: Request) -> Response:
        return static("index.html", request.headers.get("if-none-match", ""))

    def slash(self) -> Response:
        return RedirectResponse("../ui", HTTPStatus.PERMANENT_REDIRECT)

    def told(self) -> Response:
        return JSONResponse(self._facts().as_json(), headers={"Cache-Control": "no-store"})

    def file(self, name: str, request: Request) -> Response:
        if name not in _KINDS:
            raise Refused(404, "not found", f"the page has no file {name[:80]!r}.")
        return static(name, request.headers.get("if-none-match", ""))

    def report(self, name: str) -> Response:
        return _paper(self._facts(), name, "report")

    def card(self, name: str) -> Response:
        return _paper(self._facts(), name, "card")


def static(name: str, known: str) -> Response:
    """Answer one file of the page, or 304 where the browser has it.

    Args:
        name: A file in `page/`.
        known: The request's `If-None-Match`.
    """
    body, tag = _read(name)
    headers = {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    if tag in (each.strip().removeprefix("W/") for each in known.split(",")):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type=_KINDS.get(name, "text/html; charset=utf-8"), headers=headers)


@cache
def _read(name: str) -> tuple[bytes, str]:
    body = files("bertsmith.serve").joinpath("page", name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _paper(facts: PageFacts, name: str, kind: str) -> Response:
    """Answer a file of a run; only paths that the server itself knows are ever opened.

    Raises:
        Refused: 404; there is no such model, or no such file.
    """
    model = next((each for each in facts.models if each.name == name), None)
    if model is None:
        served = ", ".join(each.name for each in facts.models)
        raise Refused(404, "unknown model", f"no model is called {name[:80]!r}. The models are {served}.")
    found, media = (
        (model.report, "text/html; charset=utf-8") if kind == "report" else (model.card, "text/markdown; charset=utf-8")
    )
    if found is None or not found.is_file():
        raise Refused(404, "not found", f"the model {name!r} has no {kind} beside it.")
    headers = {
        "Content-Security-Policy": REPORT_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return FileResponse(found, media_type=media, headers=headers)
