"""The `split` stage: every row gets one side, and no text stands on two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from bertsmith.data.near_duplicates import TextGroups, renumbered
from bertsmith.data.split_labels import MOST_ROWS, by_labels, rarest_labels, teach_every_label
from bertsmith.data.times import place, read_times, source_name
from bertsmith.errors import DataError
from bertsmith.examples import SIDES, Examples

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

TRAIN, VALIDATION, CALIBRATION, TEST = range(4)
_FIRST_SERVED = np.array([TRAIN, TEST, VALIDATION, CALIBRATION])
"""Who gets the odd row of a class, all else equal."""
_OPEN = -1

ROOM = 4
"""A group is drawn to a side by chance where the side still needs this many times its rows; bigger groups go
where most is needed, so that no side becomes the copies of one text."""

_WITHOUT = {
    VALIDATION: "no early stopping, no choice of the best epoch",
    CALIBRATION: "nothing can be promised of the answers",
    TEST: "no honest score",
}


@dataclass(frozen=True)
class Splits:
    """Which row is on which side.

    Attributes:
        sides: "train", "validation", "calibration" and "test", each with the sorted positions (int64) of its
            rows in the Examples; a side may be empty.
        notes: What was decided or dropped, and what can then not be promised; one sentence each.
        together: Number of what each row stays together with, nearly equal texts and equal groups, int64 `(rows,)`:
            rows of one number are no independent rows. Of rows that nobody grouped, each has its own.
    """

    sides: Mapping[str, Ints]
    notes: tuple[str, ...]
    together: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def side_of(self, rows: int) -> np.ndarray[Any, np.dtype[np.object_]]:
        """Name each row's side, `(rows,)`; `rows` is the number of examples that were split."""
        names = np.empty(rows, dtype=object)
        for side, positions in self.sides.items():
            names[positions] = side
        return names

    def sizes(self) -> dict[str, int]:
        """Return the number of rows of each side."""
        return {side: len(positions) for side, positions in self.sides.items()}


def split(
    examples: Examples,
    *,
    strata: np.ndarray[Any, Any],
    groups: TextGroups,
    shares: tuple[float, float, float, float],
    seed: int,
    calibrates: str = _WITHOUT[CALIBRATION],
) -> Splits:
    """Share rows out over train, validation, calibration and test.

    Rows that came as a validation or test file stay that side; the others, the main file, are shared out over
    the sides that have no file, and the share of a side with a file goes to train. Rows with nearly equal
    texts, or with the same value of the `group` column, stay on one side. Each class is shared out as the
    whole is, to within about a row where groups are small, and trains with at least one row; its odd rows go
    to train first, then test, validation, calibration. Sides too small to be of use are dropped.

    Rows with several labels are shared out by iterative stratification: each side has its share of the rows of
    every label, rare ones first, as far as rows that have many labels allow. Of more than 200 000 rows only the
    rarest label of each counts, as its class.

    With a `time` column the main file is split in order of time instead: the oldest rows train, then come
    validation, calibration and test. Equal times stay together. A group goes where its *latest* row belongs:
    a late side may then hold some older rows, but nothing from the future leaks into an early one.

    The same rows and seed give the same split on every machine.

    Args:
        examples: What `read` gave.
        strata: The class of each row, int64 `(rows,)`, or which labels it has, bool `(rows, labels)`, as the
            task says.
        groups: Rows with equal texts, as `group_texts` found them.
        shares: Fractions for train, validation, calibration and test; they add up to 1.
        seed: Any whole number of at least 0; not used where there is a `time` column.
        calibrates: What cannot be had without calibration rows, as the task says.

    Raises:
        DataError: A row has no class, a time cannot be read, or there is no row to train with.
    """
    _check_strata(examples, strata)
    given = _given_sides(examples)
    rows = np.flatnonzero(given == _OPEN)
    if not len(rows):
        raise DataError(
            f"{examples.source}: no rows to train with.",
            tip="Rows of a validation or test file are never trained with: give the training rows as DATA.",
        )
    components = _components(examples, groups)
    lost = {**_WITHOUT, CALIBRATION: calibrates}
    wanted, notes = _wanted(np.asarray(shares), given, int(_occurring(strata).sum()), lost=lost)
    parts = renumbered(components[rows])
    side = given.copy()
    if "time" in examples:
        side[rows] = _by_time(read_times(examples, rows), parts, wanted)
    else:
        draw = np.random.Generator(np.random.PCG64(seed))
        choose = _by_class if strata.ndim == 1 else _by_labels
        side[rows] = choose(strata[rows], parts, wanted, draw)
    notes += _order_and_sample(examples, groups) + _shortfalls(side[rows], wanted, lost=lost)
    notes += _untaught(side, strata) + _crossings(examples, groups, given, side)
    sides = {name: np.flatnonzero(side == number) for number, name in enumerate(SIDES)}
    return Splits(sides, tuple(notes), components)


