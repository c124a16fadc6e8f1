"""A thin subclass of the Hugging Face Trainer.

Ours are these extension points: the batches (`get_train_dataloader`), the loss scale (`compute_loss`), memory that
runs out (`training_step`), parameters and their rates (`create_optimizer`), a gradient that is no number
(`_get_grad_norm`), the validation (`evaluate`), and what a checkpoint holds (`_save_checkpoint`, `_load_*`). Everything
else is the Trainer's.
"""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

from bertsmith import ranks
from bertsmith.errors import BertsmithError
from bertsmith.inference.outputs import head_outputs, read_out, unit_windows
from bertsmith.inference.torch_engine import known_inputs
from bertsmith.tasks import Metrics, Rows, Task
from bertsmith.training.batches import EpochBatches, MicroBatch
from bertsmith.training.savings import Savings, state_of

Array = np.ndarray[Any, Any]


@dataclass
class Work:
    """What a training has done so far.

    Attributes:
        rows: Rows that went through forward and backward.
        tokens: Their real tokens.
        padded: Their tokens with padding.
        flops: Operations that their real tokens need.
        seconds: Seconds of training, validation and checkpoints left out.
        pieces: In how many pieces a micro-batch is run, because memory ran out on the whole.
    """

    rows: int = 0
    tokens: int = 0
    padded: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    pieces: int = 1


class BlownUpError(BertsmithError):
    """The loss or the gradient is no longer a finite number."""


class MicroBatches(Dataset[dict[str, Any]]):
    """The rows as torch's DataLoader asks for them: a whole micro-batch at a time."""

    def __init__(
        self,
        rows: Rows,
        targets: Array,
        task: Task,
        *,
        width: int | None = None,
        states: Callable[[Array, int], torch.Tensor] | None = None,
    ) -> None:
        """Keep the rows.

        Args:
            rows: What is learned from.
            targets: What the loss sees, one entry a unit.
            task: Knows the loss's denominator.
            width: Pads every batch to that many tokens, None to its longest window.
            states: Gives the outputs of frozen layers for these windows, where they were run once.
        """
        self._rows = rows
        self._targets = targets
        self._task = task
        self._width = width
        self._states = states
        self._weights = rows.unit_weights

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, micro: MicroBatch) -> dict[str, Any]:
        """Collate one micro-batch, with the denominator of its whole effective batch."""
        encoded = self._rows.encoded
        padded = encoded.pad(micro.rows, width=self._width)
        batch: dict[str, Any] = {name: torch.from_numpy(array) for name, array in padded.items()}
        if self._states is not None:
            batch["states"] = self._states(encoded.windows_of(micro.rows), padded["input_ids"].shape[1])
        units, whole = encoded.flat(micro.rows), encoded.flat(micro.whole)
        batch["targets"] = torch.from_numpy(self._targets[units])
        batch["weights"] = torch.from_numpy(self._weights[units].astype(np.float32) * micro.counts)
        batch["denominator"] = self._task.denominator(self._targets[whole], self._weights[whole])
        batch["micro"] = micro
        return batch


class EpochLoader(DataLoader[Any]):
    """A DataLoader whose batch sampler is told the epoch by the Trainer."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration deals out."""
        assert isinstance(self.batch_sampler, EpochBatches)
        self.batch_sampler.set_epoch(epoch)


