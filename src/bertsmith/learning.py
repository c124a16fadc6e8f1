"""The training of a run: one model from the head's start to its best epoch, and again for other seeds.

All ranks of a training walk through `learn` and `other_seeds` side by side; only the first one speaks and writes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bertsmith import ranks
from bertsmith.atomic import write_json
from bertsmith.errors import StoppedError
from bertsmith.evaluation.ladder import judge
from bertsmith.inference.torch_engine import logits
from bertsmith.listener import Listener
from bertsmith.prepare import Featured, Prepared, build_model, features_of, token_encoder
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows
from bertsmith.training.head_start import ProbeRows, start_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bertsmith.training.fit import Fitted

Array = np.ndarray[Any, Any]


def learn(  # noqa: PLR0913 - a stage: the model, its rows, and what every stage is told
    model: PreTrainedModel,
    prepared: Prepared,
    sides: Mapping[str, Rows],
    features: Mapping[str, Featured] | None,
    *,
    recipe: Recipe,
    run: RunFolder,
    listener: Listener,
) -> Fitted:
    """Start the head from a probe and train, or train on few rows; the model is changed in place.

    Args:
        model: As built.
        prepared: Task and labels.
        sides: `train` and `validation`.
        features: Frozen features of both; None in a rank whose head comes from the first one.
        recipe: Resolved.
        run: Gets history and checkpoints.
        listener: Told of progress.
    """
    if recipe.fit.few_shot:
        return _learn_few(model, prepared, sides, recipe=recipe, run=run, listener=listener)
    from bertsmith.training.fit import fit

    if features is not None:
        learned, held = (ProbeRows(features[side].rows, features[side].head) for side in ("train", "validation"))
        start_head(model, prepared.task, learned, held, recipe)
    return fit(
        model, sides["train"], sides["validation"], task=prepared.task, recipe=recipe, run=run, listener=listener
    )


def other_seeds(
    prepared: Prepared, sides: Mapping[str, Rows], *, recipe: Recipe, run: RunFolder, listener: Listener
) -> dict[int, dict[str, float]]:
    """Train again for each further seed on the same rows, and score each model on the test rows.

    A seed that is done is kept in the run's scratch folder, so that a run that is resumed does not repeat it.

    Args:
        prepared: Encoder, task and labels.
        sides: All that the rank needs: train and validation, in the first one calibration and test too.
        recipe: Resolved; `seed` is the first one, `seeds` how many there are.
        run: Its scratch folder holds the checkpoints of each.
        listener: Told of progress.

    Returns:
        Seed → metric → value on the test rows, without the first seed; empty in other ranks than the first.
    """
    found = {}
    for seed in ((recipe.run.seed + more) % 2**32 for more in range(1, recipe.run.seeds)):
        place = RunFolder(run.scratch / f"seed-{seed}")
        kept = place.path / "metrics.json"
        if not ranks.agree(kept.is_file()):
            listener.tell("", f"once more with seed {seed}")
            with _going_on_with(run):
                again = recipe.changed({"seed": seed})
                metrics = _with_seed(prepared, sides, recipe=again, run=place, listener=listener)
            if ranks.is_first():
                write_json(kept, metrics)
        if ranks.is_first():
            found[seed] = place.read_json(kept)
    return found


@contextlib.contextmanager
def _going_on_with(run: RunFolder) -> Iterator[None]:
    """Name the run where a training of another seed is stopped: its own folder lies inside, and cannot go on alone."""
    try:
        yield
    except StoppedError as error:
        raise StoppedError(error.message, tip=f"Go on with it: bertsmith train --resume {run.path}") from error


def compared_metrics(prepared: Prepared, test: Mapping[str, Any] | None) -> dict[str, float]:
    """Take the metrics by which models are compared from what `judge` found; empty without test rows."""
    return {} if test is None else {name: float(test[name]["value"]) for name in prepared.task.compared}


def _with_seed(
    prepared: Prepared, sides: Mapping[str, Rows], *, recipe: Recipe, run: RunFolder, listener: Listener
) -> dict[str, float]:
    run.scratch.mkdir(parents=True, exist_ok=True)
    model, task = build_model(prepared, recipe), prepared.task
    started = {side: sides[side] for side in ("train", "validation")}
    features = features_of(model, started, recipe, listener) if ranks.is_first() else None
    learn(model, prepared, sides, features, recipe=recipe, run=run, listener=listener)
    if not ranks.is_first():
        return {}
    calibration, test = (
        task.probabilities(logits(model, sides[side].encoded)) if len(sides[side]) else np.zeros((0, 1))
        for side in ("calibration", "test")
    )
    decision = task.decide(sides["calibration"], calibration) if len(calibration) else {}
    return compared_metrics(prepared, judge(task, sides["test"], test, decision, seed=recipe.run.seed))


def _learn_few(
    model: PreTrainedModel,
    prepared: Prepared,
    sides: Mapping[str, Rows],
    *,
    recipe: Recipe,
    run: RunFolder,
    listener: Listener,
) -> Fitted:
    from bertsmith.training.few_shot import name_texts
    from bertsmith.training.fit_few import fit_few

    names = token_encoder(prepared, recipe).encode(pa.chunked_array([pa.array(name_texts(prepared.labels.names))]))
    return fit_few(
        model, sides["train"], sides["validation"], names, task=prepared.task, recipe=recipe, run=run, listener=listener
    )