def _check_strata(examples: Examples, strata: np.ndarray[Any, Any]) -> None:
    bad = np.flatnonzero(strata < 0) if strata.ndim == 1 else np.zeros(0, dtype=np.int64)
    if len(bad):
        raise DataError(
            f"{place(examples, bad[0])}: no label, so the row belongs to no class that could be split.",
            tip=f"{len(bad)} rows are so. Give them labels, or leave them out.",
        )


def _given_sides(examples: Examples) -> Ints:
    """Return each row's given side, -1 where it is to be chosen, int64 `(rows,)`."""
    if "given" not in examples:
        return np.full(len(examples), _OPEN, dtype=np.int64)
    found = pc.index_in(examples.column("given").cast(pa.string()), value_set=pa.array(SIDES, pa.string()))
    return np.asarray(pc.fill_null(found, _OPEN).to_numpy(), dtype=np.int64)


def _components(examples: Examples, groups: TextGroups) -> Ints:
    """Number what must stay together: near duplicates and equal values of `group`, int64 `(rows,)`."""
    if "group" not in examples:
        return groups.near
    values = _group_values(examples)
    texts = int(groups.near.max()) + 1
    edges = (groups.near[values >= 0], texts + values[values >= 0])
    nodes = texts + int(values.max(initial=-1)) + 1
    graph = csr_matrix((np.ones(len(edges[0]), dtype=bool), edges), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1][groups.near], dtype=np.int64)


def _group_values(examples: Examples) -> Ints:
    """Number the values of the `group` column; -1 where it is empty."""
    values = examples.column("group").cast(pa.large_string())
    filled = pc.if_else(pc.equal(pc.utf8_trim_whitespace(values), ""), None, values)
    found = pc.index_in(filled, value_set=filled.drop_null().unique())
    return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)


def _fewest(classes: int) -> dict[int, int]:
    """Say how many rows a side needs to be of use.

    Calibration: no threshold on fewer than some 30 answers can be promised with confidence, and most classes
    should be met at all. Validation: one row more or less must not decide which epoch is best. Test: fewer
    than 4 rows tell nothing.
    """
    return {
        CALIBRATION: max(30, min(classes, 100)),
        VALIDATION: min(20, max(10, 2 * classes)),
        TEST: 4,
    }


def _wanted(shares: Floats, given: Ints, classes: int, *, lost: Mapping[int, str]) -> tuple[Floats, list[str]]:
    """Settle the shares of the main file: given and dropped sides leave theirs to train."""
    rows = int((given == _OPEN).sum())
    wanted = shares / shares.sum()
    notes = []
    for side, fewest in _fewest(classes).items():
        has_file = bool((given == side).any())
        share = wanted[side]
        if has_file or _whole(share * rows) < fewest:
            wanted[side] = 0
            wanted[TRAIN] += share
        if not has_file and not wanted[side]:
            notes.append(_dropped(side, share * rows, rows, fewest, lost=lost[side]))
    return wanted, notes


def _whole(rows: float) -> int:
    return int(rows + 1e-6)  # 0.1 * 300 is a little less than 30


def _dropped(side: int, share: float, rows: int, fewest: int, *, lost: str) -> str:
    few = f"its share of {rows} rows would be {_whole(share)}, which train instead; it needs {fewest}"
    return f"No {SIDES[side]} rows ({few if share else 'its share is 0'}): {lost}."


def _apportion(amounts: Floats, owed: Floats) -> Ints:
    """Round amounts that add up to a whole number: the largest remainders (and debts) are rounded up.

    >>> _apportion(np.array([3.5, 0.5, 0.5, 0.5]), np.zeros(4)).tolist()
    [4, 0, 0, 1]
    """
    whole = np.floor(amounts + 1e-9).astype(np.int64)
    remainders = amounts - whole
    claims = np.where(remainders > 1e-9, np.round(remainders + owed, 9), -np.inf)[_FIRST_SERVED]
    missing = round(float(amounts.sum())) - int(whole.sum())
    whole[_FIRST_SERVED[np.argsort(-claims, kind="stable")[:missing]]] += 1
    return whole


