"""The routes that answer: from a call to what the models are asked, and from what they served to the answer."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from bertsmith import __version__
from bertsmith.serve.asked import Asked, Refused, Served
from bertsmith.serve.bodies import body_of
from bertsmith.serve.calls import Answering, Call, worked
from bertsmith.serve.limits import check
from bertsmith.serve.settings import ServeSettings
from bertsmith.serve.wire import classify, hugging_face, open_inference
from bertsmith.serve.wire.fields import json_object, refuse_unknown, shown, wrong
from bertsmith.serve.wire.plain_json import as_bytes
from bertsmith.serve.wire.strict_json import read_json

if TYPE_CHECKING:
    from bertsmith.serve.models import Model, Models

JSON = "application/json"
_A_LABEL = 64
"""Bytes that the score of a label has in an answer, about."""
_READS_FIRST = ("hf_hub/", "huggingface")
"""Clients of Hugging Face's API, by their User-Agent: of the answer to one text they take the first entry, and expect
all labels in it, as that API answers; TEI's clients, and everyone else, expect the list of labels itself."""
OF_DEFAULT = ("/", "/predict", "/classify")
"""Paths at which texts are posted to the default model."""


class Routes:
    """What a server answers, route by route."""

    def __init__(self, settings: ServeSettings, models: Models) -> None:
        """Answer with some models.

        Args:
            settings: Limits and deadlines.
            models: What answers.
        """
        self._settings = settings
        self._limits = settings.limits
        self._models = models

    def all(self) -> list[Route]:
        """Give every route that answers texts or tells of models."""
        posts = {
            "/": self.predict,
            "/predict": self.predict,
            "/models/{name}/predict": self.predict,
            "/classify": self.classify,
            "/models/{name}/classify": self.classify,
            "/v2/models/{name}/infer": self.infer,
            "/v2/models/{name}/versions/{version}/infer": self.infer,
            "/admin/reload": self.reload,
        }
        gets = {
            "/info": self.info,
            "/models": self.listed,
            "/health": self.ready,
            "/health/live": self.live,
            "/health/ready": self.ready,
            "/v2": self.server,
            "/v2/health/live": self.live,
            "/v2/health/ready": self.ready,
            "/v2/models/{name}": self.metadata,
            "/v2/models/{name}/versions/{version}": self.metadata,
            "/v2/models/{name}/ready": self.model_ready,
            "/v2/models/{name}/versions/{version}/ready": self.model_ready,
        }
        return [*_routes(posts, "POST"), *_routes(gets, "GET")]

    def full(self) -> Refused | None:
        """Say why the default model cannot be asked now; None where it can."""
        try:
            self._models.check_room()
        except Refused as refused:
            return refused
        return None

    async def predict(self, call: Call) -> Response:
        """Answer in the shape of Hugging Face's API and of TEI."""
        body = await self._body(call, call.parameter("name"))
        asked = self._models.get(call.parameter("name"))
        wanted = await worked(lambda: hugging_face.read(self._json(body), model=asked.name), size=len(body))
        hugging_face.check_function(wanted, asked.task)
        served, model = await self._served(call, wanted.asked)
        hugging_face.check_cut(wanted, served, model.info.max_length)
        agent = call.header("user-agent") or ""
        nested = any(each in agent for each in _READS_FIRST)
        return await self._told(
            lambda: hugging_face.answers(wanted, served, model.labels, nested=nested), served, wanted.asked.top_k
        )

    async def classify(self, call: Call) -> Response:
        """Answer in our own shape."""
        begin = time.perf_counter()
        body = await self._body(call, call.parameter("name"))
        asked = await worked(lambda: classify.read(self._json(body), model=call.parameter("name")), size=len(body))
        served, model = await self._served(call, asked)

        def told() -> dict[str, Any]:
            answers = classify.answers(asked, served, model.labels)
            seconds = round(time.perf_counter() - begin, 6)
            return {"model": served.model, "version": served.version, "answers": answers, "seconds": seconds}

        return await self._told(told, served, asked.top_k)

    async def infer(self, call: Call) -> Response:
        """Answer in the shape of the Open Inference Protocol."""
        model = self._model_of(call)
        body = await self._body(call, model.name)
        length = call.header(open_inference.LENGTH_HEADER)

        def read() -> open_inference.Infer:
            most = self._limits.max_depth
            return open_inference.read(body, length, model=model.name, task=model.task, most_depth=most)

        infer = await worked(read, size=len(body))
        served, _ = await self._served(call, infer.asked)
        size = len(served) * _A_LABEL
        answer, end = await worked(lambda: open_inference.answer(infer, served), size=size)
        if end is None:
            return Response(answer, media_type=JSON)
        headers = {open_inference.LENGTH_HEADER: str(end)}
        return Response(answer, headers=headers, media_type="application/octet-stream")

    async def reload(self, call: Call) -> Response:
        """Load the bundles anew beside the old ones, and swap; one where `model` names it."""
        body = await body_of(call, self._settings)
        given = json_object(self._json(body)) if body.strip() else {}
        refuse_unknown(given, ("model",))
        name = given.get("model", "")
        if not isinstance(name, str):
            raise wrong(f"'model' must be a string. Got {shown(name)} instead.")
        found = await self._models.reload(name)
        return _json({"models": [_described(each) for each in found]})

    async def info(self, call: Call) -> Response:
        """Tell of the first model, as TEI does."""
        return _json(self._tei_info(self._models.get("")))

    async def listed(self, call: Call) -> Response:
        """Tell of all models."""
        return _json({"models": [_described(self._models.get(name)) for name in self._models.names]})

    async def live(self, call: Call) -> Response:
        """Say that the process answers."""
        return _json({"live": True})

    async def ready(self, call: Call) -> Response:
        """Say that every model answers: each has answered a text just now."""
        for name in self._models.names:
            await self._models.probe(name)
        return _json({"ready": True})

    async def server(self, call: Call) -> Response:
        """Tell of the server, as the protocol wants it."""
        return _json({"name": "bertsmith", "version": __version__, "extensions": ["binary_tensor_data"]})

    async def metadata(self, call: Call) -> Response:
        """Tell of a model, as the protocol wants it."""
        model = self._model_of(call)
        return _json(
            open_inference.metadata(
                model.name,
                model.version,
                task=model.task,
                pair=model.info.pair,
                engine=model.engine,
                labels=len(model.labels),
            )
        )

    async def model_ready(self, call: Call) -> Response:
        """Say that one model answers."""
        model = self._model_of(call)
        await self._models.probe(model.name)
        return _json({"name": model.name, "ready": True})

    def _model_of(self, call: Call) -> Model:
        model = self._models.get(call.parameter("name"))
        version = call.parameter("version")
        if version not in {"", model.version}:
            raise Refused(404, "no such model", f"the model {model.name!r} has the version {model.version} here.")
        return model

    async def _body(self, call: Call, name: str) -> bytes:
        """Take the body; where the queue is full, refuse before any of it is looked at."""
        body = await body_of(call, self._settings)
        self._models.check_room(name=name)
        return body

    def _json(self, body: bytes) -> Any:
        return read_json(body, most_depth=self._limits.max_depth)

    async def _served(self, call: Call, asked: Asked) -> tuple[Served, Model]:
        """Check a request against the limits, and have it answered; the log and the figures are told."""
        model = self._models.get(asked.model)
        facts = call.scope.setdefault("bertsmith", {})
        facts |= {"model": model.name, "texts": len(asked), "asked": asked}
        check(asked, self._limits, pair=model.info.pair)
        served = await self._models.ask(asked, deadline=self._settings.deadline_s, gone=call.gone)
        facts["served"] = served
        return served, model

    async def _told(self, told: Callable[[], Any], served: Served, top_k: int | None) -> Response:
        columns = served.probabilities.shape[-1]
        size = len(served) * _A_LABEL * min(columns, top_k or columns)
        return Response(await worked(lambda: as_bytes(told()), size=size), media_type=JSON)

    def _tei_info(self, model: Model) -> dict[str, Any]:
        limits = self._limits
        labels = {str(place): name for place, name in enumerate(model.labels)}
        return {
            "model_id": model.name,
            "model_sha": model.version,
            "model_dtype": "int8" if model.engine == "onnx-int8" else "float32",
            "model_type": {"classifier": {"id2label": labels, "label2id": {v: int(k) for k, v in labels.items()}}},
            "max_concurrent_requests": limits.max_texts,
            "max_input_length": model.info.max_length,
            "max_batch_tokens": self._settings.max_queue_tokens,
            "max_client_batch_size": limits.max_texts,
            "auto_truncate": True,
            "version": __version__,
        }


def _routes(answers: Mapping[str, Callable[[Call], Awaitable[Response]]], method: str) -> list[Route]:
    return [
        Route(path, Answering(answer, route=path), methods=[method], include_in_schema=False)
        for path, answer in answers.items()
    ]


def _described(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "task": model.task,
        "labels": list(model.labels),
        "pair": model.info.pair,
        "max_length": model.info.max_length,
        "engine": model.engine,
        "loaded_at": model.loaded_at.isoformat(timespec="seconds"),
    }


def _json(value: Any) -> Response:
    return Response(as_bytes(value), media_type=JSON, headers={"Cache-Control": "no-store"})