class TaskTrainer(Trainer):  # type: ignore[misc] # transformers ships no types
    """Trains for any task, on batches that are a pure function of seed, epoch and effective batch size.

    Transformers 5 scales the gradients of classification heads wrongly under accumulation and in several
    processes (transformers#47688). Here a micro-batch's loss is its rows' summed loss divided by what the
    whole effective batch weighs, so that one process, accumulation and ranks learn the same.
    """

    def __init__(  # noqa: PLR0913 - the Trainer's own, and what it is extended by
        self,
        model: Any,
        arguments: TrainingArguments,
        *,
        task: Task,
        batches: MicroBatches,
        rows: Rows,
        validate: Callable[[], Metrics] | None,
        groups: Sequence[Mapping[str, Any]],
        savings: Savings,
        warn: Callable[[str], None],
        flops: Callable[[Array], float],
        set_mode: Callable[[Any], None] | None = None,
    ) -> None:
        """Train `model` on `batches` of `rows`.

        Args:
            model: fp32 masters.
            arguments: The Trainer's settings.
            task: Knows the loss.
            batches: The rows, ready for the loss.
            rows: The same rows, for their lengths.
            validate: Measures the model as it is, where there are validation rows.
            groups: Parameters with their learning rate and weight decay, as AdamW takes them.
            savings: Writes and reads checkpoints.
            warn: Told when memory ran out.
            flops: Counts what forward and backward over windows of these lengths take.
            set_mode: Called after `model.train()`: frozen parts stay in eval mode.
        """
        self._task = task
        self._rows = rows
        self._batches = batches
        self._validate = validate
        self._groups = groups
        self.optimizer: Any
        self._savings = savings
        self._warn = warn
        self._flops = flops
        self._set_mode = set_mode
        self._since: list[MicroBatch] = []
        self._loss = math.nan
        self._since_when: float | None = None
        self._paused = 0.0
        self.work = Work()
        super().__init__(model=model, args=arguments, train_dataset=batches, eval_dataset=[] if validate else None)
        self.loss_is_scaled_for_ga = True
        self._known = known_inputs(model) | {"states"}

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return this rank's micro-batches; the plan is ours, so accelerate must not deal it out again."""
        batches = EpochBatches(
            self._rows.encoded.lengths,
            size=self.args.per_device_train_batch_size,
            accumulate=self.args.gradient_accumulation_steps,
            seed=self.args.seed,
            ranks=self.args.world_size,
            rank=self.args.process_index,
        )
        # A generator of its own: a loader draws a number when it begins, and a resumed run begins more often.
        # The sampler deals whole micro-batches and the data set collates them: torch allows it, its types do not.
        own = torch.Generator()
        return EpochLoader(self.train_dataset, batch_sampler=batches, collate_fn=_same, generator=own)  # type: ignore[arg-type]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make AdamW over the groups that the strategy gave."""
        if self.optimizer is None:
            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            self.optimizer = kind([dict(group) for group in self._groups], **settings)
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Do the Trainer's step on a micro-batch; where memory runs out, in pieces."""
        self._since.append(inputs["micro"])
        self._count(inputs)
        todo = self._since[-1:]
        while True:
            try:
                for micro in todo:
                    loss = self._run(model, micro, inputs, num_items_in_batch)
            except (RuntimeError, MemoryError) as error:
                self._halve(error, inputs["micro"])
            else:
                break
            # The pass that failed may have added a part of itself to the gradients: the whole step is done again.
            model.zero_grad()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            todo = self._since
        self._loss = float(loss) if loss.device.type == "cpu" else 0.0
        return loss

    def _run(self, model: Any, micro: MicroBatch, inputs: dict[str, Any], items: Any) -> torch.Tensor:
        """Go forward and backward over a micro-batch, in as many pieces as memory asks for.

        The denominator is the effective batch's, so that pieces add up to the same gradient.
        """
        if self.work.pieces == 1:
            whole: torch.Tensor = super().training_step(model, inputs, items)
            return whole
        pieces = micro.cut(self.work.pieces)
        step = super().training_step
        return torch.stack([step(model, self._batches.__getitems__(each), items) for each in pieces]).sum()

    def _halve(self, error: RuntimeError | MemoryError, micro: MicroBatch) -> None:
        """Take half as many rows at a time from now on.

        Raises:
            BertsmithError: One row is too many, or other ranks are waiting.
        """
        if not is_out_of_memory(error):
            raise error
        rows = -(-len(micro.rows) // self.work.pieces)
        if rows == 1 or self.args.world_size > 1:
            why = "for a single row" if rows == 1 else f"at {rows} rows a micro-batch, in one of several processes"
            raise BertsmithError(
                f"out of memory {why}.",
                tip="A smaller --max-length, a smaller encoder, or --strategy head needs less."
                if rows == 1
                else "Halve --batch-size and double --accumulate: what is learned stays the same.",
            ) from error
        self.work.pieces *= 2
        size, steps = self.args.per_device_train_batch_size, self.args.gradient_accumulation_steps
        self._warn(
            f"out of memory at {size} rows a micro-batch: goes on with {-(-size // self.work.pieces)} rows, "
            f"{steps * self.work.pieces} micro-batches a step. The effective batch of {size * steps} rows and the "
            "order stay the same."
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum the rows' losses and divide by what the effective batch weighs (times the ranks: DDP averages)."""
        if self._set_mode is not None:
            self._set_mode(self.model)
        if self._since_when is None:
            self._since_when = time.perf_counter()
        output = model(**{name: value for name, value in inputs.items() if name in self._known})
        pooling, rows = self._rows.encoded.pooling, len(inputs["micro"].rows)
        logits = read_out(head_outputs(output), inputs, rows=rows, pooling=pooling)
        summed = self._task.loss(logits, inputs["targets"], inputs["weights"], unit_windows(inputs))
        # A batch may weigh nothing: sentences without words, a rank without rows.
        loss = summed * (self.args.world_size / max(inputs["denominator"], 1e-12))
        return (loss, output) if return_outputs else loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Refuse a gradient that is no number, before the optimizer takes it into the weights.

        Raises:
            BlownUpError: It is none, in any rank: the norm is that of the ranks' sum.
        """
        self._since.clear()
        norm = super()._get_grad_norm(model, grad_norm)
        if not (math.isfinite(float(norm)) and (self.args.world_size > 1 or math.isfinite(self._loss))):
            raise BlownUpError(
                f"training blew up: at step {self.state.global_step + 1} the loss is {self._loss:g} and the norm of "
                f"the gradient {float(norm):g}; both must be finite numbers."
            )
        return norm

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the validation rows through the same engine that will serve; the first rank's figures count."""
        assert self._validate is not None
        with self._pause():
            measured = self._validate() if ranks.is_first() else None
            found = {f"eval_{name}": value for name, value in ranks.agree(measured).items()}
        self.log(found)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write our kind of checkpoint: whole or not at all, no pickle, everything that the next step depends on."""
        self.settle()
        with self._pause():
            self._savings.save(self)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """Do the Trainer's, and write the checkpoint of step 0: a training that blows up at once goes back to it."""
        prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        if resume_from_checkpoint is None:
            self._savings.save(self)
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Put the weights back, and how far the work had come."""
        assert self._savings.start is not None
        self._savings.load_weights(self._savings.start)
        self.work = Work(**state_of(self._savings.start)["work"])

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Put the optimizer's moments back; the schedule follows from the step."""
        if checkpoint is not None:
            self._savings.load_optimizer(self)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Put the random generators back, and the loss since the last line of the history."""
        if checkpoint is not None:
            logged = self._savings.load_generators()
            self._tr_loss += logged["loss"]
            self._globalstep_last_logged = logged["step"]

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Nothing: bf16 needs none."""

    def _load_best_model(self) -> None:
        """Nothing: `fit` does it, and replays a best checkpoint that was damaged."""

    def settle(self) -> Work:
        """Add the seconds since the last time to the work, without those that went elsewhere."""
        now = time.perf_counter()
        if self._since_when is not None:
            self.work.seconds += now - self._since_when - self._paused
        self._since_when, self._paused = now, 0.0
        return self.work

    @contextlib.contextmanager
    def _pause(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self._paused += time.perf_counter() - begin

    def _count(self, inputs: Mapping[str, Any]) -> None:
        lengths = inputs["attention_mask"].sum(1).cpu().numpy()
        self.work.rows += len(inputs["micro"].rows)
        self.work.tokens += int(lengths.sum())
        self.work.padded += inputs["attention_mask"].numel()
        self.work.flops += self._flops(lengths)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell a lack of memory from other errors: torch has a class for it on GPUs only."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(said in str(error) for said in ("can't allocate memory", "not enough memory", "out of memory"))


def _same(batch: dict[str, Any]) -> dict[str, Any]:
    return batch
