"""A model whose engine is as slow as a test wants, and whose answers can be worked out by hand."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from bertsmith.bundle import BundleInfo
from bertsmith.data.encode import TokenEncoder
from bertsmith.encoded import Encoded
from bertsmith.inference.predictor import Predictor
from bertsmith.serve.model import Model
from bertsmith.tasks import task_named

WORDS = ["[UNK]", "good", "bad", "poison", "x"]
WAIT_S = 10.0


class SlowEngine:
    """Gives a text as many points for `good` as it has `good` in it, and for `bad` likewise; keeps a diary.

    Attributes:
        calls: Batches that it takes at a time.
        gate: Batches wait until it is open.
        begun: Released once for every batch that waits at the gate or went through.
        batches: The lengths of the texts of each batch.
    """

    name = "slow"
    threads = 1

    def __init__(self, calls: int = 1) -> None:
        self.calls = calls
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def logits(self, encoded: Encoded, **_: Any) -> np.ndarray[Any, Any]:
        """Wait at the gate, and count words."""
        self.batches.append(encoded.lengths.tolist())
        self.begun.release()
        assert self.gate.wait(WAIT_S)
        ids = encoded.pad(np.arange(len(encoded)))["input_ids"]
        if (ids == WORDS.index("poison")).any():
            raise RuntimeError("poisoned")
        return np.stack([(ids == 1).sum(axis=1), (ids == 2).sum(axis=1)], axis=1).astype(np.float32)


def slow_model(
    *, name: str = "slow", version: str = "1", pair: bool = False, calls: int = 1
) -> tuple[Model, SlowEngine]:
    """Make a model of two labels, and give its engine too."""
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    info = BundleInfo("single-label", ("good", "bad"), 64, pair, "fake", "0")
    engine = SlowEngine(calls)
    tokens = TokenEncoder(tokenizer, 64, 0)
    predictor = Predictor(info=info, task=task_named("single-label"), tokens=tokens, engine=engine)
    return Model(name, version, Path(name), predictor, datetime.now(UTC)), engine
