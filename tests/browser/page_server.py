"""A server for the page that says what a test wants: the real routes of the page, and made answers beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from bertsmith.serve import problems
from bertsmith.serve.asked import Refused
from bertsmith.serve.page_routes import PageFacts, PageModel, page_router
from tests.live_server import served

LABELS = ("refund", "delivery", "account", "praise", "complaint", "other")
CARD = """---
tags: [bertsmith]
---

# A text model

Made from `minilm`,
<img src=x onerror=alert(1)>

## Scores

| score | value |
|---|---|
| a \\| b | `0.9` |

- one
- `<b>two</b>`

```python
# no heading

- no list
```
"""
WORDS = {"refund": "money", "delivery": "parcel", "account": "password", "praise": "lovely", "complaint": "awful"}


def model(name: str = "tickets", **changes: Any) -> PageModel:
    given = {
        "task": "single-label", "labels": LABELS, "pair": False, "columns": {"text": "text"}, "engine": "onnx",
        "version": "1", "explains": True, **changes,
    }  # fmt: skip
    return PageModel(name, **given)


def answer(text: str) -> dict[str, Any]:
    """Answer by one word; UNKNOWN where the text says "perhaps", foreign where it says "zebra"."""
    guess = next((label for label, word in WORDS.items() if word in text), "other")
    rest = {label: 0.02 for label in LABELS if label != guess}
    score = 1 - sum(rest.values())
    foreign, unknown = "zebra" in text, "perhaps" in text or "zebra" in text
    return {
        "out_of_scope": 3.25 if foreign else None, "foreign": foreign, "label": "UNKNOWN" if unknown else guess,
        "guess": guess, "score": score, "unknown": unknown, "scores": {guess: score, **rest}, "cut": 0,
    }  # fmt: skip


def words(text: str) -> list[dict[str, Any]]:
    """Weigh each word by its length: the longest speak for the label, those of three letters against it."""
    found, start = [], 0
    for word in text.split(" "):
        weight = -1.5 if len(word) == 3 else len(word) / 4
        found.append(
            {"part": 0, "start": start, "end": start + len(word), "word": word, "weight": weight, "read": True}
        )
        start += len(word) + 1
    return found


def answered(body: dict[str, Any]) -> dict[str, Any]:
    found = [answer(text) for text in body["texts"]]
    if body.get("explain"):
        found = [
            {**each, "explained": each["guess"], "probability": each["score"], "words": words(text)}
            for each, text in zip(found, body["texts"], strict=True)
        ]
    return {"model": body["model"], "answers": found, "seconds": 0.001}


@dataclass
class PageServer:
    """What is served, and what was asked.

    Attributes:
        url: Where it listens.
        facts: What the page is told.
        classify: Answers a body of POST /classify; a Response is sent as it is.
        stats: What GET /stats says.
        key: The key that is wanted; "" wants none.
        asked: Path and body of each request that had one, in their order.
    """

    url: str = ""
    facts: PageFacts = field(default_factory=lambda: PageFacts((model(),), True, 10_000, 1 << 20))
    classify: Callable[[dict[str, Any]], Any] = field(default=answered)
    stats: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def reset(self) -> None:
        """Forget what an earlier test wanted."""
        url = self.url
        self.__init__()  # type: ignore[misc]
        self.url = url

    @property
    def texts(self) -> list[list[str]]:
        """The texts of each request that asked for answers."""
        return [body["texts"] for path, body in self.asked if path == "/classify"]


def problem(status: int, title: str, detail: str, **headers: str) -> Response:
    """Refuse, as the server does."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse(body, status, shown, "application/problem+json")


def application(server: PageServer) -> FastAPI:
    app = FastAPI()
    app.include_router(page_router(lambda: server.facts))

    @app.middleware("http")
    async def require_key(request: Request, call_next: Any) -> Response:
        is_open = request.url.path.startswith("/ui") and request.url.path != "/ui/facts"
        given = request.headers.get("authorization", "")
        if server.key and not is_open and given != f"Bearer {server.key}":
            detail = "the API key is not known here." if given else "this server wants an API key."
            return problem(401, "key needed", detail)
        response: Response = await call_next(request)
        return response

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return problems.response(error, dict(request.scope))

    @app.post("/classify")
    async def classify(request: Request) -> Any:
        body = await request.json()
        server.asked.append(("/classify", body))
        return server.classify(body)

    @app.post("/feedback")
    async def feedback(request: Request) -> Any:
        server.asked.append(("/feedback", await request.json()))
        return JSONResponse({"id": "1" * 32}, 201)

    @app.get("/stats")
    async def stats() -> Any:
        return server.stats

    return app


@contextmanager
def running() -> Iterator[PageServer]:
    """Serve the page and made answers."""
    found = PageServer()
    with served(application(found)) as (url, _):
        found.url = url
        yield found


def run_with_papers(folder: Path) -> PageModel:
    """Describe a model with a report and a card."""
    report, card = folder / "report.html", folder / "README.md"
    report.write_text("<!doctype html><title>Report</title><h1>How good it is</h1><script>alert(1)</script>", "utf-8")
    card.write_text(CARD, "utf-8")
    return model(report=report, card=card)
