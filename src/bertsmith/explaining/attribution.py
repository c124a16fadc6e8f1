"""Integrated gradients over word embeddings: how much each token speaks for a label, and how exact that is.

Sundararajan et al. 2017, arXiv 1703.01365, by captum's `LayerIntegratedGradients`. What is explained are the label's
log odds, log p / (1 - p): weights add up to the difference between the log odds of the text and those of a blank text,
as long but with padding for every token (completeness); how far they miss it is the error of the numeric integral.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.encoders import require
from bertsmith.inference.engine import TOKEN_BUDGET
from bertsmith.inference.outputs import head_outputs
from bertsmith.inference.torch_engine import known_inputs

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
FIRST_STEPS, MOST_STEPS = 16, 512
"""Where doubling the steps of the integral begins and ends."""
CLOSE = 0.01
"""The error at which it ends sooner: as a share of the difference that is explained, or of 1 if that is smaller."""


@dataclass(frozen=True)
class Question:
    """What is to be explained.

    Attributes:
        batch: The windows of one row, as `Encoded.pad` gives them: `(windows, tokens)`.
        blank: The same token ids with a filler in place of every token of the text, int64 `(windows, tokens)`.
        label: Position of the label.
        pooling: How the logits of windows become one: mean or max.
    """

    batch: dict[str, Array]
    blank: Array
    label: int
    pooling: str


@dataclass(frozen=True)
class Attribution:
    """What integrated gradients found.

    Attributes:
        weights: What each token adds to the label's log odds, float64 `(windows, tokens)`.
        value: The label's log odds for the text.
        base: The same for the blank text.
        steps: Points at which gradients were computed.
    """

    weights: Array
    value: float
    base: float
    steps: int

    @property
    def error(self) -> float:
        """How far the weights' sum misses the difference of the log odds."""
        return float(abs(self.weights.sum() - (self.value - self.base)))

    @property
    def relative_error(self) -> float:
        """The error as a share of that difference; 0 where both are 0."""
        return self.error / max(abs(self.value - self.base), 1e-12) if self.error else 0.0

    @property
    def is_close(self) -> bool:
        """Whether more steps are not worth their time."""
        return self.error <= CLOSE * max(1.0, abs(self.value - self.base))


def integrate(model: PreTrainedModel, question: Question, *, steps: int | None = None) -> Attribution:
    """Attribute a label's log odds to the tokens of a row.

    Args:
        model: A classifier of texts; it is left as it was.
        question: The row and the label.
        steps: Points of the integral (Gauss-Legendre); None doubles them until the error is small.

    Raises:
        MissingExtraError: captum is not installed.
    """
    require("captum", what="explaining by gradients", extra="explain")
    with _ready(model):
        path = _Path(model, question)
        count = steps or FIRST_STEPS
        found = path.integrate(count)
        while steps is None and not found.is_close and count < MOST_STEPS:
            count *= 2
            found = path.integrate(count)
    return found


class _Path:
    """The straight way from the blank text's embeddings to the text's."""

    def __init__(self, model: PreTrainedModel, question: Question) -> None:
        import torch
        from captum.attr import LayerIntegratedGradients

        self._model = model
        self._question = question
        device = next(model.parameters()).device
        # One example is one row with all its windows: captum repeats it once a step.
        self._names = [name for name in question.batch if name in known_inputs(model)]
        self._inputs = {name: torch.from_numpy(question.batch[name]).to(device)[None] for name in self._names}
        self._blank = torch.from_numpy(question.blank).to(device)[None]
        self._embeddings = model.get_input_embeddings()
        self._gradients = LayerIntegratedGradients(self._log_odds, self._embeddings)
        with torch.no_grad():
            text, blank = (self._embeddings(ids[0]) for ids in (self._inputs["input_ids"], self._blank))
            self.value, self.base = (self._at(each) for each in (text, blank))

    def integrate(self, steps: int) -> Attribution:
        """Sum gradients at some points of the way."""
        windows, tokens = self._blank.shape[1:]
        found = self._gradients.attribute(
            self._inputs["input_ids"],
            baselines=self._blank,
            additional_forward_args=tuple(self._inputs[name] for name in self._names if name != "input_ids"),
            n_steps=steps,
            internal_batch_size=max(windows, TOKEN_BUDGET // tokens),
        )
        # On the CPU, for the GPUs of Apple have no float64.
        weights = found.detach().cpu().double().sum(-1).numpy()
        return Attribution(weights, self.value, self.base, steps)

    def _at(self, embedded: torch.Tensor) -> float:
        """Compute the log odds with these embeddings `(windows, tokens, width)` in place of the text's."""
        # The ids stay the text's: some families number positions by which ids are padding.
        hook = self._embeddings.register_forward_hook(lambda *_: embedded)
        try:
            return float(self._log_odds(*(self._inputs[name] for name in self._names)))
        finally:
            hook.remove()

    def _log_odds(self, *given: torch.Tensor) -> torch.Tensor:
        """Compute the log odds of the label; given are the model's inputs, each `(rows, windows, tokens)`."""
        rows, windows = given[0].shape[:2]
        inputs = {name: each.flatten(0, 1) for name, each in zip(self._names, given, strict=True)}
        logits = head_outputs(self._model(**inputs))
        logits = logits.view(rows, windows, -1)
        pooled = logits.amax(1) if self._question.pooling == "max" else logits.mean(1)
        is_one_of_many = self._model.config.problem_type != "multi_label_classification"
        return log_odds(pooled, self._question.label, is_one_of_many=is_one_of_many)


def log_odds(logits: torch.Tensor, label: int, *, is_one_of_many: bool) -> torch.Tensor:
    """Compute the log odds of a label, `(rows,)`.

    Args:
        logits: `(rows, labels)`.
        label: Position of the label.
        is_one_of_many: True for softmax over labels, false for a sigmoid each.
    """
    import torch

    mine = logits[:, label]
    if not is_one_of_many:
        return mine
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    return mine - others.logsumexp(1)


@contextlib.contextmanager
def _ready(model: PreTrainedModel) -> Iterator[None]:
    """Switch dropout off and gradients on for a while, but for those of the weights."""
    import torch

    was_training = model.training
    learned = [each for each in model.parameters() if each.requires_grad]
    model.eval()
    try:
        for each in learned:
            each.requires_grad_(requires_grad=False)
        with torch.enable_grad():
            yield
    finally:
        for each in learned:
            each.requires_grad_()
        model.train(was_training)
