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

from bertsmith import bundle, encoders, ranks, record, run_folder, telling, threads
from bertsmith.baselines import Rung, Side, climb, sample_rows, save_rungs
from bertsmith.bundle import BundleInfo
from bertsmith.clock import Clock
from bertsmith.data.check import Lengths, check, choose_max_length, measure_lengths
from bertsmith.data.encode import TokenEncoder
from bertsmith.data.files import require_there
from bertsmith.data.near_duplicates import group_texts
from bertsmith.data.read import read
from bertsmith.data.roles import asked_task, levels_of, task_of
from bertsmith.data.split import Splits, split
from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError, MissingExtraError, RecipeError
from bertsmith.evaluation.ladder import against_ladder, judge, ladder_summary, verdict
from bertsmith.examples import SIDES, Examples, LabelSet
from bertsmith.findings import Findings
from bertsmith.inference.predictor import load
from bertsmith.inference.torch_engine import known_inputs, pick_device
from bertsmith.listener import Listener, Silent
from bertsmith.long_texts import FEW, TRIED, LongTexts, choose, trial_rows
from bertsmith.recipe import Recipe
from bertsmith.report.model_card import model_card
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows, Task, check_metric, task_named
from bertsmith.training.defaults import FEW_SHOT, epochs_for, resolve
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.head_start import ProbeRows, start_head
from bertsmith.training.model import Parameters, build, count_parameters
from bertsmith.training.strategies import Strategy

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
    encoder, tokenizer = _find_encoder(recipe.fit.encoder, strict=strict)
    with clock.stage("read"):
        examples = read(data, recipe.read)
        task = task_named(task_of(examples, recipe.read), levels=levels_of(recipe.read))
        if recipe.fit.metric != "auto":
            check_metric(recipe.fit.metric, task)
        labels = task.labels(examples)
        telling.read(listener, examples, task.told(examples, labels), task=_named(task, recipe))
    with clock.stage("check"):
        groups = group_texts(examples, seed=recipe.run.seed)
        lengths = None if tokenizer is None else measure_lengths(examples, tokenizer)
    with clock.stage("split"):
        splits = split(
            examples, strata=task.strata(examples), groups=groups, shares=recipe.split.shares, seed=recipe.run.seed
        )
    with clock.stage("check"):
        max_length = _max_length(recipe, encoder, lengths, splits)
        findings = check(
            examples,
            task=task,
            lengths=lengths,
            max_length=max_length,
            groups=groups,
            encoder=encoder,
            windows=task.unit != "row" or recipe.text.long == "windows",
        )
        telling.check(listener, findings)
    telling.split(listener, splits, seed=recipe.run.seed)
    return Prepared(examples, task, labels, splits, findings, encoder, tokenizer, lengths, max_length)


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
    _require_training()
    _require_chosen(recipe)
    if ranks.is_first():
        run_folder.check_free(out, force=force)
    pick_device(recipe.run.device)
    prepared = prepare(data, recipe=recipe, listener=listener, clock=clock, strict=True)
    prepared.findings.refuse_errors(prepared.examples.source)
    recipe = ranks.agree(_resolved(recipe, prepared, data))
    model = _build(prepared, recipe)
    _check_strategy(model, prepared, recipe)
    with clock.stage("long texts"):
        long: LongTexts = ranks.agree(_long_texts(model, prepared, recipe) if ranks.is_first() else None)
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
    _require_training()
    prepared = prepare(recipe.read.data or None, recipe=recipe, listener=listener, clock=clock, strict=True)
    stored = run.read_json(run.data)
    record.require_same(prepared.examples, stored["fingerprint"], run)
    model = _build(prepared, recipe)
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
            prepared = _adapted(prepared, recipe, run, listener)
            model = _build(prepared, recipe)

    with clock.stage("encode"):
        sides = {side: _encode(prepared, recipe, prepared.splits.sides[side], run.scratch / side) for side in SIDES}
        telling.encode(listener, sides["train"].encoded, prepared.max_length)
    with clock.stage("baselines"):
        with clock.stage("features"):
            features = _features(model, sides, recipe, listener)
        rungs, told = _climb(task, sides, features, run=run, recipe=recipe, seconds=clock.stages["features"])
        telling.baselines(listener, rungs, told)
    with clock.stage("fit"):
        telling.model(listener, count_parameters(model, len(labels)), recipe)
        if (middle := _rows_a_label(prepared)) <= FEW_SHOT and not recipe.fit.few_shot:
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
        prepared = _adapted(prepared, recipe, run, Silent())
        model = _build(prepared, recipe)
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            side: _encode(prepared, recipe, prepared.splits.sides[side], Path(folder) / side)
            for side in ("train", "validation")
        }
        _fit(model, sides, task=prepared.task, recipe=recipe, run=run, listener=Silent())


def _adapted(prepared: Prepared, recipe: Recipe, run: RunFolder, listener: Listener) -> Prepared:
    """Let the encoder first learn masked words from raw texts; once a run."""
    from bertsmith.masked.adapt import Settings, adapt

    if ranks.is_first() and not (run.encoder / "config.json").is_file():
        adapt(
            recipe.fit.adapt,
            out=run.encoder,
            settings=Settings(
                encoder=recipe.fit.encoder,
                max_length=min(Settings.max_length, prepared.known_encoder.max_tokens),
                seed=recipe.run.seed,
            ),
            encoding=recipe.read.encoding,
            device=recipe.run.device,
            threads_wanted=recipe.run.threads,
            listener=listener,
        )
    ranks.wait()
    return replace(prepared, encoder=encoders.find(str(run.encoder)))


