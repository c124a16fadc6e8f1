"""Rows that belong to no label of the model: set apart before anything is learned, to tell text from elsewhere."""

from __future__ import annotations

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
    if "label" not in examples:
        raise DataError(
            f"{examples.source}: 'out_of_scope_label' is for rows with one label each, and these have none.",
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


def halves(foreign: Examples, *, seed: int) -> tuple[Array, Array]:
    """Share out rows from elsewhere: those that set the threshold, and those that measure it.

    A side that the user gave keeps its rows: validation sets, test measures. The others are drawn half and half, but
    where the user gave test rows all others set.

    Returns:
        Positions in `foreign`, int64 each.
    """
    given = np.array(foreign.column("given").to_pylist(), dtype=object)
    measures = given == "test"
    free = np.flatnonzero(given == None)  # noqa: E711 - elementwise
    if not measures.any():
        drawn = np.random.default_rng(seed).permutation(free)
        measures[drawn[: len(drawn) // 2]] = True
    return np.flatnonzero(~measures), np.flatnonzero(measures)
