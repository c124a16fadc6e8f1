"""Tags of words: which scheme marks the spans, where the spans are, and what a broken sequence means.

One reading holds for every scheme, that of conlleval and of seqeval's default: a span begins at a tag that opens
one (`B`, `S`, `U`), and at any other tag of a type that is not open; it goes on while the type stays; it ends after
a tag that closes (`E`, `L`, `S`, `U`). So every sequence of tags has a meaning; written anew in its scheme it is
valid, and that is what is learned from and what is answered.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.examples import Examples
from bertsmith.tasks.protocol import Array

OUTSIDE = "O"
UNNAMED = "_"
"""The type of spans whose tags name none, such as a bare `B` and `I`; seqeval calls it so too."""
_PREFIXED = re.compile(r"([BIESLU])(?:-(.*))?", re.DOTALL)
_OPENS = frozenset("BSU")
_CLOSES = frozenset("ESLU")


@dataclass(frozen=True)
class Scheme:
    """A way to mark spans by tags.

    Attributes:
        name: What people call it.
        single: Prefix of the tag of a span of one word; "" where tags have no prefix.
        begin: Prefix of the first of several words.
        inside: Prefix of those between.
        end: Prefix of the last.
    """

    name: str
    single: str = ""
    begin: str = ""
    inside: str = ""
    end: str = ""

    @property
    def prefixed(self) -> bool:
        """True where a tag is a prefix and a type."""
        return bool(self.begin)

    def spell(self, kind: str) -> list[str]:
        """Write the tags of a type: of a single word, the first, those between and the last."""
        ending = f"-{kind}" if kind != UNNAMED else ""
        return [prefix + ending for prefix in (self.single, self.begin, self.inside, self.end)]


IOB2 = Scheme("IOB2", "B", "B", "I", "I")
IOB1 = Scheme("IOB1", "B", "B", "I", "I")
"""`B` only between neighbours of one type. It is written anew as IOB2, which says the same and is easier to learn."""
BIOES = Scheme("BIOES", "S", "B", "I", "E")
BILOU = Scheme("BILOU", "U", "B", "I", "L")
IO = Scheme("IO")
"""Types without prefixes, and `O` for all else: neighbours of one tag are one span."""
PLAIN = Scheme("plain")
"""A tag for every word and no `O`, such as parts of speech: each word is a span."""
SCHEMES = (IOB2, BIOES, BILOU)


def scheme_of(names: Sequence[str]) -> Scheme:
    """Tell the scheme from tags, of which most must follow it; never `IOB1`, which only sequences tell.

    >>> scheme_of(["O", "B-PER", "I-PER"]).name, scheme_of(["S-PER", "O"]).name, scheme_of(["NOUN", "VERB"]).name
    ('IOB2', 'BIOES', 'plain')
    """
    inner = [name for name in names if name != OUTSIDE]
    found = [match[1] for match in map(_PREFIXED.fullmatch, inner) if match]
    if 2 * len(found) <= len(inner):
        return IO if OUTSIDE in names else PLAIN
    for scheme in SCHEMES:
        if set(found) <= {scheme.single, scheme.begin, scheme.inside, scheme.end}:
            return scheme
    return BIOES


@dataclass(frozen=True)
class Tagged:
    """The tags of some rows.

    Attributes:
        names: The distinct tags.
        ids: Position in `names` of each word's tag, -1 where it has none, int64 `(words,)`.
        offsets: Where each row's words begin, int64 `(rows + 1,)`.
        known: Which rows have tags at all, bool `(rows,)`.
    """

    names: tuple[str, ...]
    ids: Array
    offsets: Array
    known: Array

    @classmethod
    def of(cls, examples: Examples) -> Tagged:
        """Read the column `tags`; blank tags are none."""
        column = examples.column("tags")
        flat = pc.list_flatten(column).cast(pa.string())
        flat = pc.if_else(pc.equal(pc.utf8_trim_whitespace(flat), ""), pa.scalar(None, pa.string()), flat)
        names = flat.drop_null().unique()
        ids = pc.fill_null(pc.index_in(flat, value_set=pa.array(names, pa.string())), -1)
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        known = ~pc.is_null(column).to_numpy()
        return cls(tuple(names.to_pylist()), np.asarray(ids.to_numpy(), np.int64), offsets, known)

    @property
    def rows(self) -> Array:
        """Row of each word, int64 `(words,)`."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    @property
    def sizes(self) -> Array:
        """Words of each tag, int64 `(tags,)`."""
        return np.bincount(self.ids[self.ids >= 0], minlength=len(self.names))

    @property
    def scheme(self) -> Scheme:
        """The scheme, told from the tags; IOB1 where every `B` parts two neighbours of one type."""
        scheme = scheme_of(self.names)
        if scheme is not IOB2:
            return scheme
        reading = Reading.of(self.names, scheme)
        opens = reading.opens[self.ids]
        follows = ~reading.begins(self.ids, self.offsets, ignoring_prefixes=True)
        stray = reading.begins(self.ids, self.offsets) & ~opens
        return IOB1 if stray.any() and follows[opens].all() else scheme

    def repaired(self, scheme: Scheme) -> Tagged:
        """Write the spans anew in a scheme, so that every sequence is valid; plain tags stay as they are."""
        if not scheme.prefixed:
            return self
        reading = Reading.of(self.names, scheme)
        found = reading.spans(self.ids, self.offsets)
        place = np.full(len(self.ids), 2)
        place[found.begins], place[found.ends - 1] = 1, 3
        place[found.begins[found.ends - found.begins == 1]] = 0
        types = reading.type_of[self.ids]
        spelled = [OUTSIDE, *(tag for kind in reading.types for tag in scheme.spell(kind))]
        first = np.array([spelled.index(tag) for tag in spelled], dtype=np.int64)
        ids = first[np.where(types < 0, 0, 1 + 4 * types + place)]
        used, packed = np.unique(ids[self.ids >= 0], return_inverse=True)
        anew = np.full(len(ids), -1)
        anew[self.ids >= 0] = packed
        return dataclasses.replace(self, names=tuple(spelled[tag] for tag in used), ids=anew)


