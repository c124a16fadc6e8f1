"""The answer of a model that labels words: tags, and the spans that they mark, cut out of the text as it stands."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.tasks.protocol import Array, Rows
from bertsmith.tasks.tags import Reading, Tagged, scheme_of

NOTHING = "no spans"
"""What a terminal shows where nothing was found."""
SCHEMA = pa.schema(
    {
        "spans": pa.list_(
            pa.struct(
                {
                    "start": pa.int64(),
                    "end": pa.int64(),
                    "text": pa.string(),
                    "label": pa.string(),
                    "score": pa.float64(),
                }
            )
        ),
        "tags": pa.list_(pa.string()),
    }
)
"""The columns of an answer in a file."""


@dataclass(frozen=True)
class Span:
    """A piece of a text with a label.

    Attributes:
        start: Its first character in the text.
        end: The character after its last.
        text: `text[start:end]` of the text, untouched.
        label: The type of the span; for plain tags the tag.
        score: Mean probability of the tags of its words.
    """

    start: int
    end: int
    text: str
    label: str
    score: float


@dataclass(frozen=True)
class SpansPrediction:
    """The answer to one text whose words are labelled.

    Attributes:
        tags: The tag of each word; a valid sequence, in which broken ones were written anew.
        spans: The spans that the tags mark, in the order of the text.
        scores: Probability of each tag before repair, word by word, float64 `(words, labels)`.
        labels: The labels in the order of the columns of `scores`.
    """

    tags: tuple[str, ...]
    spans: tuple[Span, ...]
    scores: Array = field(default_factory=lambda: np.zeros((0, 0)), repr=False, compare=False)
    labels: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def line(self) -> str:
        """Label and text of each span.

        >>> SpansPrediction(("B-PER",), (Span(0, 3, "Ada", "PER", 0.9),)).line
        'PER Ada'
        """
        return " · ".join(f"{span.label} {' '.join(span.text.split())}" for span in self.spans) or NOTHING

    def as_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return what `predict --json` prints; `scores` adds label → its probability for each word."""
        answer: dict[str, Any] = {"spans": [asdict(span) for span in self.spans], "tags": list(self.tags)}
        if scores:
            answer["scores"] = dict(zip(self.labels, self.scores.T.tolist(), strict=True))
        return answer


def decode(rows: Rows, probabilities: Array) -> list[SpansPrediction]:
    """Take each word's most probable tag, the first of equals, and read the spans that the tags mark.

    Sequences that break the scheme are read as the gold ones are (`tags.py`): a stray `I-PER` begins a span.
    Without prefixes and without `O`, as for parts of speech, every word is a span.

    Args:
        rows: The texts and their words; nothing else of them is needed.
        probabilities: `(words, labels)`.
    """
    encoded, names = rows.encoded, rows.labels.names
    chosen = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, np.int64)
    sure = np.take_along_axis(probabilities, chosen[:, None], axis=1)[:, 0] if len(chosen) else np.zeros(0)
    offsets = np.asarray(encoded.units, np.int64)
    tagged = Tagged(names, chosen, offsets, np.ones(len(rows), dtype=bool))
    reading, valid = Reading.of(names), tagged.repaired(scheme_of(names))
    found = reading.spans(chosen, offsets)
    sums = np.concatenate([[0.0], np.cumsum(sure)])
    columns = (
        np.searchsorted(offsets, found.begins, side="right") - 1,
        np.asarray(encoded.unit_starts)[found.begins],
        np.asarray(encoded.unit_ends)[found.ends - 1],
        found.types,
        np.clip((sums[found.ends] - sums[found.begins]) / (found.ends - found.begins), 0.0, 1.0),
    )
    spans: list[list[Span]] = [[] for _ in range(len(rows))]
    texts = rows.examples.column("text").to_pylist()
    for row, start, end, kind, score in zip(*(column.tolist() for column in columns), strict=True):
        spans[row].append(Span(start, end, texts[row][start:end], reading.types[kind], score))
    tags, borders = [valid.names[each] for each in valid.ids.tolist()], offsets.tolist()
    return [
        SpansPrediction(tuple(tags[begin:end]), tuple(spans[row]), probabilities[begin:end], names)
        for row, (begin, end) in enumerate(itertools.pairwise(borders))
    ]


def unit_words(rows: Rows) -> pa.ChunkedArray:
    """Cut every word out of its text, large_string `(words,)`, without making Python strings."""
    encoded = rows.encoded
    chunks = rows.examples.column("text").cast(pa.large_string()).chunks
    if not chunks or not encoded.units[-1]:
        return pa.chunked_array([pa.array([], pa.large_string())])
    whole = pa.concat_arrays(chunks)
    bounds = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset : whole.offset + len(whole) + 1]
    data = np.frombuffer(whole.buffers()[2] or b"", np.uint8)[bounds[0] : bounds[-1]]
    # Bytes that begin a character, and the end: character → byte.
    begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
    first = np.searchsorted(begins, bounds[:-1] - bounds[0])
    base = np.repeat(first, np.diff(encoded.units))
    starts, ends = begins[base + encoded.unit_starts], begins[base + encoded.unit_ends]
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data[places])]
    return pa.chunked_array([pa.Array.from_buffers(pa.large_string(), len(lengths), buffers)])
