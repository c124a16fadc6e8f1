"""The Predictor: the one way to get answers, in evaluation, on the command line, from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from bertsmith import bundle
from bertsmith.bundle import BundleInfo
from bertsmith.data.encode import Encoded, TokenEncoder
from bertsmith.encoders import Encoder, require
from bertsmith.errors import UsageError
from bertsmith.examples import LabelSet, Prediction
from bertsmith.inference.torch_engine import TOKEN_BUDGET, logits, pick_device
from bertsmith.quiet import quiet_transformers
from bertsmith.tasks import Task, task_named

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
Texts: TypeAlias = Sequence[str] | pa.ChunkedArray


@dataclass(frozen=True)
class Predictor:
    """A trained model that answers.

    Attributes:
        info: What the bundle says about it.
        task: Turns logits into answers.
        tokens: Turns texts into token ids, as in training.
        model: The weights, fp32.
    """

    info: BundleInfo
    task: Task
    tokens: TokenEncoder
    model: PreTrainedModel | Any

    @property
    def labels(self) -> LabelSet:
        """The labels in the order of the logits."""
        return self.info.label_set

    def predict(self, texts: Texts, pairs: Texts | None = None, *, budget: int = TOKEN_BUDGET) -> list[Prediction]:
        """Answer texts (or pairs of texts), one answer each, in their order.

        Batches are made by length; whatever their size, the label is the same and scores differ by less
        than 1e-5. Texts longer than the model's max length are cut as in training.

        Args:
            texts: The texts; one string is refused, since it would be read letter by letter.
            pairs: The second texts, for a model of pairs.
            budget: Padded tokens of a batch.

        Raises:
            UsageError: Texts are no list of strings, or pairs are missing or too many.
        """
        return self.task.decode(self.probabilities(texts, pairs, budget=budget), self.labels)

    def probabilities(self, texts: Texts, pairs: Texts | None = None, *, budget: int = TOKEN_BUDGET) -> Array:
        """Return the probability of each label, float64 `(rows, labels)`."""
        return self.task.probabilities(self.logits(texts, pairs, budget=budget))

    def logits(self, texts: Texts, pairs: Texts | None = None, *, budget: int = TOKEN_BUDGET) -> Array:
        """Return what the head gives, float32 `(rows, labels)`."""
        return self.logits_of(self.encode(texts, pairs), budget=budget)

    def encode(self, texts: Texts, pairs: Texts | None = None) -> Encoded:
        """Turn texts into token ids, cut to the model's max length."""
        check_texts(texts, pairs, wants_pairs=self.info.pair)
        return self.tokens.encode(texts, pairs)

    def logits_of(
        self, encoded: Encoded, *, budget: int = TOKEN_BUDGET, done: Callable[[int], None] | None = None
    ) -> Array:
        """Return the logits of rows that are already encoded, float32 `(rows, labels)`."""
        return logits(self.model, encoded, budget=budget, done=done)


def load(folder: Path, *, device: str = "auto") -> Predictor:
    """Load a bundle (`RUN/model`) or the bundle of a run (`RUN`), verified.

    Raises:
        BundleError: It is incomplete, was changed, or is none.
        MissingExtraError: torch or transformers is not installed.
    """
    path = folder / "model" if (folder / "model" / "bertsmith.json").is_file() else folder
    info = bundle.load_info(path)
    require("torch", what="predicting", extra="train")
    require("transformers", what="predicting", extra="train")
    import torch
    import transformers

    task = task_named(info.task)
    with quiet_transformers():
        model = getattr(transformers, task.model_class).from_pretrained(
            str(path), dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    model.to(pick_device(device)).eval()
    tokens = TokenEncoder(Encoder(info.encoder, path).tokenizer(), info.max_length, model.config.pad_token_id or 0)
    return Predictor(info=info, task=task, tokens=tokens, model=model)


def check_texts(texts: Texts, pairs: Texts | None, *, wants_pairs: bool) -> None:
    """Refuse what is no list of texts, or no pairs where pairs are due.

    Raises:
        UsageError: It says which entry is wrong, and how.
    """
    if isinstance(texts, str):
        raise UsageError(
            f"texts must be a list of strings. Got the string {texts[:40]!r} instead.", tip="Write [text]."
        )
    if wants_pairs != (pairs is not None):
        wanted = "pairs of texts, so a second list is needed" if wants_pairs else "single texts, so there are no pairs"
        raise UsageError(f"this model was trained on {wanted}.")
    if pairs is not None and len(pairs) != len(texts):
        raise UsageError(f"there are {len(texts)} texts but {len(pairs)} second texts; the numbers must be equal.")
    for column in (texts, pairs):
        if column is None or isinstance(column, pa.ChunkedArray):
            continue
        wrong = next((place for place, text in enumerate(column) if not isinstance(text, str)), None)
        if wrong is not None:
            raise UsageError(f"texts must be strings. Number {wrong + 1} is {column[wrong]!r} instead.")
