"""The cheap rungs of a run's ladder, put to work: each answers as the Predictor does."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from bertsmith import baselines, bundle, encoders
from bertsmith.baselines import Baseline
from bertsmith.encoded import Encoded
from bertsmith.errors import UsageError
from bertsmith.inference.engine import Done
from bertsmith.inference.predictor import Predictor, token_encoder
from bertsmith.inference.torch_engine import TorchEngine, pick_device
from bertsmith.recipe import Recipe
from bertsmith.run_folder import open_run
from bertsmith.tasks import Rows, task_named
from bertsmith.tasks.protocol import Texts
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.model import build

Array = np.ndarray[Any, Any]
NAMES = ("majority", "tfidf", "words", "frozen")


@dataclass(frozen=True)
class WordRung(Predictor):
    """A rung that reads texts: majority, TF-IDF or words. It cuts nothing."""

    rung: Baseline

    def encode(self, texts: Texts, pairs: Texts | None = None, *, words: pa.ChunkedArray | None = None) -> Encoded:
        """Hold the texts as they are."""
        encoded = super().encode(texts, pairs, words=words)
        return dataclasses.replace(encoded, cut=np.zeros_like(encoded.cut))

    def probabilities_of(self, rows: Rows, *, done: Done | None = None) -> Array:
        """Ask the rung."""
        return self.rung.predict_proba(*self.task.unit_texts(rows))


@dataclass(frozen=True)
class FrozenRung(Predictor):
    """The frozen encoder with a linear model on its features."""

    rung: Baseline

    def probabilities_of(self, rows: Rows, *, done: Done | None = None) -> Array:
        """Ask the rung about what the frozen encoder says."""
        model = cast("TorchEngine", self.engine).model
        found = frozen_features(model, rows.encoded, outputs=len(self.labels), done=done)
        return self.rung.predict_proba(found.views()[self.rung.view])


def load_rung(path: Path, name: str, *, device: str = "auto", threads: int | None = None) -> Predictor:
    """Load a rung of a finished run.

    Args:
        path: The run.
        name: `majority`, `tfidf`, `words` or `frozen`.
        device: Where the frozen encoder runs.
        threads: CPU threads of torch; None leaves them as they are.

    Raises:
        UsageError: There is no such run, or no such rung.
        BundleError: The rung or the run's model is damaged, or the rung was not kept.
    """
    if name not in NAMES:
        raise UsageError(f"'rung' must be one of {', '.join(NAMES)}. Got {name!r} instead.")
    run = open_run(path)
    info = bundle.load_info(run.model)
    rung = baselines.load(run.baselines, name)
    info = dataclasses.replace(info, decision=_decision(run.read_json(run.scores), name))
    task = task_named(info.task)
    # The tokenizer of the bundle is the encoder's own.
    tokens = token_encoder(info, task, run.model)
    if not rung.view:
        return WordRung(info, task, tokens, None, rung)
    import torch
    import transformers

    if threads is not None:
        torch.set_num_threads(threads)
    # The head's random layers, where an encoder has some below its last, come from the run's seed.
    transformers.set_seed(Recipe.load(run.recipe).run.seed)
    model = build(task, encoders.find(Recipe.load(run.recipe).fit.encoder), info.label_set, dropout=None)
    return FrozenRung(info, task, tokens, TorchEngine(model.to(pick_device(device)).eval()), rung)


def _decision(scores: dict[str, Any], name: str) -> dict[str, Any]:
    """Find what was tuned for a rung."""
    found: dict[str, Any] = scores["baselines"][name].get("decision") or {}
    return found
