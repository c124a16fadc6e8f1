"""Anatomy: where an encoder's embeddings, layers and head are, found by structure and not by the family's name.

Depth counts from the bottom: 0 is the embeddings (and what all layers share, such as relative positions), 1 to n
are the layers, n + 1 is all that lies above the last layer: final norms, the pooler, the head. A pooler counts as
head because it is the dense layer that RoBERTa, ELECTRA and DistilBERT have in their classifier; so "the head"
means the same in every family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertsmith.errors import EncoderError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model, by the names of its modules; modules are looked up when asked for.

    Attributes:
        base: Name of the encoder in the model; "" where the model is a bare encoder.
        embeddings: Name of the module that token ids go into first.
        layers: Names of the layers, lowest first.
        above: Names of the encoder's modules above its last layer.
        shared: True where the encoder runs one set of weights several times (ALBERT); `layers` then names each
            set once.
        runs: How many layers a text goes through.
    """

    base: str
    embeddings: str
    layers: tuple[str, ...]
    above: tuple[str, ...]
    shared: bool
    runs: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> Anatomy:
        """Find the parts of a model.

        Raises:
            EncoderError: It has no single stack of layers, or its embeddings cannot be found.
        """
        base = "" if model.base_model is model else model.base_model_prefix
        names, shared = _stack(model)
        children = [name for name, _ in model.base_model.named_children()]
        holder = children.index(names[0].partition(".")[0])
        return cls(
            base=base,
            embeddings=_joined(base, _embeddings(model, children[:holder])),
            layers=tuple(_joined(base, name) for name in names),
            above=tuple(_joined(base, name) for name in children[holder + 1 :]),
            shared=shared,
            runs=int(model.config.num_hidden_layers),
        )

    @classmethod
    def unknown(cls) -> Anatomy:
        """A model whose parts are not told apart: all of it has depth 0."""
        return cls(base="", embeddings="", layers=(), above=(), shared=False, runs=0)

    @property
    def top(self) -> int:
        """The depth of what lies above the last layer."""
        return len(self.layers) + 1

    def depth_of(self, name: str) -> int:
        """Return the depth of a parameter or module, by its name in the model."""
        if self.base and not _within(name, self.base):
            return self.top
        for depth, layer in enumerate(self.layers, start=1):
            if _within(name, layer):
                return depth
        return self.top if any(_within(name, part) for part in self.above) else 0

    def modules(self, model: PreTrainedModel) -> tuple[tuple[nn.Module, ...], ...]:
        """Return all modules of each depth; those that hold layers, and so belong to no depth, are left out."""
        found: list[list[nn.Module]] = [[] for _ in range(self.top + 1)]
        for name, module in model.named_modules():
            if name and not any(_within(layer, name) and layer != name for layer in self.layers):
                found[self.depth_of(name)].append(module)
        return tuple(tuple(each) for each in found)


def _stack(model: PreTrainedModel) -> tuple[list[str], bool]:
    """Find the names of the layers within the encoder, and whether they share weights."""
    from torch import nn

    lists = {name: len(each) for name, each in model.base_model.named_modules() if isinstance(each, nn.ModuleList)}
    inner = {name for name in lists for outer in lists if name != outer and _within(name, outer)}
    layers = int(getattr(model.config, "num_hidden_layers", 0))
    groups = int(getattr(model.config, "num_hidden_groups", layers))
    stacks = [name for name, count in lists.items() if name not in inner and count == groups > 0]
    if len(stacks) != 1:
        raise EncoderError(
            f"{type(model).__name__} has {len(stacks)} stacks of {layers} layers, so its layers cannot be told apart. "
            "One is needed to freeze layers, to give them learning rates of their own, or to train parts of them.",
            tip='Use strategy = "full" without freeze and layer_decay.',
        )
    return [f"{stacks[0]}.{place}" for place in range(groups)], groups < layers


def _embeddings(model: PreTrainedModel, below: list[str]) -> str:
    """Find which of the modules below the layers holds the table of token embeddings."""
    table = model.get_input_embeddings()
    for name in below:
        if any(module is table for module in model.base_model.get_submodule(name).modules()):
            return name
    raise EncoderError(
        f"{type(model).__name__} has no token embeddings below its layers, so its parts cannot be told apart.",
        tip='Use strategy = "full" without freeze and layer_decay.',
    )


def _joined(base: str, name: str) -> str:
    return f"{base}.{name}" if base else name


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
