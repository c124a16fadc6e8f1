"""Strategies: which parts of the model are trained, from which epoch on, and how fast.

All depends on the recipe and the number of the epoch alone, so that a resumed run goes on as it would have.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bertsmith.encoders import require
from bertsmith.errors import RecipeError
from bertsmith.recipe import Fit, Recipe
from bertsmith.training.anatomy import Anatomy

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

LORA_ALPHA = 32
"""The updates are scaled by this over the rank, so that one learning rate suits every rank."""
_SPARED = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")
"""Names that transformers' Trainer spares from weight decay; modules of type LayerNorm are spared too."""
_RANGE = re.compile(r"([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?")


@dataclass(frozen=True)
class Frozen:
    """What the setting `freeze` names."""

    embeddings: bool = False
    layers: frozenset[int] = frozenset()

    @property
    def below(self) -> int:
        """Parts that are frozen from the bottom without a gap: 0, or 1 for the embeddings and 1 for each layer."""
        if not self.embeddings:
            return 0
        return next(number for number in range(len(self.layers) + 1) if number not in self.layers) + 1


def parse_freeze(spec: str, *, layers: int) -> Frozen:
    """Read the setting `freeze`.

    Args:
        spec: As "embeddings, 0-3"; layers are numbered from 0, the lowest. Empty for nothing.
        layers: How many the encoder has.

    Raises:
        RecipeError: A word is unknown, a layer does not exist, or a range runs backwards.

    >>> parse_freeze("embeddings, 0-1", layers=6).below
    3
    """
    parts = [part.strip() for part in spec.split(",")] if spec.strip() else []
    numbered = [number for part in parts if part != "embeddings" for number in _numbers(part, spec, layers)]
    return Frozen("embeddings" in parts, frozenset(numbered))


def _numbers(part: str, spec: str, layers: int) -> range:
    found = _RANGE.fullmatch(part)
    if found is None:
        near = difflib.get_close_matches(part, ["embeddings"])
        raise RecipeError(
            "'freeze' must be embeddings, numbers of layers or ranges of them, separated by commas. "
            f"Got {part!r} in {spec!r} instead.{' Did you mean embeddings?' if near else ''}",
            tip='As in: freeze = "embeddings, 0-3".',
        )
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise RecipeError(f"'freeze' has a range that runs backwards: {part!r}.", tip=f"Did you mean {last}-{first}?")
    if last >= layers:
        raise RecipeError(
            f"'freeze' names layer {last}, which the encoder does not have.",
            tip=f"It has {layers} layers: 0 (the lowest) to {layers - 1}.",
        )
    return range(first, last + 1)


