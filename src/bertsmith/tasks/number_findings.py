"""What is wrong with numbers to be learned: missing, all the same, few whole ones, or far from the rest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.examples import Examples
from bertsmith.findings import Finding
from bertsmith.tasks.label_wording import NAMES_KEPT, finding_at, listed, of_rows
from bertsmith.tasks.protocol import Array

FEW_VALUES = 10
"""So many distinct whole numbers, or fewer, look like stars or grades."""
FAR = 10.0
"""A value farther than this many interquartile ranges outside of the middle half is an outlier."""
_FEWEST_ROWS = 20


def number_findings(examples: Examples) -> list[Finding]:
    """Look for what is wrong with numbers; they are never changed.

    Args:
        examples: Rows with one number each; nulls, NaN and infinite numbers are findings.
    """
    values = numbers_of(examples)
    known = np.isfinite(values)
    if not known.any():
        return [_no_numbers(examples)]
    distinct = np.unique(values[known])
    if len(distinct) == 1:
        return [*_missing(examples, known), _constant(distinct, int(known.sum()))]
    return [*_missing(examples, known), *_like_grades(distinct, int(known.sum())), *_outliers(examples, values, known)]


def numbers_of(examples: Examples) -> Array:
    """Return the number of each row, NaN where it has none, float64 `(rows,)`."""
    if "value" not in examples:
        return np.full(len(examples), np.nan)
    return np.asarray(pc.fill_null(examples.column("value").cast(pa.float64()), float("nan")).to_numpy(), np.float64)


def _no_numbers(examples: Examples) -> Finding:
    return Finding(
        "no-labels",
        "error",
        f"No number in any of {len(examples):,} rows.",
        "Name the column with --label, or give a file that has one.",
        count=len(examples),
    )


def _missing(examples: Examples, known: Array) -> Iterator[Finding]:
    rows = np.flatnonzero(~known)
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="missing-label",
            severity="error",
            message=f"No finite number in {of_rows(len(rows), len(examples))}.",
            remedy="Fill the numbers in or remove these rows; nothing can be learned from them.",
        )


def _constant(distinct: Array, rows: int) -> Finding:
    return Finding(
        "one-class",
        "error",
        f"All {rows:,} rows have the number {distinct[0]:g}.",
        "There is nothing to learn; is it the right column?",
        count=rows,
    )


def _like_grades(distinct: Array, rows: int) -> Iterator[Finding]:
    if len(distinct) <= FEW_VALUES and rows >= _FEWEST_ROWS and (distinct == np.rint(distinct)).all():
        shown = [f"{value:g}" for value in distinct[:NAMES_KEPT]]
        yield Finding(
            "few-values",
            "note",
            f"Only {len(distinct)} different numbers, all whole: {listed(shown, total=len(distinct))}.",
            "If they are grades or stars, --task ordered tells how sure each answer is.",
            count=len(distinct),
        )


def _outliers(examples: Examples, values: Array, known: Array) -> Iterator[Finding]:
    low, high = np.quantile(values[known], [0.25, 0.75])
    reach = FAR * (high - low)
    rows = np.flatnonzero(known & ((values < low - reach) | (values > high + reach)))
    if known.sum() < _FEWEST_ROWS or high <= low or not len(rows):
        return
    rows = rows[np.argsort(-np.abs(values[rows] - (low + high) / 2), kind="stable")]
    yield finding_at(
        examples,
        rows,
        kind="outlier",
        severity="warning",
        message=f"Numbers far from the rest, such as {values[rows[0]]:g} where the middle half lies between "
        f"{low:g} and {high:g}: {of_rows(len(rows), len(examples))}.",
        remedy="Mend them if they are slips: a squared error is ruled by the farthest numbers.",
    )
