"""The whole path on one page. START HERE.

    read → check → split → encode → baselines → fit → bundle → evaluate

Each stage is a function that takes nouns and gives nouns; this page only calls them in their order, times
them, and says a line about each (`telling.py` words the lines, `record.py` writes the files).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith import bundle, encoders, record, run_folder, telling, threads
from bertsmith.baselines import Rung, Side, climb, save_rungs
from bertsmith.bundle import BundleInfo
from bertsmith.clock import Clock
from bertsmith.data.check import Lengths, check, choose_max_length, measure_lengths
from bertsmith.data.encode import Encoded, TokenEncoder
from bertsmith.data.near_duplicates import group_texts
from bertsmith.data.read import read
from bertsmith.data.split import Splits, split
from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError, MissingExtraError, RecipeError
from bertsmith.evaluation.ladder import against_ladder, judge, ladder_summary, verdict
from bertsmith.examples import SIDES, Examples, LabelSet
from bertsmith.findings import Findings
from bertsmith.inference.predictor import load
from bertsmith.inference.torch_engine import pick_device
from bertsmith.listener import Listener, Silent
from bertsmith.recipe import Recipe
from bertsmith.report.model_card import model_card
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Task, check_metric, task_named
from bertsmith.training.defaults import resolve
from bertsmith.training.frozen_features import Features, frozen_features
from bertsmith.training.head_start import ProbeRows, start_head
from bertsmith.training.model import Parameters, build, count_parameters

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from bertsmith.training.fit import Fitted

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prepared:
    """Examples that were read, checked and split, and the encoder that they are for.

    Attributes:
        examples: All rows.
        task: What is to be answered.
        labels: The label set of all rows.
        splits: The side of each row.
        findings: What check found.
        encoder: None where `check` runs without one on this machine.
        tokenizer: The encoder's.
        lengths: Tokens of each row; None without a tokenizer.
        max_length: Tokens that a row may have.
    """

    examples: Examples
    task: Task
    labels: LabelSet
    splits: Splits
    findings: Findings
    encoder: Encoder | None
    tokenizer: Tokenizer | None
    lengths: Lengths | None
    max_length: int

    @property
    def known_encoder(self) -> Encoder:
        """The encoder, where there has to be one.

        Raises:
            EncoderError: There is none.
        """
        if self.encoder is None:
            raise EncoderError("no encoder was found.", tip="Use --encoder minilm, or another one.")
        return self.encoder


@dataclass(frozen=True)
class Rows:
    """The rows of one side, as the stages need them."""

    examples: Examples
    encoded: Encoded
    targets: Array
    weights: Array


@dataclass(frozen=True)
class Trained:
    """A run that came to its end: where it lies, and what its scores.json holds."""

    run: RunFolder
    scores: Mapping[str, Any]


def prepare(
    data: Any, *, recipe: Recipe, listener: Listener | None = None, clock: Clock | None = None, strict: bool = False
) -> Prepared:
    """Read, check and split: everything before an encoder is trained.

    Args:
        data: A path, a table or a list; None where `recipe.read.dataset` names one on the Hub.
        recipe: Which columns, which shares, which encoder.
        listener: Told a line a stage.
        clock: Counts seconds.
        strict: True to refuse to go on without an encoder.

    Raises:
        BertsmithError: The data cannot be read or split, or the encoder is missing.
    """
    listener, clock = listener or Silent(), clock or Clock()
    threads.limit_libraries(threads.resolve(recipe.run.threads))
    task = task_named("single-label")
    check_metric(recipe.fit.metric, task)
    encoder, tokenizer = _find_encoder(recipe.fit.encoder, strict=strict)
    with clock.stage("read"):
        examples = read(data, recipe.read)
        labels = task.labels(examples)
        telling.read(listener, examples, labels)
    with clock.stage("check"):
        groups = group_texts(examples, seed=recipe.run.seed)
        lengths = None if tokenizer is None else measure_lengths(examples, tokenizer)
    with clock.stage("split"):
        splits = split(
            examples, strata=task.strata(examples), groups=groups, shares=recipe.split.shares, seed=recipe.run.seed
        )
    with clock.stage("check"):
        max_length = _max_length(recipe, encoder, lengths, splits)
        findings = check(examples, task=task, lengths=lengths, max_length=max_length, groups=groups, encoder=encoder)
        telling.check(listener, findings)
    telling.split(listener, splits, seed=recipe.run.seed)
    return Prepared(examples, task, labels, splits, findings, encoder, tokenizer, lengths, max_length)


def train(data: Any, *, out: Path, recipe: Recipe, force: bool = False, listener: Listener | None = None) -> Trained:
    """Take labelled text all the way to a model that can be used.

    Args:
        data: A path, a table or a list; None where `recipe.read.dataset` names one on the Hub.
        out: Folder of the run.
        recipe: Every setting.
        force: Replace a run that is already at `out`.
        listener: Told a line a stage.

    Raises:
        BertsmithError: The data, the settings or the place will not do; nothing is left half written.
    """
    listener, clock = listener or Silent(), Clock()
    _require_training()
    run_folder.check_free(out, force=force)
    pick_device(recipe.run.device)
    prepared = prepare(data, recipe=recipe, listener=listener, clock=clock, strict=True)
    prepared.findings.refuse_errors(prepared.examples.source)
    task, labels = prepared.task, prepared.labels
    recipe = _resolved(recipe, prepared, data)
    model = _build(prepared, recipe)
    run = run_folder.create(out, force=force)
    fingerprint = record.write_prepared(run, prepared.examples, labels, prepared.splits, prepared.findings, recipe)

    with clock.stage("encode"):
        sides = _encode(prepared, run)
        telling.encode(listener, sides["train"].encoded, prepared.max_length)
    with clock.stage("baselines"):
        with clock.stage("features"):
            features = _features(model, sides, labels, listener)
        rungs = _climb(
            task, sides, features, outputs=len(labels), seed=recipe.run.seed, features_seconds=clock.stages["features"]
        )
        save_rungs([rung for rung in rungs if recipe.run.texts or not rung.holds_words], run.baselines)
        told = [judge(task, rung.probabilities, sides["test"].targets, labels, seed=recipe.run.seed) for rung in rungs]
        telling.baselines(listener, rungs, told)
    with clock.stage("fit"):
        learned, held = (
            ProbeRows(features[side].head, sides[side].targets, sides[side].weights) for side in ("train", "validation")
        )
        start_head(model, task, learned, held, recipe)
        parameters = count_parameters(model, len(labels))
        telling.model(listener, parameters, recipe)
        fitted = _fit(model, sides, task=task, recipe=recipe, run=run, listener=listener)
        telling.fit(listener, fitted, recipe)
    with clock.stage("bundle"):
        info = _info(prepared, recipe, fingerprint)
        bundle.save(run.model, model, prepared.known_encoder.transformers_tokenizer(), info=info)
    with clock.stage("evaluate"):
        answered = _answer(run, sides, recipe, listener)
        test = judge(task, answered["test"], sides["test"].targets, labels, seed=recipe.run.seed)
        telling.evaluate(listener, test)
        versus = against_ladder(answered["test"], sides["test"].targets, rungs, seed=recipe.run.seed)
    answers = {side: task.decode(found, labels) for side, found in answered.items()}
    record.write_predictions(run, {side: sides[side].examples for side in answers}, answers, texts=recipe.run.texts)
    found = {
        **_model_summary(prepared, recipe, parameters),
        "data": record.data_summary(prepared.examples, prepared.splits),
        "test": test,
        "baselines": ladder_summary(rungs, told, versus),
        "verdict": verdict(versus),
        "training": fitted.as_json(),
        "seconds": clock.as_json(),
    }
    scores = record.write_scores(run, found)
    bundle.write_card(run.model, model_card(info, scores))
    run.finish()
    telling.done(listener, run, scores)
    return Trained(run, scores)


def _require_training() -> None:
    """Name a missing package before anything is read."""
    for package in ("torch", "transformers", "accelerate", "datasets"):
        encoders.require(package, what="training", extra="train")


def _find_encoder(name: str, *, strict: bool) -> tuple[Encoder | None, Tokenizer | None]:
    """Find the encoder; `check` goes on without one, and finds less."""
    try:
        encoder = encoders.find(name)
        return encoder, encoder.tokenizer()
    except (EncoderError, MissingExtraError):
        if strict:
            raise
        return None, None


def _max_length(recipe: Recipe, encoder: Encoder | None, lengths: Lengths | None, splits: Splits) -> int:
    """Take the max length that was asked for, or choose one that holds 99 % of the training rows."""
    limit = 512 if encoder is None else encoder.max_tokens
    wanted = recipe.text.max_length
    if wanted != "auto":
        if wanted > limit:
            raise RecipeError(
                f"'max_length' is {wanted}, but the encoder {recipe.fit.encoder} takes {limit} tokens at most.",
                tip=f"Use --max-length {limit}, or another encoder.",
            )
        return wanted
    return limit if lengths is None else choose_max_length(lengths.tokens[splits.sides["train"]], limit=limit)


def _resolved(recipe: Recipe, prepared: Prepared, data: Any) -> Recipe:
    """Replace every `auto`, and write down where the data lies, so that the recipe repeats the run."""
    found = resolve(
        recipe,
        prepared.known_encoder,
        rows=len(prepared.splits.sides["train"]),
        labels=len(prepared.labels),
        max_length=prepared.max_length,
    )
    paths = {"data": str(data) if isinstance(data, str | Path) else ""}
    paths |= {name: getattr(recipe.read, name) for name in ("validation", "test")}
    # A folder is what `find` took for one: a folder called like an encoder changes nothing.
    is_folder = prepared.known_encoder.folder == Path(recipe.fit.encoder)
    paths |= {"encoder": recipe.fit.encoder} if is_folder else {}
    return found.changed({name: str(Path(path).resolve()) for name, path in paths.items() if path})


def _encode(prepared: Prepared, run: RunFolder) -> dict[str, Rows]:
    """Turn every side into token ids and targets."""
    encoder = prepared.known_encoder
    tokens = TokenEncoder(encoder.tokenizer(), prepared.max_length, encoder.pad_id)
    sides = {}
    for side in SIDES:
        rows = prepared.examples.take(prepared.splits.sides[side])
        pairs = rows.column("text_pair") if "text_pair" in rows else None
        encoded = tokens.encode(rows.column("text"), pairs, spill=run.scratch / f"{side}.arrow")
        weights = rows.column("weight").to_numpy() if "weight" in rows else np.ones(len(rows))
        sides[side] = Rows(rows, encoded, prepared.task.targets(rows, prepared.labels), weights)
    return sides


def _build(prepared: Prepared, recipe: Recipe) -> PreTrainedModel:
    """Build the model; its head's random weights come from the seed."""
    import torch
    import transformers

    torch.set_num_threads(int(recipe.run.threads))
    transformers.set_seed(recipe.run.seed)
    dropout = None if recipe.fit.dropout == "auto" else recipe.fit.dropout
    model = build(
        prepared.task, prepared.known_encoder, prepared.labels, dropout=dropout, max_length=prepared.max_length
    )
    return model.to(torch.device(recipe.run.device))


