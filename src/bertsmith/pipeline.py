"""The whole path on one page. START HERE.

    read → check → split → (long texts) → encode → baselines → fit → bundle → evaluate

Each stage is a function that takes nouns and gives nouns; this page only calls them in their order, times
them, and says a line about each (`telling.py` words the lines, `record.py` writes the files).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bertsmith import bundle, encoders, ranks, record, run_folder, telling
from bertsmith.baselines import Rung, Side, climb, save_rungs
from bertsmith.bundle import BundleInfo
from bertsmith.clock import Clock
from bertsmith.data.files import require_there
from bertsmith.evaluation.ladder import against_ladder, judge, ladder_summary, verdict
from bertsmith.examples import SIDES
from bertsmith.inference.predictor import load
from bertsmith.inference.torch_engine import known_inputs, pick_device
from bertsmith.listener import Listener, Silent
from bertsmith.long_texts import LongTexts
from bertsmith.prepare import (
    Featured,
    Prepared,
    adapted,
    build_model,
    choose_long_texts,
    encode,
    features_of,
    prepare,
    require_training,
    resolved,
    rows_a_label,
    token_encoder,
)
from bertsmith.recipe import Recipe
from bertsmith.report.model_card import model_card
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows, Task
from bertsmith.training.defaults import FEW_SHOT
from bertsmith.training.head_start import ProbeRows, start_head
from bertsmith.training.model import Parameters, count_parameters
from bertsmith.training.strategies import Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bertsmith.training.fit import Fitted

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Trained:
    """A run that came to its end: where it lies, and what its scores.json holds."""

    run: RunFolder
    scores: Mapping[str, Any]


def train(data: Any, *, out: Path, recipe: Recipe, force: bool = False, listener: Listener | None = None) -> Trained:
    """Take labelled text all the way to a model that can be used.

    Under torchrun every rank calls it; the first one speaks and writes, the others only train beside it.

    Args:
        data: A path, a table or a list; None where `recipe.read.dataset` names one on the Hub.
        out: Folder of the run.
        recipe: Every setting.
        force: Replace a run that is already at `out`.
        listener: Told a line a stage.

    Raises:
        BertsmithError: The data, the settings or the place will not do; nothing is left half written.
        StoppedError: Interrupted while training; `resume` goes on.
    """
    listener, clock = _speaker(listener), Clock()
    require_training()
    _require_chosen(recipe)
    if ranks.is_first():
        run_folder.check_free(out, force=force)
    pick_device(recipe.run.device)
    prepared = prepare(data, recipe=recipe, listener=listener, clock=clock, strict=True)
    prepared.findings.refuse_errors(prepared.examples.source)
    recipe = ranks.agree(resolved(recipe, prepared, data))
    model = build_model(prepared, recipe)
    _check_strategy(model, prepared, recipe)
    with clock.stage("long texts"):
        long: LongTexts = ranks.agree(choose_long_texts(model, prepared, recipe) if ranks.is_first() else None)
        recipe = recipe.changed({"long": long.way})
        telling.long_texts(listener, long)
    run = run_folder.create(out, force=force) if ranks.is_first() else RunFolder(out)
    return _train(prepared, recipe, model, run, listener=listener, clock=clock, long=long.as_json())


def resume(path: Path, *, listener: Listener | None = None) -> Trained:
    """Go on with a run that did not come to its end, as if it had never stopped.

    What comes before the training is done again, since it takes seconds and gives the same; the training itself goes
    on from its newest checkpoint that is whole.

    Args:
        path: Folder of the run.
        listener: Told a line a stage.

    Raises:
        UsageError: There is no run, or it has no data to go on with.
        DataError: The data are no longer what they were.
        StoppedError: Interrupted again.
    """
    listener, clock = _speaker(listener), Clock()
    run = run_folder.open_unfinished(path)
    if run.is_whole:
        listener.tell("resume", f"{path}: the run came to its end; nothing is left to do")
        return Trained(run, run.read_json(run.scores))
    recipe = Recipe.load(run.recipe)
    require_training()
    prepared = prepare(recipe.read.data or None, recipe=recipe, listener=listener, clock=clock, strict=True)
    stored = run.read_json(run.data)
    record.require_same(prepared.examples, stored["fingerprint"], run)
    model = build_model(prepared, recipe)
    return _train(prepared, recipe, model, run, listener=listener, clock=clock, long=stored["long"])


def _train(  # noqa: PLR0913 - the second half of the page
    prepared: Prepared,
    recipe: Recipe,
    model: PreTrainedModel,
    run: RunFolder,
    *,
    listener: Listener,
    clock: Clock,
    long: dict[str, Any],
) -> Trained:
    """Go from a prepared run to its end: all that depends on recipe and data alone."""
    task, labels = prepared.task, prepared.labels
    if not ranks.is_first():
        _train_beside(prepared, recipe, model, run)
        return Trained(run, {})
    run.clear_results()
    fingerprint = record.write_prepared(
        run, prepared.examples, prepared.splits, prepared.findings, task=task, labels=labels, recipe=recipe, long=long
    )
    if recipe.fit.adapt:
        with clock.stage("adapt"):
            prepared = adapted(prepared, recipe, run, listener)
            model = build_model(prepared, recipe)

    with clock.stage("encode"):
        sides = {side: encode(prepared, recipe, prepared.splits.sides[side], run.scratch / side) for side in SIDES}
        telling.encode(listener, sides["train"].encoded, prepared.max_length)
    with clock.stage("baselines"):
        with clock.stage("features"):
            features = features_of(model, sides, recipe, listener)
        rungs, told = _climb(task, sides, features, run=run, recipe=recipe, seconds=clock.stages["features"])
        telling.baselines(listener, rungs, told)
    with clock.stage("fit"):
        telling.model(listener, count_parameters(model, len(labels)), recipe)
        if (middle := rows_a_label(prepared)) <= FEW_SHOT and not recipe.fit.few_shot:
            telling.few_rows(listener, middle)
        if recipe.fit.few_shot:
            fitted = _fit_few(model, prepared, sides, recipe=recipe, run=run, listener=listener)
        else:
            learned, held = (ProbeRows(features[side].rows, features[side].head) for side in ("train", "validation"))
            start_head(model, task, learned, held, recipe)
            fitted = _fit(model, sides, task=task, recipe=recipe, run=run, listener=listener)
        parameters = count_parameters(model, len(labels))
        telling.fit(listener, fitted, recipe)
    with clock.stage("bundle"):
        info = _info(prepared, recipe, fingerprint)
        tokenizer = prepared.known_encoder.transformers_tokenizer()
        bundle.save(run.model, model, tokenizer, info=info, inputs=known_inputs(model))
    with clock.stage("evaluate"):
        answered = _answer(run, sides, recipe, listener)
        decision = task.decide(sides["calibration"], answered["calibration"]) if len(sides["calibration"]) else {}
        info = replace(info, decision=decision)
        bundle.write_info(run.model, info)
        test = judge(task, sides["test"], answered["test"], decision, seed=recipe.run.seed)
        telling.evaluate(listener, task, test, told)
        versus = against_ladder(task, sides["test"], answered["test"], decision, rungs, seed=recipe.run.seed)
    answers = {side: task.decode(sides[side], found, decision) for side, found in answered.items()}
    record.write_predictions(run, task, sides, answers, texts=recipe.run.texts)
    found = {
        **_model_summary(prepared, recipe, parameters, trained=fitted.trained_parameters),
        "data": record.data_summary(prepared.examples, prepared.splits),
        "test": test,
        "decision": decision,
        "baselines": ladder_summary(task, rungs, told, versus),
        "verdict": verdict(versus),
        "long": long,
        "training": fitted.as_json(),
        "seconds": clock.as_json(),
    }
    scores = record.write_scores(run, found)
    bundle.write_card(run.model, model_card(info, task, scores))
    run.finish()
    telling.done(listener, run, scores)
    return Trained(run, scores)


def _train_beside(prepared: Prepared, recipe: Recipe, model: PreTrainedModel, run: RunFolder) -> None:
    """Train in a rank that is not the first: no ladder, no head start (DDP brings the first rank's), no files."""
    if recipe.fit.adapt:
        prepared = adapted(prepared, recipe, run, Silent())
        model = build_model(prepared, recipe)
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            side: encode(prepared, recipe, prepared.splits.sides[side], Path(folder) / side)
            for side in ("train", "validation")
        }
        _fit(model, sides, task=prepared.task, recipe=recipe, run=run, listener=Silent())


