"""Which column is the text and which the label: by setting, by name in tiers, then by content."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.batches import NESTED
from bertsmith.data.cells import FLOAT
from bertsmith.data.labels_column import is_flag
from bertsmith.data.layouts import layout_of
from bertsmith.data.roles import PLAIN, Shape, asked_role, asked_task, shape_of
from bertsmith.data.usual_names import LABEL_NAMES, PAIRS, TEXT_NAMES
from bertsmith.errors import BertsmithError, DataError, UsageError
from bertsmith.examples import Columns
from bertsmith.recipe import Read

PARTS = ("text", "label", "text_pair", "group", "time", "annotators")
_SEVERAL = frozenset(["label", "annotators"])
_SAMPLE = 2_000
_LONG = 15
_FEW = 1_000
_FLAGS = {part: f"--{part.replace('_', '-')}" for part in PARTS}


@dataclass(frozen=True)
class FoundColumns:
    """The columns, one sentence that says how they were found, and how the gold answers stand in them.

    Attributes:
        columns: Which column plays which part.
        note: That, in words.
        shape: How the gold answers stand; None where there are none.
        told: Which task was told from the data, and from what; "" where there was nothing to tell.
    """

    columns: Columns
    note: str
    shape: Shape | None = None
    told: str = ""


@dataclass
class _Search:
    """What is being looked at, and what has been found so far: part → columns."""

    table: pa.Table
    source: str
    labelled: bool
    task: str = ""
    role: str = ""
    found: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def free(self) -> list[str]:
        """Columns that play no part yet."""
        taken = {name for names in self.found.values() for name in names}
        return [name for name in self.table.column_names if name not in taken]


def find_columns(table: pa.Table, settings: Read, *, source: str, labelled: bool = True) -> FoundColumns:
    """Find out which column plays which part.

    Settings come first. Then layouts that tell a task by themselves: questions with contexts, words with tags.
    Then names: `text` and `label`, then the columns of a pair, then usual names. Then content: the one column of
    long texts, the one column of few distinct values, or several columns of 0 and 1.

    Args:
        table: The user's columns; some rows are enough.
        settings: Its names of columns override the finding, its `task` the telling.
        source: What the table is called in messages.
        labelled: False when no gold answer is needed; one is then found by its name only.

    Raises:
        UsageError: A setting names no column, or one column twice.
        DataError: There is no candidate, or more than one.
    """
    search = _Search(table, source, labelled, asked_task(settings), asked_role(settings))
    _take_settings(search, settings)
    for part in ("id", "weight"):
        _take(search, part, _first_named(search, part))
    layout = None if settings.annotators else layout_of(table, settings, source=source, labelled=labelled)
    if layout is not None:
        found, shape = layout
        kept = {part: names for part, names in search.found.items() if part not in {"text", "text_pair", "label"}}
        search.found = {part: (name,) for part, name in found.items()} | kept
        return _found(search, settings, shape)
    _find_by_name(search, settings_label=bool(settings.label))
    if "text" not in search.found:
        _take(search, "text", _text_by_content(search))
    if labelled and not _SEVERAL & search.found.keys():
        search.found["label"] = _label_by_content(search)
    return _found(search, settings, _shape(search, settings))


def _shape(search: _Search, settings: Read) -> Shape | None:
    """Tell how the gold answers stand, and give their columns the part that this makes them."""
    if "annotators" in search.found:
        return Shape("label", "votes", since="annotators gave the labels")
    if "label" not in search.found:
        return None
    names = search.found.pop("label")
    try:
        shape = shape_of(search.table, names, settings, source=search.source)
    except BertsmithError:
        # Only texts are wanted: a column that is called like gold answers may be something else.
        if search.labelled or settings.label:
            raise
        return None
    search.found[shape.role] = names
    return shape


def _found(search: _Search, settings: Read, shape: Shape | None) -> FoundColumns:
    several = {"annotators"} | ({"labels"} if (shape or PLAIN).form == "columns" else set())
    parts = {part: names if part in several else names[0] for part, names in search.found.items()}
    columns = Columns(**parts)  # type: ignore[arg-type]
    return FoundColumns(columns, _note(columns), shape, shape.told(asked_task(settings)) if shape else "")


def match_column(name: str, names: Sequence[str]) -> str | None:
    """Find a column by name: exactly, else the only one that differs in case and outer blanks alone."""
    if name in names:
        return name
    alike = [each for each in names if _plain(each) == _plain(name)]
    return alike[0] if len(alike) == 1 else None


def no_column(source: str, name: str, names: Sequence[str], *, flag: str = "") -> str:
    """Word that a column is not there; the nearest name and all names are offered."""
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{source}: no column '{name}'{f' ({flag})' if flag else ''}.{hint} Its columns are {_listed(names)}."


def _take_settings(search: _Search, settings: Read) -> None:
    for part in PARTS:
        wanted = getattr(settings, part)
        if not wanted:
            continue
        names = _matched(search, part, wanted)
        for name in names:
            taken = next((other for other, each in search.found.items() if name in each), None)
            if taken is not None and not {taken, part} & {"group", "time"}:
                raise UsageError(
                    f"{search.source}: column '{name}' cannot be both {_FLAGS[taken]} and {_FLAGS[part]}.",
                    tip=f"Its columns are {_listed(search.table.column_names)}.",
                )
        search.found[part] = names


def _matched(search: _Search, part: str, wanted: str) -> tuple[str, ...]:
    """Find the column that is named, or several that are named with commas between them."""
    known = search.table.column_names
    whole = match_column(wanted, known)
    if whole is not None:
        return (whole,)
    each = [one.strip() for one in wanted.split(",") if one.strip()] if part in _SEVERAL else [wanted]
    names = [(one, match_column(one, known)) for one in each]
    missing = next((one for one, name in names if name is None), None)
    if missing is not None:
        raise UsageError(no_column(search.source, missing, known, flag=_FLAGS[part]))
    return tuple(dict.fromkeys(name for _, name in names if name is not None))


def _take(search: _Search, part: str, name: str | None) -> None:
    if name is not None:
        search.found[part] = (name,)


def _find_by_name(search: _Search, *, settings_label: bool) -> None:
    """Look for names in tiers; `text` and a pair come before names that are only usual."""
    if "text" not in search.found:
        _find_pair(search)
    elif "text_pair" not in search.found:
        _take(search, "text_pair", _first_named(search, "text_pair"))
    if not _SEVERAL & search.found.keys():
        _take(search, "label", _first_named(search, "label"))
    if not _SEVERAL & search.found.keys():
        _take(search, "label", _usual(search, "label", LABEL_NAMES))
    if not search.labelled and not settings_label and not _can_be_label(search):
        search.found.pop("label", None)
    if "text" not in search.found:
        _take(search, "text", _usual(search, "text", TEXT_NAMES))


def _find_pair(search: _Search) -> None:
    """Take `text`, or both columns of a pair that is complete."""
    for first, second in PAIRS:
        left, right = _first_named(search, first), _first_named(search, second)
        chosen = search.found.get("text_pair", ("",))[0]
        right = right or (chosen if _plain(chosen) == second else None)
        if left and (first == "text" or right):
            search.found["text"] = (left,)
            if right:
                search.found.setdefault("text_pair", (right,))
            return


def _first_named(search: _Search, name: str) -> str | None:
    """Return the free column of this name; exact spelling wins over another case."""
    free = search.free()
    return name if name in free else next((each for each in free if _plain(each) == name), None)


def _usual(search: _Search, part: str, names: frozenset[str]) -> str | None:
    found = [name for name in search.free() if _plain(name).replace(" ", "_").replace("-", "_") in names]
    if len(found) > 1 and (search.labelled or part == "text"):
        raise _ambiguous(search, part, found)
    return found[0] if len(found) == 1 else None


def _can_be_label(search: _Search) -> bool:
    """Whether a column that was found by its name alone may be gold answers of rows that need none."""
    names = search.found.get("label")
    if names is None or search.role in {"tags", "answers"}:
        return False
    kind = search.table.schema.field(names[0]).type
    return search.task in {"regression", "ordered"} or not pa.types.is_floating(kind)


def _text_by_content(search: _Search) -> str:
    strings = [name for name in search.free() if _holds_texts(search.table.schema.field(name))]
    if not search.labelled and search.table.num_columns == 1 and strings:
        return strings[0]
    long = [name for name in strings if _mean_length(search.table, name) >= _LONG]
    candidates = long or (strings if len(strings) == 1 else [])
    if not candidates:
        raise DataError(
            f"{search.source}: no column of texts found. Its columns are {_listed(search.table.column_names)}.",
            tip="Name it with --text COLUMN. Does the file have a header?",
        )
    if len(candidates) > 1:
        raise _ambiguous(search, "text", candidates)
    return candidates[0]


def _label_by_content(search: _Search) -> tuple[str, ...]:
    free = search.free()
    few = [name for name in free if _has_few_values(search.table, name)]
    if search.role in {"", "labels"}:
        flags = [name for name in free if is_flag(search.table.column(name))]
        if len(flags) > 1 and (search.role or not set(few) - set(flags)):
            return tuple(flags)
    if search.role == "value":
        few = [name for name in free if _holds_numbers(search.table, name)]
    candidates = few or (free if len(free) == 1 else [])
    if not candidates:
        raise DataError(
            f"{search.source}: no column of labels found. Its columns are {_listed(search.table.column_names)}.",
            tip="Name it with --label COLUMN. Does the file have a header?",
        )
    if len(candidates) > 1:
        raise _ambiguous(search, "label", candidates)
    return (candidates[0],)


def _holds_numbers(table: pa.Table, name: str) -> bool:
    column = table.column(name).slice(0, _SAMPLE)
    if _is_text(column.type):
        return len(column) > 0 and pc.all(pc.match_substring_regex(column.cast(pa.string()), FLOAT)).as_py() is True
    return bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def _ambiguous(search: _Search, part: str, names: list[str]) -> BertsmithError:
    samples = "; ".join(f"'{name}' (such as {_sample_value(search.table, name)})" for name in names)
    return DataError(
        f"{search.source}: {len(names)} columns could be the {part}: {samples}.",
        tip=f"Name the one that is meant: {_FLAGS[part]} {names[0]}",
    )


def _sample_value(table: pa.Table, name: str) -> str:
    value = next((each for each in table.column(name).slice(0, 50).to_pylist() if each is not None and each != ""), "")
    text = str(value).replace("\n", " ")
    return repr(text if len(text) <= 40 else f"{text[:40]}…")


def _mean_length(table: pa.Table, name: str) -> float:
    column = table.column(name).slice(0, _SAMPLE).cast(pa.string())
    return float(pc.mean(pc.utf8_length(column)).as_py() or 0)


def _has_few_values(table: pa.Table, name: str) -> bool:
    """Whether a column looks like classes: values repeat, and there are not too many or too long ones."""
    field = table.schema.field(name)
    kind = field.type
    if NESTED in (field.metadata or {}) or pa.types.is_nested(kind) or pa.types.is_floating(kind):
        return False
    column = table.column(name).drop_null()
    if _is_text(kind):
        column = column.cast(pa.string())
        column = column.filter(pc.greater(pc.utf8_length(column), 0))
        if _mean_length(table, name) > 50:
            return False
    distinct = pc.count_distinct(column).as_py()
    return bool(0 < distinct <= _FEW and distinct * 2 <= len(column))


def _holds_texts(field: pa.Field) -> bool:
    return _is_text(field.type) and NESTED not in (field.metadata or {})


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _note(columns: Columns) -> str:
    return ", ".join(
        f"{part} from column{'s' * (len(names) > 1)} {_listed(names)}" for part, names in columns.names().items()
    )


def _plain(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(f"'{name}'" for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "none"


__all__ = ["LABEL_NAMES", "PAIRS", "TEXT_NAMES", "FoundColumns", "find_columns", "match_column", "no_column"]