def _features(
    model: PreTrainedModel, sides: Mapping[str, Rows], labels: LabelSet, listener: Listener
) -> dict[str, Features]:
    """Compute frozen features of all sides but calibration, which the ladder has no use for."""
    wanted = [side for side in SIDES if side != "calibration"]
    with listener.work("features", sum(len(sides[side].encoded) for side in wanted)) as progress:
        return {
            side: frozen_features(model, sides[side].encoded, outputs=len(labels), done=progress.advance)
            for side in wanted
        }


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
    from bertsmith.training.trainer import TrainingRows

    learned, held = (
        TrainingRows(each.encoded, each.targets, each.weights) for each in (sides["train"], sides["validation"])
    )
    return fit(model, learned, held, task=task, recipe=recipe, run=run, listener=listener)


def _answer(run: RunFolder, sides: Mapping[str, Rows], recipe: Recipe, listener: Listener) -> dict[str, Array]:
    """Load the bundle as a user would and answer every row that was not learned from: probabilities a side."""
    predictor = load(run.model, device=recipe.run.device)
    wanted = [side for side in SIDES if side != "train"]
    with listener.work("evaluate", sum(len(sides[side].encoded) for side in wanted)) as progress:
        return {
            side: predictor.task.probabilities(predictor.logits_of(sides[side].encoded, done=progress.advance))
            for side in wanted
        }


