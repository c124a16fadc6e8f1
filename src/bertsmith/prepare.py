"""Examples prepared for an encoder, and what is made of them: rows of token ids, a model, frozen features.

read → check → split, then encode and build, as often as a run, a trial or a tuning asks for them
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith import encoders, ranks, telling, threads
from bertsmith.baselines import sample_rows
from bertsmith.clock import Clock
from bertsmith.data.added_rows import add_rows
from bertsmith.data.check import Lengths, check, choose_max_length, measure_lengths
from bertsmith.data.encode import TokenEncoder
from bertsmith.data.foreign import set_apart
from bertsmith.data.near_duplicates import group_texts
from bertsmith.data.read import read
from bertsmith.data.relabel import relabel
from bertsmith.data.roles import asked_task, levels_of, task_of
from bertsmith.data.split import Splits, split
from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError, MissingExtraError, RecipeError
from bertsmith.examples import Examples, LabelSet
from bertsmith.feedback.corrections import corrections
from bertsmith.feedback.places import lasting
from bertsmith.findings import Findings
from bertsmith.listener import Listener, Silent
from bertsmith.long_texts import FEW, TRIED, LongTexts, choose, trial_rows
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows, Task, check_metric, task_named
from bertsmith.training.defaults import epochs_for, resolve
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.model import build

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

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
        foreign: Rows of the label that means "none of these" (`out_of_scope_label`); None without such a label.
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
    foreign: Examples | None = None

    @property
    def known_encoder(self) -> Encoder:
        """The encoder, where there has to be one.

        Raises:
            EncoderError: There is none.
        """
        if self.encoder is None:
            raise EncoderError("no encoder was found.", tip="Use --encoder minilm, or another one.")
        return self.encoder


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
        if recipe.read.relabel:
            examples = relabel(examples, recipe.read.relabel, role=task.role, encoding=recipe.read.encoding)
        examples, foreign = set_apart(examples, recipe.decide.out_of_scope_label)
        if recipe.fit.metric != "auto":
            check_metric(recipe.fit.metric, task)
        labels = task.labels(examples)
        telling.read(listener, examples, task.told(examples, labels), task=_named(task, recipe))
        if foreign is not None:
            telling.set_apart(listener, foreign, recipe.decide.out_of_scope_label)
        if recipe.read.relabel:
            telling.relabelled(listener)
    with clock.stage("check"):
        groups = group_texts(examples, seed=recipe.run.seed)
    with clock.stage("split"):
        splits = split(
            examples,
            strata=task.strata(examples),
            groups=groups,
            shares=recipe.split.shares,
            seed=recipe.run.seed,
            calibrates=task.calibrates,
        )
        if recipe.read.add:
            given = corrections(recipe.read.add, before=recipe.read.add_before, encoding=recipe.read.encoding)
            added = add_rows(examples, splits, given, labels=labels, seed=recipe.run.seed)
            examples, splits, groups = added.examples, added.splits, added.groups
    with clock.stage("check"):
        lengths = None if tokenizer is None else measure_lengths(examples, tokenizer)
        max_length = max_length_of(recipe, encoder, lengths, splits)
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
    return Prepared(examples, task, labels, splits, findings, encoder, tokenizer, lengths, max_length, foreign)


def require_training() -> None:
    """Name a missing package before anything is read."""
    for package in ("torch", "transformers", "accelerate", "datasets"):
        encoders.require(package, what="training", extra="train")


def resolved(recipe: Recipe, prepared: Prepared, data: Any) -> Recipe:
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
    paths |= {name: getattr(recipe.read, name) for name in ("validation", "test", "relabel")}
    paths |= {"adapt": recipe.fit.adapt}
    # A folder is what `find` took for one: a folder called like an encoder changes nothing.
    is_folder = prepared.known_encoder.folder == Path(recipe.fit.encoder)
    paths |= {"encoder": recipe.fit.encoder} if is_folder else {}
    there = {name: str(Path(path).resolve()) for name, path in paths.items() if path}
    there |= {"add": lasting(recipe.read.add)} if recipe.read.add else {}
    return found.changed({**there, "task": prepared.task.name})


def encode(prepared: Prepared, recipe: Recipe, positions: Array, spill: Path | None = None) -> Rows:
    """Turn the rows at these positions into token ids and targets; `spill` is the file that ids are mapped from."""
    tokens, examples = token_encoder(prepared, recipe), prepared.examples.take(positions)
    pairs, words = (examples.column(name) if name in examples else None for name in ("text_pair", "words"))
    file = None if spill is None else spill.with_suffix(".arrow")
    encoded = tokens.encode(examples.column("text"), pairs, words=words, spill=file)
    weights = examples.column("weight").to_numpy() if "weight" in examples else np.ones(len(examples))
    targets = prepared.task.targets(examples, encoded, prepared.labels)
    return Rows(examples, encoded, targets, weights, prepared.labels)


def encode_unlabelled(prepared: Prepared, recipe: Recipe, examples: Examples) -> Rows:
    """Turn rows into token ids whose labels are none of the model's."""
    pairs = examples.column("text_pair") if "text_pair" in examples else None
    encoded = token_encoder(prepared, recipe).encode(examples.column("text"), pairs)
    return Rows(examples, encoded, np.zeros(0), np.ones(len(examples)), prepared.labels)


