"""The words that speak for an answer, by leaving each out in turn; each such text waits in the queue like others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.inference.predictor import Predictor
from bertsmith.tasks.protocol import Texts

if TYPE_CHECKING:
    from bertsmith.explaining.explanation import Explanation

Array = np.ndarray[Any, Any]
Through = Callable[[list[str], list[str] | None], Array]
"""Gives what texts are decided by, float64 `(texts, labels)`; may wait, and may refuse."""


@dataclass(frozen=True)
class _Queued(Predictor):
    """A model that waits its turn.

    Attributes:
        through: What gives probabilities.
    """

    through: Through = field(kw_only=True)

    def probabilities(self, texts: Texts, pairs: Texts | None = None) -> Array:
        """Return what is decided by; see `Predictor`."""
        return self.through(list(texts), None if pairs is None else list(pairs))


def explain_all(
    predictor: Predictor, texts: Sequence[str], pairs: Sequence[str] | None, *, through: Through
) -> list[Explanation]:
    """Explain the most probable label of each text by occlusion (Zeiler and Fergus 2014, arXiv 1311.2901).

    Args:
        predictor: What answers.
        texts: The texts.
        pairs: The second texts, if any.
        through: What its probabilities are to be asked of in its stead.

    Raises:
        Refused: `through` refused.
    """
    from bertsmith.explaining.explain import explain

    queued = _Queued(
        predictor.info, predictor.task, predictor.tokens, predictor.engine, scope=predictor.scope, through=through
    )
    seconds: Sequence[str | None] = [None] * len(texts) if pairs is None else pairs
    return [explain(queued, text, pair=pair, method="occlusion") for text, pair in zip(texts, seconds, strict=True)]
