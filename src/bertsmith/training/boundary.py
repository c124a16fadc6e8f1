"""Boundary: the place between frozen layers and what lies above them, where a model can be left and entered.

The model's modules and their names stay as they are: for as long as a context is open, some of them have another
*forward*.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.encoded import Encoded
from bertsmith.inference.outputs import head_outputs
from bertsmith.inference.torch_engine import evaluating, to_inputs
from bertsmith.training.anatomy import Anatomy

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel

TOLERANCE = 1e-5
"""How far logits from states may be from those of the whole model, in fp32, as a share of the largest (or of 1)."""
_CHECKED = 8
"""Windows that the check runs, from the shortest to the longest."""


@dataclass(frozen=True)
class Boundary:
    """The place between the frozen layers and what lies above them.

    Attributes:
        embeddings: Name of the module that token ids go into.
        width: Width of what that module gives.
        frozen: Names of the frozen layers, lowest first; the last one gives the states.
        upper: Names of the other layers.
        parts: How many things a layer gives where that is a tuple; 0 where it is the states alone.
        hidden: Width of a state.
        first_only: Whether what lies above reads the first token only.
    """

    embeddings: str
    width: int
    frozen: tuple[str, ...]
    upper: tuple[str, ...]
    parts: int
    hidden: int
    first_only: bool = False

    @classmethod
    def of(cls, model: PreTrainedModel, frozen_below: int, encoded: Encoded) -> Boundary:
        """Find the boundary, and look at what a few windows give there.

        Args:
            model: It is left as it is.
            frozen_below: 1 for the embeddings and 1 for each frozen layer above them; at least 2.
            encoded: Rows with at least one window.
        """
        anatomy = Anatomy.of(model)
        frozen = anatomy.layers[: frozen_below - 1]
        with evaluating(model), _watching(model, anatomy.embeddings) as embedded, _watching(model, frozen[-1]) as given:
            model(**_sample(model, encoded))
        layer = given[-1]
        found = cls(
            embeddings=anatomy.embeddings,
            width=int(embedded[-1].shape[-1]),
            frozen=frozen,
            upper=anatomy.layers[frozen_below - 1 :],
            parts=len(layer) if isinstance(layer, tuple) else 0,
            hidden=int(states_of(layer).shape[-1]),
        )
        if found.upper or encoded.has_picks:
            return found
        # A head that reads the first token answers the same whatever stands at the others.
        first = replace(found, first_only=True)
        return first if first.holds(model, encoded) else found

    def holds(self, model: PreTrainedModel, encoded: Encoded) -> bool:
        """Say whether the model gives the same logits from states as in one go, for a few windows."""
        inputs = _sample(model, encoded)
        real = inputs["attention_mask"].bool()
        with evaluating(model):
            with _watching(model, self.frozen[-1]) as given:
                whole = head_outputs(model(**inputs))
            states = states_of(given[-1])
            states = states * self.needed(real)[:, : states.shape[1]].unsqueeze(-1)
            with self.feeding(model):
                fed = head_outputs(model(**inputs, states=states))
        if whole.dim() == 3:
            whole, fed = whole[real], fed[real]
        return bool((whole - fed).abs().max() <= TOLERANCE * max(1.0, float(whole.abs().max())))

    def needed(self, real: torch.Tensor) -> torch.Tensor:
        """Mark the tokens whose states are needed, of those that are no padding: bool `(windows, tokens)`."""
        kept = real.clone()
        if self.first_only:
            kept[:, 1:] = False
        return kept

    @contextlib.contextmanager
    def feeding(self, model: PreTrainedModel) -> Iterator[None]:
        """Make `model(states=..., **inputs)` run only what lies above; without states, it runs as a whole.

        `states` is float `(windows, tokens, hidden)` on the model's device: what the last frozen layer gives.
        """
        fed: list[torch.Tensor] = []

        def take(_: nn.Module, inputs: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            fed[:] = [named["states"]] if "states" in named else []
            return inputs, {name: value for name, value in named.items() if name != "states"}

        hooks = (
            model.register_forward_pre_hook(take, with_kwargs=True, prepend=True),
            model.register_forward_hook(lambda *_: fed.clear(), always_call=True),
        )
        with contextlib.ExitStack() as stack:
            for hook in hooks:
                stack.callback(hook.remove)
            stack.enter_context(_instead(model, self.embeddings, lambda *given: self._zeros(fed, given[0]), when=fed))
            for name in self.frozen[:-1]:
                stack.enter_context(_instead(model, name, self._passed, when=fed))
            stack.enter_context(_instead(model, self.frozen[-1], lambda *_: self._passed(fed[0]), when=fed))
            yield

    @contextlib.contextmanager
    def stopping(self, model: PreTrainedModel) -> Iterator[list[Any]]:
        """Leave out the layers above, and catch what the last frozen layer gives, in a list that grows."""
        with contextlib.ExitStack() as stack:
            for name in self.upper:
                stack.enter_context(_instead(model, name, self._passed, when=[True]))
            yield stack.enter_context(_watching(model, self.frozen[-1]))

    def _passed(self, states: torch.Tensor) -> Any:
        """Give states as a layer gives them."""
        return (states, *[None] * (self.parts - 1)) if self.parts else states

    def _zeros(self, fed: list[torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
        """Give zeros for embeddings, without any memory: masks and positions are made from their shape."""
        return fed[0].new_zeros(1).expand(*ids.shape, self.width)


def states_of(given: Any) -> torch.Tensor:
    """Take the states out of what a layer gives, which may be a tuple."""
    states: torch.Tensor = given[0] if isinstance(given, tuple) else given
    return states


def _sample(model: PreTrainedModel, encoded: Encoded) -> dict[str, torch.Tensor]:
    """Make inputs of a few windows of all lengths."""
    order = np.argsort(encoded.window_lengths, kind="stable")
    places = np.linspace(0, len(order) - 1, min(_CHECKED, len(order))).round().astype(np.int64)
    return to_inputs(model, encoded.pad_windows(order[places]), next(model.parameters()).device)


@contextlib.contextmanager
def _watching(model: PreTrainedModel, name: str) -> Iterator[list[Any]]:
    """Keep what a module gives, in a list that grows."""
    given: list[Any] = []
    hook = model.get_submodule(name).register_forward_hook(lambda _, __, output: given.append(output))
    try:
        yield given
    finally:
        hook.remove()


@contextlib.contextmanager
def _instead(model: PreTrainedModel, name: str, other: Callable[[Any], Any], *, when: list[Any]) -> Iterator[None]:
    """Let `other` stand in for a module's forward, on its first argument, while there is something in `when`."""
    module = model.get_submodule(name)
    forward, own = module.forward, "forward" in vars(module)

    def standing_in(*inputs: Any, **named: Any) -> Any:
        if not when:
            return forward(*inputs, **named)
        return other(inputs[0] if inputs else next(iter(named.values())))

    module.forward = standing_in
    try:
        yield
    finally:
        if own:
            module.forward = forward
        else:
            del module.__dict__["forward"]
