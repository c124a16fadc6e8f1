"""What `serve_load.py` makes of the client's notes: rates, latencies, who was answered, and whether rightly."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serve_load_client import CLOSED, COLUMNS, HUNG_UP, LATE, LOST

Array = np.ndarray[Any, Any]
WORDS = {LOST: "lost", CLOSED: "not connected", HUNG_UP: "hung up", LATE: "no answer"}


@dataclass(frozen=True, eq=False)
class Load:
    """The requests of a client, in the order in which they ended.

    Attributes:
        columns: `due`, `sent`, `ended` (float64 seconds of the monotonic clock), `status`, `which` (place of the
            request in the job), all `(requests,)`.
        answers: (place of the request, body, times) of each different answer with status 200.
        others: Status to the first body that came with it.
        names: Ids of the requests, where they had some.
        client: begin, seconds, processor (its share of a core), not_sent.
    """

    columns: Mapping[str, Array]
    answers: list[tuple[int, str, int]]
    others: dict[str, str]
    names: list[str]
    client: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> Load:
        """Read what the client wrote."""
        columns = {name: np.fromfile(folder / f"{name}.bin", np.dtype(code)) for name, code in COLUMNS.items()}
        answers, names, client = (
            json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("answers", "names", "client")
        )
        return cls(columns, [tuple(each) for each in answers["right"]], answers["others"], names, client)

    @property
    def status(self) -> Array:
        """Status of each request, or what stands in its place."""
        return self.columns["status"]

    @property
    def seconds(self) -> Array:
        """Seconds from a request's first byte to its answer's last."""
        return self.columns["ended"] - self.columns["sent"]

    def between(self, begin: float, end: float, *, by: str = "ended") -> Array:
        """Say which requests ended (or were sent, or due) between two moments, in seconds after the begin."""
        moments = self.columns[by] - self.client["begin"]
        return (moments >= begin) & (moments < end)

    def named(self, status: int) -> set[str]:
        """Ids of the requests with a status."""
        return {self.names[place] for place in np.flatnonzero(self.status == status)}


@dataclass(frozen=True, eq=False)
class Expected:
    """The offline answers to the requests of a job.

    Attributes:
        labels: Names in the order of the columns.
        probabilities: float64 `(requests, labels)`.
        tolerance: How far a probability may be off: 0 with ONNX, 1e-5 with torch.
    """

    labels: tuple[str, ...]
    probabilities: Array
    tolerance: float

    def is_right(self, which: int, body: str) -> bool:
        """Say whether an answer of `/predict` is the offline one: every label's probability, and the best first."""
        try:
            given = {each["label"]: each["score"] for each in json.loads(body)}
            row = self.probabilities[which]
            places = [self.labels.index(label) for label in given]
        except (ValueError, TypeError, KeyError):
            return False
        scores = np.array(list(given.values()), np.float64)
        near = np.abs(scores - row[places]) <= self.tolerance
        return bool(len(scores) and near.all() and scores[0] >= row.max() - self.tolerance)

    def wrong(self, load: Load, *, left_out: Collection[int] = ()) -> int:
        """Count the requests that were answered wrongly."""
        return sum(
            times for which, body, times in load.answers if which not in left_out and not self.is_right(which, body)
        )

    def agreement(self, load: Load) -> float:
        """Share of requests that got the label that the offline answer has; for peers, in whatever shape they have."""
        same = sum(times * (best_label(body) == self._best(which)) for which, body, times in load.answers)
        return same / max(1, sum(times for *_, times in load.answers))

    def _best(self, which: int) -> str:
        return self.labels[int(self.probabilities[which].argmax())]


def best_label(body: str) -> str:
    """Find the best label in an answer: {label}, [{label}, …], or {data: [[{label}, …]]}; "" where there is none.

    >>> best_label('{"data": [[{"label": "a", "score": 0.9}, {"label": "b", "score": 0.1}]]}')
    'a'
    """
    value = json.loads(body)
    if isinstance(value, dict) and "data" in value:
        value = value["data"]
    while isinstance(value, list) and value:
        value = value[0]
    return str(value.get("label", "")) if isinstance(value, dict) else ""


def quantile(values: Array, share: float) -> float | None:
    """Give the value below which a share lies, in milliseconds; None where there are no values.

    >>> quantile(np.array([0.001, 0.002, 0.003]), 0.5)
    2.0
    """
    return round(float(np.quantile(values, share)) * 1000, 2) if len(values) else None


def counted(status: Array) -> dict[str, int]:
    """Count requests by status, what stands in its place in words.

    >>> counted(np.array([200, 200, 0]))
    {'lost': 1, '200': 2}
    """
    values, times = np.unique(status, return_counts=True)
    return {WORDS.get(int(value), str(value)): int(count) for value, count in zip(values, times, strict=True)}


def closed_figures(load: Load, *, warm: float) -> dict[str, Any]:
    """Sum up a closed load, without its first seconds."""
    end = load.client["seconds"]
    counts = load.between(warm, end)
    right = counts & (load.status == 200)
    return {
        "requests_a_second": round(float(right.sum()) / (end - warm), 1),
        "p50_ms": quantile(load.seconds[right], 0.5),
        "p99_ms": quantile(load.seconds[right], 0.99),
        "not_200": int((counts & (load.status != 200)).sum()),
        "client_cpu": round(load.client["processor"], 3),
    }


def open_figures(load: Load, *, warm: float = 0.0) -> dict[str, Any]:
    """Sum up an open load: what came, what was answered and refused, and how fast each.

    `late_ms` is the client's own: how late it sent what was due, at p99.
    """
    end = load.client["seconds"]
    due, done = load.between(warm, end, by="due"), load.between(warm, end)
    accepted, refused = due & (load.status == 200), due & np.isin(load.status, (429, 503))
    lag = (load.columns["sent"] - load.columns["due"])[due]
    return {
        "offered_a_second": round(float(due.sum()) / (end - warm), 1),
        "goodput_a_second": round(float((done & (load.status == 200)).sum()) / (end - warm), 1),
        "statuses": counted(load.status[due]),
        "accepted_p50_ms": quantile(load.seconds[accepted], 0.5),
        "accepted_p99_ms": quantile(load.seconds[accepted], 0.99),
        "refused_p50_ms": quantile(load.seconds[refused], 0.5),
        "refused_p99_ms": quantile(load.seconds[refused], 0.99),
        "late_ms": quantile(lag, 0.99),
        "not_sent": int(load.client["not_sent"]),
        "client_cpu": round(load.client["processor"], 3),
    }


def growth(samples: Sequence[tuple[float, float]], *, warm: float) -> float:
    """Say by which share memory grew after the warm-up: the medians of the last and the first tenth of what follows.

    Args:
        samples: (seconds, bytes).
        warm: Seconds that are left out.

    >>> growth([(0, 50.0), (10, 100.0), (20, 101.0), (30, 102.0)], warm=5)
    0.02
    """
    values = [size for moment, size in samples if moment >= warm]
    few = max(1, len(values) // 10)
    return float(np.median(values[-few:]) / np.median(values[:few]) - 1) if values else 0.0


def by_name(log: Path) -> dict[str, dict[str, Any]]:
    """Read the server's log: request id → the line of that request."""
    found: dict[str, dict[str, Any]] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("{") and '"request_id"' in line:
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                continue  # a process that was killed leaves half a line
            found[str(value["request_id"])] = value
    return found
