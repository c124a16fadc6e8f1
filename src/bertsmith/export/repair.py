"""Repair: which parts of a model stay fp32, so that its INT8 export answers as the model does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.export.gate import Gate

if TYPE_CHECKING:
    import onnx

MOST_FP32 = 0.5
"""Share of the weights above which an export is INT8 by name only."""


@dataclass(frozen=True, eq=False)
class Form:
    """A graph that may become an export.

    Attributes:
        fp32_parts: Parts that were left in fp32, the most sensitive first.
        fp32_share: Share of the weights that is fp32.
        graph: The graph.
    """

    fp32_parts: tuple[str, ...]
    fp32_share: float
    graph: onnx.ModelProto | Any


@dataclass(frozen=True, eq=False)
class Attempt:
    """An export that was tried.

    Attributes:
        fp32_parts: Parts that were left in fp32, the most sensitive first.
        fp32_share: Share of the weights that is fp32.
        gate: What was measured.
        made: What it was measured on.
    """

    fp32_parts: tuple[str, ...]
    fp32_share: float
    gate: Gate
    made: Any = None

    def as_json(self) -> dict[str, Any]:
        """Return the figures as `tried` of export.json has them."""
        return {
            "fp32_parts": list(self.fp32_parts),
            "fp32_share": self.fp32_share,
            "agreement": self.gate.agreement,
            "drop": -self.gate.difference.value,
            "probability": self.gate.probability.mean,
            "accepted": self.gate.accepted,
        }


def attempts(
    parts: Iterable[str],
    *,
    form: Callable[[tuple[str, ...]], Form],
    attempt: Callable[[Form], Attempt],
    harm: Callable[[str], float],
) -> Iterator[Attempt]:
    """Try an export with nothing left in fp32, then with the most sensitive part, the two most sensitive, and so on.

    A part with which more than half of the weights would be fp32 is passed over. It ends with an attempt that the gate
    accepts, or where no part is left.

    Args:
        parts: Parts that can stay fp32.
        form: Makes the graph with these parts in fp32; each is asked for once.
        attempt: Measures it.
        harm: How far answers move where this part alone is INT8.
    """
    found = attempt(form(()))
    yield found
    if found.gate.accepted:
        return
    kept: tuple[str, ...] = ()
    for part in by_harm({part: harm(part) for part in parts}):
        made = form((*kept, part))
        if made.fp32_share > MOST_FP32:
            continue
        kept = made.fp32_parts
        found = attempt(made)
        yield found
        if found.gate.accepted:
            return


def by_harm(harms: Mapping[str, float]) -> list[str]:
    """Order parts, the most sensitive first; of equal ones the first in the model.

    >>> by_harm({"embeddings": 0.1, "layer 0": 0.3, "head": 0.1})
    ['layer 0', 'embeddings', 'head']
    """
    return sorted(harms, key=lambda part: -harms[part])


def fp32_share(candidate: onnx.ModelProto, original: onnx.ModelProto) -> float:
    """Say which share of a graph's weights is still fp32 in another form of it; scales and the like count as well."""
    return min(1.0, _floats(candidate) / max(1, _floats(original)))


def _floats(proto: onnx.ModelProto) -> int:
    import onnx

    return sum(int(np.prod(each.dims)) for each in proto.graph.initializer if each.data_type == onnx.TensorProto.FLOAT)
