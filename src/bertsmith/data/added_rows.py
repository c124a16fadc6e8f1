"""Corrected answers become training rows, after the split: the other sides stay what they were without them.

So a run with them and one without are scored on the same test rows. A correction whose text stands in rows that are
held out, word for word or nearly so, is left out: to learn from it would make the test score a memory test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.near_duplicates import TextGroups, group_texts
from bertsmith.data.split import Splits
from bertsmith.errors import DataError, UsageError
from bertsmith.examples import Examples, LabelSet

Array = np.ndarray[Any, Any]
_SHOWN = 5


@dataclass(frozen=True)
class Corrections:
    """What people said is right, oldest first.

    Attributes:
        table: `text`, `text_pair` (null or "" for none) and `correction`, all string. A correction is a label, for
            several labels a JSON list of them (or labels separated by |), for numbers a number.
        source: Where they come from, for messages.
        rows: Number of each there, counted from 1, int64.
    """

    table: pa.Table
    source: str
    rows: pa.Array


@dataclass(frozen=True)
class Added:
    """Examples with corrections as training rows.

    Attributes:
        examples: The rows as they were, and below them the added ones.
        splits: The sides as they were; the added rows are of train. Its last note says what was added and left out.
        groups: Equal and nearly equal texts among all of them.
        count: Rows added.
    """

    examples: Examples
    splits: Splits
    groups: TextGroups
    count: int


@dataclass(frozen=True)
class _Left:
    """Why corrections are left out, and how many."""

    reason: str
    count: int


def add_rows(examples: Examples, splits: Splits, given: Corrections, *, labels: LabelSet, seed: int) -> Added:
    """Add corrections to the training rows.

    Left out, and counted in the note: texts that stand in validation, calibration or test rows, word for word or
    nearly so; a text's older corrections, where it has several; what says the same as a training row; and corrections
    that the data do not know as labels (or that are no numbers).

    Args:
        examples: Labelled rows with a column label, labels or value.
        splits: Their sides, not empty.
        given: The corrections.
        labels: The labels of the data.
        seed: As for `group_texts`.

    Raises:
        UsageError: The task has no labels or numbers that one correction could hold.
        DataError: The model is for pairs, and a correction has no second text.
    """
    role = _role(examples, given)
    _require_pairs(examples, given)
    gold, known = _gold(given.table.column("correction"), role, labels)
    left = [_Left(_unknown(given, known, role), int((~known).sum()))]
    new = _as_examples(examples, given, gold, role).take(np.flatnonzero(known))
    groups = group_texts(_below(examples, new), seed=seed)
    kept, more = _kept(examples, splits, new, groups, role)
    joined = _below(examples, new.take(kept))
    rows = np.concatenate([np.arange(len(examples)), len(examples) + kept])
    groups = TextGroups(groups.exact[rows], groups.near[rows], groups.sampled)
    note = _note(given.source, len(kept), [each for each in [*left, *more] if each.count])
    return Added(joined, _with_rows(splits, len(examples), len(kept), note), groups, len(kept))


def _role(examples: Examples, given: Corrections) -> str:
    role = next((each for each in ("label", "labels", "value") if each in examples), "")
    if not role or "shares" in examples:
        raise UsageError(
            f"--add takes corrections of labels or numbers, and {examples.source} has others.",
            tip=f"Mend the data itself: bertsmith review {given.source} lists what was said.",
        )
    return role


def _require_pairs(examples: Examples, given: Corrections) -> None:
    """Refuse single texts where the data has pairs."""
    if "text_pair" not in examples:
        return
    empty = np.flatnonzero(pc.equal(pc.fill_null(given.table.column("text_pair"), ""), "").to_numpy())
    if len(empty):
        raise DataError(
            f"{given.source}: row {given.rows[int(empty[0])]}: no second text, and {examples.source} has pairs.",
            tip=f"{len(empty):,} corrections are so: give the feedback on a model of this data.",
        )


def _gold(corrections: pa.ChunkedArray, role: str, labels: LabelSet) -> tuple[list[Any], Array]:
    """Read corrections as gold answers, and say which of them can be, bool `(rows,)`."""
    read = {"label": lambda cell: cell, "labels": _several, "value": _number}[role]
    gold = [read(cell) for cell in corrections.to_pylist()]
    names = set(labels.names)
    if role == "value":
        return gold, np.array([each is not None for each in gold], dtype=bool)
    named = [[each] if role == "label" else each for each in gold]
    return gold, np.array([each is not None and names.issuperset(each) for each in named], dtype=bool)


def _several(cell: str) -> list[str] | None:
    """Read several labels.

    >>> _several('["a", "b"]'), _several("a|b"), _several("[]")
    (['a', 'b'], ['a', 'b'], [])
    """
    try:
        found = json.loads(cell)
    except ValueError:
        found = [each.strip() for each in cell.split("|")]
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        return [cell]
    return list(dict.fromkeys(found))


def _number(cell: str) -> float | None:
    try:
        found = float(cell)
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def _as_examples(examples: Examples, given: Corrections, gold: list[Any], role: str) -> Examples:
    """Give corrections the columns of the examples; what only the data has is empty."""
    count = given.table.num_rows
    file = pa.array([given.source], pa.string()).take(pa.array(np.zeros(count, np.int64)))
    made = {
        "text": given.table.column("text"),
        "text_pair": given.table.column("text_pair"),
        "file": file,
        "row": given.rows,
        "weight": pa.array(np.ones(count)),
        role: pa.array(gold, examples.table.schema.field(role).type),
    }
    schema = examples.table.schema
    columns = [
        made[field.name].cast(field.type) if field.name in made else pa.nulls(count, field.type) for field in schema
    ]
    extra = None if examples.extra is None else examples.extra.schema.empty_table()
    if extra is not None:
        extra = pa.table([pa.nulls(count, field.type) for field in extra.schema], schema=extra.schema)
    return Examples(pa.table(columns, schema=schema), examples.columns, given.source, extra)


def _below(examples: Examples, new: Examples) -> Examples:
    """Put rows below others of the same columns."""
    table = pa.concat_tables([examples.table, new.table]).unify_dictionaries()
    extra = examples.extra
    if extra is not None and new.extra is not None:
        extra = pa.concat_tables([extra, new.extra])
    return replace(examples, table=table, extra=extra)


def _kept(
    examples: Examples, splits: Splits, new: Examples, groups: TextGroups, role: str
) -> tuple[Array, list[_Left]]:
    """Choose which new rows are added: int64, ascending; and count the others by their reasons."""
    before = len(examples)
    exact, near = groups.exact[before:], groups.near[before:]
    held = np.concatenate([splits.sides[side] for side in splits.sides if side != "train"])
    out = np.isin(near, groups.near[held])
    newest = np.zeros(len(new), dtype=bool)
    # Of each text the last: `unique` names the first, so it is asked from the end.
    newest[len(new) - 1 - np.unique(exact[::-1], return_index=True)[1]] = True
    known = _said_in(examples, splits.sides["train"], groups, role)
    said = _meanings(new, role)
    same = np.array([(int(group), what) in known for group, what in zip(exact, said, strict=True)], dtype=bool)
    left = [
        _Left("with a text of held-out rows (or nearly so)", int(out.sum())),
        _Left("corrected again later", int((~out & ~newest).sum())),
        _Left("already in a training row", int((~out & newest & same).sum())),
    ]
    return np.flatnonzero(~out & newest & ~same), left


def _said_in(examples: Examples, train: Array, groups: TextGroups, role: str) -> set[tuple[int, str]]:
    """What training rows say of texts that were corrected too: text → gold answer."""
    shared = train[np.isin(groups.exact[train], groups.exact[len(examples) :])]
    return set(zip(groups.exact[shared].tolist(), _meanings(examples.take(shared), role), strict=True))


def _meanings(examples: Examples, role: str) -> list[str]:
    """Write gold answers so that equal ones are equal; several labels have no order."""
    return [repr(sorted(each) if isinstance(each, list) else each) for each in examples.column(role).to_pylist()]


def _with_rows(splits: Splits, before: int, count: int, note: str) -> Splits:
    positions = np.arange(before, before + count, dtype=np.int64)
    sides = {**splits.sides, "train": np.concatenate([splits.sides["train"], positions])}
    first = int(splits.together.max(initial=-1)) + 1
    together = np.concatenate([splits.together, np.arange(first, first + count, dtype=np.int64)])
    return Splits(sides, (*splits.notes, note), together)


def _unknown(given: Corrections, known: Array, role: str) -> str:
    what = "no number" if role == "value" else "no label of the data"
    cells = given.table.column("correction").filter(pa.array(~known)).unique().to_pylist()
    named = ", ".join(repr(cell) for cell in cells[:_SHOWN])
    return f"{what} ({named}{' and others' if len(cells) > _SHOWN else ''})"


def _note(source: str, count: int, left: list[_Left]) -> str:
    """Say what was added, and what not.

    >>> _note("feedback.db", 2, [_Left("corrected again later", 1)])
    'feedback.db: 2 corrections were added to train. 1 was left out: 1 corrected again later.'
    """
    many = sum(each.count for each in left)
    added = f"{count:,} correction{' was' if count == 1 else 's were'} added to train."
    if not many:
        return f"{source}: {added}"
    reasons = "; ".join(f"{each.count:,} {each.reason}" for each in left)
    return f"{source}: {added} {many:,} {'was' if many == 1 else 'were'} left out: {reasons}."


__all__ = ["Added", "Corrections", "add_rows"]