def _speaker(listener: Listener | None) -> Listener:
    """Let the first rank speak."""
    return listener if listener is not None and ranks.is_first() else Silent()


def _named(task: Task, recipe: Recipe) -> str:
    """Name the task, and say where it was not asked for."""
    return task.name if asked_task(recipe.read) else f"{task.name}, told from the data (--task takes another)"


def _require_training() -> None:
    """Name a missing package before anything is read."""
    for package in ("torch", "transformers", "accelerate", "datasets"):
        encoders.require(package, what="training", extra="train")


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


def _rows_a_label(prepared: Prepared) -> float:
    """Count the training rows of the label in the middle; infinite where `--few-shot` is nothing for the task."""
    if not prepared.task.named or "text_pair" in prepared.examples:
        return float("inf")
    train = prepared.examples.take(prepared.splits.sides["train"])
    return float(np.median([*prepared.task.counts(train, prepared.labels).values()]))


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
    pairs = prepared.task.unit == "row" and "text_pair" in prepared.examples
    epochs = epochs_for(len(prepared.splits.sides["train"]), labels=len(prepared.labels), pairs=pairs)
    found = resolve(
        recipe,
        prepared.known_encoder,
        epochs=epochs,
        max_length=prepared.max_length,
        metric=prepared.task.stop_metric,
    )
    paths = {"data": str(data) if isinstance(data, str | Path) else ""}
    paths |= {name: getattr(recipe.read, name) for name in ("validation", "test")}
    paths |= {"adapt": recipe.fit.adapt}
    # A folder is what `find` took for one: a folder called like an encoder changes nothing.
    is_folder = prepared.known_encoder.folder == Path(recipe.fit.encoder)
    paths |= {"encoder": recipe.fit.encoder} if is_folder else {}
    there = {name: str(Path(path).resolve()) for name, path in paths.items() if path}
    return found.changed({**there, "task": prepared.task.name})


def _encode(prepared: Prepared, recipe: Recipe, positions: Array, spill: Path | None = None) -> Rows:
    """Turn rows into token ids and targets."""
    tokens, examples = _tokens(prepared, recipe), prepared.examples.take(positions)
    pairs, words = (examples.column(name) if name in examples else None for name in ("text_pair", "words"))
    file = None if spill is None else spill.with_suffix(".arrow")
    encoded = tokens.encode(examples.column("text"), pairs, words=words, spill=file)
    weights = examples.column("weight").to_numpy() if "weight" in examples else np.ones(len(examples))
    targets = prepared.task.targets(examples, encoded, prepared.labels)
    return Rows(examples, encoded, targets, weights, prepared.labels)


def _tokens(prepared: Prepared, recipe: Recipe) -> TokenEncoder:
    encoder = prepared.known_encoder
    return TokenEncoder(
        encoder.tokenizer(),
        prepared.max_length,
        encoder.pad_id,
        units=prepared.task.unit,
        long="head" if recipe.text.long == "auto" else recipe.text.long,
        stride=int(recipe.text.stride),
        pooling=recipe.text.pooling,
    )


def _long_texts(model: PreTrainedModel, prepared: Prepared, recipe: Recipe) -> LongTexts:
    """Choose how long texts are read, where there are enough of them and nothing was asked for."""
    if prepared.task.unit != "row":
        return LongTexts("windows")
    if recipe.text.long != "auto":
        return LongTexts(recipe.text.long)
    train, validation = (prepared.splits.sides[side] for side in TRIED)
    longer = 0.0 if prepared.lengths is None else (prepared.lengths.tokens[train] > prepared.max_length).mean()
    if longer <= FEW or not len(validation):
        return LongTexts("head")
    positions = {
        side: trial_rows(rows, side, seed=recipe.run.seed)
        for side, rows in zip(TRIED, (train, validation), strict=True)
    }
    return choose(
        model,
        prepared.task,
        lambda way, side: _encode(prepared, recipe.changed({"long": way}), positions[side]),
        budget=recipe.text.long_budget,
        seed=recipe.run.seed,
    )


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


@dataclass(frozen=True)
class _Featured:
    """Rows with what the frozen encoder says of them."""

    rows: Rows
    head: Array
    views: Mapping[str, Array]


def _features(
    model: PreTrainedModel, sides: Mapping[str, Rows], recipe: Recipe, listener: Listener
) -> dict[str, _Featured]:
    """Compute frozen features: of the test rows all, of the others no more than a linear model learns from."""
    wanted = {}
    for side, rows in sides.items():
        drawn = np.arange(len(rows)) if side == "test" else sample_rows(rows, seed=recipe.run.seed)
        wanted[side] = rows if len(drawn) == len(rows) else rows.take(drawn)
    found = {}
    with listener.work("features", sum(len(rows.encoded.window_lengths) for rows in wanted.values())) as progress:
        for side, rows in wanted.items():
            each = frozen_features(model, rows.encoded, outputs=len(rows.labels), done=progress.advance)
            found[side] = _Featured(rows, each.head, each.views())
    return found


def _climb(
    task: Task,
    sides: Mapping[str, Rows],
    features: Mapping[str, _Featured],
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

    names = _tokens(prepared, recipe).encode(pa.chunked_array([pa.array(name_texts(prepared.labels.names))]))
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
