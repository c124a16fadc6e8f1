"""Texts that come more than once: copies, contradictions, near copies, and copies across given splits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc

from bertsmith.data.near_duplicates import TextGroups
from bertsmith.data.text_classes import Classes
from bertsmith.examples import Examples
from bertsmith.findings import Finding
from bertsmith.tasks.label_wording import finding_at, of_rows

Array = np.ndarray[Any, Any]

MANY_COPIES = 0.1
"""Share of rows above which copies are more than a curiosity."""
MANY_CONFLICTS = 0.1
"""Share of rows above which contradicting labels spoil the data."""
_SIDES = {"": "training", "validation": "validation", "test": "test"}


def repeat_findings(examples: Examples, classes: Classes, groups: TextGroups, *, blank: Array) -> Iterator[Finding]:
    """Look for equal and nearly equal texts.

    Args:
        examples: The rows.
        classes: Their labels.
        groups: Which texts are equal or nearly so.
        blank: True where a row has no text, `(rows,)`; that such rows are equal is another finding.
    """
    if len(examples) > 1 and not blank.any() and not groups.exact.any():
        yield _constant(examples)
        return
    rows = np.flatnonzero(~blank)
    yield from _copies(examples, classes, groups, rows=rows)
    yield from _conflicts(examples, classes, groups, rows=rows)
    yield from _near(examples, groups)
    yield from _crossings(examples, groups, rows=rows)


def _constant(examples: Examples) -> Finding:
    return Finding(
        "constant-text",
        "error",
        f"The texts of all {len(examples):,} rows are equal.",
        "There is nothing to learn from them; is --text the right column?",
        count=len(examples),
    )


def _copies(examples: Examples, classes: Classes, groups: TextGroups, *, rows: Array) -> Iterator[Finding]:
    _, first = np.unique(_text_and_label(classes, groups, rows), return_index=True)
    copies = np.delete(rows, first)
    if len(copies):
        yield finding_at(
            examples,
            copies,
            kind="duplicate-text",
            severity="warning" if len(copies) > MANY_COPIES * len(examples) else "note",
            message=f"Copies of an earlier row{' with the same label' if classes.names else ''}: "
            f"{of_rows(len(copies), len(examples))}.",
            remedy="Equal texts are kept on one side of the split; remove the copies if they do not come up "
            "as often in real use.",
        )


def _text_and_label(classes: Classes, groups: TextGroups, rows: Array) -> Array:
    return groups.exact[rows] * (len(classes.names) + 1) + classes.ids[rows] + 1


def _conflicts(examples: Examples, classes: Classes, groups: TextGroups, *, rows: Array) -> Iterator[Finding]:
    labelled = rows[classes.ids[rows] >= 0]
    meanings = np.unique(_text_and_label(classes, groups, labelled)) // (len(classes.names) + 1)
    contradicted = np.bincount(meanings, minlength=1) > 1
    found = labelled[contradicted[groups.exact[labelled]]] if len(labelled) else labelled
    if len(found):
        yield finding_at(
            examples,
            found[np.argsort(groups.exact[found], kind="stable")],
            kind="conflicting-labels",
            severity="error" if len(found) > MANY_CONFLICTS * len(examples) else "warning",
            message=f"The same text with different labels: {of_rows(len(found), len(examples))}.",
            remedy="Decide which label is right and mend or remove the other rows; no model can learn both.",
        )


def _near(examples: Examples, groups: TextGroups) -> Iterator[Finding]:
    _, first = np.unique(groups.exact, return_index=True)
    wordings = np.bincount(groups.near[first], minlength=1)
    found = np.flatnonzero(wordings[groups.near] > 1)
    if not len(found) and groups.sampled is None:
        return
    looked = "" if groups.sampled is None else f"; looked for among {of_rows(groups.sampled, len(examples))} only"
    yield finding_at(
        examples,
        found[np.argsort(groups.near[found], kind="stable")],
        kind="near-duplicate",
        severity="note",
        message=f"Texts with a near copy, worded a little differently: {of_rows(len(found), len(examples))}{looked}.",
        remedy="Near copies are kept on one side of the split, so that the test score is not a memory test.",
    )


def _crossings(examples: Examples, groups: TextGroups, *, rows: Array) -> Iterator[Finding]:
    """Compare each given side with the sides before it."""
    if "given" not in examples:
        return
    side = examples.column("given").fill_null("")
    of_side = {name: rows[pc.equal(side, name).to_numpy()[rows]] for name in _SIDES}
    for name, other in (("validation", ""), ("test", ""), ("test", "validation")):
        yield from _crossing(examples, groups, (name, of_side[name]), (other, of_side[other]))


def _crossing(
    examples: Examples, groups: TextGroups, here: tuple[str, Array], there: tuple[str, Array]
) -> Iterator[Finding]:
    (name, rows), (other, others) = here, there
    exact = np.isin(groups.exact[rows], groups.exact[others])
    near = np.isin(groups.near[rows], groups.near[others])
    found = rows[near]
    if len(found):
        yield finding_at(
            examples,
            found,
            kind="text-on-two-sides",
            severity="warning",
            message=f"Texts of the {_SIDES[name]} rows that stand in the {_SIDES[other]} rows too: "
            f"{of_rows(len(found), len(rows))}, {int(exact.sum()):,} word for word and "
            f"{int((near & ~exact).sum()):,} nearly so.",
            remedy=f"Remove them from one of the files: they make the {_SIDES[name]} score too good.",
        )
