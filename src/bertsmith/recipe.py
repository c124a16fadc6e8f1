"""Every setting of a run: one model per stage, TOML in and out.

The command line's flags, the help texts and the keyword arguments of `bertsmith.train` all come from the
fields below. A field's name is unique over all stages, so that `--learning-rate`, `learning_rate=` and
`learning_rate` under `[fit]` mean the same thing.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from bertsmith.errors import RecipeError, UsageError

Auto = Literal["auto"]


def _setting(default: Any, text: str, *, must: str, usual: str = "", flag: bool = True, **limits: Any) -> Any:
    """Declare a setting: its help, what it must be (for errors), a usual value, and its limits."""
    extra: JsonDict = {"must": must, "usual": usual, "flag": flag}
    return Field(default, description=text, json_schema_extra=extra, validate_default=False, **limits)


def _shares(value: Any) -> Any:
    """Read shares from "70/10/10/10" or from a list; they are kept as fractions that add up to 1."""
    parts = value.split("/") if isinstance(value, str) else list(value)
    numbers = [float(part) for part in parts]
    total = sum(numbers)
    if len(numbers) != 4 or min(numbers) < 0 or numbers[0] == 0 or total <= 0:
        msg = "four shares are needed"
        raise ValueError(msg)
    if not (abs(total - 1) < 1e-6 or abs(total - 100) < 1e-6):
        msg = "shares must add up to 100"
        raise ValueError(msg)
    return tuple(round(number / total, 9) for number in numbers)


Shares = Annotated[tuple[float, float, float, float], BeforeValidator(_shares)]
Count = Annotated[int, Field(ge=1, le=65536)]
Length = Annotated[int, Field(ge=8)]
Rate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
_COLUMN = "the name of a column"


class _Stage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Read(_Stage):
    """Where the examples come from, and which column is which."""

    data: str = _setting("", "File, folder or Hub data set that was read.", must="a path", flag=False)
    dataset: str = _setting("", "Name of a data set on the Hugging Face Hub, instead of DATA.", must="a name")
    text: str = _setting("", "Column that holds the text [found by name and content].", must=_COLUMN)
    label: str = _setting(
        "",
        "Column that holds the label, or several of 0 and 1, separated by commas [found by name and content].",
        must=_COLUMN,
    )
    text_pair: str = _setting("", "Column that holds the second text of a pair.", must=_COLUMN)
    group: str = _setting("", "Column whose equal values stay on one side of the split.", must=_COLUMN)
    time: str = _setting("", "Column to split in order by: oldest rows train, newest test.", must=_COLUMN)
    task: str = _setting(
        "",
        "What is learned: single-label, multi-label, ordered, regression, token-labels or question-answering "
        "[told from the data].",
        must="one of single-label, multi-label, ordered, regression, token-labels, question-answering",
        pattern="^(single-label|multi-label|ordered|regression|token-labels|question-answering)?$",
    )
    labels_separator: str = _setting(
        "", "What separates several labels in one cell.", must="one or more characters", usual="|"
    )
    levels: str = _setting(
        "", "Labels that have an order, from least to most, separated by commas.", must="labels separated by commas"
    )
    annotators: str = _setting(
        "",
        "Columns with the label that each annotator gave, separated by commas; they become soft labels.",
        must="names of columns, separated by commas",
    )
    validation: str = _setting("", "File with validation rows; none are then taken from DATA.", must="a path")
    test: str = _setting("", "File with test rows; none are then taken from DATA.", must="a path")
    relabel: str = _setting(
        "",
        "File with corrected labels: suspects.csv of a run, its column `relabel` filled in (- drops a row).",
        must="a path",
    )
    add: str = _setting(
        "",
        "Feedback store, or the CSV of `bertsmith review`, whose corrections are training rows too.",
        must="a path or a URL",
    )
    add_before: str = _setting(
        "",
        "Moment up to which corrections of a store are taken; by itself the start of the run.",
        must="a moment",
        flag=False,
    )
    encoding: str = _setting(
        "", "Character encoding of the files, when it is not UTF-8.", must="an encoding", usual="cp1252"
    )


class Split(_Stage):
    """How the rows are shared out."""

    shares: Shares = _setting(
        (0.7, 0.1, 0.1, 0.1),
        "Shares of train/validation/calibration/test.",
        must="four numbers that add up to 100: train/validation/calibration/test",
        usual="70/10/10/10",
    )


class Text(_Stage):
    """How text becomes tokens."""

    max_length: Length | Auto = _setting(
        "auto",
        "Tokens a text may have; longer ones are cut. auto: holds 99 % of the training rows.",
        must="a whole number of at least 8, or auto",
        usual="128",
    )
    long: Literal["auto", "head", "head-tail", "windows"] = _setting(
        "auto",
        "What is done with texts above the max length: keep the head, head and tail, or read all in windows. auto: "
        "what scores best on validation rows with the encoder frozen, within the long budget.",
        must="auto, head, head-tail or windows",
    )
    stride: Count | Auto = _setting(
        "auto",
        "Tokens that two neighbouring windows share; auto is a quarter of the max length.",
        must="a whole number of at least 1, or auto",
        usual="64",
    )
    pooling: Literal["mean", "max"] = _setting(
        "mean", "How the logits of a text's windows become one.", must="mean or max"
    )
    long_budget: float = _setting(
        2.0,
        "Work of a training that long = auto may choose, as a multiple of what keeping the head takes.",
        must="a number of at least 1",
        usual="2",
        ge=1,
        allow_inf_nan=False,
    )
    padding: Literal["longest", "max-length"] = _setting(
        "longest", "Pad each batch to its longest text, or to the max length.", must="longest or max-length"
    )


class Fit(_Stage):
    """How the encoder is fine-tuned."""

    encoder: str = _setting(
        "minilm", "Encoder: `minilm` (embedded), a name on the Hub, or a folder.", must="a name or a folder"
    )
    epochs: Count | Auto = _setting(
        "auto",
        "Passes over the training rows, at most.",
        must="a whole number of at least 1, or auto",
        usual="3",
    )
    batch_size: Count = _setting(32, "Rows a micro-batch.", must="a whole number of at least 1", usual="32")
    accumulate: Count = _setting(
        1,
        "Micro-batches an optimizer step; the effective batch is batch size x this.",
        must="a whole number of at least 1",
        usual="1",
    )
    learning_rate: Rate | Auto = _setting(
        "auto",
        "Highest learning rate; auto takes what suits encoder and strategy.",
        must="a number above 0 and below 1, or auto",
        usual="2e-5",
    )
    warmup: Part = _setting(
        0.1,
        "Share of the steps over which the learning rate rises.",
        must="a share of at least 0 and below 1",
        usual="0.1",
    )
    weight_decay: Part = _setting(
        0.01,
        "Decoupled weight decay; biases and norms are spared.",
        must="a number of at least 0 and below 1",
        usual="0.01",
    )
    dropout: Part | Auto = _setting(
        "auto",
        "Dropout of the encoder and before the head. auto: the encoder's own, and none inside attention "
        "where texts may have 128 tokens or more.",
        must="a share of at least 0 and below 1, or auto",
        usual="0.1",
    )
    clip: float = _setting(
        1.0,
        "Largest norm of a step's gradient; 0 clips nothing.",
        must="a number of at least 0",
        usual="1.0",
        ge=0,
        allow_inf_nan=False,
    )
    metric: str = _setting(
        "auto",
        "Validation metric that chooses the best epoch and stops early; auto takes the task's own.",
        must="the name of a metric, or auto",
        usual="macro_f1",
    )
    patience: int = _setting(
        2,
        "Epochs without a better metric before training stops; 0 never stops early.",
        must="a whole number of at least 0",
        usual="2",
        ge=0,
    )
    head_start: Literal["linear-probe", "random"] = _setting(
        "linear-probe",
        "Where the head starts: from a linear model on frozen features, or at random.",
        must="linear-probe or random",
    )
    strategy: Literal["full", "head", "two-stage", "lora"] = _setting(
        "full",
        "What is trained: full (all of it), head (the encoder stays as it is), two-stage (one epoch the head, then "
        "all), lora (low-rank updates of the encoder and the head).",
        must="full, head, two-stage or lora",
    )
    freeze: str = _setting(
        "",
        "Parts of the encoder that are not trained: embeddings, layers by number or range.",
        must="embeddings, numbers of layers or ranges of them, separated by commas",
        usual="embeddings, 0-3",
    )
    unfreeze: Literal["at-once", "top-first"] = _setting(
        "at-once",
        "How two-stage goes on after its first epoch: with all layers at once, or one third more each epoch, from "
        "the top.",
        must="at-once or top-first",
    )
    layer_decay: float = _setting(
        1.0,
        "Learning rate of a layer as a share of that of the layer above it; 1 is the same for all.",
        must="a number above 0 and at most 1",
        usual="0.9",
        gt=0,
        le=1,
        allow_inf_nan=False,
    )
    lora_rank: Count = _setting(16, "Rank of the low-rank updates.", must="a whole number of at least 1", usual="16")
    label_smoothing: Part = _setting(
        0.0,
        "Share of each target that is spread over all labels.",
        must="a share of at least 0 and below 1",
        usual="0.1",
    )
    class_weights: Literal["none", "balanced", "effective-number"] = _setting(
        "none",
        "Weigh rare labels up: by 1 / rows (balanced), or less steeply (effective-number). Probabilities then lean "
        "towards rare labels.",
        must="none, balanced or effective-number",
    )
    few_shot: bool = _setting(
        False,
        "Train as suits few rows a label (up to some 64): on means over the tokens, helped by the labels' names, in "
        "seconds.",
        must="true or false",
    )
    activation_cache: Literal["fp32", "bf16", "none"] = _setting(
        "fp32",
        "How the outputs of frozen lower layers are kept on disk, so that these run once; none runs them every epoch.",
        must="fp32, bf16 or none",
    )
    activation_cache_gib: float = _setting(
        20.0,
        "Most that this cache may take, in GiB; above it the layers run every epoch.",
        must="a number of at least 0",
        usual="20",
        ge=0,
        allow_inf_nan=False,
    )
    adapt: str = _setting(
        "",
        "File with unlabelled texts that the encoder first learns masked words from.",
        must="a path",
    )
    precision: Literal["auto", "fp32", "bf16"] = _setting(
        "auto",
        "Arithmetic of the matrix products in training; weights are fp32 always. auto: bf16 where the machine has it.",
        must="auto, fp32 or bf16",
    )


class Decide(_Stage):
    """When an answer is given, and when it is UNKNOWN."""

    accept: str = _setting(
        "95% right",
        'Which answers are given; the others are UNKNOWN: "95% right" (a promise, tested on calibration rows), '
        '"score >= 0.7", "refuse at most 10%", "error costs 10, refusal costs 1", or all.',
        must="a rule such as 95% right, score >= 0.7, refuse at most 10%, error costs 10, refusal costs 1, or all",
        usual="95% right",
    )
    by_label: bool = _setting(
        False,
        "Keep the promise for each label that is answered, not only over all answers; needs many more rows.",
        must="true or false",
    )
    delta: Rate = _setting(
        0.05,
        "Chance that the promise is broken because the calibration rows were lucky.",
        must="a number above 0 and below 1",
        usual="0.05",
    )
    scope: Literal["refuse", "note", "off"] = _setting(
        "refuse",
        "Text unlike all that was learned: refuse (UNKNOWN), note (its score is told, the answer stands), or off.",
        must="refuse, note or off",
    )
    scope_alarms: Part = _setting(
        0.01,
        "Share of your own rows that may be taken for text from elsewhere. Where rows have the out_of_scope_label, "
        "these set the threshold instead.",
        must="a share of at least 0 and below 1",
        usual="0.01",
    )
    out_of_scope_label: str = _setting(
        "",
        "Label of rows that belong to none of the others: it is not learned, but sets what counts as text from "
        "elsewhere.",
        must="a label",
        usual="oos",
    )


class Run(_Stage):
    """What holds for the whole run."""

    seed: int = _setting(
        17,
        "The same seed, data and machine give the same weights.",
        must="a whole number from 0 to 4294967295",
        usual="17",
        ge=0,
        lt=2**32,
    )
    seeds: Count = _setting(
        1,
        "Train so many times, each with another seed, to tell what chance does; the model is that of the first.",
        must="a whole number of at least 1",
        usual="5",
    )
    device: str = _setting(
        "auto",
        "auto, cpu, cuda, cuda:1, mps.",
        must="auto, cpu, mps, cuda or cuda:N",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
    )
    threads: Count | Auto = _setting(
        "auto",
        "CPU threads; auto takes what this process may use.",
        must="a whole number of at least 1, or auto",
        usual="2",
    )
    checkpoint_minutes: float = _setting(
        5.0,
        "Minutes between two checkpoints inside an epoch; there is one at the end of each epoch in any case.",
        must="a number above 0",
        usual="5",
        gt=0,
        allow_inf_nan=False,
    )
    track: str = _setting(
        "",
        "Trackers that get the history too, separated by commas: tensorboard, mlflow, trackio, wandb.",
        must="tensorboard, mlflow, trackio or wandb, separated by commas",
        pattern="^((tensorboard|mlflow|trackio|wandb)(, *(tensorboard|mlflow|trackio|wandb))*)?$",
    )
    texts: bool = _setting(
        True, "Keep texts, and words of them, in the run: predictions.parquet, the TF-IDF rung.", must="true or false"
    )

    @property
    def trackers(self) -> tuple[str, ...]:
        """The names in `track`."""
        return tuple(name.strip() for name in self.track.split(",") if name.strip())


@dataclass(frozen=True)
class Setting:
    """One setting, as the command line and the docs show it."""

    name: str
    stage: str
    info: FieldInfo

    @property
    def help(self) -> str:
        """What the setting does."""
        return self.info.description or ""

    @property
    def is_flag(self) -> bool:
        """True when `train` takes it as a flag."""
        return bool(self._extra["flag"])

    @property
    def default(self) -> Any:
        """The value that holds when nothing is given."""
        return self.info.default

    @property
    def shown_default(self) -> str:
        """The default as the help shows it."""
        if self.name == "shares":
            return "70/10/10/10"
        return "" if self.default == "" else str(self.default)

    def mistake(self, name: str, value: Any) -> str:
        """Word a wrong value: what it must be, what it is, what is usual."""
        usual = f" {self._extra['usual']} is a usual value." if self._extra["usual"] else ""
        return f"'{name}' must be {self._extra['must']}. Got {value!r} instead.{usual}"

    @property
    def _extra(self) -> Mapping[str, Any]:
        extra = self.info.json_schema_extra
        assert isinstance(extra, dict)
        return extra


class Recipe(BaseModel):
    """All settings of a run, validated and frozen.

    >>> Recipe.of(epochs="3", learning_rate=2e-5).fit.epochs
    3
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    read: Read = Read()
    split: Split = Split()
    text: Text = Text()
    fit: Fit = Fit()
    decide: Decide = Decide()
    run: Run = Run()

    @classmethod
    def of(cls, **flat: Any) -> Recipe:
        """Make a recipe from settings by their own names.

        Raises:
            RecipeError: Settings are unknown or out of range; all are named at once.
        """
        return cls().changed(flat)

    def changed(self, flat: Mapping[str, Any], *, shown: Callable[[str], str] = str) -> Recipe:
        """Return this recipe with some settings replaced.

        Args:
            flat: Setting → value; text values are read as numbers where a number is due.
            shown: How a setting is called in messages (the command line passes its flags).

        Raises:
            RecipeError: Settings are unknown or out of range; all are named at once.
        """
        known = settings()
        mistakes = [_unknown(shown(name), [shown(each) for each in known]) for name in flat if name not in known]
        nested = self.model_dump()
        for name, value in flat.items():
            if name in known:
                nested[known[name].stage][name] = value
        return _validated(nested, where="", mistakes=mistakes, shown=lambda stage, name: shown(name))

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe from a TOML file.

        Raises:
            UsageError: The file is missing or is no TOML.
            RecipeError: Settings are unknown or out of range; all are named at once.
        """
        try:
            nested = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}.", tip="--recipe takes a TOML file.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: not a TOML file: {error}.") from error
        nested.pop("format", None)
        stages = {name: field.annotation for name, field in cls.model_fields.items()}
        mistakes: list[str] = []
        for stage, values in list(nested.items()):
            model = stages.get(stage)
            if model is None or not isinstance(values, dict):
                mistakes.append(_unknown(f"[{stage}]", [f"[{name}]" for name in stages]))
                del nested[stage]
                continue
            for name in [name for name in values if name not in model.model_fields]:
                every = [f"{setting.stage}.{setting.name}" for setting in settings().values()]
                mistakes.append(_unknown(f"{stage}.{name}", every))
                del values[name]
        return _validated(nested, where=f"{path}: ", mistakes=mistakes, shown=lambda stage, name: f"{stage}.{name}")

    def dumps(self) -> str:
        """Write the recipe as TOML, each setting with its meaning beside it."""
        document = tomlkit.document()
        document.add(tomlkit.comment("Repeat this run: bertsmith train --recipe THIS_FILE --out NEW_RUN"))
        document.add("format", tomlkit.item(1))
        for stage, values in self.model_dump().items():
            table = tomlkit.table()
            for name, value in values.items():
                item = tomlkit.item(list(value) if isinstance(value, tuple) else value)
                table.add(tomlkit.comment(settings()[name].help))
                table.add(name, item)
            document.add(tomlkit.nl())
            document.add(stage, table)
        return tomlkit.dumps(document)


def settings() -> dict[str, Setting]:
    """Return every setting by its name, in the order of the stages."""
    return {setting.name: setting for setting in _each_setting()}


def _each_setting() -> Iterator[Setting]:
    for stage, field in Recipe.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for name, info in model.model_fields.items():
            yield Setting(name, stage, info)


def _unknown(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"unknown setting '{name}'.{hint}"


def _validated(
    nested: Mapping[str, Any], *, where: str, mistakes: list[str], shown: Callable[[str, str], str]
) -> Recipe:
    """Validate, and word all mistakes in bertsmith's own way."""
    try:
        recipe = Recipe.model_validate(nested)
    except ValidationError as error:
        recipe = None
        wrong = dict.fromkeys(tuple(str(part) for part in each["loc"][:2]) for each in error.errors())
        for stage, name in wrong:
            value = nested[stage][name]
            mistakes = [*mistakes, settings()[name].mistake(shown(stage, name), value)]
    if mistakes or recipe is None:
        raise RecipeError("\n".join(where + mistake for mistake in mistakes))
    return recipe


__all__ = ["Decide", "Fit", "Read", "Recipe", "Run", "Setting", "Split", "Text", "settings"]
