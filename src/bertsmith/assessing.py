"""assess: what a finished run can say of itself beyond its scores, each part as scores.json has it.

Was it as sure as it was right, which rows does it get wrong, which kinds of rows, and which labels are probably wrong
themselves. Nothing here changes the model.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from bertsmith.errors import BertsmithError, MissingExtraError
from bertsmith.evaluation import calibration
from bertsmith.evaluation.mistakes import find_mistakes
from bertsmith.evaluation.slices import find_slices
from bertsmith.evaluation.suspects import Suspects, find_suspects
from bertsmith.examples import Examples
from bertsmith.explaining.explain import explain
from bertsmith.inference.predictor import Given, Predictor
from bertsmith.prepare import Featured
from bertsmith.tasks import Answer, Decision, Rows, Task

Array = np.ndarray[Any, Any]
MARKED = 5
"""Worst rows whose words are marked; one takes some tenths of a second."""


@dataclass(frozen=True)
class Tested:
    """Test rows and what the finished model gave for them.

    Attributes:
        task: What was answered.
        rows: The test rows; there may be none.
        given: What the model gave.
        answers: The answers, one a row.
        decision: What was tuned.
    """

    task: Task
    rows: Rows
    given: Given
    answers: Sequence[Answer]
    decision: Decision


def assess(tested: Tested, *, temperature: float, texts: bool, seed: int) -> dict[str, Any]:
    """Look at the answers to test rows from every side.

    Args:
        tested: The rows and their answers.
        temperature: What the model's logits were divided by.
        texts: False where texts may not be kept.
        seed: The same seed gives the same intervals.

    Returns:
        `calibration`, `errors` and `slices` of scores.json.
    """
    task, rows, given = tested.task, tested.rows, tested.given
    measured = calibration.measure(task, rows, given.logits * temperature, temperature=temperature, seed=seed)
    return {
        "calibration": None if measured is None else measured.as_json(),
        "errors": find_mistakes(task, rows, given.probabilities, tested.answers, decision=tested.decision, texts=texts),
        "slices": _slices(tested, texts=texts),
    }


def suspects_among(features: Mapping[str, Featured], *, seed: int, texts: bool) -> Suspects | str | None:
    """Look for labels that are probably wrong, by what the frozen encoder says of rows that were held out in turn.

    Args:
        features: Side → rows and their frozen features.
        seed: The same seed gives the same suspects.
        texts: False where texts may not be kept.

    Returns:
        The suspects; None where labels are not single ones or rows too few; a sentence where a package is missing.
    """
    parts = [each for each in features.values() if len(each.rows)]
    rows = [each.rows for each in parts]
    targets = [each.targets for each in rows]
    if not parts or len({each.shape[1:] for each in targets}) > 1:
        return None
    try:
        return find_suspects(
            np.concatenate([each.views.get("mean", each.head) for each in parts]),
            np.concatenate(targets),
            rows[0].labels,
            _together([each.examples for each in rows]),
            seed=seed,
            texts=texts,
        )
    except MissingExtraError as error:
        return str(error)


def marked_words(errors: Mapping[str, Any], predictor: Predictor) -> None:
    """Mark, in place, the words that carried the worst answers: `words` of the first rows of `worst`.

    Nothing is marked where texts are not kept, answers are no labels, the package is missing, the encoder is of a
    family whose words cannot be told, or torch cannot do it, as when memory runs out: the training is done by then.
    """
    if not predictor.has_scores or importlib.util.find_spec("captum") is None:
        return
    for each in errors["worst"][:MARKED]:
        if "text" in each and isinstance(each["guess"], str):
            with contextlib.suppress(BertsmithError, RuntimeError):
                found = explain(predictor, each["text"], pair=each.get("text_pair"), label=each["guess"])
                each["words"] = found.spans()


def _slices(tested: Tested, *, texts: bool) -> list[dict[str, Any]]:
    rows = tested.rows
    if not len(rows):
        return []
    right = tested.task.statistics(rows, tested.given.probabilities, tested.decision).right
    if right is None:
        return []
    tokens = rows.encoded.lengths + rows.encoded.tokens_cut
    return [each.as_json() for each in find_slices(rows.examples, right, tokens, texts=texts)]


def _together(parts: Sequence[Examples]) -> Examples:
    """Put the examples of several sides below each other."""
    first = parts[0]
    table = pa.concat_tables([each.table for each in parts], promote_options="default")
    extra = None if first.extra is None else pa.concat_tables([each.extra for each in parts])
    return Examples(table, first.columns, first.source, extra, first.notes)
