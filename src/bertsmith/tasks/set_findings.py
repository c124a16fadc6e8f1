"""What is wrong with sets of labels: none at all, labels that are rare, everywhere, alike or reserved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.examples import Examples, LabelSet
from bertsmith.findings import Finding
from bertsmith.tasks.label_findings import FEW_ROWS, MOST_LABELS
from bertsmith.tasks.label_sets import set_matrix
from bertsmith.tasks.label_wording import NAMES_KEPT, finding_at, listed, of_rows
from bertsmith.tasks.protocol import Array

EVERYWHERE = 0.95
"""Share of the rows above which a label says nothing."""


def set_findings(examples: Examples) -> list[Finding]:
    """Look for what is wrong with sets of labels; they are never changed.

    Args:
        examples: Rows with lists of labels; null lists and null or blank labels are findings.
    """
    if "labels" not in examples or not _each(examples).drop_null().length():
        return [_no_labels(examples)]
    column = examples.column("labels")
    broken = _broken(examples)
    if broken:
        return broken
    labels = LabelSet.of(_each(examples).unique().to_pylist())
    matrix = set_matrix(column, labels)
    return [
        *_missing(examples),
        *_named_unknown(examples, labels, matrix),
        *_alike(examples, labels, matrix),
        *_twice(examples, matrix),
        *_sizes(examples, labels, matrix),
        *_without(examples, matrix),
    ]


def _each(examples: Examples) -> pa.ChunkedArray:
    return pc.list_flatten(examples.column("labels")).cast(pa.string())


def _no_labels(examples: Examples) -> Finding:
    return Finding(
        "no-labels",
        "error",
        f"No label in any of {len(examples):,} rows.",
        "Name the column with --label, or give a file that has one.",
        count=len(examples),
    )


def _broken(examples: Examples) -> list[Finding]:
    """Find labels that are null or blank: such rows are not looked at any further."""
    each = _each(examples)
    blank = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(each), ""), True).to_numpy()
    rows = np.unique(np.asarray(pc.list_parent_indices(examples.column("labels")).to_numpy())[blank])
    if not len(rows):
        return []
    return [
        finding_at(
            examples,
            rows,
            kind="missing-label",
            severity="error",
            message=f"A label without a name in {of_rows(len(rows), len(examples))}.",
            remedy="Name it or take it out of its list; an empty list says that no label fits.",
        )
    ]


def _missing(examples: Examples) -> Iterator[Finding]:
    rows = np.flatnonzero(pc.is_null(examples.column("labels")).to_numpy())
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="missing-label",
            severity="error",
            message=f"No list of labels in {of_rows(len(rows), len(examples))}.",
            remedy="Fill the labels in or remove these rows; an empty list says that no label fits.",
        )


def _named_unknown(examples: Examples, labels: LabelSet, matrix: Array) -> Iterator[Finding]:
    which = [place for place, name in enumerate(labels.names) if name.strip().lower() == "unknown"]
    if which:
        rows = np.flatnonzero(matrix[:, which].any(axis=1))
        yield finding_at(
            examples,
            rows,
            kind="reserved-label",
            severity="error",
            message=f"A label is called {listed([repr(labels.names[place]) for place in which])}, in "
            f"{of_rows(len(rows), len(examples))}, but UNKNOWN is the answer of a model that declines.",
            remedy="Rename the label (such as 'other'), or leave it out: a row may have no label.",
        )


def _alike(examples: Examples, labels: LabelSet, matrix: Array) -> Iterator[Finding]:
    """Find labels that differ only by case or blanks; the rows are those of the rarer spellings."""
    sizes = matrix.sum(axis=0)
    spellings: dict[str, list[int]] = {}
    for place in np.argsort(-sizes, kind="stable").tolist():
        spellings.setdefault(" ".join(labels.names[place].lower().split()), []).append(place)
    sets = [places for places in spellings.values() if len(places) > 1]
    if not sets:
        return
    rows = np.flatnonzero(matrix[:, [place for places in sets for place in places[1:]]].any(axis=1))
    named = [" = ".join(repr(labels.names[place]) for place in places) for places in sets]
    yield finding_at(
        examples,
        rows,
        kind="labels-alike",
        severity="warning",
        message="Labels that differ only by case or blanks are different labels: "
        f"{listed(named)}; the rarer spellings have {of_rows(len(rows), len(examples))}.",
        remedy="Write each label in one way if they mean the same.",
    )


def _twice(examples: Examples, matrix: Array) -> Iterator[Finding]:
    written = pc.fill_null(pc.list_value_length(examples.column("labels")), 0).to_numpy()
    rows = np.flatnonzero(written > matrix.sum(axis=1))
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="repeated-label",
            severity="note",
            message=f"A label that stands twice in its list: {of_rows(len(rows), len(examples))}.",
            remedy="No harm: it counts once.",
        )


def _sizes(examples: Examples, labels: LabelSet, matrix: Array) -> Iterator[Finding]:
    sizes, rows = matrix.sum(axis=0), len(examples)
    if len(labels) > MOST_LABELS:
        yield Finding(
            "many-labels",
            "warning",
            f"{len(labels):,} different labels in {rows:,} rows.",
            "Is --label the right column, and --labels-separator the right mark?",
            count=len(labels),
        )
    few = np.flatnonzero(sizes < FEW_ROWS)
    few = few[np.argsort(sizes[few], kind="stable")]
    if len(few):
        shown = [f"{labels.names[place]!r} ({sizes[place]})" for place in few[:NAMES_KEPT]]
        yield finding_at(
            examples,
            np.flatnonzero(matrix[:, few].any(axis=1)),
            kind="rare-class",
            severity="warning",
            message=f"{len(few):,} of {len(labels):,} labels on fewer than {FEW_ROWS} rows: "
            f"{listed(shown, total=len(few))}.",
            remedy="Label more rows of these classes; until then their scores are a matter of luck.",
        )
    most = np.flatnonzero(sizes > EVERYWHERE * rows)
    if len(most):
        shown = [f"{labels.names[place]!r} ({of_rows(int(sizes[place]), rows)})" for place in most[:NAMES_KEPT]]
        yield Finding(
            "label-everywhere",
            "warning",
            f"Labels that (almost) every row has: {listed(shown, total=len(most))}.",
            "Such a label says nothing; leave it out, or add rows without it.",
            count=int(sizes[most].max()),
        )


def _without(examples: Examples, matrix: Array) -> Iterator[Finding]:
    empty = ~matrix.any(axis=1) & pc.is_valid(examples.column("labels")).to_numpy()
    rows = np.flatnonzero(empty)
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="no-label-fits",
            severity="note",
            message=f"Rows without any label: {of_rows(len(rows), len(examples))}.",
            remedy="They teach that no label fits; if they were just not labelled, remove them.",
        )