@dataclass
class Strategy:
    """What is trained, and when. Made by `of`; then `prepare`, and at the end `finish`.

    Attributes:
        fit: The recipe's settings of training.
        seed: Of the run; low-rank updates start from it.
        anatomy: The parts of the model.
        frozen: What is never trained, besides what the strategy leaves out.
        fixed: Names of the parameters that the model itself never trains (sinusoidal positions).
        epoch: The epoch under way, from 0.
    """

    fit: Fit
    seed: int
    anatomy: Anatomy
    frozen: Frozen
    fixed: frozenset[str] = frozenset()
    epoch: int = field(default=0, compare=False)

    @classmethod
    def of(cls, recipe: Recipe, model: PreTrainedModel) -> Strategy:
        """Read the strategy from a resolved recipe.

        Raises:
            RecipeError: What is to be frozen does not exist, or there are too few epochs for two stages.
            EncoderError: The model's parts cannot be found.
            MissingExtraError: It is lora, and peft is not installed.
        """
        fit = recipe.fit
        plain = fit.strategy == "full" and not fit.freeze and fit.layer_decay == 1
        anatomy = Anatomy.unknown() if plain else Anatomy.of(model)
        frozen = parse_freeze(fit.freeze, layers=anatomy.runs)
        if anatomy.shared and frozen.layers:
            raise RecipeError(
                f"'freeze' names layers, but all {anatomy.runs} layers of this encoder are one set of weights, run "
                "several times. They cannot be frozen one by one.",
                tip='Use freeze = "embeddings", or strategy = "head" to freeze the whole encoder.',
            )
        if fit.strategy == "two-stage" and isinstance(fit.epochs, int) and fit.epochs < 2:
            raise RecipeError(
                "'epochs' must be at least 2 with the strategy two-stage: in the first, only the head is trained. "
                f"Got {fit.epochs} instead."
            )
        if fit.strategy == "lora":
            require("peft", what="the strategy lora", extra="lora")
        fixed = frozenset(name for name, each in model.named_parameters() if not each.requires_grad)
        return cls(fit, recipe.run.seed, anatomy, frozen, fixed)

    @property
    def staged(self) -> bool:
        """Whether what is trained changes from epoch to epoch."""
        return self.fit.strategy == "two-stage"

    @property
    def frozen_below(self) -> int:
        """Parts from the bottom that are never trained: 0, or 1 for the embeddings and 1 for each layer above them."""
        return next(depth for depth in range(self.anatomy.top + 1) if self.trains(depth))

    def trains(self, depth: int, epoch: int | None = None) -> bool:
        """Say whether a depth (see `anatomy`) is trained in an epoch; or, without one, in any."""
        if depth == self.anatomy.top:
            return True
        never = self.fit.strategy == "head" or (self.fit.strategy == "lora" and depth == 0)
        if never or (self.frozen.embeddings if depth == 0 else depth - 1 in self.frozen.layers):
            return False
        return epoch is None or not self.staged or depth >= self._lowest(epoch)

    def prepare(self, model: PreTrainedModel) -> PreTrainedModel:
        """Freeze what is never trained, and put low-rank updates beside the weights where the strategy is lora.

        The model stays of its class, and the names of its parts stay what they are but for the adapted matrices.
        """
        if self.fit.strategy == "lora":
            _adapt(model, self._adapted(model), rank=self.fit.lora_rank, seed=self.seed)
        self._mark(model, None)
        return model

    def begin_epoch(self, model: PreTrainedModel, epoch: int) -> None:
        """Mark what this epoch trains; parameters that it does not train have no gradient."""
        self.epoch = epoch
        self._mark(model, epoch)

    def train_mode(self, model: PreTrainedModel) -> None:
        """Put what this epoch does not train into eval mode; to be called after each `model.train()`."""
        for depth, modules in enumerate(self.anatomy.modules(model)):
            if not self.trains(depth, self.epoch):
                for module in modules:
                    module.training = False

    def parameter_groups(
        self, model: PreTrainedModel, *, learning_rate: float, weight_decay: float
    ) -> list[dict[str, Any]]:
        """Group all that any epoch trains, for AdamW.

        Without layer decay these are the two groups of transformers' Trainer. With it, the rate of depth d is
        `learning_rate * layer_decay ** (n + 1 - d)` (Howard and Ruder 2018, arXiv 1801.06146, discriminative
        fine-tuning; as in ELECTRA's, arXiv 2003.10555).
        """
        decayed = _decayed(model)
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter, depth in self._trained(model, None):
            up = self.anatomy.top - depth if self.fit.layer_decay < 1 else 0
            groups.setdefault((up, name not in decayed), []).append(parameter)
        return [
            {
                "params": groups[up, spared],
                "lr": learning_rate * self.fit.layer_decay**up,
                "weight_decay": 0.0 if spared else weight_decay,
            }
            for up, spared in sorted(groups)
        ]

    def finish(self, model: PreTrainedModel) -> PreTrainedModel:
        """Merge low-rank updates into the weights, and leave the model as transformers makes it."""
        if self.fit.strategy == "lora":
            _merge(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in self.fixed)
        return model

    def _trained(self, model: PreTrainedModel, epoch: int | None) -> Iterator[tuple[str, nn.Parameter, int]]:
        for name, parameter in model.named_parameters():
            depth = self.anatomy.depth_of(name)
            adapted = self.fit.strategy != "lora" or depth == self.anatomy.top or ".lora_" in name
            if adapted and name not in self.fixed and self.trains(depth, epoch):
                yield name, parameter, depth

    def _mark(self, model: PreTrainedModel, epoch: int | None) -> None:
        trained = {name for name, _, _ in self._trained(model, epoch)}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)

    def _adapted(self, model: PreTrainedModel) -> list[str]:
        """Name the matrices that get low-rank updates: all linear ones of the layers that are trained."""
        from torch import nn
        from transformers.pytorch_utils import Conv1D

        inside = range(1, self.anatomy.top)
        return [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D)
            and (depth := self.anatomy.depth_of(name)) in inside
            and self.trains(depth)
        ]

    def _lowest(self, epoch: int) -> int:
        """Return the lowest depth that an epoch of a two-stage training trains."""
        if epoch == 0:
            return self.anatomy.top
        if self.fit.unfreeze == "at-once" or epoch >= 3:
            return 0
        return self.anatomy.top - math.ceil(len(self.anatomy.layers) * epoch / 3)


def _decayed(model: PreTrainedModel) -> set[str]:
    """Name the parameters that weight decay is for, as transformers' Trainer does."""
    from torch import nn
    from transformers.trainer_pt_utils import get_parameter_names

    return set(get_parameter_names(model, [nn.LayerNorm], list(_SPARED)))


def _adapt(model: PreTrainedModel, names: list[str], *, rank: int, seed: int) -> None:
    """Put low-rank updates beside matrices, in place (Hu et al. 2021, arXiv 2106.09685).

    All matrices of a layer get one: fewer learn less (Dettmers et al. 2023, arXiv 2305.14314, section 4). Without
    dropout of their own, so that the merged model answers what the trained one did.
    """
    import torch
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    if not names:
        return
    config = LoraConfig(
        r=rank,
        lora_alpha=LORA_ALPHA,
        lora_dropout=0.0,
        target_modules=names,
        fan_in_fan_out=isinstance(model.get_submodule(names[0]), Conv1D),
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inject_adapter_in_model(config, model)


def _merge(model: PreTrainedModel) -> None:
    """Add low-rank updates to the matrices that they stand beside, and put these back."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            holder, _, place = name.rpartition(".")
            setattr(model.get_submodule(holder), place, module.get_base_layer())
    for leftover in ("peft_config", "active_adapter"):
        if hasattr(model, leftover):
            delattr(model, leftover)
