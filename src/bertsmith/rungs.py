"""The cheap rungs of a run's ladder, put to work: each answers as the Predictor does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith import baselines, bundle, encoders
from bertsmith.baselines import Baseline
from bertsmith.data.encode import Encoded, TokenEncoder
from bertsmith.errors import UsageError
from bertsmith.inference.predictor import Predictor, Texts, check_texts
from bertsmith.inference.torch_engine import TOKEN_BUDGET, pick_device
from bertsmith.recipe import Recipe
from bertsmith.run_folder import open_run
from bertsmith.tasks import task_named
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.model import build

Array = np.ndarray[Any, Any]
NAMES = ("majority", "tfidf", "frozen")
_SMALLEST = 1e-12


@dataclass(frozen=True)
class WordRung(Predictor):
    """A rung that takes texts: majority or TF-IDF. It needs no encoder, and cuts nothing."""

    rung: Baseline

    def encode(self, texts: Texts, pairs: Texts | None = None) -> Any:
        """Hold the texts as they are."""
        check_texts(texts, pairs, wants_pairs=self.info.pair)
        return _Held(texts, pairs)

    def logits_of(
        self, encoded: Any, *, budget: int = TOKEN_BUDGET, done: Callable[[int], None] | None = None
    ) -> Array:
        """Return log probabilities, whose softmax is the rung's own probabilities."""
        return _as_logits(self.rung.predict_proba(encoded.texts, encoded.pairs))


@dataclass(frozen=True)
class FrozenRung(Predictor):
    """The frozen encoder with a linear model on its features."""

    rung: Baseline

    def logits_of(
        self, encoded: Encoded, *, budget: int = TOKEN_BUDGET, done: Callable[[int], None] | None = None
    ) -> Array:
        """Return log probabilities, whose softmax is the rung's own probabilities."""
        found = frozen_features(self.model, encoded, outputs=len(self.labels), done=done)
        return _as_logits(self.rung.predict_proba(found.mean if self.rung.view == "mean" else found.head))


@dataclass(frozen=True)
class _Held:
    texts: Texts
    pairs: Texts | None

    @property
    def tokens_cut(self) -> Array:
        return np.zeros(len(self.texts), dtype=np.int32)


def load_rung(path: Path, name: str, *, device: str = "auto") -> Predictor:
    """Load a rung of a finished run.

    Args:
        path: The run.
        name: `majority`, `tfidf` or `frozen`.
        device: Where the frozen encoder runs.

    Raises:
        UsageError: There is no such run, or no such rung.
        BundleError: The rung or the run's model is damaged, or the rung was not kept.
    """
    if name not in NAMES:
        raise UsageError(f"'rung' must be one of {', '.join(NAMES)}. Got {name!r} instead.")
    run = open_run(path)
    info = bundle.load_info(run.model)
    rung = baselines.load(run.baselines, name)
    task = task_named(info.task)
    # The tokenizer of the bundle is the encoder's own.
    source = encoders.Encoder(info.encoder, run.model)
    tokens = TokenEncoder(source.tokenizer(), info.max_length, source.pad_id)
    if not rung.view:
        return WordRung(info, task, tokens, None, rung)
    import transformers

    # The head's random layers, where an encoder has some below its last, come from the run's seed.
    transformers.set_seed(Recipe.load(run.recipe).run.seed)
    model = build(task, encoders.find(Recipe.load(run.recipe).fit.encoder), info.label_set, dropout=None)
    return FrozenRung(info, task, tokens, model.to(pick_device(device)).eval(), rung)


def _as_logits(probabilities: Array) -> Array:
    return np.log(np.maximum(probabilities, _SMALLEST))
