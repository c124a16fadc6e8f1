"""What `/openapi.json` says of the routes that answer: their shapes, and how they refuse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bertsmith.serve.problems import PROBLEM, shape_of

Schema = dict[str, Any]

DESCRIPTION = (
    "A fine-tuned text classifier. `/classify` has everything that is known of an answer; `/` and `/predict` have the "
    "shapes of Hugging Face's Inference API and of Text Embeddings Inference; `/v2` is the Open Inference Protocol."
)
_STRING: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_TRUE_OR_FALSE: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TOP_K: Schema = {"type": ["integer", "null"], "minimum": 1, "description": "Labels of each answer, the best first."}


def _object(needed: dict[str, Schema], more: dict[str, Schema] | None = None, *, closed: bool = False) -> Schema:
    found: Schema = {"type": "object", "properties": {**needed, **(more or {})}}
    found |= {"required": list(needed)} if needed else {}
    return found | ({"additionalProperties": False} if closed else {})


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas() -> dict[str, Schema]:
    return {**_problems(), **_classify(), **_predict(), **_infer(), **_told()}


def _problems() -> dict[str, Schema]:
    return {
        "Problem": _object(
            {"type": _STRING, "title": _STRING, "status": {"type": "integer"}, "detail": _STRING},
            {"request_id": _STRING},
        ),
        "PeerError": _object({"error": _STRING, "error_type": _STRING}),
        "InferError": _object({"error": _STRING}),
    }


def _classify() -> dict[str, Schema]:
    number_or_null: Schema = {"type": ["number", "null"]}
    word = _object(
        {"part": _COUNT, "start": _COUNT, "end": _COUNT, "word": _STRING, "weight": _NUMBER, "read": _TRUE_OR_FALSE}
    )
    return {
        "ClassifyRequest": _object(
            {"texts": _list(_STRING, minItems=1)},
            {
                "pairs": {"type": ["array", "null"], "items": _STRING, "description": "The second texts, as many."},
                "model": {
                    "type": ["string", "null"],
                    "description": "Which of several models; the first, if left out.",
                },
                "explain": {"type": ["boolean", "null"], "description": "Whether words are to be weighed."},
                "top_k": _TOP_K,
            },
            closed=True,
        ),
        "Answer": _object(
            {"cut": {**_COUNT, "description": "Tokens that the text lost because it was too long."}},
            {
                "label": {"type": "string", "description": "UNKNOWN where the model declines."},
                "guess": {"type": "string", "description": "The most probable label."},
                "score": {"type": "number", "description": "The probability of the guess."},
                "unknown": _TRUE_OR_FALSE,
                "out_of_scope": {**number_or_null, "description": "How unlike all that was learned the text is."},
                "foreign": _TRUE_OR_FALSE,
                "scores": {"type": "object", "additionalProperties": _NUMBER},
                "labels": _list(_STRING),
                "value": _NUMBER,
                "spans": _list(_object({"start": _COUNT, "end": _COUNT, "text": _STRING, "label": _STRING})),
                "tags": _list(_STRING),
                "answer": _STRING,
                "alternatives": _list({"type": "object"}),
                "explained": _STRING,
                "probability": _NUMBER,
                "method": _STRING,
                "words": _list(word),
            },
        ),
        "ClassifyAnswer": _object(
            {"model": _STRING, "version": _STRING, "answers": _list(_named("Answer")), "seconds": _NUMBER}
        ),
    }


def _predict() -> dict[str, Schema]:
    pair = _object({"text": _STRING}, {"text_pair": {"type": ["string", "null"]}})
    question = _object({"question": _STRING, "context": _STRING})
    row = {"anyOf": [_STRING, _list(_STRING, minItems=1, maxItems=2), pair, question]}
    function: Schema = {"enum": ["softmax", "sigmoid", "none", None]}
    # Some clients send null for what they leave out.
    perhaps: Schema = {"type": ["boolean", "null"]}
    batch = _list({"anyOf": row["anyOf"][1:]}, minItems=1)
    score = _object({"label": _STRING, "score": _NUMBER})
    word = _object({"entity_group": _STRING, "score": _NUMBER, "word": _STRING, "start": _COUNT, "end": _COUNT})
    found = _object({"answer": _STRING, "score": _NUMBER, "start": _COUNT, "end": _COUNT})
    one = {"anyOf": [_list(score), _list(word), found, _list(found)]}
    return {
        "PredictRequest": _object(
            {"inputs": {"anyOf": [*row["anyOf"], batch], "description": "Two strings in a list are a pair."}},
            {
                "parameters": {
                    "type": ["object", "null"],
                    "properties": {"top_k": _TOP_K, "function_to_apply": function, "truncate": perhaps,
                                   "raw_scores": perhaps},
                },
                "top_k": _TOP_K,
                "function_to_apply": function,
                "raw_scores": perhaps,
                "truncate": perhaps,
            },
        ),
        "PredictAnswer": {"anyOf": [one, _list(one)]},
    }  # fmt: skip


def _infer() -> dict[str, Schema]:
    parameters: Schema = {"type": ["object", "null"]}
    shape = _list(_COUNT, minItems=1, maxItems=2)
    texts = _list({"anyOf": [_STRING, _list(_STRING, minItems=1, maxItems=1)]})
    put_in = _object(
        {"name": {"enum": ["text", "text_pair"]}, "datatype": {"const": "BYTES"}, "shape": shape},
        {"data": texts, "parameters": parameters},
    )
    got_out = _object(
        {"name": _STRING, "datatype": _STRING, "shape": _list(_COUNT)}, {"data": _list({}), "parameters": parameters}
    )
    wanted = _object({"name": _STRING}, {"parameters": parameters})
    tensor = _object({"name": _STRING, "datatype": _STRING, "shape": _list({"type": "integer"})})
    return {
        "InferRequest": _object(
            {"inputs": _list(put_in, minItems=1, maxItems=2)},
            {"id": _STRING, "parameters": parameters, "outputs": {"type": ["array", "null"], "items": wanted}},
        ),
        "InferAnswer": _object(
            {"model_name": _STRING, "model_version": _STRING, "outputs": _list(got_out)}, {"id": _STRING}
        ),
        "ModelMetadata": _object(
            {"name": _STRING, "versions": _list(_STRING), "platform": _STRING, "inputs": _list(tensor),
             "outputs": _list(tensor)}
        ),
        "ServerMetadata": _object({"name": _STRING, "version": _STRING, "extensions": _list(_STRING)}),
        "ModelReady": _object({"name": _STRING, "ready": _TRUE_OR_FALSE}),
    }  # fmt: skip


def _told() -> dict[str, Schema]:
    model = _object(
        {"name": _STRING, "version": _STRING, "task": _STRING, "labels": _list(_STRING), "pair": _TRUE_OR_FALSE,
         "max_length": _COUNT, "engine": _STRING, "loaded_at": _STRING}
    )  # fmt: skip
    return {
        "Model": model,
        "ModelList": _object({"models": _list(_named("Model"))}),
        "ReloadRequest": _object(
            {}, {"model": {"type": "string", "description": "Left out, all of them."}}, closed=True
        ),
        "Figures": {"type": "object"},
        "Live": _object({"live": _TRUE_OR_FALSE}),
        "Ready": _object({"ready": _TRUE_OR_FALSE}),
        "Info": _object({"model_id": _STRING, "max_input_length": _COUNT, "version": _STRING}),
    }


def _feedback() -> dict[str, Schema]:
    text: Schema = {"type": ["string", "null"]}
    correction: Schema = {
        "type": ["string", "array", "number", "null"],
        "items": _STRING,
        "description": "What is right: a label, a list of labels, or a number.",
    }
    perhaps: Schema = {"type": ["boolean", "null"]}
    kept = {"id": {"type": "string", "description": "Who knows it may delete the entry."}, "created": _STRING}
    entry = _object(
        {**kept, "text": _STRING, "model": _STRING, "right": _TRUE_OR_FALSE, "unknown": _TRUE_OR_FALSE},
        {
            "correction": text,
            "text_pair": text,
            "version": _STRING,
            "label": text,
            "guess": text,
            "score": {"type": ["number", "null"]},
            "comment": _STRING,
        },
    )
    return {
        "FeedbackRequest": _object(
            {"text": {"type": "string", "minLength": 1}},
            {"text_pair": text, "model": text, "right": perhaps, "correction": correction, "comment": text,
             "answer": {"type": ["object", "null"], "description": "As /classify gave it."}},
            closed=True,
        ),
        "FeedbackKept": _object(kept),
        "FeedbackEntry": entry,
        "FeedbackList": _object(
            {"entries": _list(_named("FeedbackEntry")),
             "next": {"type": ["string", "null"], "description": "Give it as 'after' for more; null at the end."}}
        ),
    }  # fmt: skip


_POSTS = {
    "/": ("Answer texts, as Hugging Face's API and TEI do", "PredictRequest", "PredictAnswer"),
    "/predict": ("Answer texts, as Hugging Face's API and TEI do", "PredictRequest", "PredictAnswer"),
    "/models/{name}/predict": ("The same, by one of several models", "PredictRequest", "PredictAnswer"),
    "/classify": ("Answer texts, with everything that is known of an answer", "ClassifyRequest", "ClassifyAnswer"),
    "/models/{name}/classify": ("The same, by one of several models", "ClassifyRequest", "ClassifyAnswer"),
    "/v2/models/{name}/infer": ("Answer texts, in the Open Inference Protocol", "InferRequest", "InferAnswer"),
    "/admin/reload": ("Load bundles anew, and swap where they are sound", "ReloadRequest", "ModelList"),
}
_GETS = {
    "/info": ("The first model, as TEI tells it", "Info"),
    "/models": ("The models that are served", "ModelList"),
    "/health/live": ("Whether the process answers", "Live"),
    "/health/ready": ("Whether every model has answered a text just now", "Ready"),
    "/v2": ("The server", "ServerMetadata"),
    "/v2/health/live": ("Whether the process answers", "Live"),
    "/v2/health/ready": ("Whether every model has answered a text just now", "Ready"),
    "/v2/models/{name}": ("A model", "ModelMetadata"),
    "/v2/models/{name}/ready": ("Whether a model answers", "ModelReady"),
}
_REFUSALS = {
    400: "The body cannot be read.",
    401: "An API key is needed.",
    403: "Not with this key, or not from this page.",
    404: "There is no such model, or no such entry.",
    408: "The body did not come in time.",
    409: "The new bundle is not sound; the old one goes on.",
    413: "There is more than one request may have.",
    415: "The body is compressed.",
    421: "Another host's name, where there are no keys.",
    422: "The body says something else than was expected.",
    429: "The queue is full; Retry-After says when to come again.",
    503: "The server is stopping, or not ready, or its database does not answer.",
    504: "The deadline passed.",
}
FIGURES = {"/metrics": ("Figures for Prometheus", "text/plain"), "/stats": ("Figures for people", "application/json")}
"""Path → summary, and type of the answer."""
_OF_GETS = (401, 403, 404, 421, 503, 504)
_OF_FEEDBACK = (400, 401, 403, 404, 408, 413, 415, 421, 422, 503)
_KEYS: Schema = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def completed(found: Schema, *, feedback: bool = False, keys: bool = False) -> Schema:
    """Add the routes that FastAPI does not describe to what it does.

    Args:
        found: As FastAPI makes it.
        feedback: Whether feedback is taken.
        keys: Whether an API key is wanted.
    """
    parts: Schema = found.setdefault("components", {})
    parts.setdefault("schemas", {}).update(_schemas() | (_feedback() if feedback else {}))
    if keys:
        parts["securitySchemes"] = _KEYS
        found["security"] = [{each: []} for each in _KEYS]
    _add_routes(found.setdefault("paths", {}))
    if feedback:
        _add_feedback(found["paths"])
    return found


def _add_routes(paths: Schema) -> None:
    for path, (summary, put_in, got_out) in _POSTS.items():
        body = _body(put_in, required=path != "/admin/reload")
        paths.setdefault(path, {})["post"] = _operation(path, summary, got_out, _REFUSALS) | body
    for path, (summary, got_out) in _GETS.items():
        paths.setdefault(path, {})["get"] = _operation(path, summary, got_out, _OF_GETS)
    for path, (summary, kind) in FIGURES.items():
        operation = _operation(path, summary, "Figures", _OF_GETS)
        operation["responses"]["200"]["content"] = {kind: {"schema": {} if kind == "text/plain" else _named("Figures")}}
        paths.setdefault(path, {})["get"] = operation


def _add_feedback(paths: Schema) -> None:
    """Describe what is there with `--feedback` alone."""
    keep = _operation("/feedback", "Keep what somebody says of an answer", "FeedbackKept", _OF_FEEDBACK, status=201)
    listed = _operation("/feedback", "What was kept, the oldest first; for admin keys", "FeedbackList", _OF_FEEDBACK)
    listed["parameters"] = [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Entries at most."),
        _query("after", {"type": "string", "pattern": "^[0-9a-f]{32}$"}, "Id of the entry that they follow."),
        _query("corrected", {**_TRUE_OR_FALSE, "default": False}, "Only those that say what is right."),
        _query("model", _STRING, "Only those about this model."),
    ]
    deleted = _operation("/feedback/{id}", "Delete an entry for good", "", _OF_FEEDBACK, status=204)
    deleted["parameters"] = [_parameter("id", "path", _STRING, "The entry's id.")]
    paths["/feedback"] = {"post": keep | _body("FeedbackRequest"), "get": listed}
    paths["/feedback/{id}"] = {"delete": deleted}


def _body(schema: str, *, required: bool = True) -> Schema:
    content = {"application/json": {"schema": _named(schema)}}
    return {"requestBody": {"required": required, "content": content}}


def _query(name: str, schema: Schema, description: str) -> Schema:
    return {**_parameter(name, "query", schema, description), "required": False}


def _parameter(name: str, place: str, schema: Schema, description: str) -> Schema:
    return {"name": name, "in": place, "required": True, "schema": schema, "description": description}


def _operation(path: str, summary: str, answer: str, refusals: Iterable[int], *, status: int = 200) -> Schema:
    kind, shape = _refusal_of(path)
    refused = {kind: {"schema": _named(shape)}}
    content: Schema = {"content": {"application/json": {"schema": _named(answer)}}} if answer else {}
    responses: Schema = {str(status): {"description": summary, **content}}
    responses |= {str(status): {"description": _REFUSALS[status], "content": refused} for status in refusals}
    name = _parameter("name", "path", _STRING, "A model's name.")
    return {"summary": summary, "responses": responses} | ({"parameters": [name]} if "{name}" in path else {})


def _refusal_of(path: str) -> tuple[str, str]:
    shape = shape_of(path)
    names = {"problem": "Problem", "tei": "PeerError", "open-inference": "InferError"}
    return (PROBLEM if shape == "problem" else "application/json"), names[shape]
