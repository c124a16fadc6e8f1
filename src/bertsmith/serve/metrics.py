"""Metrics: what Prometheus reads at /metrics, and the few figures that people look at, at /stats.

No label holds what a client wrote: routes are named as they stand in the API, answers by the model's own labels.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.examples import UNKNOWN
from bertsmith.serve.asked import Served
from bertsmith.serve.counting import CountRequests
from bertsmith.serve.drifting import Drifting, Watched
from bertsmith.serve.families import families
from bertsmith.serve.log import route_of
from bertsmith.serve.samples import Samples

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import CollectorRegistry
    from starlette.types import Scope

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
        self._families = families(self._registry)

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

    def turned_away(self, route: str, status: int, requests: int) -> None:
        """Count requests that were refused by their heads, in no time."""
        self._of("requests", route, "POST", str(status)).inc(requests)
        observe(self._of("request", route), [0.0] * requests)

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
                self._of("drift_rows", model.name).set(0)
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
        samples = Samples(self._collected())
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

    def _model_stats(self, samples: Samples, name: str) -> dict[str, Any]:
        texts, scoped = (samples.by(f"bertsmith_{each}_total", "model").get(name, 0) for each in ("texts", "scoped"))
        unknown, foreign = (
            samples.by(f"bertsmith_{each}_total", "model").get(name, 0) for each in ("unknown", "foreign")
        )
        labels = Counter(samples.by("bertsmith_answers_total", "label", model=name))
        return {
            "answers": int(texts),
            "unknown": unknown / texts if texts else None,
            "foreign": foreign / scoped if scoped else None,
            "labels": {label: int(count) for label, count in labels.most_common(20)},
            "drift": _drift(samples, name),
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


def _drift(samples: Samples, name: str) -> dict[str, Any] | None:
    """Say in few words what became of the rows of all workers; None before there is a verdict."""
    rows = samples.by("bertsmith_drift_rows", "model").get(name)
    if not rows:
        return None
    moved, psi = (samples.by(f"bertsmith_drift_{each}", "feature", model=name) for each in ("moved", "psi"))
    return {
        "rows": int(rows),
        "moved": [feature for feature, value in moved.items() if value],
        "psi": {feature: round(value, 4) for feature, value in psi.items()},
    }


def observe(histogram: Any, values: Sequence[float]) -> None:
    """Add many values to a histogram at once: one call a bucket, and not one a value."""
    if len(values) == 1:
        histogram.observe(values[0])
        return
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
    """Take the score of a guess: of several labels the best; None where an answer has none, or one a word."""
    score, scores = getattr(answer, "score", None), getattr(answer, "scores", None)
    if score is None and isinstance(scores, Mapping):
        score = max(scores.values(), default=None)
    return None if score is None else float(score)


def _shown(label: str, labels: Sequence[str]) -> str:
    """Name an answer's label as metrics do: "" where it is no label of the model."""
    if label == UNKNOWN:
        return label
    if len(labels) <= MOST_LABELS:
        return label if label in labels else ""
    return label if label in labels[: MOST_LABELS - 1] else OTHER


def share_metrics() -> Path:
    """Let the workers that this process starts count together, in a new folder, which is returned.

    It lies in the one that PROMETHEUS_MULTIPROC_DIR names, or among the temporary ones.
    """
    # A container that may write in one folder only names it so.
    folder = Path(tempfile.mkdtemp(prefix="bertsmith-metrics-", dir=os.environ.get(SHARED)))
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