def _targets(sizes: Ints, wanted: Floats, order: Ints) -> Ints:
    """Say how many rows of each class go to each side, int64 `(classes, 4)`.

    What rounding takes from a side in one class is given back in the next, so that many small classes do not
    starve a side. Every class keeps a row for train; that makes no debt, for a common class would have to pay
    for many rare ones.
    """
    targets = np.zeros((len(sizes), len(SIDES)), dtype=np.int64)
    owed = np.zeros(len(SIDES))
    for stratum in order:
        due = sizes[stratum] * wanted
        targets[stratum] = _apportion(due, owed)
        owed = owed + due - targets[stratum]
        if not targets[stratum, TRAIN]:
            targets[stratum, targets[stratum].argmax()] -= 1
            targets[stratum, TRAIN] = 1
    return targets


def _by_class(strata: Ints, parts: Ints, wanted: Floats, draw: np.random.Generator) -> Ints:
    """Choose sides so that each keeps the shares of the classes, int64 `(rows,)`."""
    strata = renumbered(strata)
    sizes = np.bincount(strata)
    order = np.lexsort((draw.random(len(sizes)), sizes))
    need = _targets(sizes, wanted, order)
    sides = np.full(len(strata), _OPEN, dtype=np.int64)
    _place_groups(sides, strata, parts, need, draw)
    _place_singles(sides, strata, need, draw)
    _teach_every_class(sides, strata, parts)
    return sides


def _by_labels(labels: np.ndarray[Any, Any], parts: Ints, wanted: Floats, draw: np.random.Generator) -> Ints:
    """Choose sides so that each keeps the shares of all labels, int64 `(rows,)`."""
    if len(labels) > MOST_ROWS or not labels.any():
        sides = _by_class(rarest_labels(labels), parts, wanted, draw)
    else:
        sides = by_labels(labels, parts, wanted, draw)
    teach_every_label(sides, labels, parts, train=TRAIN)
    return sides


def _place_groups(sides: Ints, strata: Ints, parts: Ints, need: Ints, draw: np.random.Generator) -> None:
    """Place groups of two rows and more, biggest first; `sides` and `need` are changed."""
    sizes = np.bincount(parts)
    chances = draw.random(len(sizes))
    grouped = np.flatnonzero(sizes[parts] > 1)
    cells, counts = np.unique(parts[grouped] * len(need) + strata[grouped], return_counts=True)
    begins = np.searchsorted(cells, np.arange(len(sizes) + 1) * len(need)).tolist()
    biggest_first = np.lexsort((chances, -sizes))[: int((sizes > 1).sum())]
    needs, classes, amounts = need.tolist(), (cells % len(need)).tolist(), counts.tolist()
    open_sides = [side for side in _FIRST_SERVED.tolist() if need[:, side].any()]
    chosen = np.full(len(sizes), _OPEN, dtype=np.int64)
    draws = draw.random(len(sizes)).tolist()
    for part in biggest_first.tolist():
        span = slice(begins[part], begins[part + 1])
        rows = [needs[stratum] for stratum in classes[span]]
        side = _side_of_group(rows, amounts[span], open_sides, draws[part])
        chosen[part] = side
        for row, amount in zip(rows, amounts[span], strict=True):
            row[side] -= amount
    sides[grouped] = chosen[parts[grouped]]
    need[:] = needs


def _side_of_group(needs: list[list[int]], amounts: list[int], sides: list[int], chance: float) -> int:
    """Choose by chance among the sides with room for the group, else where most is needed."""
    pairs = list(zip(needs, amounts, strict=True))
    roomy = [side for side in sides if all(need[side] >= ROOM * amount for need, amount in pairs)]
    if not roomy:
        return max(sides, key=lambda side: sum(need[side] * amount for need, amount in pairs))
    rooms = np.cumsum([sum(need[side] for need in needs) for side in roomy])
    return roomy[int(np.searchsorted(rooms, chance * rooms[-1], side="right"))]


