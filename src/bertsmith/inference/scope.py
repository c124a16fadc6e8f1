"""Scope: how foreign a text is to the rows that a model learned from.

A classifier gives one of its labels to everything, a text about something else included. Two things tell it apart,
and the score is the sum of both, each in standard deviations of the user's own validation rows:

* the distance of what goes into the head to the nearest cloud that the training rows of a label form (Mahalanobis;
  Lee et al. 2018, arXiv 1807.03888), after each row was brought to length one (Müller and Hein 2025, arXiv
  2505.18032). The clouds share one covariance, shrunk as Ledoit and Wolf 2004 do;
* the energy of the logits (Liu et al. 2020, arXiv 2010.03759; for several labels Wang et al. 2021, arXiv 2111.14506).

docs/explanation/out-of-scope.md has the figures by which they were chosen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bertsmith.atomic import write_arrays
from bertsmith.errors import BundleError
from bertsmith.inference.engine import HeadPass

Array = np.ndarray[Any, Any]
Kind = Literal["one", "several", "number"]
"""How many labels a text has: it says what the energy of its logits is. A number has none."""
FILE = "scope.safetensors"
FORMAT = 1
MOST_ROWS = 5000
"""Training rows that the clouds are made of; more are level (docs/explanation/out-of-scope.md), and cost time."""
LABEL_ROWS = 20
"""With many labels as many rows for each as this, where that is more."""
RANK = 256
"""Directions whose spread is kept; all others share one. More were level (docs/explanation/out-of-scope.md)."""
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class Scope:
    """Where a model is at home.

    Attributes:
        centres: The middle of each cloud, with its spread brought to one in every direction, float32 `(clouds, width)`.
        basis: Directions of the greatest spread, float32 `(width, rank)`.
        gains: What is added to `gain` along each of them, float32 `(rank,)`.
        gain: 1 / spread in all other directions.
        kind: What the logits stand for.
        distances: Mean and standard deviation of the validation rows' distances.
        energies: The same of their energies.
        threshold: A text whose score is above it is foreign; infinite until it is chosen, so that none is.
        chosen_from: What the threshold was chosen from: "validation" or "labelled"; "" until then.
    """

    centres: Array
    basis: Array
    gains: Array
    gain: float
    kind: Kind = "one"
    distances: tuple[float, float] = (0.0, 1.0)
    energies: tuple[float, float] = (0.0, 1.0)
    threshold: float = float("inf")
    chosen_from: str = ""

    name = "energy+mahalanobis"
    """What `scores.json` calls the score."""

    @classmethod
    def fit(cls, train: HeadPass, targets: Array, held: HeadPass) -> Scope:
        """Find the clouds of the training rows, and how far off rows are that had no part in training.

        Args:
            train: What `torch_engine.logits_and_inputs` gives of the rows that `draw_rows` draws.
            targets: Of the same rows, as the task makes them: `(rows,)` or `(rows, labels)`.
            held: The same of validation rows; the training rows stand in where there are fewer than two.
        """
        from sklearn.covariance import ledoit_wolf

        rows, clouds = _unit(train.inputs), clouds_of(targets)
        centres = np.zeros((int(clouds.max(initial=0)) + 1, rows.shape[1]))
        np.add.at(centres, clouds, rows)
        centres /= np.maximum(np.bincount(clouds, minlength=len(centres)), 1)[:, None]
        covariance, _ = ledoit_wolf(rows - centres[clouds], assume_centered=True)
        basis, gains, gain = _whitening(covariance)
        scope = cls(
            centres=_whiten(centres, basis, gains, gain).astype(np.float32),
            basis=basis.astype(np.float32),
            gains=gains.astype(np.float32),
            gain=gain,
            kind=kind_of(targets),
        )
        return scope._measured(held if len(held.inputs) > 1 else train)

    def scores(self, given: HeadPass) -> Array:
        """Say how foreign each row is, float64 `(rows,)`; higher is more foreign, and 0 is usual for one's own rows.

        Args:
            given: What `torch_engine.logits_and_inputs` gives.
        """
        parts = ((self.distance(given.inputs), self.distances), (energy(given.logits, self.kind), self.energies))
        return np.asarray(sum((values - mean) / deviation for values, (mean, deviation) in parts))

    def distance(self, inputs: Array) -> Array:
        """Measure the distance to the nearest cloud, float64 `(rows,)`.

        It is per direction: about 1 for a row as far off as the training rows are on average.

        Args:
            inputs: What went into the head, `(rows, width)`.
        """
        found = [self._near(inputs[begin : begin + _CHUNK]) for begin in range(0, len(inputs), _CHUNK)]
        return np.concatenate([np.zeros(0), *found])

    def is_foreign(self, scores: Array) -> Array:
        """Say which of these scores are above the threshold, bool `(rows,)`."""
        return np.asarray(scores > self.threshold)

    def allowing(self, own: Array, *, alarms: float) -> Scope:
        """Choose the threshold from the user's own rows, as split conformal prediction does (Vovk et al. 2005).

        On rows of the same kind as these, at most this share is called foreign, on average over such samples. With
        fewer than 1 / alarms - 1 rows no threshold can promise that, and none is chosen: nothing is called foreign.

        Args:
            own: Scores of the validation rows.
            alarms: Share of one's own rows that may be called foreign, in [0, 1).
        """
        above = int(np.floor(alarms * (len(own) + 1) + 1e-9)) - 1
        if above < 0:
            return self
        return replace(self, threshold=float(np.sort(own)[len(own) - 1 - above]), chosen_from="validation")

    def separating(self, own: Array, foreign: Array) -> Scope:
        """Choose the threshold from rows that are labelled as foreign: where the two shares of errors add up to least.

        That is Youden's index (1950), the best balanced accuracy. Of equally good thresholds the one with the fewest
        alarms is taken, in the middle between two scores.

        Args:
            own: Scores of validation rows that are at home; with none, or none of the others, nothing is chosen.
            foreign: Scores of validation rows that are not.
        """
        if not len(own) or not len(foreign):
            return self
        return replace(self, threshold=_best_cut(own, foreign), chosen_from="labelled")

    def save(self, folder: Path) -> None:
        """Write `scope.safetensors`: arrays, and the numbers as JSON in its header. Refresh the manifest afterwards."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        numbers = {
            "format": FORMAT,
            "score": self.name,
            "gain": self.gain,
            "kind": self.kind,
            "distances": self.distances,
            "energies": self.energies,
            "threshold": self.threshold if np.isfinite(self.threshold) else None,
            "chosen_from": self.chosen_from,
        }
        write_arrays(folder / FILE, arrays, about={"bertsmith": json.dumps(numbers)})

    @classmethod
    def load(cls, folder: Path) -> Scope | None:
        """Read what `save` wrote; None where a bundle has no scope.

        Raises:
            BundleError: The file is damaged, or a later bertsmith wrote it.
        """
        from safetensors import SafetensorError, safe_open

        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                numbers: dict[str, Any] = json.loads((file.metadata() or {})["bertsmith"])
                if numbers["format"] > FORMAT:
                    raise BundleError(
                        f"{path}: the scope has format {numbers['format']}; this bertsmith reads up to {FORMAT}.",
                        tip="Upgrade: pip install --upgrade bertsmith",
                    )
                arrays = {name: file.get_tensor(name) for name in _ARRAYS}
            return cls(
                **arrays,
                gain=numbers["gain"],
                kind=numbers["kind"],
                distances=tuple(numbers["distances"]),
                energies=tuple(numbers["energies"]),
                threshold=float("inf") if numbers["threshold"] is None else float(numbers["threshold"]),
                chosen_from=numbers["chosen_from"],
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise BundleError(f"{path}: not readable: {error}.", tip="Copy the model folder again.") from error

    def _measured(self, held: HeadPass) -> Scope:
        spreads = [_spread(values) for values in (self.distance(held.inputs), energy(held.logits, self.kind))]
        return replace(self, distances=spreads[0], energies=spreads[1])

    def _near(self, inputs: Array) -> Array:
        centres, width = self._centres, self._centres.shape[1]
        found = self._products.of(_unit(inputs))
        rows, towards = found[:, :width], found[:, width:]
        squares = (rows**2).sum(axis=1)[:, None] - 2 * towards + (centres**2).sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(squares.min(axis=1), 0.0) / width))

    @cached_property
    def _centres(self) -> Array:
        return self.centres.astype(np.float64)

    @cached_property
    def _products(self) -> ExactProducts:
        """What rows of length one are multiplied with: the whitening, and the whitening times every centre."""
        basis = self.basis.astype(np.float64)
        whitening = self.gain * np.eye(len(basis)) + (basis * self.gains) @ basis.T
        return ExactProducts.with_columns(np.hstack([whitening, whitening @ self._centres.T]))


