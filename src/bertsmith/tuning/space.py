"""What a search may choose: the settings that were not given, and the values each may take."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertsmith.errors import UsageError
from bertsmith.flops import Sizes
from bertsmith.recipe import Recipe

if TYPE_CHECKING:
    import optuna

SEARCHED = ("encoder", "learning_rate", "epochs", "batch_size", "freeze")
LOWEST_RATE, HIGHEST_RATE = 1 / 8, 4.0
"""Learning rates that are tried, as multiples of the one that suits the encoder."""
BATCH_SIZES = (8, 16, 32, 64)
FEWEST_STEPS = 4
"""A batch size is tried where an epoch has this many steps or more."""
NOTHING, HALF = "nothing", "half"
_SHARED_LAYERS = frozenset({"albert"})
"""Families whose layers are all one, so that there is no lower half."""


@dataclass(frozen=True)
class Choice:
    """What a trial chose, before it is known what that means for its encoder.

    Attributes:
        encoder: Its name.
        rate: Multiple of the learning rate that suits it.
        epochs: Passes over the rows, at most.
        batch_size: Rows a micro-batch.
        freeze: `nothing`, or `half`: the embeddings and the lower half of the layers.
    """

    encoder: str
    rate: float
    epochs: int
    batch_size: int
    freeze: str

    def settings(self, base: Recipe, config: Mapping[str, Any], searched: Collection[str]) -> dict[str, Any]:
        """Say it in settings of a recipe; what is not searched stays as it is in `base`.

        Args:
            base: The resolved recipe of this encoder.
            config: The encoder's `config.json`.
            searched: Names of settings.
        """
        half = f"embeddings, {_numbers(Sizes.of(config).layers // 2)}" if self.freeze == HALF else ""
        chosen: dict[str, Any] = {
            "encoder": base.fit.encoder,
            "learning_rate": float(f"{float(base.fit.learning_rate) * self.rate:.3g}"),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "freeze": half,
        }
        return {name: value for name, value in chosen.items() if name in searched}


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        first: What `train` would do by itself.
        encoders: Encoders to choose from.
        batch_sizes: Batch sizes to choose from.
        searched: Names of the settings that are chosen; all others stay as they are.
    """

    first: Choice
    encoders: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    searched: tuple[str, ...]

    @classmethod
    def of(
        cls, base: Recipe, *, encoders: Sequence[str], rows: int, fixed: Collection[str], configs: Sequence[Any]
    ) -> Space:
        """Search every setting of `SEARCHED` that is not fixed and has more than one value.

        Args:
            base: The resolved recipe of the first encoder.
            encoders: Encoders to choose from; one is no choice.
            rows: Training rows.
            fixed: Names of settings that were given.
            configs: The `config.json` of each encoder.

        Raises:
            UsageError: Nothing is left to search.
        """
        fit = base.fit
        steps_of = {size: rows // (size * fit.accumulate) for size in BATCH_SIZES}
        sizes = sorted({fit.batch_size, *(size for size, steps in steps_of.items() if steps >= FEWEST_STEPS)})
        can = {
            "encoder": len(encoders) > 1,
            "batch_size": len(sizes) > 1,
            "freeze": fit.strategy in {"full", "two-stage"} and all(_has_halves(config) for config in configs),
        }
        searched = tuple(name for name in SEARCHED if name not in fixed and can.get(name, True))
        if not searched:
            raise UsageError(
                "nothing is left to search: every setting that tune chooses was given.",
                tip=f"Leave one of them out: {', '.join(SEARCHED)}.",
            )
        first = Choice(encoders[0], 1.0, int(fit.epochs), fit.batch_size, NOTHING)
        return cls(first, tuple(encoders), tuple(sizes), searched)

    def first_parameters(self) -> list[dict[str, Any]]:
        """The choices to begin with, as the study has them: that of `train`, with each encoder."""
        first = {_PARAMETERS[name]: getattr(self.first, _PARAMETERS[name]) for name in self.searched}
        return [first | {"encoder": name} for name in self.encoders] if "encoder" in first else [first]

    def choose(self, trial: optuna.Trial) -> Choice:
        """Let the study choose."""
        chosen: dict[str, Any] = {}
        if "encoder" in self.searched:
            chosen["encoder"] = trial.suggest_categorical("encoder", self.encoders)
        if "learning_rate" in self.searched:
            chosen["rate"] = trial.suggest_float("rate", LOWEST_RATE, HIGHEST_RATE, log=True)
        if "epochs" in self.searched:
            chosen["epochs"] = trial.suggest_int("epochs", min(2, self.first.epochs), 2 * self.first.epochs)
        if "batch_size" in self.searched:
            chosen["batch_size"] = trial.suggest_categorical("batch_size", self.batch_sizes)
        if "freeze" in self.searched:
            chosen["freeze"] = trial.suggest_categorical("freeze", (NOTHING, HALF))
        return Choice(**{**vars(self.first), **chosen})


_PARAMETERS = {name: name for name in SEARCHED} | {"learning_rate": "rate"}


def _numbers(layers: int) -> str:
    """Name the lowest layers."""
    return "0" if layers == 1 else f"0-{layers - 1}"


def _has_halves(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") not in _SHARED_LAYERS and Sizes.of(config).layers >= 2
