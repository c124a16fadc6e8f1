"""The whole path on one page. START HERE.

    read → check → split → (long texts) → encode → baselines → fit → calibrate → bundle → decide → evaluate → report

Each stage is a function that takes nouns and gives nouns; this page only calls them in their order, times
them, and says a line about each (`telling.py` words the lines, `record.py` writes the files).
"""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith import bundle, encoders, ranks, record, run_folder, telling
from bertsmith.assessing import Tested, assess, marked_words, suspects_among
from bertsmith.atomic import write_text
from bertsmith.baselines import Rung, Side, climb, save_rungs
from bertsmith.bundle import BundleInfo
from bertsmith.clock import Clock
from bertsmith.data.files import require_there
from bertsmith.data.foreign import share_out
from bertsmith.deciding import Decided, Foreign, decide
from bertsmith.drift.reference import Reference
from bertsmith.errors import RecipeError
from bertsmith.evaluation import accept_rule
from bertsmith.evaluation.calibration import fit_temperature
from bertsmith.evaluation.ladder import against_ladder, judge, ladder_summary, verdict
from bertsmith.evaluation.seeds import spread
from bertsmith.examples import SIDES
from bertsmith.feedback.corrections import now
from bertsmith.inference.loading import load
from bertsmith.inference.torch_engine import known_inputs, logits, pick_device
from bertsmith.learning import compared_metrics, learn, other_seeds
from bertsmith.listener import Listener, Silent
from bertsmith.long_texts import LongTexts
from bertsmith.prepare import (
    Featured,
    Prepared,
    adapted,
    build_model,
    choose_long_texts,
    encode,
    encode_unlabelled,
    features_of,
    prepare,
    require_training,
    resolved,
    rows_a_label,
)
from bertsmith.recipe import Recipe
from bertsmith.report.definitions import definitions
from bertsmith.report.html import render
from bertsmith.report.lengths import length_figures
from bertsmith.report.model_card import model_card
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Answer, Rows, Task
from bertsmith.training.defaults import FEW_SHOT
from bertsmith.training.model import Parameters, count_parameters
from bertsmith.training.strategies import Strategy
from bertsmith.training.temperature import fold

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
    if recipe.read.add and not recipe.read.add_before:
        # A store may grow meanwhile; the run, its repetition and its resumption read the same corrections.
        recipe = ranks.agree(recipe.changed({"add_before": now()}))
    _require_chosen(recipe)
    if ranks.is_first():
        run_folder.check_free(out, force=force)
    pick_device(recipe.run.device)
    prepared = prepare(data, recipe=recipe, listener=listener, clock=clock, strict=True)
    prepared.findings.refuse_errors(prepared.examples.source)
    _check_seeds(prepared, recipe)
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
    prepared = replace(prepared, examples=record.as_named(prepared.examples, run))
    model = build_model(prepared, recipe)
    return _train(prepared, recipe, model, run, listener=listener, clock=clock, long=stored["long"])


@dataclass(frozen=True)
class _Made:
    """What training made, besides the bundle on disk."""

    fitted: Fitted
    parameters: Parameters
    temperature: float
    features: Mapping[str, Featured]
    words: bool
    rungs: Sequence[Rung]
    told: Sequence[dict[str, Any] | None]
    others: Mapping[int, dict[str, float]] | None

    @property
    def kept(self) -> list[str]:
        """The rungs that lie in the run, usable."""
        return [rung.name for rung in self.rungs if self.words or not rung.holds_words]