@dataclass(frozen=True, eq=False)
class ExactProducts:
    """A matrix product that comes out the same, to the last bit, for a row alone and among any others.

    A matrix library adds up in an order that depends on how many rows there are, on the CPU and on its threads, and
    every order rounds differently. Here both sides are whole numbers, so small that every sum is exact in float64,
    whatever its order: rows of length at most one and columns brought to length one, both with 26 bits; by Cauchy and
    Schwarz no sum of their products, nor any part of it, needs more than 53.

    Attributes:
        numbers: The columns as whole numbers, float64 `(width, columns)`.
        steps: What one step is worth in each column's products, float64 `(columns,)`.
    """

    numbers: Array
    steps: Array

    @classmethod
    def with_columns(cls, columns: Array) -> ExactProducts:
        """Take the columns, `(width, columns)`, width at most 65,536."""
        # Powers of two: dividing by them rounds nothing.
        lengths = np.exp2(np.ceil(np.log2(np.maximum(np.linalg.norm(columns, axis=0), 1e-300))))
        return cls(np.rint(columns / lengths * 2.0**_COLUMN_BITS), lengths * 2.0 ** -(_COLUMN_BITS + _ROW_BITS))

    def of(self, rows: Array) -> Array:
        """Multiply rows of length at most one, `(rows, width)`, with the columns: float64 `(rows, columns)`."""
        return np.asarray((np.rint(rows * 2.0**_ROW_BITS) @ self.numbers) * self.steps)


