"""What is counted is what was served: checked with Prometheus' own parser, in one process and in several."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from bertsmith.drift.reference import Reference
from bertsmith.examples import LabelsPrediction, NumberPrediction, Prediction
from bertsmith.serve.asked import Asked, Served
from bertsmith.serve.counting import CountRequests
from bertsmith.serve.drifting import WINDOW, Drifting, Window
from bertsmith.serve.metrics import OTHER, Metrics, observe
from tests.serve.asgi_call import call, well


def served(*answers: Any, version: str = "v1", foreignness: Any = None) -> Served:
    empty = np.zeros((len(answers), 2))
    return Served(
        answers, empty, empty, np.arange(len(answers) + 1), [0] * len(answers), foreignness, model="m", version=version,
        tokens=5 * len(answers), tokenized_s=0.001, queued_s=0.002, computed_s=0.004,
    )  # fmt: skip


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Read the exposition with Prometheus' own parser: name and values of the labels, in the order of their names → value."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (each.name, *(value for _, value in sorted(each.labels.items()))): each.value
        for family in families
        for each in family.samples
    }


YES = Prediction("yes", "yes", 0.97)
UNSURE = Prediction("UNKNOWN", "no", 0.55, unknown=True, out_of_scope=3.0, foreign=True)


def test_answers_are_counted():
    """Texts, tokens, labels, scores, UNKNOWN, foreign and the seconds of each stage are those of the request."""
    metrics = Metrics()
    metrics.answered(
        served(YES, YES, UNSURE, foreignness=np.array([0.0, 0.0, 3.0])), labels=("no", "yes"), seconds=0.02
    )
    found = samples(metrics)
    assert {name: found[name] for name in found if name[0] in (
        "bertsmith_texts_total", "bertsmith_tokens_total", "bertsmith_answers_total", "bertsmith_unknown_total",
        "bertsmith_foreign_total", "bertsmith_scoped_total",
    )} == {
        ("bertsmith_texts_total", "m"): 3, ("bertsmith_tokens_total", "m"): 15, ("bertsmith_answers_total", "yes", "m"): 2,
        ("bertsmith_answers_total", "UNKNOWN", "m"): 1, ("bertsmith_unknown_total", "m"): 1,
        ("bertsmith_foreign_total", "m"): 1, ("bertsmith_scoped_total", "m"): 3,
    }  # fmt: skip
    assert found["bertsmith_confidence_bucket", "0.6", "m"] == 1
    assert found["bertsmith_confidence_sum", "m"] == pytest.approx(0.97 * 2 + 0.55)
    sums = {
        stage: found["bertsmith_stage_seconds_sum", "m", stage] for stage in ("tokenize", "queue", "compute", "total")
    }
    assert sums == {"tokenize": 0.001, "queue": 0.002, "compute": 0.004, "total": 0.02}


def test_no_metric_has_a_label_that_is_not_the_models():
    """An answer that is text (a span of a context) is never a label, and a model of many labels has 201 series at most."""
    metrics = Metrics()
    metrics.answered(served(Prediction("my card is 4929", "x", 0.5)), labels=("no", "yes"), seconds=0.1)
    assert b"4929" not in metrics.exposition()
    many = tuple(str(number) for number in range(300))
    metrics.answered(served(*(Prediction(each, each, 0.5) for each in many)), labels=many, seconds=0.1)
    counted = {name[1]: value for name, value in samples(metrics).items() if name[0] == "bertsmith_answers_total"}
    assert (len(counted), counted[OTHER]) == (200, 101)


def test_every_kind_of_answer_is_counted():
    """Several labels count each; a number counts as a text and nothing more."""
    metrics = Metrics()
    metrics.answered(
        served(LabelsPrediction(("a", "b"), scores={"a": 0.9, "b": 0.8}), NumberPrediction(2.0)),
        labels=("a", "b"),
        seconds=0.1,
    )
    found = samples(metrics)
    assert (found["bertsmith_answers_total", "a", "m"], found["bertsmith_answers_total", "b", "m"]) == (1, 1)
    assert (found["bertsmith_texts_total", "m"], found["bertsmith_confidence_count", "m"]) == (2, 1)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=40))
def test_many_values_at_once_are_as_each_alone(values):
    """A histogram that is given values at once is one that was given them one by one."""
    histograms = [Histogram("h", "h", buckets=(0.1, 0.5, 1.0), registry=CollectorRegistry()) for _ in range(2)]
    observe(histograms[0], values)
    for value in values:
        histograms[1].observe(value)
    left, right = (
        [each.value for each in next(iter(one.collect())).samples if "created" not in each.name] for one in histograms
    )
    assert left == pytest.approx(right)


def counting(app: Any, metrics: Metrics) -> CountRequests:
    models = SimpleNamespace(names=("m",), get=lambda name: MODEL)
    ticks = iter((1.0, 1.5))
    return CountRequests(app, metrics=metrics, models=models, clock=lambda: next(ticks))  # type: ignore[arg-type]


MODEL = SimpleNamespace(
    name="m", version="v1", engine="onnx", labels=("no", "yes"), folder=SimpleNamespace(), predictor=None
)


def test_requests_are_counted_by_route_and_status():
    """The label is the route, never the path; unknown methods are one."""
    metrics = Metrics()
    call(counting(well, metrics), "/my-card-is-4929", method="BREW")

    async def failing(scope, receive, send):
        scope["bertsmith"] = {"route": "/classify"}
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        call(counting(failing, metrics), "/classify")
    found = {name: value for name, value in samples(metrics).items() if name[0] == "bertsmith_requests_total"}
    assert found == {
        ("bertsmith_requests_total", "OTHER", "(none)", "200"): 1, ("bertsmith_requests_total", "POST", "/classify", "500"): 1,
    }  # fmt: skip


def test_stats_are_the_sums():
    """/stats gives what people look at, with shares and a latency inside the bucket that it fell in."""
    metrics = Metrics()
    assert metrics.stats()["latency_s"] == {"p50": None, "p95": None, "p99": None}
    metrics.answered(served(YES, UNSURE), labels=("no", "yes"), seconds=0.02)
    metrics.queued("m", 40, 2)
    for status in (200, 429, 503, 500):
        metrics.requested({"method": "POST"}, status, 0.1)
    found = metrics.stats()
    assert {name: found[name] for name in ("requests", "refused", "failed", "answers", "tokens", "queue_tokens")} == {
        "requests": 4, "refused": 2, "failed": 1, "answers": 2, "tokens": 10, "queue_tokens": 40,
    }  # fmt: skip
    assert 0.01 < found["latency_s"]["p50"] < found["latency_s"]["p99"] <= 0.025
    assert found["models"] == {
        "m": {"answers": 2, "unknown": 0.5, "foreign": None, "labels": {"yes": 1, "UNKNOWN": 1}, "drift": None}
    }


WORKER = """
import os, sys
from bertsmith.serve.metrics import Metrics
metrics = Metrics()
metrics.queued("m", 10, 1)
metrics.requested({"method": "POST"}, 200, 0.1)
print(os.getpid())
"""


def test_workers_count_together(tmp_path, monkeypatch):
    """With a shared folder each worker shows the sum; one that is gone leaves the gauges and keeps its counts."""
    from bertsmith.serve import metrics as module

    monkeypatch.setenv(module.SHARED, str(tmp_path))
    pids = [
        int(subprocess.run([sys.executable, "-c", WORKER], check=True, capture_output=True, text=True).stdout)
        for _ in range(2)
    ]
    reader = Metrics()
    assert samples(reader)["bertsmith_queue_tokens", "m"] == 20
    module.forget_worker(pids[0])
    found = samples(reader)
    assert (found["bertsmith_queue_tokens", "m"], found["bertsmith_requests_total", "POST", "(none)", "200"]) == (10, 2)


REFERENCE = Reference.of_facts(
    {"confidence": np.linspace(0.5, 1, 1000), "label": ["yes", "no"] * 500}, labels=("no", "yes")
)


def test_the_window_forgets():
    """Old rows leave it, so that after enough new ones only these are compared."""
    window = Window(REFERENCE)
    for _ in range(WINDOW // 50):
        window.add({"confidence": np.full(50, 0.99), "label": ["yes"] * 50})
    assert {each.feature for each in window.verdict().shifts if each.moved} == {"confidence", "label"}
    generator = np.random.default_rng(0)
    for _ in range(WINDOW // 50 + 3):
        window.add({"confidence": generator.uniform(0.5, 1, 50), "label": ["yes", "no"] * 25})
    assert window.observed.rows <= WINDOW
    assert not window.verdict().drifted


class Words:
    """Stands for a predictor: gives the texts back as rows."""

    asked: list[str]

    def rows(self, texts, pairs):
        """Note what was asked."""
        self.asked = texts
        return texts


@pytest.fixture
def drifting(monkeypatch):
    from bertsmith.serve import drifting as module

    words = Words()
    monkeypatch.setattr(Words, "task", None, raising=False)
    monkeypatch.setattr(Words, "tokens", SimpleNamespace(tokenizer=None), raising=False)
    monkeypatch.setattr(module, "facts_of", lambda rows, answers, **_: {"label": [each.label for each in answers]})
    now = [0.0]
    watched = module.Watched("v1", words, Window(REFERENCE))
    return SimpleNamespace(it=Drifting(watched, clock=lambda: now[0]), words=words, now=now)


def test_few_rows_of_a_request_and_of_a_second_are_looked_at(drifting):
    """A request gives eight rows at most, spread over it; a look has 64 at most; and there is one look a second."""
    texts = tuple(str(number) for number in range(1000))
    big = (Asked(texts), served(*[YES] * 1000))
    assert drifting.it.take(*big) is False
    drifting.now[0] = 1.0
    assert drifting.it.take(Asked(("a",)), served(YES)) is True
    drifting.it.look()
    assert drifting.words.asked == [*(str(number) for number in range(0, 1000, 125)), "a"]
    for _ in range(20):
        drifting.it.take(*big)
    drifting.it.look()
    assert len(drifting.words.asked) == 64


def test_what_another_version_answered_does_not_count(drifting):
    """After a reload the rows of the old bundle are no drift of the new one."""
    drifting.now[0] = 9.0
    assert drifting.it.take(Asked(("a",)), served(YES, version="v0")) is False


def test_long_texts_do_not_keep_the_thread(drifting):
    """Once 100,000 characters wait, no more are kept."""
    for _ in range(5):
        drifting.it.take(Asked(("x" * 60_000,)), served(YES))
    drifting.it.look()
    assert [len(text) for text in drifting.words.asked] == [60_000, 60_000]


def test_the_verdict_becomes_gauges(drifting):
    """What the window shows stands in the exposition and in /stats."""
    for _ in range(40):
        drifting.it.take(Asked(("a",) * 8), served(*[YES] * 8))
        drifting.it.look()
    drifting.now[0] = 20.0
    verdict = drifting.it.look()
    assert verdict is not None
    metrics = Metrics()
    metrics.drifted("m", verdict)
    found = samples(metrics)
    assert (found["bertsmith_drift_moved", "label", "m"], found["bertsmith_drift_rows", "m"]) == (1, 320)
    assert math.isclose(found["bertsmith_drift_psi", "label", "m"], verdict.shifts[0].psi)
    shown = {"rows": 320, "moved": ["label"], "psi": {"label": round(verdict.shifts[0].psi, 4)}}
    metrics.answered(served(YES), labels=("no", "yes"), seconds=0.1)
    assert metrics.stats()["models"]["m"]["drift"] == shown


def test_a_new_version_is_told_as_soon_as_it_answers(tmp_path):
    """The series of the version that answered before falls to 0, and what its rows showed is no drift of the new one."""
    metrics = Metrics()
    versions = [
        SimpleNamespace(name="m", version=version, engine="onnx", folder=tmp_path, predictor=None) for version in "12"
    ]
    metrics.drifting(versions[0])  # type: ignore[arg-type]
    metrics.drifted("m", SimpleNamespace(rows=9, shifts=()))  # type: ignore[arg-type]
    assert metrics.stats()["models"]["m"]["drift"] == {"rows": 9, "moved": [], "psi": {}}
    metrics.drifting(versions[1])  # type: ignore[arg-type]
    found = samples(metrics)
    assert (found["bertsmith_model", "onnx", "m", "1"], found["bertsmith_model", "onnx", "m", "2"]) == (0, 1)
    assert metrics.stats()["models"]["m"]["drift"] is None


def test_the_shared_folder_lies_where_the_environment_says(tmp_path, monkeypatch):
    """A container that may write in one folder only names it, and several servers may name the same."""
    from bertsmith.serve import metrics as module

    monkeypatch.setenv(module.SHARED, str(tmp_path))
    monkeypatch.delitem(sys.modules, "prometheus_client")
    assert module.share_metrics().parent == tmp_path