@dataclass(frozen=True)
class Spans:
    """Spans of words, in flat arrays of words.

    Attributes:
        begins: First word of each span, int64 `(spans,)`.
        ends: The word after its last, int64 `(spans,)`.
        types: Its type, a position in `Reading.types`, int64 `(spans,)`.
    """

    begins: Array
    ends: Array
    types: Array


@dataclass(frozen=True)
class Reading:
    """What each tag of a list means. The arrays have one more entry, which stands for no tag (-1): outside.

    Attributes:
        types: The types of spans, in order of code points.
        type_of: Type of each tag, -1 for outside, int64 `(tags + 1,)`.
        opens: Tags that begin a span whatever stands before, bool `(tags + 1,)`.
        closes: Tags after which a span is over, bool `(tags + 1,)`.
    """

    types: tuple[str, ...]
    type_of: Array
    opens: Array
    closes: Array

    @classmethod
    def of(cls, names: Sequence[str], scheme: Scheme | None = None) -> Reading:
        """Read tags by a scheme, or by the one that they tell.

        >>> Reading.of(["O", "B-PER", "I-PER", "B-LOC"]).types
        ('LOC', 'PER')
        """
        scheme = scheme or scheme_of(names)
        parts = [_parts(name, scheme) for name in names]
        types = tuple(sorted({kind for _, kind in parts if kind is not None}))
        places: dict[str | None, int] = {**{kind: place for place, kind in enumerate(types)}, None: -1}
        return cls(
            types,
            np.array([*(places[kind] for _, kind in parts), -1], dtype=np.int64),
            np.array([*(prefix in _OPENS for prefix, _ in parts), False], dtype=bool),
            np.array([*(prefix in _CLOSES for prefix, _ in parts), False], dtype=bool),
        )

    def begins(self, ids: Array, offsets: Array, *, ignoring_prefixes: bool = False) -> Array:
        """Say at which words spans begin, bool `(words,)`; prefixes ignored, neighbours of one type are one span."""
        types = self.type_of[ids]
        fresh = np.zeros(len(ids) + 1, dtype=bool)
        fresh[offsets[:-1]] = True
        fresh[1:-1] |= types[1:] != types[:-1]
        fresh = fresh[:-1]
        if not ignoring_prefixes:
            fresh |= self.opens[ids]
            fresh[1:] |= self.closes[ids][:-1]
        return np.asarray(fresh & (types >= 0))

    def spans(self, ids: Array, offsets: Array) -> Spans:
        """Find the spans of tags.

        Args:
            ids: Tag of each word, `(words,)`; -1 for none.
            offsets: Where each row's words begin, `(rows + 1,)`.
        """
        types = self.type_of[ids]
        begins = self.begins(ids, offsets)
        goes_on = (types >= 0) & ~begins
        ends = (types >= 0) & ~np.append(goes_on[1:], np.zeros(min(1, len(ids)), dtype=bool))
        return Spans(np.flatnonzero(begins), np.flatnonzero(ends) + 1, types[begins])


def _parts(name: str, scheme: Scheme) -> tuple[str, str | None]:
    """Take a tag apart: its prefix, and its type, None for outside."""
    if name == OUTSIDE and scheme is not PLAIN:
        return "", None
    if not scheme.prefixed:
        return ("S" if scheme is PLAIN else "I"), name
    match = _PREFIXED.fullmatch(name)
    # A tag without a prefix among tags with one: its neighbours of that type are of its span.
    return (match[1], match[2] or UNNAMED) if match else ("I", name)
