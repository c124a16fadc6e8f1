"""What is wrong with the tags of words: missing, misplaced, broken, alike, rare; and what is good to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.compute as pc

from bertsmith.examples import Examples
from bertsmith.findings import Finding
from bertsmith.tasks.label_wording import finding_at, listed, of_rows, percent
from bertsmith.tasks.protocol import Array
from bertsmith.tasks.tags import IOB1, PLAIN, Reading, Scheme, Tagged

FEW_SPANS = 10
"""A type (or plain tag) with fewer spans is hardly learned, and its score is a matter of luck."""
LONG_SENTENCE = 200
"""Words above which a sentence is rather a document, and may need more windows than one."""
MOSTLY_OUTSIDE = 0.9
"""Share of words outside of spans above which token accuracy misleads."""


def token_findings(examples: Examples) -> list[Finding]:
    """Look for what is wrong with the tags; the rows themselves are never changed.

    Args:
        examples: Rows with `words` and `tags`.
    """
    if "tags" not in examples or not len(examples) or examples.column("tags").null_count == len(examples):
        return [_no_tags(examples)]
    found = _Sentences(examples, Tagged.of(examples))
    return [
        *_missing(found),
        *_uneven(found),
        *_empty(found),
        *_one_answer(found),
        *_scheme(found),
        *_broken(found),
        *_alike(found),
        *_rare(found),
        *_outside(found),
        *_long(found),
    ]


@dataclass(frozen=True)
class _Sentences:
    """The rows and their tags, as they were given."""

    examples: Examples
    given: Tagged

    @cached_property
    def scheme(self) -> Scheme:
        return self.given.scheme

    @cached_property
    def reading(self) -> Reading:
        return Reading.of(self.given.names, self.scheme)

    @property
    def words(self) -> Array:
        """Number of tags of each row, int64 `(rows,)`."""
        return np.diff(self.given.offsets)

    @cached_property
    def span_rows(self) -> Array:
        """Row of each span, int64 `(spans,)`."""
        return self.given.rows[self.reading.spans(self.given.ids, self.given.offsets).begins]

    @cached_property
    def span_types(self) -> Array:
        """Type of each span, int64 `(spans,)`."""
        return self.reading.spans(self.given.ids, self.given.offsets).types

    @cached_property
    def sizes(self) -> Array:
        """Number of spans of each type, int64 `(types,)`."""
        return np.bincount(self.span_types, minlength=len(self.reading.types))

    @property
    def what(self) -> str:
        return "tags" if self.scheme is PLAIN else "types of spans"

    def rows_of(self, types: Array) -> Array:
        """Rows that hold a span of one of these types, ascending."""
        return np.unique(self.span_rows[np.isin(self.span_types, types)])

    def named(self, types: Array) -> list[str]:
        return [repr(self.reading.types[kind]) for kind in types.tolist()]


def _no_tags(examples: Examples) -> Finding:
    return Finding(
        "no-labels",
        "error",
        f"No tags in any of {len(examples):,} rows.",
        "Name the column with --label, or give a file that has one.",
        count=len(examples),
    )


def _missing(found: _Sentences) -> Iterator[Finding]:
    bare = np.bincount(found.given.rows[found.given.ids < 0], minlength=len(found.given.known)) > 0
    rows = np.flatnonzero(bare | ~found.given.known)
    if len(rows):
        yield finding_at(
            found.examples,
            rows,
            kind="missing-label",
            severity="error",
            message=f"Words without a tag in {of_rows(len(rows), len(found.examples))}.",
            remedy="Give every word a tag (such as O), or remove these rows.",
        )


def _uneven(found: _Sentences) -> Iterator[Finding]:
    """Find rows whose words and tags differ in number."""
    if "words" not in found.examples:
        return
    words = pc.fill_null(pc.list_value_length(found.examples.column("words")), 0).to_numpy()
    rows = np.flatnonzero((words != found.words) & found.given.known)
    if len(rows):
        first = rows[0]
        yield finding_at(
            found.examples,
            rows,
            kind="uneven-tags",
            severity="error",
            message=f"The numbers of words and of tags differ in {of_rows(len(rows), len(found.examples))}; "
            f"in the first of them {words[first]:,} and {found.words[first]:,}.",
            remedy="Give each of these rows as many tags as it has words.",
        )


def _empty(found: _Sentences) -> Iterator[Finding]:
    rows = np.flatnonzero((found.words == 0) & found.given.known)
    if len(rows):
        yield finding_at(
            found.examples,
            rows,
            kind="empty-sentence",
            severity="warning",
            message=f"No words in {of_rows(len(rows), len(found.examples))}.",
            remedy="Remove these rows; nothing can be learned from them.",
        )


def _one_answer(found: _Sentences) -> Iterator[Finding]:
    if np.count_nonzero(found.given.sizes) == 1:
        words = int(found.given.sizes.sum())
        yield Finding(
            "one-class",
            "error",
            f"All {words:,} words have the tag {found.given.names[0]!r}.",
            "A tagger needs at least two tags; is --label the right column?",
            count=words,
        )


def _scheme(found: _Sentences) -> Iterator[Finding]:
    if found.scheme is IOB1:
        yield Finding(
            "tag-scheme",
            "note",
            "The tags follow IOB1: B- stands only between neighbours of one type.",
            "They are learned and answered as IOB2, where B- begins every span; nothing needs to be done.",
            count=len(found.examples),
        )


def _broken(found: _Sentences) -> Iterator[Finding]:
    """Find tags that cannot follow the one before, or not end there: those that are written anew."""
    if not found.scheme.prefixed or found.scheme is IOB1:
        return
    given, anew = found.given, found.given.repaired(found.scheme)
    # One more place for words without a tag, whose position is -1.
    names = np.array([*given.names, ""], dtype=object), np.array([*anew.names, ""], dtype=object)
    words = np.flatnonzero(names[0][given.ids] != names[1][anew.ids])
    if len(words):
        rows, first = np.unique(given.rows[words]), words[0]
        starts_row = first == given.offsets[given.rows[first]]
        before = "at the start" if starts_row else f"after {names[0][given.ids[first - 1]]!r}"
        yield finding_at(
            found.examples,
            rows,
            kind="broken-tags",
            severity="warning",
            message=f"{len(words):,} tags break the scheme {found.scheme.name}, in "
            f"{of_rows(len(rows), len(found.examples))}; the first is {names[0][given.ids[first]]!r} {before}, "
            f"read as {names[1][anew.ids[first]]!r}.",
            remedy="They are repaired as conlleval reads them: a stray tag begins a span; mend those that mean more.",
        )


def _alike(found: _Sentences) -> Iterator[Finding]:
    """Find types that differ only by case or blanks, O among them; the rows are those of the rarer spellings."""
    reading, sizes = found.reading, found.sizes
    groups: dict[str, list[int]] = {}
    for kind, name in enumerate(reading.types):
        groups.setdefault(" ".join(name.split()).casefold(), []).append(kind)
    shared = [sorted(kinds, key=lambda kind: -sizes[kind]) for kinds in groups.values() if len(kinds) > 1]
    outside = groups.get("o", []) if "O" in found.given.names and found.scheme is not PLAIN else []
    if not shared and not outside:
        return
    rarer = np.array([kind for kinds in shared for kind in kinds[1:]] + outside, dtype=np.int64)
    rows = found.rows_of(rarer)
    sets = [" = ".join(found.named(np.array(kinds))) for kinds in shared]
    sets += [f"'O' = {name}" for name in found.named(np.array(outside, dtype=np.int64))]
    yield finding_at(
        found.examples,
        rows,
        kind="labels-alike",
        severity="warning",
        message=f"Different {found.what} that differ only by case or blanks: {listed(sets)}; "
        f"the rarer spellings are in {of_rows(len(rows), len(found.examples))}.",
        remedy="Write each in one way if they mean the same.",
    )


def _rare(found: _Sentences) -> Iterator[Finding]:
    few = np.flatnonzero((found.sizes > 0) & (found.sizes < FEW_SPANS))
    few = few[np.argsort(found.sizes[few], kind="stable")]
    if len(few):
        shown = [f"{name} ({size})" for name, size in zip(found.named(few), found.sizes[few], strict=True)]
        times = "words" if found.scheme is PLAIN else "spans"
        yield finding_at(
            found.examples,
            found.rows_of(few),
            kind="rare-class",
            severity="warning",
            message=f"{len(few):,} of {np.count_nonzero(found.sizes):,} {found.what} on fewer than {FEW_SPANS} "
            f"{times}: {listed(shown)}.",
            remedy="Label more of these; until then their scores are a matter of luck.",
        )


def _outside(found: _Sentences) -> Iterator[Finding]:
    """Say how much is outside of all spans, which is the rule, but misleads whoever looks at token accuracy."""
    inside = found.reading.type_of[found.given.ids] >= 0
    words, rows = len(inside), len(found.examples)
    if found.scheme is PLAIN or not inside.any():
        return
    bare = rows - len(np.unique(found.given.rows[inside]))
    if bare:
        yield Finding(
            "no-spans",
            "note",
            f"No span in {of_rows(bare, rows)}.",
            "They teach what is none; rows that were never looked at should be removed.",
            count=bare,
        )
    if (~inside).sum() > MOSTLY_OUTSIDE * words:
        yield Finding(
            "imbalance",
            "note",
            f"{percent(int((~inside).sum()), words)} of {words:,} words are outside of all spans, so answering O to "
            "everything reaches that token accuracy.",
            "Judge by span F1, to which only spans count.",
            count=int((~inside).sum()),
        )


def _long(found: _Sentences) -> Iterator[Finding]:
    rows = np.flatnonzero(found.words > LONG_SENTENCE)
    if len(rows):
        rows = rows[np.argsort(-found.words[rows], kind="stable")]
        yield finding_at(
            found.examples,
            rows,
            kind="long-sentence",
            severity="note",
            message=f"More than {LONG_SENTENCE} words in {of_rows(len(rows), len(found.examples))}; "
            f"the longest has {int(found.words.max()):,}.",
            remedy="Where a model reads less at once, they are read in overlapping windows; no word is lost.",
        )