def _info(prepared: Prepared, recipe: Recipe, fingerprint: str) -> BundleInfo:
    columns = {part: name for part, name in prepared.examples.columns.used().items() if part in {"text", "text_pair"}}
    return BundleInfo(
        task=prepared.task.name,
        labels=prepared.labels.names,
        max_length=prepared.max_length,
        pair="text_pair" in prepared.examples,
        encoder=recipe.fit.encoder,
        fingerprint=fingerprint,
        columns=columns,
        versions=record.versions(),
    )


def _climb(
    task: Task,
    sides: Mapping[str, Rows],
    features: Mapping[str, Features],
    *,
    outputs: int,
    seed: int,
    features_seconds: float,
) -> list[Rung]:
    """Climb the cheap rungs of the ladder on the same rows as the model."""
    views = {side: {"cls": found.head, "mean": found.mean} for side, found in features.items()}
    given = {
        side: Side(
            texts=rows.examples.column("text"),
            targets=rows.targets,
            weights=rows.weights,
            features=views[side],
            pairs=rows.examples.column("text_pair") if "text_pair" in rows.examples else None,
        )
        for side, rows in sides.items()
        if side in views
    }
    return climb(task, given, outputs=outputs, seed=seed, features_seconds=features_seconds)


def _model_summary(prepared: Prepared, recipe: Recipe, parameters: Parameters) -> dict[str, Any]:
    return {
        "task": prepared.task.name,
        "labels": list(prepared.labels.names),
        "model": {
            "encoder": recipe.fit.encoder,
            "parameters": parameters.total,
            "trainable_parameters": parameters.trainable,
            "head": parameters.head,
            "max_length": prepared.max_length,
        },
    }
