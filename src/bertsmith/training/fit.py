"""fit: train, watch, stop early, go on after whatever stopped it, keep the best epoch."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import PrinterCallback, TrainingArguments

from bertsmith import ranks
from bertsmith.errors import BertsmithError, CheckpointError
from bertsmith.flops import train_flops
from bertsmith.inference.first_token import first_token_only
from bertsmith.inference.torch_engine import logits
from bertsmith.kept_memory import kept_memory
from bertsmith.listener import Listener
from bertsmith.machine import cpu_name
from bertsmith.quiet import quiet_transformers
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Metrics, Rows, Task
from bertsmith.training.attention import lean_attention
from bertsmith.training.callbacks import LOG_EVERY, Decay, EarlyStop, Following, History, Report, Stages, Timely
from bertsmith.training.checkpoints import Checkpoint, Checkpoints
from bertsmith.training.compact_embeddings import Compact, compact_embeddings, occurring
from bertsmith.training.dropout import cheap_dropout
from bertsmith.training.facts import facts_of
from bertsmith.training.frozen_layers import Cached, Store, run_once
from bertsmith.training.interrupts import Interrupts, listening
from bertsmith.training.peak import gemm_peak
from bertsmith.training.savings import Beside, Savings, needed, state_of
from bertsmith.training.strategies import Strategy
from bertsmith.training.trainer import BlownUpError, MicroBatches, TaskTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
BEGINNINGS = 10
"""How often a training begins again in one process, for whatever reason."""
ROLLBACKS = 2
"""How often a training that blew up goes back to its last good state, at half the rate."""


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
        trained_parameters: How many parameters were trained at some time.
        rate_scale: What the learning rate was multiplied by, because the training blew up; 1 where it did not.
        alarms: What the watch named: kind, message and remedy of each.
    """

    epochs: int
    best_epoch: int
    best_metric: float | None
    examples_per_second: float
    tokens_per_second: float
    padding_waste: float
    utilisation: float
    seconds: float
    trained_parameters: int
    rate_scale: float = 1.0
    alarms: tuple[Mapping[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the figures as `scores.json` has them."""
        return {
            "examples_per_second": round(self.examples_per_second, 2),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "padding_waste": round(self.padding_waste, 4),
            "utilisation": round(self.utilisation, 4),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "rate_scale": self.rate_scale,
            "alarms": [dict(each) for each in self.alarms],
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
    report: Report | None = None,
) -> Fitted:
    """Fine-tune `model` in place; it ends with the weights of the best epoch.

    Where the run's scratch folder holds checkpoints of this training, it goes on from the newest that is whole, bit
    for bit as if it had never stopped. Where the loss or a gradient is no longer a number, it goes back to the last
    checkpoint at half the learning rate, twice at most. Where memory runs out, micro-batches are cut in half.

    Args:
        model: fp32 masters.
        rows: What is learned from.
        validation: What chooses the best epoch and stops early; None trains all epochs and keeps the last.
        task: Knows loss and metrics.
        recipe: Resolved: nothing in `[fit]` is `auto`.
        run: Gets the history: a JSON line for each logged step and each validation. Checkpoints lie in its
            scratch folder, which stays until the run is finished.
        listener: Told of progress.
        report: Told the chosen metric after each epoch.

    Raises:
        BertsmithError: The loss is no longer a number in spite of lower rates, memory suffices for no row, or the
            disk for no checkpoint.
        StoppedError: Ctrl-C or SIGTERM; a checkpoint of the last step was written.
    """
    peak = gemm_peak(_dtype(recipe), torch.device(recipe.run.device))
    strategy = Strategy.of(recipe, model)
    strategy.prepare(model)
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_transformers())
        stack.enter_context(kept_memory())
        cached = _run_once(model, rows, validation, strategy=strategy, recipe=recipe, run=run, listener=listener)
        first_token = stack.enter_context(first_token_only(model))
        if cached is not None:
            stack.callback(cached.remove)
            stack.enter_context(cached.feeding(model))
        training = _Training(
            model=model,
            rows=_balanced(rows, task, recipe),
            targets=_targets(rows, task, recipe),
            validation=validation if validation is not None and len(validation) else None,
            task=task,
            recipe=recipe,
            run=run,
            strategy=strategy,
            listener=listener,
            report=report,
            peak=peak,
            trained=trained,
            compact=stack.enter_context(compact_embeddings(model, occurring(rows.encoded))),
            cached=cached,
            first_token=first_token,
            interrupts=stack.enter_context(listening()),
        )
        stack.enter_context(cheap_dropout(model))
        stack.enter_context(lean_attention(model))
        transformers.set_seed(recipe.run.seed)
        fitted = training.to_the_end()
    strategy.finish(model)
    return fitted


@dataclass
class _Training:
    """One training, from its first step or a checkpoint to its best weights."""

    model: PreTrainedModel
    rows: Rows
    targets: Array
    validation: Rows | None
    task: Task
    recipe: Recipe
    run: RunFolder
    strategy: Strategy
    listener: Listener
    report: Report | None
    peak: float
    trained: int
    compact: Compact | None
    cached: Cached | None
    first_token: bool
    interrupts: Interrupts

    def __post_init__(self) -> None:
        settings = self.recipe.fit
        self.checkpoints = Checkpoints(self.run.scratch)
        self.scale = 1.0
        self.rollbacks = 0
        self.alarms: dict[str, dict[str, str]] = {}
        self.config = self.model.config.to_dict()
        width = self.rows.encoded.max_length if self.recipe.text.padding == "max-length" else None
        self.batches = MicroBatches(self.rows, self.targets, self.task, width=width, states=self._states("train"))
        trained = {id(each) for group in self._groups() for each in group["params"]}
        self.learned = {name: each for name, each in self.model.named_parameters() if id(each) in trained}
        steps = self.steps_an_epoch * int(settings.epochs)
        each = self._flops(self.rows.encoded.window_lengths) / max(1, len(self.rows))
        self.facts = facts_of(
            self.task, self.rows, self.validation, recipe=self.recipe, steps=steps, possible=self.peak / max(1.0, each)
        )

    @property
    def steps_an_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        settings = self.recipe.fit
        return math.ceil(len(self.rows) / (settings.batch_size * settings.accumulate * ranks.count()))

    def to_the_end(self) -> Fitted:
        """Train, from wherever it stands, until the best weights are in the model.

        Raises:
            CheckpointError: Checkpoints are damaged faster than they are written.
        """
        start = self._newest()
        if start is not None:
            state = state_of(start)
            self.scale, self.rollbacks = state["rate_scale"], state["rollbacks"]
            self._compare(state["machine"])
        for _ in range(BEGINNINGS):
            if start is not None and state_of(start)["finished"]:
                return self._finish(start)
            try:
                self._train(start)
            except BlownUpError as error:
                self._lower_the_rate(error)
            start = self._newest()
            if start is None:
                break
        raise CheckpointError(
            f"{self.checkpoints.folder}: no checkpoint of this training is whole any more.",
            tip=f"Is the disk in order? Then: bertsmith train --resume {self.run.path}",
        )

    def _newest(self) -> Checkpoint | None:
        """Find the newest checkpoint that can be used; the first rank looks, all take the same."""
        found, passed_over = self.checkpoints.usable(needs=needed) if ranks.is_first() else (None, [])
        for sentence in passed_over:
            self.listener.warn(sentence)
        agreed: Checkpoint | None = ranks.agree(found)
        return agreed

    def _compare(self, began: Mapping[str, Any]) -> None:
        """Say where this machine is not the one that the run began on."""
        now = machine(self.recipe)
        changed = [f"{name}: {began.get(name)}, now {value}" for name, value in now.items() if began.get(name) != value]
        if changed:
            self.listener.warn(
                f"The run began on another machine ({'; '.join(changed)}): it goes on, but may differ in the last "
                "digits from what it would have been there."
            )

    def _lower_the_rate(self, error: BlownUpError) -> None:
        """Halve the learning rate for the next beginning.

        Raises:
            BertsmithError: That was done often enough.
        """
        if self.rollbacks == ROLLBACKS:
            raise BertsmithError(
                f"{error.message} Going back and halving the learning rate, {ROLLBACKS} times, did not help.",
                tip="Lower --learning-rate (2e-5 is safe for most encoders), or use --precision fp32.",
            ) from error
        self.rollbacks += 1
        self.scale /= 2
        rate = float(self.recipe.fit.learning_rate) * self.scale
        self.listener.warn(
            f"{error.message} It goes back to the last good state, with half the learning rate, {rate:g} "
            f"(for the {'first' if self.rollbacks == 1 else 'second and last'} time)."
        )

    def _train(self, start: Checkpoint | None) -> None:
        """Train from a checkpoint, or from the model as it is, until the last epoch or early stopping."""
        history = History(self.run.history, upto=0 if start is None else start.step)
        total = self.steps_an_epoch * int(self.recipe.fit.epochs)
        with self.listener.work("fit", total) as progress:
            with _environment(TENSORBOARD_LOGGING_DIR=str(self.run.trackers)):
                trainer = self._trainer(self._arguments(), start)
            if start is not None:
                progress.advance(start.step)
            following = Following(
                history, self.facts, listener=self.listener, progress=progress, report=self.report, said=self.alarms
            )
            self._follow(trainer, following)
            try:
                trainer.train(resume_from_checkpoint=None if start is None else str(start.path))
            finally:
                # The Trainer wraps the model's forward pass; whoever comes next must find the model as it was.
                trainer.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def _trainer(self, arguments: TrainingArguments, start: Checkpoint | None) -> TaskTrainer:
        return TaskTrainer(
            self.model,
            arguments,
            task=self.task,
            batches=self.batches,
            rows=self.rows,
            validate=self._validate if self.validation is not None else None,
            groups=self._groups(),
            savings=self._savings(start),
            warn=self.listener.warn,
            flops=self._flops,
            set_mode=self.strategy.train_mode,
        )

    def _follow(self, trainer: TaskTrainer, following: Following) -> None:
        """Hang on what happens beside the steps."""
        settings = self.recipe.fit
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(following)
        trainer.add_callback(Stages(self.strategy))
        if self.compact is not None:
            trainer.add_callback(Decay(self.compact))
        if self.validation is not None and settings.patience:
            better = settings.metric not in self.task.loss_metrics
            trainer.add_callback(EarlyStop(settings.metric, patience=settings.patience, greater_is_better=better))
        minutes, run = self.recipe.run.checkpoint_minutes, self.run.path
        trainer.add_callback(Timely(self.interrupts, minutes=minutes, steps_an_epoch=self.steps_an_epoch, run=run))

    def _savings(self, start: Checkpoint | None = None) -> Savings:
        facts = {"rate_scale": self.scale, "rollbacks": self.rollbacks, "machine": machine(self.recipe)}
        beside = None if self.compact is None else Beside(self.compact, "decay")
        return Savings(
            self.checkpoints,
            self.learned,
            facts=facts,
            steps_an_epoch=self.steps_an_epoch,
            warn=self.listener.warn,
            beside=beside,
            start=start,
        )

    def _validate(self) -> Metrics:
        assert self.validation is not None
        probabilities = self.task.probabilities(
            logits(self.model, self.validation.encoded, states=self._states("validation"))
        )
        return self.task.measure(self.validation, probabilities)

    def _states(self, side: str) -> Callable[[Array, int], torch.Tensor] | None:
        """Give what the frozen layers made of a side's windows, where they were run once."""
        return None if self.cached is None else self.cached.sides[side].states

    def _flops(self, lengths: Array) -> float:
        return train_flops(
            self.config,
            lengths,
            outputs=int(self.model.config.num_labels),
            first_token=self.first_token,
            cached=self.cached is not None,
            frozen=max(0, min(self.strategy.frozen_below - 1, int(self.config.get("num_hidden_layers", 0)))),
        )

    def _groups(self) -> list[dict[str, Any]]:
        settings = self.recipe.fit
        return self.strategy.parameter_groups(
            self.model, learning_rate=float(settings.learning_rate) * self.scale, weight_decay=settings.weight_decay
        )

    def _arguments(self) -> TrainingArguments:
        settings = self.recipe.fit
        return TrainingArguments(
            output_dir=str(self.run.scratch),
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.accumulate,
            learning_rate=float(settings.learning_rate) * self.scale,
            lr_scheduler_type="linear",
            warmup_steps=settings.warmup,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.clip,
            optim="adamw_torch_fused",
            bf16=settings.precision == "bf16",
            seed=self.recipe.run.seed,
            use_cpu=self.recipe.run.device == "cpu",
            eval_strategy="no" if self.validation is None else "epoch",
            save_strategy="epoch",
            metric_for_best_model=None if self.validation is None else settings.metric,
            greater_is_better=None if self.validation is None else settings.metric not in self.task.loss_metrics,
            logging_steps=min(LOG_EVERY, self.steps_an_epoch),
            logging_nan_inf_filter=False,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            ddp_find_unused_parameters=self.strategy.staged,
            report_to=list(self.recipe.run.trackers),
            run_name=self.run.path.name,
        )

    def _finish(self, last: Checkpoint) -> Fitted:
        """Put the best epoch's weights into the model, and sum the training up."""
        own, state = state_of(last), last.read_json("trainer_state.json")
        best = own["best_step"] or last.step
        self._savings().load_weights(last if best == last.step else self.checkpoints.verified(best))
        work = own["work"]
        seconds = max(work["seconds"], 1e-9)
        return Fitted(
            epochs=round(last.step / self.steps_an_epoch),
            best_epoch=round(best / self.steps_an_epoch),
            best_metric=state["best_metric"],
            examples_per_second=work["rows"] * ranks.count() / seconds,
            tokens_per_second=work["tokens"] * ranks.count() / seconds,
            padding_waste=1 - work["tokens"] / max(1, work["padded"]),
            utilisation=work["flops"] / (seconds * self.peak),
            seconds=seconds,
            trained_parameters=self.trained,
            rate_scale=self.scale,
            alarms=tuple(self.alarms.values()),
        )


def _run_once(  # noqa: PLR0913 - it looks at everything that training does
    model: PreTrainedModel,
    rows: Rows,
    validation: Rows | None,
    *,
    strategy: Strategy,
    recipe: Recipe,
    run: RunFolder,
    listener: Listener,
) -> Cached | None:
    """Run frozen lower layers once over all rows, unless the recipe has them run every epoch."""
    kind = recipe.fit.activation_cache
    if kind == "none":
        return None
    sides = {"train": rows.encoded} | ({} if validation is None else {"validation": validation.encoded})
    most = recipe.fit.activation_cache_gib * 2**30
    folder = run.scratch / f"states-{ranks.number()}"
    store = Store(folder, kind, most=most, autocast=recipe.fit.precision == "bf16")
    return run_once(model, sides, frozen_below=strategy.frozen_below, store=store, listener=listener)


def _balanced(rows: Rows, task: Task, recipe: Recipe) -> Rows:
    """Weigh units by their label where the recipe asks for it."""
    scheme = recipe.fit.class_weights
    return rows if scheme == "none" else replace(rows, balance=task.class_weights(rows.targets, scheme))


def _targets(rows: Rows, task: Task, recipe: Recipe) -> Array:
    """Soften the targets where the recipe asks for it; validation is measured on hard ones."""
    amount = recipe.fit.label_smoothing
    return task.smooth(rows.targets, amount, outputs=len(rows.labels)) if amount else rows.targets


def machine(recipe: Recipe) -> dict[str, Any]:
    """Describe what a training's exact figures depend on besides data, recipe and seed.

    The CPU is among it, since the kernels that it chooses round differently.
    """
    return {
        "cpu": cpu_name(),
        "device": recipe.run.device,
        "threads": torch.get_num_threads(),
        "ranks": ranks.count(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


@contextlib.contextmanager
def _environment(**wanted: str) -> Iterator[None]:
    """Set what is not set in the environment, for a while: transformers' trackers are told in no other way."""
    added = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _dtype(recipe: Recipe) -> torch.dtype:
    return torch.bfloat16 if recipe.fit.precision == "bf16" else torch.float32
