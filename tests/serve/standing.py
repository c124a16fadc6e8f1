"""Models that stand in for real ones: their answers are known, and come at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bertsmith.examples import LabelsPrediction, NumberPrediction, Prediction
from bertsmith.serve.asked import Asked, Refused, Served

LABELS = ("bad", "fine", "good")
LOGITS = {"good": (0.0, 1.0, 2.0), "bad": (3.0, 1.0, -1.0)}
"""Text → logits; of all other texts all are 0."""


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raised = np.exp(logits.astype(np.float64))
    return raised / raised.sum(axis=1, keepdims=True)


@dataclass
class StandIn:
    """One model under one or more names."""

    names: tuple[str, ...] = ("toy",)
    task: str = "single-label"
    pair: bool = False
    answer: Any = None
    refused: Refused | None = None
    full: bool = False
    cut: int = 0
    asked: list[Asked] = field(default_factory=list)
    reloaded: list[str] = field(default_factory=list)

    @property
    def default(self) -> str:
        """Name the first."""
        return self.names[0]

    def start(self) -> None:
        """Need no start."""

    async def drain(self, grace_s: float) -> None:
        """Have nothing that waits."""

    def watch(self, watcher: Any) -> None:
        """Tell nobody of a queue."""

    def close(self) -> None:
        """Have nothing to close."""

    def get(self, name: str = "") -> Any:
        """Describe a model."""
        if name and name not in self.names:
            raise Refused(404, "no such model", f"no model is called {name!r}. The models are {', '.join(self.names)}.")
        info = SimpleNamespace(
            task=self.task, labels=LABELS, max_length=64, pair=self.pair, columns={"text": "text"}, decision={}
        )
        return SimpleNamespace(
            name=name or self.default, version="0123456789ab", folder=Path("nowhere"), info=info, labels=LABELS, task=self.task,
            engine="onnx", has_scores=self.task in {"single-label", "ordered", "multi-label"},
            loaded_at=datetime(2026, 11, 21, tzinfo=UTC), predictor=SimpleNamespace(info=info, scope=None),
        )  # fmt: skip

    def check_room(self, tokens: int = 0, name: str = "") -> None:
        """Refuse where the queue is said to be full."""
        if self.full:
            raise Refused(429, "queue full", "65,536 tokens wait. Come again later.", retry_after=0.2)

    def queue_tokens(self, name: str = "") -> int:
        """Have nothing that waits."""
        return 0

    async def ask(self, asked: Asked, *, deadline: float | None = None, gone: Any = None) -> Served:
        """Answer at once, or refuse as told."""
        self.asked.append(asked)
        if self.refused is not None:
            raise self.refused
        logits = np.array([LOGITS.get(text, (0.0, 0.0, 0.0)) for text in asked.texts], dtype=np.float32)
        probabilities = softmax(logits)
        return Served(
            [self._answer(row) for row in probabilities], logits, probabilities, np.arange(len(asked) + 1),
            [self.cut] * len(asked), model=self.get(asked.model).name, version="0123456789ab", tokens=3 * len(asked),
        )  # fmt: skip

    def _answer(self, row: np.ndarray[Any, Any]) -> Any:
        if self.answer is not None:
            return self.answer
        scores = dict(zip(LABELS, row.tolist(), strict=True))
        if self.task == "multi-label":
            return LabelsPrediction(tuple(name for name in LABELS if scores[name] >= 0.5), scores=scores)
        if self.task == "regression":
            return NumberPrediction(2.5)
        guess = LABELS[int(row.argmax())]
        return Prediction(guess, guess, max(scores.values()), scores=scores)

    async def probe(self, name: str = "") -> Served:
        """Answer a text."""
        return await self.ask(Asked(("good",), ("good",) if self.pair else None, model=name))

    async def reload(self, name: str = "") -> list[Any]:
        """Note what was loaded anew, or refuse as told."""
        if self.refused is not None:
            raise self.refused
        self.reloaded.append(name)
        return [self.get(name)]