def _speaker(listener: Listener | None) -> Listener:
    """Let the first rank speak."""
    return listener if listener is not None and ranks.is_first() else Silent()


def _require_chosen(recipe: Recipe) -> None:
    """Name a missing package or file of what the recipe asks for, likewise."""
    for name in recipe.run.trackers:
        encoders.require(name, what=f"the tracker {name}", extra=name)
    if recipe.fit.strategy == "lora":
        encoders.require("peft", what="the strategy lora", extra="lora")
    if recipe.fit.adapt:
        require_there(Path(recipe.fit.adapt))


def _check_strategy(model: PreTrainedModel, prepared: Prepared, recipe: Recipe) -> None:
    """Say what cannot be done before anything is written."""
    Strategy.of(recipe, model)
    if recipe.fit.few_shot:
        from bertsmith.training.fit_few import check_few

        check_few(recipe, prepared.task, pairs="text_pair" in prepared.examples)


def _climb(
    task: Task,
    sides: Mapping[str, Rows],
    features: Mapping[str, Featured],
    *,
    run: RunFolder,
    recipe: Recipe,
    seconds: float,
) -> tuple[list[Rung], list[dict[str, Any] | None]]:
    """Climb the cheap rungs on the same rows as the model, keep them, and score them."""
    given = {side: Side(each.rows, each.views, sides[side]) for side, each in features.items()}
    test, seed = sides["test"], recipe.run.seed
    rungs = climb(task, given, outputs=len(test.labels), seed=seed, features_seconds=seconds)
    save_rungs([rung for rung in rungs if recipe.run.texts or not rung.holds_words], run.baselines)
    return rungs, [judge(task, test, rung.probabilities, rung.decision, seed=seed) for rung in rungs]


