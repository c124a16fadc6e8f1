"""What is wrong with gold answers: missing, not in their context, empty, too long, in conflict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.examples import Examples
from bertsmith.findings import Finding
from bertsmith.tasks.answer_spans import MOST_TOKENS, answerable, first_answers, gold_texts
from bertsmith.tasks.label_wording import finding_at, of_rows
from bertsmith.tasks.protocol import Array
from bertsmith.tasks.squad_metrics import normalised

MANY_MISPLACED = 0.05
"""Share of rows whose answer is not where it is said to be, above which the offsets are to be mistrusted."""
FEW_UNANSWERABLE = 50
"""With fewer questions without an answer, how sure "no answer" must be is tuned on a handful of rows."""


def answer_findings(examples: Examples) -> list[Finding]:
    """Look for what is wrong with the gold answers; nothing is changed.

    Args:
        examples: Questions (`text`), contexts (`text_pair`) and gold `answers`.
    """
    if not _has(examples, "answers"):
        return [_nothing(examples, "no-answers", "answers", "Give the answers as a list of texts with their starts.")]
    if not _has(examples, "text_pair"):
        return [_nothing(examples, "no-contexts", "context", "Name the column of the contexts with --text-pair.")]
    return [
        *_missing(examples),
        *_unanswerable(examples),
        *_misplaced(examples),
        *_empty(examples),
        *_long(examples),
        *_conflicting(examples),
        *_repeated_ids(examples),
    ]


def _has(examples: Examples, column: str) -> bool:
    return column in examples and examples.column(column).null_count < len(examples)


def _nothing(examples: Examples, kind: str, what: str, remedy: str) -> Finding:
    return Finding(kind, "error", f"No {what} in any of {len(examples):,} rows.", remedy, count=len(examples))


def _missing(examples: Examples) -> Iterator[Finding]:
    rows = np.flatnonzero(pc.is_null(examples.column("answers")).to_numpy())
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="missing-answer",
            severity="error",
            message=f"Nothing is said about the answer in {of_rows(len(rows), len(examples))}.",
            remedy="Fill them in or remove these rows; an empty list of answers says that there is none.",
        )


def _unanswerable(examples: Examples) -> Iterator[Finding]:
    known = pc.is_valid(examples.column("answers")).to_numpy()
    rows = np.flatnonzero(known & ~answerable(examples))
    if len(rows) == known.sum():
        yield Finding(
            "all-unanswerable",
            "error",
            f"None of {len(rows):,} questions has an answer.",
            "There is nothing to learn; is it the right column of answers?",
            count=len(rows),
        )
    elif 0 < len(rows) < FEW_UNANSWERABLE:
        yield finding_at(
            examples,
            rows,
            kind="few-unanswerable",
            severity="note",
            message=f"Questions without an answer: {of_rows(len(rows), len(examples))}.",
            remedy="The model will be able to find no answer, but how sure it must be rests on few rows; "
            "remove them if every question is to be answered.",
        )


def _misplaced(examples: Examples) -> Iterator[Finding]:
    """Find first answers that are not the characters of the context at their start."""
    golds, contexts = gold_texts(examples), examples.column("text_pair").to_pylist()
    starts, ends = (each.tolist() for each in first_answers(examples))
    rows = np.array(
        [
            row
            for row, (texts, context) in enumerate(zip(golds, contexts, strict=True))
            if texts and (context or "")[starts[row] : ends[row]] != _bare(texts[0])
        ],
        dtype=np.int64,
    )
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="answer-not-in-context",
            severity="error" if len(rows) > MANY_MISPLACED * len(examples) else "warning",
            message=f"The answer is not what stands in the context at its start: {of_rows(len(rows), len(examples))}.",
            remedy="Count starts in characters of the context, from 0; from these rows a wrong span is learned.",
        )


def _bare(answer: str | None) -> str:
    column = pc.utf8_trim_whitespace(pa.array([answer or ""], pa.string()))
    return str(column[0].as_py())


def _empty(examples: Examples) -> Iterator[Finding]:
    starts, ends = first_answers(examples)
    rows = np.flatnonzero(answerable(examples) & (starts == ends))
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="empty-answer",
            severity="warning",
            message=f"An answer without text: {of_rows(len(rows), len(examples))}.",
            remedy="Give an empty list of answers where the context holds no answer; they are learned as that.",
        )


def _long(examples: Examples) -> Iterator[Finding]:
    """Find answers of more words than an answer has tokens: every word is a token at least."""
    words = np.array([len(golds[0].split()) if golds and golds[0] else 0 for golds in gold_texts(examples)])
    rows = np.flatnonzero(words > MOST_TOKENS)
    if len(rows):
        yield finding_at(
            examples,
            rows[np.argsort(-words[rows], kind="stable")],
            kind="long-answer",
            severity="warning" if len(rows) > MANY_MISPLACED * len(examples) else "note",
            message=f"Answers of more than {MOST_TOKENS} words: {of_rows(len(rows), len(examples))}; "
            f"the longest has {words.max():,}.",
            remedy=f"The model gives answers of {MOST_TOKENS} tokens at most; shorten these to what answers the "
            "question.",
        )


def _conflicting(examples: Examples) -> Iterator[Finding]:
    """Find questions that are asked of the same context again and have no answer in common."""
    asked = _numbered(examples, "text").astype(np.int64) * len(examples) + _numbered(examples, "text_pair")
    _, which, sizes = np.unique(asked, return_inverse=True, return_counts=True)
    again = np.flatnonzero(sizes[which] > 1)
    golds = gold_texts(examples.take(again))
    shared: dict[int, set[str]] = {}
    for question, texts in zip(which[again].tolist(), golds, strict=True):
        answers = {normalised(text or "") for text in texts} or {""}
        shared[question] = shared[question] & answers if question in shared else answers
    rows = again[[not shared[question] for question in which[again].tolist()]] if len(again) else again
    if len(rows):
        yield finding_at(
            examples,
            rows[np.argsort(which[rows], kind="stable")],
            kind="conflicting-answers",
            severity="warning",
            message="The same question about the same context with different answers: "
            f"{of_rows(len(rows), len(examples))}.",
            remedy="Put all right answers into one row's list, or remove the wrong rows.",
        )


def _repeated_ids(examples: Examples) -> Iterator[Finding]:
    if "id" not in examples:
        return
    ids = examples.column("id")
    numbers = _numbered(examples, "id")
    known = pc.is_valid(ids).to_numpy()
    _, first = np.unique(numbers[known], return_index=True)
    rows = np.delete(np.flatnonzero(known), first)
    if len(rows):
        yield finding_at(
            examples,
            rows,
            kind="repeated-id",
            severity="warning",
            message=f"The id of an earlier row: {of_rows(len(rows), len(examples))}.",
            remedy="Give every question an id of its own, or answers cannot be told apart by them.",
        )


def _numbered(examples: Examples, column: str) -> Array:
    """Number equal values equally, `(rows,)`."""
    encoded: Any = pc.dictionary_encode(examples.column(column), null_encoding="encode").combine_chunks()
    indices = encoded.indices if hasattr(encoded, "indices") else encoded.cast(pa.int64())
    return np.asarray(indices.to_numpy(zero_copy_only=False), dtype=np.int64)
