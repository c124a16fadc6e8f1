"""What is counted: the families of series at /metrics, each with its help, its labels and its buckets."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_CONFIDENCE = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


def families(registry: CollectorRegistry) -> dict[str, Any]:
    """Make all families in a registry; what is a gauge is added up over several workers, or its largest is taken."""
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
