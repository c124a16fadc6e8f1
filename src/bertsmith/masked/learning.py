"""Learning masked words: the loop, and the perplexity that says what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.errors import BertsmithError
from bertsmith.inference.engine import batches_by_length
from bertsmith.listener import Listener
from bertsmith.masked.masking import Masked, Masking, mask_batch
from bertsmith.masked.model import masked_logits
from bertsmith.masked.windows import Windows
from bertsmith.training.batches import effective_batches

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
HELD_OUT = -1
"""The epoch that stands for the one masking of held-out windows."""
WARMUP = 0.06
WEIGHT_DECAY = 0.01
CLIP = 1.0


@dataclass(frozen=True)
class Stage:
    """One stretch of learning.

    Attributes:
        name: What the progress bar calls it.
        epochs: Times that each window is seen.
        learning_rate: The highest; it rises over the first 6 % of the steps and then falls to zero.
        batch_size: Windows of a step.
        first_epoch: Number of the first epoch: each number masks other words.
    """

    name: str
    epochs: int
    learning_rate: float
    batch_size: int
    first_epoch: int = 0


@dataclass(frozen=True)
class Material:
    """What is learned from or measured on."""

    windows: Windows
    masking: Masking
    pad_id: int

    def batch(self, rows: Array, *, epoch: int) -> Masked:
        """Return some windows, masked for an epoch."""
        return mask_batch(self.windows, rows, self.masking, epoch=epoch, pad_id=self.pad_id)


@dataclass(frozen=True)
class Worked:
    """What a stage came to: its steps, the tokens it read (padding left out) and its seconds."""

    steps: int
    tokens: int
    seconds: float


def perplexity(model: PreTrainedModel, material: Material) -> float:
    """Return exp of the mean cross-entropy over all masked tokens, in nats, measured in fp32 without dropout.

    The masking is the same at every call, so that two values of it can be compared.
    """
    import torch
    from torch.nn import functional

    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for rows in batches_by_length(material.windows.lengths):
            masked = material.batch(rows, epoch=HELD_OUT)
            logits, gold = _forward(model, masked)
            total += float(functional.cross_entropy(logits.float(), gold, reduction="sum"))
            count += len(masked.gold)
    model.train(was_training)
    return math.exp(min(total / max(1, count), 700.0))


def learn(  # noqa: PLR0913 - a stage: the model, what is learned from, how, and what every stage is told
    model: PreTrainedModel,
    parameters: Sequence[nn.Parameter],
    material: Material,
    stage: Stage,
    *,
    seed: int,
    bf16: bool,
    listener: Listener,
) -> Worked:
    """Train some of a model's parameters to name masked words; the others stay as they are.

    AdamW on fp32 weights; a step's loss is the mean over its masked tokens. Batches are a function of seed and
    epoch, and hold windows of similar length.

    Raises:
        BertsmithError: The loss is no longer a number.
    """
    import torch

    wanted = {id(each) for each in parameters}
    for each in model.parameters():
        each.requires_grad_(id(each) in wanted)
    plan = list(_plan(material.windows, stage, seed))
    torch.manual_seed(seed)  # of the dropout
    optimizer = torch.optim.AdamW(_groups(parameters), lr=stage.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, len(plan)))
    model.train()
    begin, shown = time.perf_counter(), 0.0
    with listener.work(stage.name, len(plan)) as progress:
        for step, (epoch, rows) in enumerate(plan, 1):
            masked = material.batch(rows, epoch=epoch)
            if len(masked.gold):
                loss = _step(model, parameters, masked, optimizer, bf16=bf16)
                _refuse_nan(loss, step)
                shown = loss if step == 1 else 0.95 * shown + 0.05 * loss
            schedule.step()
            progress.advance(1, f"epoch {epoch - stage.first_epoch + 1} · loss {shown:.3f}")
    model.requires_grad_(True)
    tokens = stage.epochs * int(material.windows.lengths.sum())
    return Worked(len(plan), tokens, time.perf_counter() - begin)


def _plan(windows: Windows, stage: Stage, seed: int) -> Iterator[tuple[int, Array]]:
    for epoch in range(stage.first_epoch, stage.first_epoch + stage.epochs):
        for rows in effective_batches(windows.lengths, size=stage.batch_size, seed=seed, epoch=epoch):
            yield epoch, rows


def _step(
    model: PreTrainedModel,
    parameters: Sequence[nn.Parameter],
    masked: Masked,
    optimizer: torch.optim.Optimizer,
    *,
    bf16: bool,
) -> float:
    import torch
    from torch.nn import functional

    device = next(model.parameters()).device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        logits, gold = _forward(model, masked)
    loss = functional.cross_entropy(logits.float(), gold)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _forward(model: PreTrainedModel, masked: Masked) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    device = next(model.parameters()).device
    inputs = {name: torch.from_numpy(array).to(device) for name, array in masked.inputs.items()}
    places, gold = (torch.from_numpy(array).to(device) for array in (masked.places, masked.gold))
    return masked_logits(model, inputs, places), gold


def _groups(parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Let matrices decay, biases and the weights of layer norms not."""
    return [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [each for each in parameters if each.ndim < 2], "weight_decay": 0.0},
    ]


def _rate(step: int, steps: int) -> float:
    warmup = max(1, round(WARMUP * steps))
    return (step + 1) / warmup if step < warmup else max(0.0, (steps - step) / max(1, steps - warmup))


def _refuse_nan(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise BertsmithError(
            f"training blew up: at step {step} the loss is {loss}; it must be a finite number.",
            tip="Lower --learning-rate (5e-5 is safe for most encoders).",
        )


__all__ = ["HELD_OUT", "Material", "Stage", "Worked", "learn", "perplexity"]
