"""Tables whose columns tell the task by themselves: questions with contexts, words with tags, texts with spans."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.data.cells import Cells
from bertsmith.data.roles import Shape, asked_role
from bertsmith.data.span_columns import SPAN_KEYS
from bertsmith.errors import DataError
from bertsmith.recipe import Read

_TOKENS = ("tokens", "words")
_TAGS = ("tags", "ner_tags", "labels", "label", "pos_tags", "upos")
_SPANS = ("spans", "entities", "ents", "labels", "label")
_SAMPLE = 1_000


def layout_of(
    table: pa.Table, settings: Read, *, source: str, labelled: bool
) -> tuple[dict[str, str], Shape | None] | None:
    """Find questions with contexts, words with tags, or texts with spans.

    Returns:
        Part → column, and how the gold answers stand (None where there are none); or None where the table has no
        such columns and no such task was asked for.

    Raises:
        DataError: Such a task was asked for, and a column that it needs is not there.
    """
    look = _Look(table, source)
    role = asked_role(settings)
    if role == "answers" or not role:
        found = _questions(look, settings)
        if found is not None and (role or "answers" in found):
            return _with_shape(look, found, "answers", labelled=labelled)
        if role:
            raise look.lacks("a question and its context", "--text QUESTION --text-pair CONTEXT --label ANSWERS")
    if role == "tags" or not role:
        found = _tokens(look, settings) or _spans(look, settings)
        if found is not None and (role or "tags" in found):
            return _with_shape(look, found, "tags", labelled=labelled)
        if role and labelled:
            raise look.lacks("lists of words and of tags, or of texts and of spans", "--text COLUMN --label COLUMN")
    return None


class _Look:
    """The columns of a table, found by name whatever the case."""

    def __init__(self, table: pa.Table, source: str) -> None:
        self.table = table
        self.source = source

    def named(self, names: Iterable[str]) -> str | None:
        """Return the first column that has one of these names."""
        plain = {name.strip().casefold(): name for name in reversed(self.table.column_names)}
        exact = (name for name in names if name)
        return next(
            (
                name if name in self.table.column_names else plain[name.strip().casefold()]
                for name in exact
                if name in self.table.column_names or name.strip().casefold() in plain
            ),
            None,
        )

    def cells(self, name: str) -> Cells:
        """Return the first cells of a column."""
        return Cells(self.table.slice(0, _SAMPLE), name, lambda place: f"{self.source}: row {place + 1}", self.source)

    def lists(self, name: str) -> pa.ChunkedArray | None:
        """Return the first lists of a column; None where it holds something else."""
        cells = self.cells(name)
        if not cells.is_nested:
            return None
        try:
            found = cells.nested()
        except DataError:
            return None
        return found if pa.types.is_list(found.type) else None

    def lacks(self, what: str, flags: str) -> DataError:
        """Word that the columns of a task are not there."""
        names = ", ".join(f"'{name}'" for name in self.table.column_names[:20])
        return DataError(
            f"{self.source}: no columns of {what} found. Its columns are {names}.", tip=f"Name them with {flags}"
        )


def _with_shape(
    look: _Look, found: dict[str, str], part: str, *, labelled: bool
) -> tuple[dict[str, str], Shape | None]:
    name = found.get(part)
    if name is None:
        if labelled:
            raise look.lacks("gold answers", "--label COLUMN")
        return found, None
    form = "spans" if part == "tags" and "tokens" not in found else part
    others = [f"'{other}'" for key, other in found.items() if key in {"text", "text_pair", "tokens"}]
    verb = {"tags": "hold a tag for each word", "spans": "hold texts and their spans"}.get(form, "are there")
    return found, Shape(part, form, since=f"columns {', '.join(others)} and '{name}' {verb}")


def _questions(look: _Look, settings: Read) -> dict[str, str] | None:
    question = look.named([settings.text] if settings.text else ["question"])
    context = look.named([settings.text_pair] if settings.text_pair else ["context"])
    answers = look.named([settings.label] if settings.label else ["answers", "answer"])
    if question is None or context is None:
        return None
    found = {"text": question, "text_pair": context}
    if answers is not None and look.cells(answers).is_nested and _are_answers(look.cells(answers)):
        found["answers"] = answers
    return found


def _are_answers(cells: Cells) -> bool:
    try:
        kind = cells.nested().type
    except DataError:
        return False
    kind = kind.value_type if pa.types.is_list(kind) else kind
    return bool(pa.types.is_null(kind) or (pa.types.is_struct(kind) and kind.get_field_index("text") >= 0))


def _tokens(look: _Look, settings: Read) -> dict[str, str] | None:
    """Find lists of words, and lists of tags that are as long."""
    tokens = look.named([settings.text] if settings.text else _TOKENS)
    words = None if tokens is None else look.lists(tokens)
    if tokens is None or words is None or not _holds_texts(words):
        return None
    for name in [settings.label] if settings.label else _TAGS:
        tags = look.named([name])
        if tags is not None and tags != tokens and _as_long(words, look.lists(tags)):
            return {"tokens": tokens, "tags": tags}
    return {"tokens": tokens}


def _holds_texts(lists: pa.ChunkedArray) -> bool:
    kind = lists.type.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _as_long(words: pa.ChunkedArray, tags: pa.ChunkedArray | None) -> bool:
    """Whether lists are mostly as long as others; the few that are not are refused later, by their rows."""
    if tags is None or pa.types.is_nested(tags.type.value_type):
        return False
    left, right = (pc.list_value_length(each).to_numpy(zero_copy_only=False) for each in (words, tags))
    return bool(np.mean(left == right) >= 0.5) if len(left) else False


def _spans(look: _Look, settings: Read) -> dict[str, str] | None:
    text = look.named([settings.text] if settings.text else ["text"])
    if text is None or look.cells(text).is_nested:
        return None
    for name in [settings.label] if settings.label else _SPANS:
        spans = look.named([name])
        lists = None if spans is None else look.lists(spans)
        if spans is not None and lists is not None and _holds_spans(lists):
            return {"text": text, "tags": spans}
    return None


def _holds_spans(lists: pa.ChunkedArray) -> bool:
    kind = lists.type.value_type
    return bool(pa.types.is_struct(kind) and {field.name for field in kind} >= SPAN_KEYS)


__all__ = ["layout_of"]