def _train(  # noqa: PLR0913 - the second third of the page
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
    before = record.history_of(run)
    with clock.stage("fit"):
        telling.model(listener, count_parameters(model, len(labels)), recipe)
        if (middle := rows_a_label(prepared)) <= FEW_SHOT and not recipe.fit.few_shot:
            telling.few_rows(listener, middle)
        fitted = learn(model, prepared, sides, features, recipe=recipe, run=run, listener=listener)
        parameters = count_parameters(model, len(labels))
        telling.fit(listener, fitted, recipe)
    # What an earlier process trained, and this one went on with, is a part of the run.
    clock.add("fit", record.seconds_kept(before, record.history_of(run)))
    others = None
    if ranks.count() > 1:
        # The other ranks are here and would wait for all that follows.
        with clock.stage("seeds"):
            others = other_seeds(prepared, sides, recipe=recipe, run=run, listener=listener)
    with clock.stage("calibrate"):
        temperature = _calibrate(model, task, sides["validation"])
    with clock.stage("bundle"):
        info = _info(prepared, recipe, fingerprint)
        tokenizer = prepared.known_encoder.transformers_tokenizer()
        # It gets its place when its thresholds are in it: whoever loads RUN/model before finds none.
        shutil.rmtree(_staged(run), ignore_errors=True)
        bundle.save(_staged(run), model, tokenizer, info=info, inputs=known_inputs(model))
    made = _Made(fitted, parameters, temperature, features, recipe.run.texts, rungs, told, others)
    return _account(prepared, recipe, run, sides, made, listener=listener, clock=clock, long=long)


def _account(  # noqa: PLR0913 - the last third of the page
    prepared: Prepared,
    recipe: Recipe,
    run: RunFolder,
    sides: Mapping[str, Rows],
    made: _Made,
    *,
    listener: Listener,
    clock: Clock,
    long: dict[str, Any],
) -> Trained:
    """Choose when the model declines, and write down how good it is, when it is sure, and where it fails."""
    task, test, seed = prepared.task, sides["test"], recipe.run.seed
    with clock.stage("decide"):
        decided = _decide(prepared, sides, recipe, run, listener)
        info, given, answers = decided.predictor.info, decided.given["test"], decided.answers(sides)
        _complete(run, decided, sides, answers)
    with clock.stage("evaluate"):
        scored = judge(task, test, given.probabilities, info.decision, seed=seed)
        telling.evaluate(listener, task, scored, made.told)
        versus = against_ladder(task, test, given.probabilities, info.decision, made.rungs, seed=seed)
        tested = Tested(task, test, given, answers["test"], info.decision)
        assessed = assess(tested, temperature=made.temperature, texts=recipe.run.texts, seed=seed)
        marked_words(assessed["errors"], decided.predictor)
        assessed |= {
            "decide": decided.acceptance(test),
            "out_of_scope": decided.out_of_scope(),
        }
        assessed["suspects"] = _suspects(made.features, recipe, run, listener, clock)
        telling.trust(listener, assessed)
    record.write_predictions(run, task, sides, answers, texts=recipe.run.texts)
    found = {
        **_model_summary(prepared, recipe, made.parameters, trained=made.fitted.trained_parameters),
        "data": record.data_summary(prepared.examples, prepared.splits),
        "test": scored,
        "decision": info.decision,
        "baselines": ladder_summary(task, made.rungs, made.told, versus),
        "verdict": verdict(versus, kept=made.kept),
        **assessed,
        "seeds": None,
        "lengths": _lengths(prepared, sides["train"]),
        "long": long,
        "training": made.fitted.as_json() | {"metric": recipe.fit.metric},
        "seconds": clock.as_json(),
    }
    scores = _publish(run, info, task, found)
    if recipe.run.seeds > 1:
        # The model is done; that its seeds take long must not keep it waiting.
        with clock.stage("seeds"):
            found["seeds"] = _seeds(prepared, sides, scored, made.others, recipe=recipe, run=run, listener=listener)
        scores = _publish(run, info, task, {**found, "seconds": clock.as_json()})
    run.finish()
    telling.done(listener, run, scores)
    return Trained(run, scores)


def _publish(run: RunFolder, info: BundleInfo, task: Task, found: Mapping[str, Any]) -> dict[str, Any]:
    """Write scores.json, the model card and the report."""
    scores = record.write_scores(run, {**found, "definitions": definitions(found)})
    bundle.write_card(run.model, model_card(info, task, scores))
    write_text(run.report, _report(run, scores))
    return scores


def _report(run: RunFolder, scores: Mapping[str, Any]) -> str:
    """Render report.html from what the run has written."""
    return render(
        scores,
        history=[json.loads(line) for line in run.history.read_text(encoding="utf-8").splitlines()],
        findings=run.read_json(run.findings)["findings"],
        recipe=run.recipe.read_text(encoding="utf-8"),
        environment={"machine": f"{platform.system()} {platform.machine()}", **record.versions()},
    )


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
        learn(model, prepared, sides, None, recipe=recipe, run=run, listener=Silent())
        other_seeds(prepared, sides, recipe=recipe, run=run, listener=Silent())


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
    accept_rule.parse(recipe.decide.accept)


def _check_seeds(prepared: Prepared, recipe: Recipe) -> None:
    """Refuse to train again and again where nothing could be told of it."""
    if recipe.run.seeds > 1 and not len(prepared.splits.sides["test"]):
        raise RecipeError(
            f"'seeds' is {recipe.run.seeds}, but there are no test rows that could tell the models apart.",
            tip="Leave some with --shares, give a --test file, or train with one seed.",
        )


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


def _calibrate(model: PreTrainedModel, task: Task, validation: Rows) -> float:
    """Fit the temperature on validation rows, and fold it into the head, so that whoever loads the model has it."""
    temperature = fit_temperature(task, validation, logits(model, validation.encoded)) if len(validation) else 1.0
    fold(model, model.config.num_labels, temperature)
    return temperature


def _decide(
    prepared: Prepared, sides: Mapping[str, Rows], recipe: Recipe, run: RunFolder, listener: Listener
) -> Decided:
    """Load the bundle as a user would, answer every row that was not learned from, and choose when it declines."""
    predictor = load(_staged(run), device=recipe.run.device, engine="torch")
    foreign = _foreign(prepared, recipe)
    asked = [rows for side, rows in sides.items() if side != "train"]
    with listener.work("decide", sum(len(rows.encoded.window_lengths) for rows in asked)) as progress:
        return decide(
            predictor,
            sides,
            foreign,
            together={side: prepared.splits.together[rows] for side, rows in prepared.splits.sides.items()},
            settings=recipe.decide,
            seed=recipe.run.seed,
            done=progress.advance,
        )


def _foreign(prepared: Prepared, recipe: Recipe) -> Foreign | None:
    """Encode the rows that belong to none of the labels, and share them out."""
    if prepared.foreign is None:
        return None
    given = np.array(prepared.examples.column("given").is_null().to_numpy())
    own = {side: int(given[rows].sum()) for side, rows in prepared.splits.sides.items()}
    shares = share_out(prepared.foreign, own, seed=recipe.run.seed)
    parts = (prepared.foreign.take(rows) for rows in (shares.sets, shares.calibration, shares.test))
    return Foreign(*(encode_unlabelled(prepared, recipe, part) for part in parts))


def _complete(
    run: RunFolder, decided: Decided, sides: Mapping[str, Rows], answers: Mapping[str, Sequence[Answer]]
) -> None:
    """Put into the bundle what is known only now: scope, thresholds, and what the rows were like; give it its place."""
    predictor, folder = decided.predictor, _staged(run)
    if predictor.scope is not None:
        predictor.scope.save(folder)
    reference = Reference.of(sides, answers, task=predictor.task, tokenizer=predictor.tokens.tokenizer)
    reference.save(folder)
    bundle.write_info(folder, predictor.info)
    folder.replace(run.model)


def _staged(run: RunFolder) -> Path:
    """Where the bundle lies until it knows when to decline."""
    return run.scratch / "model"


def _suspects(
    features: Mapping[str, Featured], recipe: Recipe, run: RunFolder, listener: Listener, clock: Clock
) -> dict[str, Any] | None:
    """Look for labels that are probably wrong, and write them down to be mended."""
    with clock.stage("suspects"):
        found = suspects_among(features, seed=recipe.run.seed, texts=recipe.run.texts)
    if isinstance(found, str):
        listener.tell("suspects", found)
        return None
    return None if found is None else record.write_suspects(run, found)


def _seeds(  # noqa: PLR0913 - what is known, and what every stage is told
    prepared: Prepared,
    sides: Mapping[str, Rows],
    test: Mapping[str, Any] | None,
    others: Mapping[int, dict[str, float]] | None,
    *,
    recipe: Recipe,
    run: RunFolder,
    listener: Listener,
) -> dict[str, Any]:
    """Train for the other seeds too, where that is still to be done, and say how far their scores go apart."""
    if others is None:
        others = other_seeds(prepared, sides, recipe=recipe, run=run, listener=listener)
    found = spread({recipe.run.seed: compared_metrics(prepared, test), **others}, shares=prepared.task.shares)
    listener.tell("seeds", found.sentence)
    return found.as_json()


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


def _lengths(prepared: Prepared, train: Rows) -> dict[str, Any] | None:
    """Say how long the training rows are, and what of them is cut."""
    if prepared.lengths is None:
        return None
    return length_figures(prepared.lengths.tokens[prepared.splits.sides["train"]], train.encoded.tokens_cut)


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
