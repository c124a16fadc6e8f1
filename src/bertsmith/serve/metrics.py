"""Metrics: what Prometheus reads at /metrics, and the few figures that people look at, at /stats.

No label holds what a client wrote: routes are named as they stand in the API, answers by the model's own labels.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.examples import UNKNOWN
from bertsmith.serve.asked import Asked, Served
from bertsmith.serve.drifting import Drifting, Watched, told
from bertsmith.serve.log import LEFT, route_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry
    from prometheus_client.samples import Sample
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from bertsmith.drift.compare import Drift
    from bertsmith.serve.model import Model
    from bertsmith.serve.models import Models
    from bertsmith.serve.settings import ServeSettings

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder in which several workers count together."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_LABELS = 200
OTHER = "(other)"
"""Label of answers whose own label is beyond the first 199 of a model with more than 200."""
STAGES = ("tokenize", "queue", "compute", "total")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_REFUSED = frozenset({"429", "503", "504"})


class Metrics:
    """Counts what a process serves; it is the `Watcher` of its batchers too.

    Where several workers share a folder (`share_metrics`), each answers for all of them.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self._begin = time.monotonic()
        self._registry = CollectorRegistry()
        self._children: dict[tuple[str, ...], Any] = {}
        self._drifting: dict[str, Drifting | None] = {}
        self._shown: dict[str, tuple[str, str]] = {}
        self._families = _families(self._registry)

    def _of(self, family: str, *labels: str) -> Any:
        """Return one series; looking it up at prometheus_client costs more than counting."""
        key = (family, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._families[family].labels(*labels)
        return child

    def queued(self, model: str, tokens: int, requests: int) -> None:
        """Note how much waits or is computed now."""
        self._of("queue_tokens", model).set(tokens)
        self._of("queue_requests", model).set(requests)

    def computed(self, model: str, rows: int, tokens: int, seconds: float) -> None:
        """Count a batch."""
        self._of("batch_rows", model).observe(rows)
        self._of("batch_tokens", model).observe(tokens)
        self._of("batch", model).observe(seconds)

    def requested(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request that is over."""
        route, method = route_of(scope), scope["method"]
        self._of("requests", route, method if method in _METHODS else "OTHER", str(status)).inc()
        self._of("request", route).observe(seconds)

    def answered(self, served: Served, *, labels: Sequence[str], seconds: float) -> None:
        """Count a request's answers.

        Args:
            served: What it was served.
            labels: The labels of the model; others are not counted by label.
            seconds: From its first byte to the answer's last.
        """
        name = served.model
        for stage, took in zip(STAGES, (served.tokenized_s, served.queued_s, served.computed_s, seconds), strict=True):
            self._of("stage", name, stage).observe(took)
        self._of("texts", name).inc(len(served))
        self._of("tokens", name).inc(served.tokens)
        for label, times in Counter(_labels(served.answers)).items():
            shown = _shown(label, labels)
            if shown:
                self._of("answers", name, shown).inc(times)
        self._of("unknown", name).inc(sum(bool(getattr(each, "unknown", False)) for each in served.answers))
        if served.foreignness is not None:
            self._of("scoped", name).inc(len(served))
            self._of("foreign", name).inc(sum(bool(getattr(each, "foreign", False)) for each in served.answers))
        observe(self._of("confidence", name), [score for score in map(_score, served.answers) if score is not None])

    def drifting(self, model: Model) -> Drifting | None:
        """Return what watches a model for drift, a new one where its bundle changed; None where nothing can."""
        now = (model.version, model.engine)
        before = self._shown.get(model.name)
        if before != now:
            self._shown[model.name] = now
            if before is not None:
                self._of("info", model.name, *before).set(0)
            self._of("info", model.name, *now).set(1)
            watched = Watched.of(model.folder, version=model.version, predictor=model.predictor)
            self._drifting[model.name] = None if watched is None else Drifting(watched)
        return self._drifting[model.name]

    def drifted(self, model: str, verdict: Drift) -> None:
        """Note what became of the rows of a model."""
        self._of("drift_rows", model).set(verdict.rows)
        for each in verdict.shifts:
            self._of("psi", model, each.feature).set(each.psi)
            self._of("moved", model, each.feature).set(each.moved)

    def exposition(self) -> bytes:
        """Return all series in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._collected())

    def stats(self) -> dict[str, Any]:
        """Return the figures of /stats; shares and latencies are since the start."""
        samples = _Samples(self._collected())
        models = sorted({*self._shown, *samples.by("bertsmith_texts_total", "model")})
        status = samples.by("bertsmith_requests_total", "status")
        failed = sum(count for code, count in status.items() if code.startswith("5") and code not in _REFUSED)
        return {
            "uptime_s": round(time.monotonic() - self._begin, 1),
            "requests": int(sum(status.values())),
            "refused": int(sum(status.get(code, 0) for code in _REFUSED)),
            "failed": int(failed),
            "answers": int(sum(samples.by("bertsmith_texts_total", "model").values())),
            "tokens": int(sum(samples.by("bertsmith_tokens_total", "model").values())),
            "queue_tokens": int(sum(samples.by("bertsmith_queue_tokens", "model").values())),
            "latency_s": {f"p{share}": samples.latency(share / 100) for share in (50, 95, 99)},
            "models": {name: self._model_stats(samples, name) for name in models},
        }

    def _model_stats(self, samples: _Samples, name: str) -> dict[str, Any]:
        texts, scoped = (samples.by(f"bertsmith_{each}_total", "model").get(name, 0) for each in ("texts", "scoped"))
        unknown, foreign = (
            samples.by(f"bertsmith_{each}_total", "model").get(name, 0) for each in ("unknown", "foreign")
        )
        labels = Counter(samples.by("bertsmith_answers_total", "label", model=name))
        watching = self._drifting.get(name)
        return {
            "answers": int(texts),
            "unknown": unknown / texts if texts else None,
            "foreign": foreign / scoped if scoped else None,
            "labels": {label: int(count) for label, count in labels.most_common(20)},
            "drift": None if watching is None else told(watching.verdict),
        }

    def _collected(self) -> CollectorRegistry:
        folder = os.environ.get(SHARED)
        if not folder:
            return self._registry
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        shared = CollectorRegistry()
        MultiProcessCollector(shared, path=folder)  # type: ignore[no-untyped-call]
        return shared


def _families(registry: CollectorRegistry) -> dict[str, Any]:
    from prometheus_client import Counter as Count
    from prometheus_client import Gauge, Histogram

    count = partial(Count, registry=registry)
    histogram = partial(Histogram, registry=registry)
    gauge = partial(Gauge, registry=registry)
    return {
        "requests": count("bertsmith_requests", "Requests answered or refused.", ["route", "method", "status"]),
        "request": histogram("bertsmith_request_seconds", "Seconds of requests.", ["route"], buckets=_SECONDS),
        "stage": histogram(
            "bertsmith_stage_seconds", "Seconds of answered requests.", ["model", "stage"], buckets=_SECONDS
        ),
        "texts": count("bertsmith_texts", "Texts answered.", ["model"]),
        "tokens": count("bertsmith_tokens", "Tokens computed.", ["model"]),
        "answers": count("bertsmith_answers", "Answers, by label; a text may have several.", ["model", "label"]),
        "unknown": count("bertsmith_unknown", "Texts answered UNKNOWN.", ["model"]),
        "foreign": count("bertsmith_foreign", "Texts from elsewhere, by the model's scope.", ["model"]),
        "scoped": count("bertsmith_scoped", "Texts of which it was told whether they are.", ["model"]),
        "confidence": histogram("bertsmith_confidence", "Scores of guesses.", ["model"], buckets=_CONFIDENCE),
        "batch_rows": histogram("bertsmith_batch_rows", "Rows of a batch.", ["model"], buckets=_ROWS),
        "batch_tokens": histogram("bertsmith_batch_tokens", "Tokens of a batch.", ["model"], buckets=_TOKENS),
        "batch": histogram("bertsmith_batch_seconds", "Seconds of a batch.", ["model"], buckets=_SECONDS),
        "queue_tokens": gauge(
            "bertsmith_queue_tokens", "Tokens waiting or computed.", ["model"], multiprocess_mode="livesum"
        ),
        "queue_requests": gauge(
            "bertsmith_queue_requests", "Requests waiting or computed.", ["model"], multiprocess_mode="livesum"
        ),
        "psi": gauge(
            "bertsmith_drift_psi",
            "Population stability index of the last rows against the model's own.",
            ["model", "feature"],
            multiprocess_mode="livemax",
        ),
        "moved": gauge(
            "bertsmith_drift_moved",
            "1 where a feature moved by more than chance and by enough to matter.",
            ["model", "feature"],
            multiprocess_mode="livemax",
        ),
        "drift_rows": gauge("bertsmith_drift_rows", "Rows that were compared.", ["model"], multiprocess_mode="livesum"),
        "info": gauge(
            "bertsmith_model",
            "1 for what answers now.",
            ["model", "version", "engine"],
            multiprocess_mode="livemax",
        ),
    }


class _Samples:
    """Sums of samples."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._samples: list[Sample] = [sample for family in registry.collect() for sample in family.samples]

    def by(self, name: str, label: str, **wanted: str) -> dict[str, float]:
        """Sum the samples of a name by one of their labels."""
        found: Counter[str] = Counter()
        for each in self._named(name, wanted):
            found[each.labels[label]] += each.value  # type: ignore[assignment]
        return dict(found)

    def _named(self, name: str, wanted: Mapping[str, str]) -> Iterator[Sample]:
        return (
            each
            for each in self._samples
            if each.name == name and all(each.labels.get(key) == value for key, value in wanted.items())
        )

    def latency(self, share: float) -> float | None:
        """Estimate the seconds within which a share of the requests was answered, as Prometheus' quantiles do."""
        reached = {
            float(bound): n for bound, n in self.by("bertsmith_stage_seconds_bucket", "le", stage="total").items()
        }
        bounds, counts = np.array(sorted(reached)), np.array([reached[bound] for bound in sorted(reached)])
        if not len(counts) or not counts[-1]:
            return None
        place = int(np.searchsorted(counts, share * counts[-1]))
        if not np.isfinite(bounds[place]):
            return float(bounds[place - 1])
        below, low = (counts[place - 1], bounds[place - 1]) if place else (0.0, 0.0)
        return float(low + (bounds[place] - low) * (share * counts[-1] - below) / (counts[place] - below))


def observe(histogram: Any, values: Sequence[float]) -> None:
    """Add many values to a histogram at once: one call a bucket, and not one a value."""
    bounds: list[float] = histogram._upper_bounds
    places = np.searchsorted(bounds, values, side="left")
    for place, count in enumerate(np.bincount(places, minlength=len(bounds)).tolist()):
        if count:
            histogram._buckets[place].inc(count)
    histogram._sum.inc(float(sum(values)))


def _labels(answers: Iterable[Any]) -> Iterator[str]:
    for each in answers:
        if hasattr(each, "label"):
            yield each.label
        else:
            yield from getattr(each, "labels", ())


def _score(answer: Any) -> float | None:
    score = getattr(answer, "score", None)
    if score is None and getattr(answer, "labels", None) is not None:
        score = max(answer.scores.values(), default=None)
    return None if score is None else float(score)


def _shown(label: str, labels: Sequence[str]) -> str:
    """Name an answer's label as metrics do: "" where it is no label of the model."""
    if label == UNKNOWN:
        return label
    if len(labels) <= MOST_LABELS:
        return label if label in labels else ""
    return label if label in labels[: MOST_LABELS - 1] else OTHER


class CountRequests:
    """Counts requests and what they were served, after the answer has left."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, models: Models, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._models = models
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request, and count it once it is over."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = self._clock(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except BaseException:
            status = status or (LEFT if isinstance(sys.exception(), asyncio.CancelledError) else 500)
            raise
        finally:
            self._count(scope, status or LEFT, self._clock() - begin)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.requested(scope, status, seconds)
        facts = scope.get("bertsmith", {})
        served, asked = facts.get("served"), facts.get("asked")
        if isinstance(served, Served) and served.model in self._models.names:
            model = self._models.get(served.model)
            self._metrics.answered(served, labels=model.labels, seconds=seconds)
            if isinstance(asked, Asked):
                self._watch(model, asked, served)

    def _watch(self, model: Model, asked: Asked, served: Served) -> None:
        drifting = self._metrics.drifting(model)
        if drifting is not None and drifting.take(asked, served):
            looking = asyncio.get_running_loop().run_in_executor(None, self._look, model.name, drifting)
            looking.add_done_callback(_complain)

    def _look(self, name: str, drifting: Drifting) -> None:
        verdict = drifting.look()
        if verdict is not None:
            self._metrics.drifted(name, verdict)


def _complain(looking: asyncio.Future[None]) -> None:
    if not looking.cancelled() and looking.exception() is not None:
        logging.getLogger(__name__).error("drift is not watched", exc_info=looking.exception())


def share_metrics() -> Path:
    """Let the workers that this process starts count together, in a new temporary folder, which is returned."""
    folder = Path(tempfile.mkdtemp(prefix="bertsmith-metrics-"))
    os.environ[SHARED] = str(folder)
    if "prometheus_client" in sys.modules:
        from prometheus_client import values

        # It looks for the folder when it is imported, and never again.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    return folder


def forget_worker(pid: int) -> None:
    """Take a worker that is gone out of the gauges; what it counted stays."""
    folder = os.environ.get(SHARED)
    if folder:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


def install(app: FastAPI, settings: ServeSettings, models: Models) -> None:
    """Add GET /metrics and GET /stats, and count every request; `app.state.metrics` is what counts."""
    from fastapi.responses import Response

    metrics: Metrics = getattr(app.state, "metrics", None) or Metrics()
    app.state.metrics = metrics
    models.watch(metrics)
    for name in models.names:
        metrics.drifting(models.get(name))

    def exposed() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    app.add_api_route(
        "/metrics", exposed, methods=["GET"], summary="Figures for Prometheus", response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )  # fmt: skip
    app.add_api_route("/stats", metrics.stats, methods=["GET"], summary="Figures for people")
    app.add_middleware(CountRequests, metrics=metrics, models=models)
