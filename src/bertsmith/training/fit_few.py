"""fit for few rows a label: no epochs to choose among, no checkpoints; the same rows and seed give the same model."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bertsmith import ranks
from bertsmith.encoded import Encoded
from bertsmith.errors import EncoderError, RecipeError
from bertsmith.flops import train_flops
from bertsmith.inference.torch_engine import logits
from bertsmith.listener import Listener
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows, Task
from bertsmith.training.few_shot import EPOCHS, learn_few
from bertsmith.training.fit import Fitted
from bertsmith.training.peak import gemm_peak

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
_OWN = {"strategy": "full", "freeze": "", "layer_decay": 1.0, "class_weights": "none", "label_smoothing": 0.0}
"""Settings that few-shot training has its own ways for, and what leaves them alone."""


def check_few(recipe: Recipe, task: Task, *, pairs: bool) -> None:
    """Refuse what few-shot training cannot do.

    Raises:
        RecipeError: Other options contradict it, or the task has no named labels.
    """
    settings = recipe.fit.model_dump()
    others = [name for name, value in _OWN.items() if settings[name] != value]
    if others:
        raise RecipeError(
            f"'few_shot' trains in its own way, so it cannot be combined with {' and '.join(map(repr, others))}.",
            tip="Leave one of them out.",
        )
    if not task.named or pairs:
        what = "pairs of texts" if pairs else f"the task {task.name}"
        raise RecipeError(
            f"'few_shot' is for texts with named labels, and this is {what}.", tip="Train without --few-shot."
        )
    if ranks.count() > 1:
        raise RecipeError("'few_shot' takes seconds in one process; it does not run in several.")


def fit_few(  # noqa: PLR0913 - a stage: the model, two sides, and what every stage is told
    model: PreTrainedModel,
    rows: Rows,
    validation: Rows,
    names: Encoded,
    *,
    task: Task,
    recipe: Recipe,
    run: RunFolder,
    listener: Listener,
) -> Fitted:
    """Train on few rows, in place (`few_shot.py`); the validation rows are measured, and choose nothing.

    Args:
        model: fp32 masters; it gets a layer.
        rows: What is learned from.
        validation: What is measured; may be empty.
        names: The labels' names, encoded.
        task: Knows loss and metrics.
        recipe: Resolved.
        run: Gets the history.
        listener: Told of progress.

    Raises:
        EncoderError: The encoder's family cannot be trained so.
    """
    device = torch.device(recipe.run.device)
    peak = gemm_peak(torch.bfloat16 if recipe.fit.precision == "bf16" else torch.float32, device)
    begin = time.perf_counter()
    lines: list[dict[str, float]] = []
    # As many steps as there are batches, at most with all names; the bar need not be exact.
    with listener.work("fit", None) as progress:

        def done(step: int, loss: float) -> None:
            seconds = round(time.perf_counter() - begin, 3)
            lines.append({"step": step + 1, "epoch": 0.0, "loss": loss, "seconds": seconds})
            progress.advance(1, f"loss {loss:.3f}")

        few = learn_few(
            model, rows, task=task, seed=recipe.run.seed, names=names, precision=recipe.fit.precision, done=done
        )
    if not few.mean_layer:
        raise EncoderError(
            f"{recipe.fit.encoder}: few-shot training reads the mean over the tokens, which cannot be put into a "
            f"{model.config.model_type} classifier.",
            tip="Take a BERT, RoBERTa, XLM-RoBERTa or CamemBERT encoder, or train without --few-shot.",
        )
    seconds = time.perf_counter() - begin
    found = task.measure(validation, task.probabilities(logits(model, validation.encoded))) if len(validation) else {}
    for line in lines:
        line["epoch"] = round(EPOCHS * line["step"] / len(lines), 4)
    if found:
        last = {"step": len(lines), "epoch": float(EPOCHS), "seconds": round(seconds, 3)}
        lines.append({**last, **{f"eval_{name}": value for name, value in found.items()}})
    run.history.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    weight = (
        f"a label's name counts for {few.name_weight:g} rows" if few.name_weight else "the labels' names say nothing"
    )
    listener.tell("fit", f"few rows a label: one layer that means over the tokens, {few.steps} steps; {weight}")
    return _fitted(model, rows, metric=found.get(recipe.fit.metric), seconds=seconds, peak=peak)


def _fitted(model: PreTrainedModel, rows: Rows, *, metric: float | None, seconds: float, peak: float) -> Fitted:
    lengths = rows.encoded.window_lengths
    flops = EPOCHS * train_flops(
        model.config.to_dict(), lengths, outputs=int(model.config.num_labels), first_token=True
    )
    embeddings = sum(each.numel() for each in model.get_input_embeddings().parameters())
    return Fitted(
        epochs=EPOCHS,
        best_epoch=EPOCHS,
        best_metric=metric,
        examples_per_second=EPOCHS * len(rows) / seconds,
        tokens_per_second=EPOCHS * int(lengths.sum()) / seconds,
        padding_waste=0.0,
        utilisation=flops / (seconds * peak),
        seconds=seconds,
        trained_parameters=sum(each.numel() for each in model.parameters()) - embeddings,
    )