def _fit(
    model: PreTrainedModel,
    sides: Mapping[str, Rows],
    *,
    task: Task,
    recipe: Recipe,
    run: RunFolder,
    listener: Listener,
) -> Fitted:
    from bertsmith.training.fit import fit

    return fit(model, sides["train"], sides["validation"], task=task, recipe=recipe, run=run, listener=listener)


def _fit_few(
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


def _answer(run: RunFolder, sides: Mapping[str, Rows], recipe: Recipe, listener: Listener) -> dict[str, Array]:
    """Load the bundle as a user would and answer every row that was not learned from: probabilities a side."""
    predictor = load(run.model, device=recipe.run.device)
    wanted = [side for side in SIDES if side != "train"]
    with listener.work("evaluate", sum(len(sides[side].encoded.window_lengths) for side in wanted)) as progress:
        return {side: predictor.probabilities_of(sides[side], done=progress.advance) for side in wanted}


def _info(prepared: Prepared, recipe: Recipe, fingerprint: str) -> BundleInfo:
    return BundleInfo(
        task=prepared.task.name,
        labels=prepared.labels.names,
        max_length=prepared.max_length,
        pair="text_pair" in prepared.examples,
        encoder=recipe.fit.encoder,
        fingerprint=fingerprint,
        columns=prepared.examples.columns.inputs().used(),
        versions=record.versions(),
        long="head" if recipe.text.long == "auto" else recipe.text.long,
        stride=int(recipe.text.stride),
        pooling=recipe.text.pooling,
    )


def _model_summary(prepared: Prepared, recipe: Recipe, parameters: Parameters, *, trained: int) -> dict[str, Any]:
    return {
        "task": prepared.task.name,
        "labels": list(prepared.labels.names),
        "model": {
            "encoder": recipe.fit.encoder,
            "parameters": parameters.total,
            "trainable_parameters": trained,
            "head": parameters.head,
            "max_length": prepared.max_length,
            "long": recipe.text.long,
        },
    }
