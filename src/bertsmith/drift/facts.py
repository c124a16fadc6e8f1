"""Facts: what is known of rows and of the answers to them, one value a row. No text leaves this file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from bertsmith.data.length_measure import unknown_id
from bertsmith.encoded import Encoded
from bertsmith.tasks import Answer, Rows, Task

Array = np.ndarray[Any, Any]
Facts: TypeAlias = Mapping[str, Any]
"""Feature → its value for each row: an array of numbers, or a list of names."""
ANSWERED = ("answered", "UNKNOWN")


def facts_of(rows: Rows, answers: Sequence[Answer], *, task: Task, tokenizer: Tokenizer) -> Facts:
    """Give all that is known of rows and their answers.

    >>> facts_of(predictor.rows(texts), answers, task=predictor.task, tokenizer=tokenizer)["length"]  # doctest: +SKIP
    array([12,  7])
    """
    return {**text_facts(rows, tokenizer), **answer_facts(answers, task)}


def text_facts(rows: Rows, tokenizer: Tokenizer) -> Facts:
    """Count the tokens of each row, those that are unknown, and the characters of a token.

    Lengths are those before anything is cut, special tokens included; where a text is read in windows, what two of
    them share counts twice. Unknown tokens are counted in what the model reads.
    """
    encoded = rows.encoded
    lengths = encoded.lengths + encoded.tokens_cut
    # Without special tokens, of which short texts have as many as long ones.
    special = tokenizer.num_special_tokens_to_add("text_pair" in rows.examples)
    own = lengths - special * np.bincount(encoded.owners, minlength=len(encoded))
    characters = sum(
        pc.utf8_length(rows.examples.column(name)).to_numpy().astype(np.float64)
        for name in ("text", "text_pair")
        if name in rows.examples
    )
    return {
        "length": lengths,
        "unknown_tokens": _occurrences(encoded, unknown_id(tokenizer)),
        "characters_per_token": characters / np.maximum(own, 1),
    }


def answer_facts(answers: Sequence[Answer], task: Task) -> Facts:
    """Read off the answers what there is: how sure, which label, whether declined, how foreign, how many, how much."""
    names = task.answer_schema().names
    found = {key: [read(each) for each in answers] for name, key, read in _READ if name in names}
    foreign = [getattr(each, "out_of_scope", None) for each in answers]
    if foreign and None not in foreign:
        found["out_of_scope"] = foreign
    return found


def _occurrences(encoded: Encoded, token: int | None) -> Array:
    """Count a token in each row, int64 `(rows,)`."""
    counts = np.zeros(len(encoded), np.int64)
    if token is None:
        return counts
    owners, before = encoded.owners, 0
    for chunk in encoded.table.column("input_ids").chunks:
        hits = pc.list_parent_indices(chunk).filter(pc.equal(pc.list_flatten(chunk), pa.scalar(token, pa.int32())))
        windows = np.asarray(hits.to_numpy(zero_copy_only=False), np.int64) + before
        counts += np.bincount(owners[windows], minlength=len(counts))
        before += len(chunk)
    return counts


def _most_probable(answer: Any) -> str:
    scores: dict[str, float] = answer.scores
    return max(scores, key=scores.__getitem__)


def _mean_of_words(answer: Any) -> float:
    """Mean probability of the best tag of each word; no number where there is no word."""
    return float(answer.scores.max(axis=1).mean()) if len(answer.scores) else float("nan")


_READ: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("score", "confidence", lambda answer: answer.score),
    ("guess", "label", lambda answer: answer.guess),
    ("unknown", "answered", lambda answer: ANSWERED[answer.unknown]),
    ("labels", "confidence", lambda answer: max(answer.scores.values())),
    ("labels", "label", _most_probable),
    ("labels", "labels_per_row", lambda answer: len(answer.labels)),
    ("spans", "confidence", _mean_of_words),
    ("spans", "spans_per_row", lambda answer: len(answer.spans)),
    ("value", "value", lambda answer: answer.value),
)
"""Column of an answer, feature, and how it is read."""
