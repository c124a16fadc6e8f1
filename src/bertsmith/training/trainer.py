"""A thin subclass of the Hugging Face Trainer.

Ours are four extension points: the batches (`get_train_dataloader`), the loss scale (`compute_loss`), the
validation (`evaluate`) and what a checkpoint holds (`_save`). Everything else is the Trainer's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainingArguments

from bertsmith.inference.outputs import head_outputs, read_out, unit_windows
from bertsmith.inference.torch_engine import known_inputs
from bertsmith.tasks import Metrics, Rows, Task
from bertsmith.training.batches import EpochBatches, MicroBatch

Array = np.ndarray[Any, Any]


@dataclass
class Work:
    """What a training has done so far.

    Attributes:
        rows: Rows that went through forward and backward.
        tokens: Their real tokens.
        padded: Their tokens with padding.
        paused: Seconds that went into validation and checkpoints.
        lengths: Tokens of each window, a micro-batch each.
    """

    rows: int = 0
    tokens: int = 0
    padded: int = 0
    paused: float = 0.0
    lengths: list[Array] = field(default_factory=list)


class MicroBatches(Dataset[dict[str, Any]]):
    """The rows as torch's DataLoader asks for them: a whole micro-batch at a time."""

    def __init__(self, rows: Rows, task: Task, *, width: int | None) -> None:
        """Keep the rows; `width` pads every batch to that many tokens, None to its longest window."""
        self._rows = rows
        self._task = task
        self._width = width
        self._weights = rows.unit_weights

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, micro: MicroBatch) -> dict[str, Any]:
        """Collate one micro-batch, with the denominator of its whole effective batch."""
        rows, encoded = self._rows, self._rows.encoded
        padded = encoded.pad(micro.rows, width=self._width)
        batch: dict[str, Any] = {name: torch.from_numpy(array) for name, array in padded.items()}
        units, whole = encoded.flat(micro.rows), encoded.flat(micro.whole)
        batch["targets"] = torch.from_numpy(rows.targets[units])
        batch["weights"] = torch.from_numpy(self._weights[units].astype(np.float32) * micro.counts)
        batch["denominator"] = self._task.denominator(rows.targets[whole], self._weights[whole])
        batch["rows"] = len(micro.rows)
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

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        *,
        task: Task,
        rows: Rows,
        validate: Callable[[], Metrics] | None,
        width: int | None = None,
    ) -> None:
        """Train `model` on `rows`; `validate` measures the model as it is, where there are validation rows."""
        self._task = task
        self._rows = rows
        self._validate = validate
        self.work = Work()
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=MicroBatches(rows, task, width=width),
            eval_dataset=[] if validate else None,
        )
        self.loss_is_scaled_for_ga = True
        self._known = known_inputs(model)

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
        # The sampler deals whole micro-batches and the data set collates them: torch allows it, its types do not.
        return EpochLoader(self.train_dataset, batch_sampler=batches, collate_fn=_same)  # type: ignore[arg-type]

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Do the Trainer's step, and count rows and tokens."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        lengths = inputs["attention_mask"].sum(1).cpu().numpy()
        self.work.rows += inputs["rows"]
        self.work.tokens += int(lengths.sum())
        self.work.padded += inputs["attention_mask"].numel()
        self.work.lengths.append(lengths)
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Sum the rows' losses and divide by what the effective batch weighs (times the ranks: DDP averages)."""
        output = model(**{name: value for name, value in inputs.items() if name in self._known})
        pooling = self._rows.encoded.pooling
        logits = read_out(head_outputs(output), inputs, rows=inputs["rows"], pooling=pooling)
        summed = self._task.loss(logits, inputs["targets"], inputs["weights"], unit_windows(inputs))
        # A batch may weigh nothing: sentences without words, a rank without rows.
        loss = summed * (self.args.world_size / max(inputs["denominator"], 1e-12))
        return (loss, output) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the validation rows through the same engine that will serve."""
        assert self._validate is not None
        begin = time.perf_counter()
        found = {f"eval_{name}": value for name, value in self._validate().items()}
        self.work.paused += time.perf_counter() - begin
        self.log(found)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save weights and config as safetensors and JSON; the Trainer's own adds a pickle."""
        begin = time.perf_counter()
        if self.args.should_save:
            self.accelerator.unwrap_model(self.model).save_pretrained(output_dir, state_dict=state_dict)
        self.work.paused += time.perf_counter() - begin


def _same(batch: dict[str, Any]) -> dict[str, Any]:
    return batch