_ROW_BITS, _COLUMN_BITS = 26, 26
_ARRAYS = ("centres", "basis", "gains")


def draw_rows(targets: Array, *, seed: int, most: int | None = None) -> Array:
    """Draw the training rows that the clouds are made of, so that rare labels keep all of theirs.

    Args:
        targets: As the task makes them.
        seed: The same seed draws the same rows.
        most: How many rows there may be; None for 5,000, or 20 a label where that is more.

    Returns:
        Positions, ascending, int64.

    >>> draw_rows(np.array([0, 0, 0, 0, 1, 1]), seed=1, most=4).tolist()
    [0, 2, 4, 5]
    """
    clouds = clouds_of(targets)
    if most is None:
        most = max(MOST_ROWS, LABEL_ROWS * (int(clouds.max(initial=0)) + 1))
    if len(clouds) <= most:
        return np.arange(len(clouds), dtype=np.int64)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(clouds))
    grouped = order[np.argsort(clouds[order], kind="stable")]
    counts = np.bincount(clouds)
    places = np.arange(len(clouds)) - np.repeat(np.cumsum(counts) - counts, counts)
    # The n-th row of every cloud before the n+1-th of any.
    return np.sort(grouped[np.argsort(places, kind="stable")[:most]])


def clouds_of(targets: Array) -> Array:
    """Number the cloud that each row belongs to, int64 `(rows,)`, without gaps.

    Labels are clouds. Of soft labels the greatest counts, of several labels each set of them is a cloud of its own
    where it has 10 rows, and the rest form one; numbers form one.

    >>> clouds_of(np.array([7, 3, 7])).tolist()
    [1, 0, 1]
    """
    if targets.ndim == 1:
        if not np.issubdtype(targets.dtype, np.integer):
            return np.zeros(len(targets), dtype=np.int64)
        return _numbered(targets)
    if not np.isin(targets, (0, 1)).all() or (targets.sum(axis=1) == 1).all():
        return _numbered(targets.argmax(axis=1))
    sets = np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)
    rare = np.bincount(sets)[sets] < _OWN_CLOUD
    return _numbered(np.where(rare, -1, sets))


_OWN_CLOUD = 10


def kind_of(targets: Array) -> Kind:
    """Say what the logits of a task stand for: one label, several labels, or a number."""
    if targets.ndim == 1:
        return "one" if np.issubdtype(targets.dtype, np.integer) else "number"
    return "one" if np.allclose(targets.sum(axis=1), 1) else "several"


def energy(logits: Array, kind: Kind) -> Array:
    """Compute the energy of logits, float64 `(rows,)`: the less they say, the higher; 0 for numbers.

    >>> energy(np.array([[0.0, 0.0], [9.0, 0.0]]), "one").round(2).tolist()
    [-0.69, -9.0]
    """
    values = logits.astype(np.float64)
    if kind == "number":
        return np.zeros(len(values))
    if kind == "several":
        return np.asarray(-np.logaddexp(0, values).sum(axis=1))
    return np.asarray(-np.logaddexp.reduce(values, axis=1))


def _spread(values: Array) -> tuple[float, float]:
    """Give mean and standard deviation; 1 for the latter where there is none."""
    deviation = float(values.std())
    return float(values.mean()), deviation if deviation > 1e-9 else 1.0


def _numbered(values: Array) -> Array:
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64).reshape(-1)


def _unit(features: Array) -> Array:
    """Bring each row to length one, in float64; a row of zeros stays."""
    rows = features.astype(np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _whitening(covariance: Array) -> tuple[Array, Array, float]:
    """Find what brings the spread to one in every direction: basis, gains and gain, as `Scope` keeps them."""
    variances, directions = np.linalg.eigh(covariance)
    variances, directions = variances[::-1], directions[:, ::-1]
    # Training rows that are all alike have no spread, and any distance from them is far.
    variances = np.maximum(variances, max(1e-6 * float(variances.mean()), 1e-12))
    rest = variances[RANK:] if len(variances) > RANK else variances[-1:]
    gain = float(1 / np.sqrt(rest.mean()))
    return directions[:, :RANK], 1 / np.sqrt(variances[:RANK]) - gain, gain


def _whiten(rows: Array, basis: Array, gains: Array, gain: float) -> Array:
    return np.asarray(rows * gain + (rows @ basis * gains) @ basis.T)


def _best_cut(own: Array, foreign: Array) -> float:
    """Find the threshold of the best balanced accuracy; a score above it is foreign."""
    values = np.unique(np.concatenate([own, foreign]))
    cuts = np.concatenate([[np.nextafter(values[0], -np.inf)], (values[:-1] + values[1:]) / 2, values[-1:]])
    alarms = 1 - np.searchsorted(np.sort(own), cuts, side="right") / len(own)
    missed = np.searchsorted(np.sort(foreign), cuts, side="right") / len(foreign)
    errors = alarms + missed
    return float(cuts[np.flatnonzero(errors <= errors.min() + 1e-12)[-1]])
