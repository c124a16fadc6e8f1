"""The metrics of tags and of the spans that they mark, from counts of each sentence that add up.

Spans count strictly: right are those whose words and type are both right (CoNLL's rule). Broken sequences are
read as conlleval and seqeval's default read them. Shares of nothing are 0. For plain tags every word is a span,
so that precision, recall and F1 of spans are the share of right tags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bertsmith.tasks.protocol import Array
from bertsmith.tasks.tags import Reading, Spans

SPAN_SUMS = 5
"""Sums before those of the tags: right, guessed and gold spans, right words, words."""
_EPS = float(np.finfo(np.float64).eps)


def row_counts(gold: Array, guesses: Array, offsets: Array, *, names: Sequence[str]) -> Array:
    """Count what the metrics need, sentence by sentence.

    Args:
        gold: Right tag of each word, `(words,)`.
        guesses: Answered tag of each word, `(words,)`.
        offsets: Where each sentence's words begin, `(rows + 1,)`.
        names: The tags.

    Returns:
        int64 `(rows, 5 + 3 tags)`: right, guessed and gold spans, right words, words; then of each tag its
        right words, then its gold words, then its guessed words.
    """
    reading, tags, rows = Reading.of(names), len(names), len(offsets) - 1
    right, answered = reading.spans(gold, offsets), reading.spans(guesses, offsets)
    hits = matches(right, answered, len(gold))
    owner = np.repeat(np.arange(rows), np.diff(offsets))
    same = gold == guesses
    spans = [owner[answered.begins[hits]], owner[answered.begins], owner[right.begins], owner[same], owner]
    columns = [np.bincount(which, minlength=rows)[:, None] for which in spans]
    cells = [(owner * tags + gold)[same], owner * tags + gold, owner * tags + guesses]
    counts = [np.bincount(cell, minlength=rows * tags).reshape(rows, tags) for cell in cells]
    return np.concatenate([*columns, *counts], axis=1)


def matches(right: Spans, answered: Spans, words: int) -> Array:
    """Say which answered spans are right, bool `(answered spans,)`."""
    ends, types = np.full((2, words), -1)
    ends[right.begins], types[right.begins] = right.ends, right.types
    return np.asarray((ends[answered.begins] == answered.ends) & (types[answered.begins] == answered.types))


def counted_metrics(sums: Array) -> dict[str, Array]:
    """Compute the metrics from summed counts, over all leading axes at once: `(..., sums)` → name → `(...)`."""
    sums = np.asarray(sums, np.float64)
    hits, answered, gold, same, words = np.moveaxis(sums[..., :SPAN_SUMS], -1, 0)
    right, support, guessed = np.split(sums[..., SPAN_SUMS:], 3, axis=-1)
    return {
        "span_f1": ratio(2 * hits, answered + gold),
        "span_precision": ratio(hits, answered),
        "span_recall": ratio(hits, gold),
        "token_accuracy": ratio(same, words),
        # Over the tags that occur, as scikit-learn has it.
        "macro_f1": ratio(ratio(2 * right, support + guessed).sum(-1), (support + guessed > 0).sum(-1)),
    }


def row_losses(gold: Array, probabilities: Array, offsets: Array) -> Array:
    """Share the words' mean log loss out among sentences, so that the mean over sentences is that over words.

    A sentence's value is the words' mean plus what its words are above it, in units of a sentence of mean length.
    Resampled, the mean of these values varies as the ratio of sums does (its linearisation).

    Args:
        gold: `(words,)`.
        probabilities: `(words, tags)`.
        offsets: `(rows + 1,)`.

    Returns:
        float64 `(rows,)`.
    """
    rows, words = len(offsets) - 1, len(gold)
    if not words:
        return np.zeros(rows)
    chosen = np.take_along_axis(probabilities.astype(np.float64), gold[:, None], axis=1)[:, 0]
    losses = -np.log(np.clip(chosen, _EPS, 1 - _EPS))
    mean = losses.mean()
    owner = np.repeat(np.arange(rows), np.diff(offsets))
    above = np.bincount(owner, weights=losses - mean, minlength=rows)
    return np.asarray(mean + above * rows / words)


def views(gold: Array, guesses: Array, offsets: Array, *, names: Sequence[str]) -> dict[str, Any]:
    """Ask nervaluate for its four views of the spans: strict, exact (borders), partial, and type.

    Returns:
        `all` and `by_label`: view → correct, incorrect, partial, missed, spurious, possible, actual, precision,
        recall, f1.
    """
    from nervaluate import Evaluator

    reading = Reading.of(names)
    truth, answers = (_dictionaries(reading, ids, offsets) for ids in (gold, guesses))
    # Sentences without spans change nothing but the time it takes; one is kept, so that there is an answer.
    kept = [row for row, pair in enumerate(zip(truth, answers, strict=True)) if any(pair)] or [0]
    truth, answers = ([rows[row] for row in kept] for rows in (truth, answers))
    found = Evaluator(truth, answers, tags=list(reading.types), loader="dict").evaluate()
    by_label = {label: _as_json(found["entities"][label]) for label in sorted(found["entities"])}
    return {"all": _as_json(found["overall"]), "by_label": by_label}


def _as_json(views_of: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {("type" if view == "ent_type" else view): asdict(result) for view, result in views_of.items()}


def _dictionaries(reading: Reading, ids: Array, offsets: Array) -> list[list[dict[str, Any]]]:
    """Write the spans of each sentence as nervaluate reads them: positions of words, the last one included."""
    spans = reading.spans(ids, offsets)
    owner = np.searchsorted(offsets, spans.begins, side="right") - 1
    rows: list[list[dict[str, Any]]] = [[] for _ in range(len(offsets) - 1)]
    first = offsets[owner]
    columns = (owner, spans.begins - first, spans.ends - first - 1, spans.types)
    for row, start, end, kind in zip(*(column.tolist() for column in columns), strict=True):
        rows[row].append({"label": reading.types[kind], "start": start, "end": end})
    return rows


def span_figures(gold: Array, guesses: Array, offsets: Array, *, names: Sequence[str]) -> list[dict[str, Any]]:
    """Give strict precision, recall, F1 and support of each type of span, in order of code points."""
    reading = Reading.of(names)
    right, answered = reading.spans(gold, offsets), reading.spans(guesses, offsets)
    hit_types = answered.types[matches(right, answered, len(gold))]
    counts = (np.bincount(each, minlength=len(reading.types)) for each in (hit_types, right.types, answered.types))
    return figures(reading.types, *counts)


def figures(names: Sequence[str], right: Array, support: Array, guessed: Array) -> list[dict[str, Any]]:
    """Give precision, recall, F1 and support of each name from its counts, each `(names,)`."""
    columns = (ratio(right, guessed), ratio(right, support), ratio(2 * right, support + guessed), support)
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return [dict(zip(("label", "precision", "recall", "f1", "support"), row, strict=True)) for row in rows]


def ratio(part: Array, whole: Array) -> Array:
    """Divide; 0 where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    out = np.zeros(part.shape)
    np.divide(part, whole, out=out, where=whole != 0)
    return out
