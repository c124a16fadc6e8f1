"""Rows that belong to no label of the model: set apart before anything is learned, to tell text from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.errors import DataError
from bertsmith.examples import Examples

Array = np.ndarray[Any, Any]


def set_apart(examples: Examples, label: str) -> tuple[Examples, Examples | None]:
    """Part the rows of a label from the others; all stay where no label is named.

    Args:
        examples: Labelled rows.
        label: The label of rows from elsewhere; "" for none.

    Returns:
        The rows that are learned from, and those from elsewhere (None where no label is named).

    Raises:
        DataError: The rows have no single labels, or none has this one.
    """
    if not label:
        return examples, None
    # Votes count one by one: a label that no row has most of would still be one of the model's.
    if "label" not in examples or "shares" in examples:
        have = "votes or shares of several" if "shares" in examples else "none"
        raise DataError(
            f"{examples.source}: 'out_of_scope_label' is for rows with one label each, and these have {have}.",
            tip="Leave it out; text from elsewhere is then told by your own rows alone.",
        )
    theirs = pc.fill_null(pc.equal(examples.column("label"), pa.scalar(label, pa.string())), False)
    places = np.asarray(theirs.to_numpy(zero_copy_only=False), dtype=bool)
    if not places.any():
        names = ", ".join(repr(name) for name in examples.column("label").unique().to_pylist()[:10])
        raise DataError(
            f"{examples.source}: no row has the label {label!r} that 'out_of_scope_label' names.",
            tip=f"The labels are {names}.",
        )
    return examples.take(np.flatnonzero(~places)), examples.take(np.flatnonzero(places))


@dataclass(frozen=True)
class Shares:
    """Positions of rows from elsewhere, shared out as the user's own rows are; int64 each.

    Attributes:
        sets: They set the threshold: the share of train and validation rows.
        calibration: They count as wrong answers where a promise is tested.
        test: They measure.
    """

    sets: Array
    calibration: Array
    test: Array


def share_out(foreign: Examples, own: Mapping[str, int], *, seed: int) -> Shares:
    """Share out rows from elsewhere in proportion to the user's own, so that a promise is about both together.

    Rows of a validation or test file stay that side.

    Args:
        foreign: The rows.
        own: Side → how many of the user's own rows of the main file are there.
        seed: The same seed draws the same rows.
    """
    given = np.array(foreign.column("given").to_pylist(), dtype=object)
    free = np.random.default_rng(seed).permutation(np.flatnonzero(given == None))  # noqa: E711 - elementwise
    sizes = np.array([own.get("train", 0) + own.get("validation", 0), own.get("calibration", 0), own.get("test", 0)])
    ends = np.round(np.cumsum(sizes) / max(1, sizes.sum()) * len(free)).astype(np.int64)
    sets, calibration, test = np.split(free, ends[:2])
    return Shares(
        np.sort(np.concatenate([np.flatnonzero(given == "validation"), sets])),
        np.sort(calibration),
        np.sort(np.concatenate([np.flatnonzero(given == "test"), test])),
    )
