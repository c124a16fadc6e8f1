"""What is wrong with single labels: missing, alike, rare, out of balance, reserved, or no labels at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.examples import Examples
from bertsmith.findings import Finding, Severity
from bertsmith.tasks.label_wording import NAMES_KEPT, finding_at, listed, of_rows, percent

Array = np.ndarray[Any, Any]

FEW_ROWS = 10
"""A class with fewer rows is hardly learned, and its score is a matter of luck."""
MOST_LABELS = 1000
IMBALANCE = 20
"""Largest class to smallest above which accuracy misleads."""
MAJORITY = 0.9
"""Share of the largest class above which accuracy misleads."""
_FEWEST_ID_LABELS = 20
"""A handful of labels on a handful of rows is a first try, not an id column."""


@dataclass(frozen=True)
class _Labels:
    """Distinct labels with their rows.

    Attributes:
        names: Distinct labels, string `(labels,)`, in the order of their first rows.
        ids: Position in `names` of each row, -1 where a row has no label, int64 `(rows,)`.
        sizes: Rows of each label, int64 `(labels,)`.
    """

    names: pa.Array
    ids: Array
    sizes: Array

    def named(self, which: Array) -> list[str]:
        """Return some labels in quotes; no more than a message shows."""
        return [repr(name) for name in self.names.take(pa.array(which[:NAMES_KEPT])).to_pylist()]

    def rows(self, which: Array) -> Array:
        """Return the rows that have one of these labels, in the order of the file."""
        wanted = np.zeros(len(self.names) + 1, dtype=bool)
        wanted[which] = True
        return np.flatnonzero(wanted[self.ids])

    @property
    def labelled(self) -> int:
        """Rows that have a label."""
        return int(self.sizes.sum())


def label_findings(examples: Examples) -> list[Finding]:
    """Look for what is wrong with the labels; labels themselves are never changed.

    Args:
        examples: Rows with one label each; null and blank labels are findings.
    """
    labels = _collect(examples)
    if not len(labels.names):
        return [_no_labels(examples)]
    return [
        *_missing(examples, labels),
        *_reserved(examples, labels),
        *_alike(examples, labels),
        *_sizes(examples, labels),
    ]


def _collect(examples: Examples) -> _Labels:
    if "label" not in examples:
        return _Labels(pa.array([], pa.string()), np.full(len(examples), -1), np.zeros(0, dtype=np.int64))
    column = examples.column("label").cast(pa.string())
    blank = pc.equal(pc.utf8_trim_whitespace(column), "")
    column = pc.if_else(blank, pa.scalar(None, pa.string()), column)
    names = pa.array(column.drop_null().unique(), pa.string())
    ids = np.asarray(pc.fill_null(pc.index_in(column, value_set=names), -1).to_numpy(), dtype=np.int64)
    return _Labels(names, ids, np.bincount(ids[ids >= 0], minlength=len(names)))


def _no_labels(examples: Examples) -> Finding:
    return Finding(
        "no-labels",
        "error",
        f"No label in any of {len(examples):,} rows.",
        "Name the column with --label, or give a file that has one.",
        count=len(examples),
    )


def _missing(examples: Examples, labels: _Labels) -> Iterator[Finding]:
    rows = np.flatnonzero(labels.ids < 0)
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="missing-label",
            severity="error",
            message=f"No label in {of_rows(len(rows), len(examples))}.",
            remedy="Fill the labels in or remove these rows; nothing can be learned from them.",
        )


def _reserved(examples: Examples, labels: _Labels) -> Iterator[Finding]:
    folded = pc.utf8_lower(pc.utf8_trim_whitespace(labels.names))
    which = np.flatnonzero(pc.equal(folded, "unknown").to_numpy(zero_copy_only=False))
    if len(which):
        rows = labels.rows(which)
        called = listed(labels.named(which), total=len(which))
        yield finding_at(
            examples,
            rows,
            kind="reserved-label",
            severity="error",
            message=f"A label is called {called}, in {of_rows(len(rows), len(examples))}, "
            "but UNKNOWN is the answer of a model that declines.",
            remedy="Rename the label (such as 'other'), or remove its rows and let the model decline.",
        )


def _alike(examples: Examples, labels: _Labels) -> Iterator[Finding]:
    """Find labels that differ only by case or blanks; the rows are those of the rarer spellings."""
    single = pc.replace_substring_regex(pc.utf8_trim_whitespace(labels.names), r"[\s\x{a0}]+", " ")
    folded = pc.dictionary_encode(pc.utf8_lower(single)).indices.to_numpy()
    shared = np.flatnonzero(np.bincount(folded) > 1)
    if not len(shared):
        return
    sets = [np.flatnonzero(folded == group) for group in shared[:NAMES_KEPT]]
    # Labels of one spelling group stand together, the most frequent first: that one is not a mistake.
    order = np.lexsort((-labels.sizes, folded))
    rarer = order[1:][folded[order[1:]] == folded[order[:-1]]]
    rows = labels.rows(rarer)
    yield finding_at(
        examples,
        rows,
        kind="labels-alike",
        severity="warning",
        message="Labels that differ only by case or blanks are different classes: "
        + listed([" = ".join(labels.named(each)) for each in sets], total=len(shared))
        + f"; the rarer spellings have {of_rows(len(rows), len(examples))}.",
        remedy="Write each label in one way if they mean the same.",
    )


def _sizes(examples: Examples, labels: _Labels) -> Iterator[Finding]:
    if len(labels.names) == 1:
        yield _one_class(labels)
    elif _like_ids(labels):
        yield _too_many(labels, "error")
    else:
        if len(labels.names) > MOST_LABELS:
            yield _too_many(labels, "warning")
        yield from _rare(examples, labels)
        yield from _imbalance(labels)


def _one_class(labels: _Labels) -> Finding:
    return Finding(
        "one-class",
        "error",
        f"All {labels.labelled:,} labelled rows have the label {labels.named(np.zeros(1, dtype=int))[0]}.",
        "A classifier needs at least two labels; is --label the right column?",
        count=labels.labelled,
    )


def _like_ids(labels: _Labels) -> bool:
    count = len(labels.names)
    mostly_unique = count > _FEWEST_ID_LABELS and count > labels.labelled / 2
    return mostly_unique or (count > MOST_LABELS and labels.labelled / count < FEW_ROWS)


def _too_many(labels: _Labels, severity: Severity) -> Finding:
    count, rows = len(labels.names), labels.labelled
    like = ": this looks like an id, a number or free text" if severity == "error" else ""
    return Finding(
        "many-labels",
        severity,
        f"{count:,} different labels in {rows:,} rows, {rows / count:.1f} rows a label{like}.",
        "Is --label the right column? A classifier needs few labels with many rows each.",
        count=count,
    )


def _rare(examples: Examples, labels: _Labels) -> Iterator[Finding]:
    single = np.flatnonzero(labels.sizes == 1)
    if len(single):
        yield finding_at(
            examples,
            labels.rows(single),
            kind="single-row-class",
            severity="warning",
            message=f"{len(single):,} of {len(labels.names):,} labels on one row only, which can be learned "
            f"from or measured on but not both: {listed(labels.named(single), total=len(single))}.",
            remedy="Label more rows, merge these labels into others, or remove them.",
        )
    few = np.flatnonzero((labels.sizes > 1) & (labels.sizes < FEW_ROWS))
    few = few[np.argsort(labels.sizes[few], kind="stable")]
    if len(few):
        shown = [f"{name} ({size})" for name, size in zip(labels.named(few), labels.sizes[few], strict=False)]
        yield finding_at(
            examples,
            labels.rows(few),
            kind="rare-class",
            severity="warning",
            message=f"{len(few):,} of {len(labels.names):,} labels on fewer than {FEW_ROWS} rows: "
            f"{listed(shown, total=len(few))}.",
            remedy="Label more rows of these classes; until then their scores are a matter of luck.",
        )


def _imbalance(labels: _Labels) -> Iterator[Finding]:
    extremes = np.array([labels.sizes.argmax(), labels.sizes.argmin()])
    largest, smallest = labels.sizes[extremes].tolist()
    if largest <= IMBALANCE * smallest and largest <= MAJORITY * labels.labelled:
        return
    big, small = labels.named(extremes)
    share = percent(largest, labels.labelled)
    yield Finding(
        "imbalance",
        "warning",
        f"Out of balance: {big} has {of_rows(largest, labels.labelled)} and {small} has {smallest:,}, "
        f"so answering {big} to everything reaches an accuracy of {share}.",
        "Accuracy misleads here: judge by macro-F1, to which every class counts the same.",
        count=largest,
    )
