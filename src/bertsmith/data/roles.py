"""What the gold answers are: told from names, types and values of the columns, unless a task was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.cells import FLOAT, Cells, as_array
from bertsmith.data.lists import Flat
from bertsmith.data.span_columns import SPAN_KEYS
from bertsmith.errors import DataError, UsageError
from bertsmith.examples import Examples
from bertsmith.recipe import Read
from bertsmith.tasks import DEFAULT_TASKS, ROLES

SAMPLE = 2_000
"""Rows that are looked at to tell what lists hold."""
_SETTINGS = {
    "text": "text",
    "tokens": "text",
    "text_pair": "text_pair",
    "annotators": "annotators",
    **dict.fromkeys(DEFAULT_TASKS, "label"),
}
_WHOLE = r"^[+-]?\d*$"
USUAL_SEPARATOR = "|"


@dataclass(frozen=True)
class Shape:
    """How the gold answers stand in the user's columns.

    Attributes:
        role: The canonical column that they become: label, labels, value, tags or answers.
        form: plain, one-hot, shares, votes, lists, cut, vectors, columns, numbers, tags, spans or answers.
        separator: What separates labels in a cell, where the form is `cut`.
        since: Why the task was told so, such as "column 'labels' holds lists"; "" where it needs no saying.
    """

    role: str
    form: str
    separator: str = ""
    since: str = ""

    def told(self, task: str) -> str:
        """Say which task was told and from what; "" where it was asked for, or is the plain one."""
        return f"task {DEFAULT_TASKS[self.role]}, since {self.since}." if self.since and not task else ""


PLAIN = Shape("label", "plain")


def role_of(examples: Examples) -> str:
    """Return which gold answers a table has: label, labels, value, tags or answers; "" for none."""
    return next((role for role in DEFAULT_TASKS if role in examples), "")


def task_of(examples: Examples, settings: Read) -> str:
    """Return the task that was asked for, or the one that the data tells; "" where there are no gold answers."""
    return asked_task(settings) or DEFAULT_TASKS.get(role_of(examples), "")


def asked_task(settings: Read) -> str:
    """Return the task that the settings ask for; levels ask for an ordered one."""
    return settings.task or ("ordered" if settings.levels else "")


def asked_role(settings: Read) -> str:
    """Return the role of the task that the settings ask for; "" for none."""
    return ROLES.get(asked_task(settings), "")


def levels_of(settings: Read) -> tuple[str, ...]:
    """Return the labels from least to most, where the settings name them."""
    return tuple(level for level in (each.strip() for each in settings.levels.split(",")) if level)


def as_settings(columns: Mapping[str, str]) -> dict[str, str]:
    """Say which settings name the same columns again: setting → name.

    Args:
        columns: Part → name, as `Columns.used()` gives it.

    >>> as_settings({"tokens": "words", "tags": "ner_tags", "id": "id"})
    {'text': 'words', 'label': 'ner_tags'}
    """
    return {_SETTINGS[part]: name for part, name in columns.items() if part in _SETTINGS}


def shape_of(table: pa.Table, names: Sequence[str], settings: Read, *, source: str) -> Shape:
    """Tell what the column (or the 0/1 columns) of gold answers holds.

    Args:
        table: The user's columns.
        names: The column, or several of 0 and 1.
        settings: Its `task`, `levels` and `labels_separator` decide where they are given.
        source: What the table is called in messages.

    Raises:
        UsageError: The task that was asked for takes no such columns.
        DataError: The column holds nothing that can be told.
    """
    role = asked_role(settings)
    if len(names) > 1:
        _require_role(role, "labels", f"{source}: several columns of labels are for the task multi-label", settings)
        return Shape("labels", "columns", since=f"columns {_listed(names)} hold 0 and 1")
    cells = Cells(table, names[0], lambda place: f"{source}: row {place + 1}", source)
    if cells.is_nested:
        return _nested_shape(cells, role)
    if role in {"value", "tags", "answers"}:
        return Shape(role, {"value": "numbers"}.get(role, role))
    if role in {"", "labels"}:
        return _cut_shape(cells, role, settings) or (_number_shape(cells) if not role else None) or PLAIN
    return Shape("label", "levels") if asked_task(settings) == "ordered" else PLAIN


def _require_role(role: str, needed: str, found: str, settings: Read) -> None:
    if role not in {"", needed}:
        raise UsageError(f"{found}, not {asked_task(settings)}.", tip="Leave --task out, or name one column.")


def _cut_shape(cells: Cells, role: str, settings: Read) -> Shape | None:
    """Tell labels that are separated within a cell."""
    separator = settings.labels_separator
    if not separator and (cells.name.strip().casefold() == "labels" or role) and cells.is_text:
        separator = USUAL_SEPARATOR if pc.any(pc.match_substring(cells.column, USUAL_SEPARATOR)).as_py() else ""
    if separator:
        since = "labels are separated" if settings.labels_separator else f"column '{cells.name}' holds labels separated"
        return Shape("labels", "cut", separator, f"{since} by {separator!r}")
    if role:
        raise DataError(
            f"{cells.source}: column '{cells.name}' holds one label a row, where several are expected.",
            tip="Give lists, name what separates labels with --labels-separator, or name 0/1 columns: --label a,b,c",
        )
    return None


def _number_shape(cells: Cells) -> Shape | None:
    """Tell numbers with fractions, which are no classes."""
    if not (_are_written_numbers(cells) if cells.is_text else _are_floats(cells.type)):
        return None
    numbers = cells.numbers()
    broken = np.flatnonzero(np.isfinite(numbers) & (numbers != np.round(numbers)))
    if not len(broken):
        return None
    found = cells.column[int(broken[0])].as_py()
    return Shape("value", "numbers", since=f"column '{cells.name}' holds numbers with fractions, such as {found}")


def _are_floats(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _are_written_numbers(cells: Cells) -> bool:
    """Whether all texts are numbers, not all of them whole; a sample saves the long look at most columns."""
    text = cells.column.cast(pa.string())
    sample = text.slice(0, SAMPLE)
    number = pc.or_(pc.match_substring_regex(sample, FLOAT), pc.equal(sample, ""))
    if not pc.all(number).as_py() or pc.all(pc.match_substring_regex(text, _WHOLE)).as_py():
        return False
    filled = text.filter(pc.fill_null(pc.not_equal(text, ""), False))
    return bool(pc.all(pc.match_substring_regex(filled, FLOAT)).as_py())


def _nested_shape(cells: Cells, role: str) -> Shape:
    """Tell what lists or objects hold."""
    found = cells.nested(SAMPLE)
    if role in {"value", "answers"}:
        return Shape(role, {"value": "numbers"}.get(role, role))
    if pa.types.is_struct(found.type):
        return _if_asked(cells, role, Shape("label", "shares", since=_sums(cells)))
    kind = found.type.value_type
    if pa.types.is_struct(kind) and {field.name for field in kind} >= SPAN_KEYS:
        return _if_asked(cells, role, Shape("tags", "spans", since=f"column '{cells.name}' holds spans"))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return _vector_shape(cells, role)
    return _if_asked(cells, role, Shape("labels", "lists", since=f"column '{cells.name}' holds lists"))


def _if_asked(cells: Cells, role: str, shape: Shape) -> Shape:
    """Return the shape, or leave it to the role that was asked for to refuse what it cannot read."""
    if role in {"", shape.role}:
        return shape
    return Shape(role, {"labels": "lists", "label": "plain"}.get(role, role))


def _vector_shape(cells: Cells, role: str) -> Shape:
    """Tell one-hot vectors, vectors of 0 and 1, shares, and lists of class ids."""
    flat = Flat.of(as_array(cells.nested()))
    number = flat.values.cast(pa.int8()) if pa.types.is_boolean(flat.values.type) else flat.values
    values = np.asarray(number.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    lengths = flat.lengths[~flat.missing]
    even = bool(len(lengths)) and lengths[0] > 1 and bool((lengths == lengths[0]).all())
    if even and bool(np.isin(values, [0, 1]).all()):
        one_hot = bool((values.reshape(-1, int(lengths[0])).sum(axis=1) == 1).all())
        if role == "label" or (one_hot and not role):
            return Shape("label", "one-hot", since=f"each list in column '{cells.name}' has one 1 (one-hot vectors)")
        return Shape("labels", "vectors", since=f"column '{cells.name}' holds lists of 0 and 1")
    if pa.types.is_floating(flat.values.type):
        return _if_asked(cells, role, Shape("label", "shares", since=_sums(cells)))
    return _if_asked(cells, role, Shape("labels", "lists", since=f"column '{cells.name}' holds lists"))


def _sums(cells: Cells) -> str:
    return f"column '{cells.name}' holds the share of each class (soft labels)"


def _listed(names: Sequence[str]) -> str:
    some = ", ".join(f"'{name}'" for name in names[:6])
    return f"{some} and {len(names) - 6} more" if len(names) > 6 else some


__all__ = ["PLAIN", "Shape", "as_settings", "asked_role", "asked_task", "levels_of", "role_of", "shape_of", "task_of"]
