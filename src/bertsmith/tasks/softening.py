"""Class weights and label smoothing: what training may do to targets, and scores never see."""

from __future__ import annotations

import numpy as np

from bertsmith.errors import RecipeError
from bertsmith.tasks.protocol import Array

BETA = 0.999
"""How much of a label's next row is new, at most: with this, rows above a few thousand add nothing to a weight."""


def class_weights(shares: Array, rows: Array, scheme: str) -> Array:
    """Weigh units by how rare their labels are.

    Args:
        shares: Positions of labels, int `(units,)`, or shares of each, `(units, labels)`; a unit weighs as its labels
            do on average.
        rows: Units of each label, `(labels,)`.
        scheme: none: 1; balanced: 1 / rows, as scikit-learn's `compute_class_weight`; effective-number:
            (1 - b) / (1 - b ** rows) with b = `BETA` (Cui et al. 2019, arXiv 1901.05555, equation 2).

    Returns:
        float64 `(units,)`, of mean 1.
    """
    if scheme == "none" or not len(shares):
        return np.ones(len(shares))
    rows = np.asarray(rows, np.float64)
    # Divided only where a label occurs; the others weigh nothing, for no unit has them.
    amount = rows if scheme == "balanced" else (1 - BETA**rows) / (1 - BETA)
    weights = np.divide(1.0, amount, out=np.zeros(len(rows)), where=amount > 0)
    factors = weights[shares] if shares.ndim == 1 else shares @ weights
    return np.asarray(factors / factors.mean())


def smoothed(targets: Array, amount: float, *, outputs: int) -> Array:
    """Spread a share of each target evenly over all labels (Szegedy et al. 2016, arXiv 1512.00567, section 7).

    Args:
        targets: Positions of labels, int `(units,)`, or shares of each, `(units, labels)`.
        amount: The share that is spread; 0 gives the targets back.
        outputs: Number of labels.

    Returns:
        Shares, float32 `(units, labels)`.
    """
    if not amount:
        return targets
    soft = np.full((len(targets), outputs), amount / outputs, np.float32)
    if targets.ndim == 1:
        soft[np.arange(len(targets)), targets] += 1 - amount
    else:
        soft += targets.astype(np.float32) * (1 - amount)
    return soft


class WithoutLabels:
    """What a task without labels answers when training asks for weights or smoothing of them: leave both off."""

    name: str

    def class_weights(self, targets: Array, scheme: str) -> Array:
        """Weigh all units alike, float64 `(units,)`.

        Raises:
            RecipeError: Another scheme than none is asked for.
        """
        refuse("class_weights", scheme, off="none", task=self.name)
        return np.ones(len(targets))

    def smooth(self, targets: Array, amount: float, *, outputs: int) -> Array:
        """Return the targets as they are.

        Raises:
            RecipeError: The amount is not 0.
        """
        refuse("label_smoothing", amount, off=0, task=self.name)
        return targets


def refuse(setting: str, value: object, *, off: object, task: str) -> None:
    """Refuse a setting that needs labels where there are none.

    Raises:
        RecipeError: It is not off.
    """
    if value != off:
        raise RecipeError(
            f"'{setting}' must be {off} for a {task} model: it has no labels. Got {value!r} instead.",
            tip=f"Leave {setting} out.",
        )