def token_encoder(prepared: Prepared, recipe: Recipe) -> TokenEncoder:
    """Make what turns texts into token ids, as the recipe wants them."""
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


def choose_long_texts(model: PreTrainedModel, prepared: Prepared, recipe: Recipe) -> LongTexts:
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
        lambda way, side: encode(prepared, recipe.changed({"long": way}), positions[side]),
        budget=recipe.text.long_budget,
        seed=recipe.run.seed,
    )


def build_model(prepared: Prepared, recipe: Recipe) -> PreTrainedModel:
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
class Featured:
    """Rows with what the frozen encoder says of them."""

    rows: Rows
    head: Array
    views: Mapping[str, Array]


def features_of(
    model: PreTrainedModel, sides: Mapping[str, Rows], recipe: Recipe, listener: Listener
) -> dict[str, Featured]:
    """Compute frozen features: of the test rows all, of the others no more than a linear model learns from."""
    wanted = {}
    for side, rows in sides.items():
        drawn = np.arange(len(rows)) if side == "test" else sample_rows(rows, seed=recipe.run.seed)
        wanted[side] = rows if len(drawn) == len(rows) else rows.take(drawn)
    found = {}
    with listener.work("features", sum(len(rows.encoded.window_lengths) for rows in wanted.values())) as progress:
        for side, rows in wanted.items():
            each = frozen_features(model, rows.encoded, outputs=len(rows.labels), done=progress.advance)
            found[side] = Featured(rows, each.head, each.views())
    return found


def adapted(prepared: Prepared, recipe: Recipe, run: RunFolder, listener: Listener) -> Prepared:
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


def rows_a_label(prepared: Prepared) -> float:
    """Count the training rows of the label in the middle; infinite where `--few-shot` is nothing for the task."""
    if not prepared.task.named or "text_pair" in prepared.examples:
        return float("inf")
    train = prepared.examples.take(prepared.splits.sides["train"])
    return float(np.median([*prepared.task.counts(train, prepared.labels).values()]))


def _named(task: Task, recipe: Recipe) -> str:
    """Name the task, and say where it was not asked for."""
    return task.name if asked_task(recipe.read) else f"{task.name}, told from the data (--task takes another)"


def _find_encoder(name: str, *, strict: bool) -> tuple[Encoder | None, Tokenizer | None]:
    """Find the encoder; `check` goes on without one, and finds less."""
    try:
        encoder = encoders.find(name)
        return encoder, encoder.tokenizer()
    except (EncoderError, MissingExtraError):
        if strict:
            raise
        return None, None


def max_length_of(recipe: Recipe, encoder: Encoder | None, lengths: Lengths | None, splits: Splits) -> int:
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