def _place_singles(sides: Ints, strata: Ints, need: Ints, draw: np.random.Generator) -> None:
    """Fill up with rows that belong to no group; `sides` is changed."""
    singles = np.flatnonzero(sides == _OPEN)
    shuffled = singles[np.lexsort((draw.random(len(singles)), strata[singles]))]
    ends = np.cumsum(np.bincount(strata[singles], minlength=len(need)))
    for stratum, rows in enumerate(np.split(shuffled, ends[:-1])):
        left = np.maximum(need[stratum], 0)
        filled = _apportion(left * (len(rows) / max(left.sum(), 1)), np.zeros(len(SIDES)))
        sides[rows] = np.repeat(np.arange(len(SIDES)), filled)


def _teach_every_class(sides: Ints, strata: Ints, parts: Ints) -> None:
    """Move the smallest group of a class that train lacks to train; `sides` is changed."""
    taught = np.bincount(strata[sides == TRAIN], minlength=int(strata.max()) + 1)
    sizes = np.bincount(parts)
    for stratum in np.flatnonzero(taught == 0):
        rows = np.flatnonzero(strata == stratum)
        smallest = parts[rows[np.argmin(sizes[parts[rows]])]]
        sides[parts == smallest] = TRAIN


def _by_time(times: np.ndarray[Any, Any], parts: Ints, wanted: Floats) -> Ints:
    """Cut where the shares ask for it, at the nearest change of time, int64 `(rows,)`."""
    order = np.lexsort((times, parts))
    last = np.cumsum(np.bincount(parts)) - 1
    latest = times[order][last][parts]
    _, moment, rows = np.unique(latest, return_inverse=True, return_counts=True)
    edges = np.concatenate([[0], np.cumsum(rows)])
    due = np.cumsum(wanted)[:-1] * len(times)
    cuts = np.maximum([np.abs(edges - amount).argmin() for amount in due], 1)
    return np.asarray(np.searchsorted(cuts, moment, side="right"), dtype=np.int64)


def _order_and_sample(examples: Examples, groups: TextGroups) -> list[str]:
    """Say what the split rests on, where a person might take it to rest on something else."""
    notes = []
    if "time" in examples:
        notes.append(f"Rows were split in order of column '{source_name(examples, 'time')}': the oldest train.")
    if groups.sampled is not None:
        notes.append(
            f"Near duplicates were looked for among {groups.sampled} of {len(examples)} rows only: "
            "others may stand on two sides."
        )
    return notes


def _shortfalls(sides: Ints, wanted: Floats, *, lost: Mapping[int, str]) -> list[str]:
    """Say which sides could not be filled as they should, and what can then not be promised."""
    sizes = np.bincount(sides, minlength=len(SIDES))
    notes = [
        f"No {SIDES[side]} rows (the rows that must stay together leave none over): {lost[side]}."
        for side in lost
        if wanted[side] and not sizes[side]
    ]
    for side, name in enumerate(SIDES):
        if wanted[side] and sizes[side] and abs(sizes[side] - wanted[side] * len(sides)) > max(2, 0.02 * len(sides)):
            notes.append(
                f"{name.capitalize()} has {sizes[side] / len(sides):.1%} of the rows instead of "
                f"{wanted[side]:.1%}: rows that must stay together, or rare classes, allow no better."
            )
    return notes


def _untaught(side: Ints, strata: np.ndarray[Any, Any]) -> list[str]:
    occurring = _occurring(strata)
    missing = int((occurring & ~_occurring(strata[side == TRAIN], classes=len(occurring))).sum())
    if not missing:
        return []
    return [f"{missing} of {int(occurring.sum())} classes have no training row: the model cannot learn them."]


def _occurring(strata: np.ndarray[Any, Any], *, classes: int = 0) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Say which classes (or labels) there are, bool `(classes,)`."""
    if strata.ndim == 2:
        return np.asarray(strata.any(axis=0))
    return np.bincount(strata, minlength=classes) > 0


def _crossings(examples: Examples, groups: TextGroups, given: Ints, side: Ints) -> list[str]:
    """Count training rows that have the text, or the value of `group`, of a given validation or test row."""
    kinds = [(groups.near, "the same or nearly the same text as")]
    if "group" in examples:
        name = source_name(examples, "group")
        kinds.append((_group_values(examples), f"the same value of column '{name}' as"))
    notes = []
    for numbers, alike in kinds:
        for other in (VALIDATION, TEST):
            theirs = numbers[(given == other) & (numbers >= 0)]
            rows = int(np.isin(numbers[side == TRAIN], theirs).sum())
            if rows:
                notes.append(
                    f"{rows} rows stay in train although they have {alike} a given {SIDES[other]} row: "
                    f"{SIDES[other]} scores may be too good."
                )
    return notes
