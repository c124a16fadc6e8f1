"""Rows for training steps, and what one step does to the weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertsmith import encoders
from bertsmith.data.encode import TokenEncoder
from bertsmith.data.read import read
from bertsmith.listener import Silent
from bertsmith.recipe import Read, Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows, Task
from bertsmith.training.fit import _Training
from bertsmith.training.interrupts import Interrupts
from bertsmith.training.model import build
from bertsmith.training.strategies import Strategy

Array = np.ndarray[Any, Any]


def rows_of(
    folder: Path, task: Task, data: Sequence[Any], *, weights: Array | None = None, max_length: int = 32, **columns: Any
) -> Rows:
    """Read and encode rows as a run does; `columns` are settings of reading, `weights` those of the rows."""
    encoder = encoders.find(str(folder))
    examples = read(list(data), Read(task=task.name, **columns))
    tokens = TokenEncoder(encoder.tokenizer(), max_length, 0, units=task.unit)
    pairs, words = (examples.column(name) if name in examples else None for name in ("text_pair", "words"))
    encoded = tokens.encode(examples.column("text"), pairs, words=words)
    labels = task.labels(examples)
    even = np.ones(len(examples)) if weights is None else weights
    return Rows(examples, encoded, task.targets(examples, encoded, labels), even, labels)


def fresh_model(folder: Path, task: Task, rows: Rows) -> Any:
    """Put a random head on the encoder, the same one each time, without dropout."""
    torch.manual_seed(0)
    return build(task, encoders.find(str(folder)), rows.labels, dropout=0.0)


def recipe(**changes: Any) -> Recipe:
    """Settings of a quick training in fp32 without dropout."""
    settings = {
        "epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "dropout": 0.0, "precision": "fp32", "device": "cpu",
        "metric": "macro_f1",
    }  # fmt: skip
    return Recipe.of(**{**settings, **changes})


def gradient_of_one_step(folder: Path, task: Task, rows: Rows, scratch: Path, **changes: Any) -> torch.Tensor:
    """Plain SGD at rate 1 moves the weights by the gradient."""
    model = fresh_model(folder, task, rows)
    before = torch.cat([each.detach().clone().flatten() for each in model.parameters()])
    settings = recipe(epochs=1, warmup=0.0, clip=0.0, weight_decay=0.0, **changes)
    training = _Training(
        model=model,
        rows=rows,
        targets=rows.targets,
        validation=None,
        task=task,
        recipe=settings,
        run=RunFolder(scratch),
        strategy=Strategy.of(settings, model),
        listener=Silent(),
        report=None,
        peak=1.0,
        trained=0,
        compact=None,
        cached=None,
        first_token=False,
        interrupts=Interrupts(),
    )
    arguments = training._arguments()
    arguments.max_steps, arguments.optim, arguments.learning_rate = 1, "sgd", 1.0
    arguments.lr_scheduler_type = "constant"
    trainer = training._trainer(arguments, None)
    for group in trainer._groups:
        group["lr"] = 1.0
    trainer.train()
    return before - torch.cat([each.detach().flatten() for each in model.parameters()])
