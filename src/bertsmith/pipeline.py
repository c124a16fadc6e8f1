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
from bertsmith.clock import Clock
from bertsmith.data.check import Lengths, check, choose_max_length, measure_lengths
from bertsmith.data.encode import Encoded, TokenEncoder
from bertsmith.data.near_duplicates import group_texts
from bertsmith.data.read import read
from bertsmith.data.split import Splits, split
from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError, MissingExtraError
from bertsmith.evaluation.scores import Scores, score
from bertsmith.examples import SIDES, Examples, LabelSet
from bertsmith.findings import Findings
from bertsmith.listener import Listener, Silent
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Task, check_metric, task_named

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

    from bertsmith.training.fit import Fitted
    from bertsmith.training.frozen_features import Features

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


@dataclass(frozen=True)
class Trained:
    """A run that came to its end."""

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
    with clock.stage("read"):
        examples = read(data, recipe.read)
        labels = task.labels(examples)
        telling.read(listener, examples, labels)
    with clock.stage("check"):
        encoder, tokenizer = _find_encoder(recipe.fit.encoder, strict=strict)
        groups = group_texts(examples, seed=recipe.run.seed)
        lengths = None if tokenizer is None else measure_lengths(examples, tokenizer)
    with clock.stage("split"):
        splits = split(
            examples, strata=task.strata(examples), groups=groups, shares=recipe.split.shares, seed=recipe.run.seed
        )
    with clock.stage("check"):
        max_length = _max_length(recipe, encoder, lengths, splits)
        findings = check(
            examples, task=task, lengths=lengths, max_length=max_length, groups=groups, encoder=encoder
        )
        telling.check(listener, findings)
    telling.split(listener, splits, seed=recipe.run.seed)
    return Prepared(examples, task, labels, splits, findings, encoder, tokenizer, lengths, max_length)


def train(
    data: Any, *, out: Path, recipe: Recipe, force: bool = False, listener: Listener | None = None
) -> Trained:
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
    recipe = _with_source(recipe, data)
    prepared = prepare(data, recipe=recipe, listener=listener, clock=clock, strict=True)
    telling.refuse_errors(prepared.findings)
    examples, task, labels, splits = prepared.examples, prepared.task, prepared.labels, prepared.splits
    run = run_folder.create(out, force=force)
    assert prepared.encoder is not None and prepared.tokenizer is not None  # noqa: S101, PT018 - strict above
    recipe = _resolved(recipe, prepared)
    record.write_prepared(run, recipe, examples, labels, splits=splits, findings=prepared.findings)

    with clock.stage("encode"):
        sides = _encode(prepared, recipe, run)
        telling.encode(listener, sides["train"].encoded, prepared.max_length)
    with clock.stage("baselines"):
        model = _build(task, prepared.encoder, labels, recipe)
        features = _features(model, sides, labels, listener)
        ladder = climb(task, _rung_sides(sides, features), labels=labels, seed=recipe.run.seed)
        save_rungs(ladder, run.baselines)
        telling.baselines(listener, [judged.as_told() for judged in ladder])
    with clock.stage("fit"):
        _start_head(model, task, sides["train"], features["train"], recipe)
        telling.model(listener, count_parameters(model, len(labels)), recipe)
        fitted = _fit(model, task, sides, recipe, run=run, listener=listener)
        telling.fit(listener, fitted, recipe)
    with clock.stage("bundle"):
        bundle.save(run.model, model, prepared.encoder.transformers_tokenizer(), info=_info(prepared, recipe))
    with clock.stage("evaluate"):
        answered = _answer(run, sides, recipe, listener)
        ...

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
