"""How a refusal looks: `application/problem+json` (RFC 9457) on our routes, the peers' own shapes on theirs."""

from __future__ import annotations

import math
from typing import Any, Literal

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bertsmith.serve.asked import Refused
from bertsmith.serve.wire.plain_json import as_bytes

Shape = Literal["problem", "tei", "open-inference"]
PROBLEM = "application/problem+json"
_TEI_PATHS = ("/", "/predict", "/info", "/health")


def shape_of(path: str) -> Shape:
    """Say in whose shape a route answers.

    >>> shape_of("/v2/models/reviews/infer"), shape_of("/predict"), shape_of("/classify")
    ('open-inference', 'tei', 'problem')
    """
    if path == "/v2" or path.startswith("/v2/"):
        return "open-inference"
    is_predict = path.startswith("/models/") and path.endswith("/predict")
    return "tei" if path in _TEI_PATHS or is_predict else "problem"


def response(refused: Refused, scope: Scope) -> Response:
    """Write a refusal in the shape of the route that was asked.

    Args:
        refused: Status, title, detail, and when to come again.
        scope: The request's.
    """
    shape = shape_of(scope.get("path", ""))
    headers = {"Cache-Control": "no-store"}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
    body = as_bytes(_body(refused, shape, scope))
    return Response(body, refused.status, headers, PROBLEM if shape == "problem" else "application/json")


async def answer(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a refusal, for those who stand before the routes."""
    await response(refused, scope)(scope, receive, send)


def _tei_type(status: int) -> str:
    """Say what Text Embeddings Inference calls a status.

    >>> _tei_type(429), _tei_type(422), _tei_type(500)
    ('Overloaded', 'Validation', 'Backend')
    """
    if status == 429:
        return "Overloaded"
    return "Validation" if status < 500 else "Backend"


def _body(refused: Refused, shape: Shape, scope: Scope) -> dict[str, Any]:
    if shape == "open-inference":
        return {"error": refused.detail}
    if shape == "tei":
        return {"error": refused.detail, "error_type": _tei_type(refused.status)}
    request = scope.get("bertsmith", {}).get("request_id")
    title = refused.title[:1].upper() + refused.title[1:]
    told = {
        "type": f"urn:bertsmith:{refused.title.lower().replace(' ', '-')}",
        "title": title,
        "status": refused.status,
        "detail": refused.detail,
    }
    return told | ({"request_id": request} if request else {})
