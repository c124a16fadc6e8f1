"""fit: train, watch, stop early, keep the best epoch."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments

from bertsmith.errors import BertsmithError
from bertsmith.flops import train_flops
from bertsmith.inference.torch_engine import logits
from bertsmith.listener import Listener, Progress
from bertsmith.quiet import quiet_transformers
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Metrics, Rows, Task
from bertsmith.training.peak import gemm_peak
from bertsmith.training.trainer import TaskTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
LOG_EVERY = 10
"""Optimizer steps between two lines of the history."""


@dataclass(frozen=True)
class Fitted:
    """What a training came to.

    Attributes:
        epochs: Epochs that were trained.
        best_epoch: The epoch whose weights were kept.
        best_metric: The chosen metric on the validation rows at that epoch; None without such rows.
        examples_per_second: Rows a second, without validation and checkpoints.
        tokens_per_second: Real tokens a second.
        padding_waste: Share of the processed tokens that was padding.
        utilisation: FLOPs of real tokens over seconds times this machine's GEMM peak at this precision.
        seconds: Seconds of training, validation and checkpoints left out.
    """

    epochs: int
    best_epoch: int
    best_metric: float | None
    examples_per_second: float
    tokens_per_second: float
    padding_waste: float
    utilisation: float
    seconds: float

    def as_json(self) -> dict[str, float | int]:
        """Return the figures as `scores.json` has them."""
        return {
            "examples_per_second": round(self.examples_per_second, 2),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "padding_waste": round(self.padding_waste, 4),
            "utilisation": round(self.utilisation, 4),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
        }


def fit(  # noqa: PLR0913 - a stage: the model, two sides, and what every stage is told
    model: PreTrainedModel,
    rows: Rows,
    validation: Rows | None,
    *,
    task: Task,
    recipe: Recipe,
    run: RunFolder,
    listener: Listener,
) -> Fitted:
    """Fine-tune `model` in place; it ends with the weights of the best epoch.

    Args:
        model: fp32 masters.
        rows: What is learned from.
        validation: What chooses the best epoch and stops early; None trains all epochs and keeps the last.
        task: Knows loss and metrics.
        recipe: Resolved: nothing in `[fit]` is `auto`.
        run: Gets the history: a JSON line for each logged step and each validation. Checkpoints lie in its
            scratch folder, which is removed at the end.
        listener: Told of progress.

    Raises:
        BertsmithError: The loss is no longer a number.
    """
    validate = _validator(model, validation, task) if validation is not None and len(validation) else None
    width = rows.encoded.max_length if recipe.text.padding == "max-length" else None
    arguments = _arguments(recipe, task, run.scratch, validated=validate is not None)
    transformers.set_seed(recipe.run.seed)
    batch = recipe.fit.batch_size * recipe.fit.accumulate * arguments.world_size
    steps = int(recipe.fit.epochs) * math.ceil(len(rows) / batch)
    with (
        quiet_transformers(),
        run.history.open("w", encoding="utf-8") as lines,
        listener.work("fit", steps) as progress,
    ):
        trainer = TaskTrainer(model, arguments, task=task, rows=rows, validate=validate, width=width)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_History(lines, recipe.fit.metric, listener, progress))
        if validate is not None and recipe.fit.patience:
            trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=recipe.fit.patience))
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin - trainer.work.paused
    shutil.rmtree(run.scratch, ignore_errors=True)
    return _fitted(trainer, model, seconds=seconds, precision=recipe.fit.precision)


def _arguments(recipe: Recipe, task: Task, folder: Path, *, validated: bool) -> TrainingArguments:
    settings = recipe.fit
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.clip,
        optim="adamw_torch_fused",
        bf16=settings.precision == "bf16",
        seed=recipe.run.seed,
        use_cpu=recipe.run.device == "cpu",
        eval_strategy="epoch" if validated else "no",
        save_strategy="epoch" if validated else "no",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=validated,
        metric_for_best_model=settings.metric if validated else None,
        greater_is_better=settings.metric not in task.loss_metrics if validated else None,
        logging_steps=LOG_EVERY,
        logging_nan_inf_filter=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=[],
    )


def _validator(model: PreTrainedModel, validation: Rows, task: Task) -> Callable[[], Metrics]:
    def validate() -> Metrics:
        probabilities = task.probabilities(logits(model, validation.encoded))
        return task.measure(validation, probabilities)

    return validate


def _fitted(trainer: TaskTrainer, model: PreTrainedModel, *, seconds: float, precision: str) -> Fitted:
    work, state = trainer.work, trainer.state
    steps = max(1, round(state.max_steps / max(1, trainer.args.num_train_epochs)))
    epochs = max(1, round(state.global_step / steps))
    best = round(state.best_global_step / steps) if state.best_global_step else epochs
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    flops = train_flops(model.config.to_dict(), np.concatenate(work.lengths), outputs=model.config.num_labels)
    return Fitted(
        epochs=epochs,
        best_epoch=best,
        best_metric=state.best_metric,
        examples_per_second=work.rows / seconds,
        tokens_per_second=work.tokens / seconds,
        padding_waste=1 - work.tokens / max(1, work.padded),
        utilisation=flops / (seconds * gemm_peak(dtype, trainer.args.device)),
        seconds=seconds,
    )


class _History(TrainerCallback):  # type: ignore[misc] # transformers ships no types for it
    """Writes the history, moves the progress bar, and stops a run that has blown up."""

    def __init__(self, lines: IO[str], metric: str, listener: Listener, progress: Progress) -> None:
        self._lines = lines
        self._metric = metric
        self._listener = listener
        self._progress = progress
        self._begin = time.perf_counter()
        self._note = ""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._progress.advance(1, self._note)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        logs = logs or {}
        line: dict[str, float] = {"step": state.global_step, "epoch": round(float(state.epoch or 0), 4)}
        if "loss" in logs:
            line |= {name: logs[name] for name in ("loss", "grad_norm", "learning_rate") if name in logs}
            self._note = f"epoch {math.ceil(line['epoch'])} · loss {logs['loss']:.3f}"
            self._refuse_nan(line)
        elif any(name.startswith("eval_") for name in logs):
            line |= {name: value for name, value in logs.items() if name.startswith("eval_")}
            shown = f"{self._metric} {logs[f'eval_{self._metric}']:.4f}"
            self._listener.tell("fit", f"epoch {round(line['epoch'])}: {shown} on validation")
        else:
            return
        line["seconds"] = round(time.perf_counter() - self._begin, 3)
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()

    def _refuse_nan(self, line: dict[str, float]) -> None:
        if math.isfinite(line["loss"]) and math.isfinite(line.get("grad_norm", 0.0)):
            return
        raise BertsmithError(
            f"training blew up: at step {line['step']} the loss is {line['loss']} and the gradient's norm "
            f"{line.get('grad_norm', math.nan)}; both must be finite numbers.",
            tip="Lower --learning-rate (2e-5 is safe for most encoders), or use --precision fp32.",
        )
