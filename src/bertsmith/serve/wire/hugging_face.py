"""The shapes of Hugging Face's Inference API and of Text Embeddings Inference, on `/` and `/predict`.

    {"inputs": "text"}                                      → [{"label", "score"}, …]
    {"inputs": ["text", "second text"]}                     a pair, as TEI reads it
    {"inputs": [["text"], ["text", "second text"]]}         → [[{"label", "score"}, …], …]
    {"inputs": {"text": …, "text_pair": …}}, or a list of such
    {"inputs": {"question": …, "context": …}}

Beside `inputs`: `parameters` with `top_k`, `function_to_apply`; TEI's `raw_scores` and `truncate`. As the peers do, we
pass over fields that we do not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from bertsmith.serve.asked import Asked, Function, Served
from bertsmith.serve.wire.fields import boolean, json_object, shown, top_k, wrong
from bertsmith.serve.wire.scores import ranked, scores_of
from bertsmith.tasks.protocol import Answer

_FUNCTIONS = ("softmax", "sigmoid", "none")
_BATCH = 'A batch is a list of lists: [["first text"], ["second text"]].'
_OF_LABELS = ("single-label", "ordered", "multi-label")
_FIRST, _SECOND = ("text", "question"), ("text_pair", "context")


@dataclass(frozen=True)
class Wanted:
    """What a request on `/predict` wants.

    Attributes:
        asked: Texts, labels wanted, function.
        batch: True where it is given a list of answers, one a text; False where one answer.
        truncate: False where a text that is too long is refused; True where it is cut as in training.
    """

    asked: Asked
    batch: bool
    truncate: bool = True


def read(body: Any, *, model: str = "") -> Wanted:
    """Read a request.

    Args:
        body: The JSON value of its body.
        model: Name of the model that is asked.

    Raises:
        Refused: 422; it says which field is wrong, and how.
    """
    given = json_object(body)
    if "inputs" not in given:
        raise wrong('the field \'inputs\' is missing. Give a text: {"inputs": "text"}.')
    parameters = json_object(given.get("parameters") or {}, "'parameters'")
    both = {**parameters, **given}
    rows, batch = _rows(given["inputs"])
    firsts, seconds = _columns(rows)
    asked = Asked(firsts, seconds, top_k=top_k(both), function=_function(both), model=model)
    return Wanted(asked, batch, boolean(both, "truncate", default=True))


def _function(given: Mapping[str, Any]) -> Function:
    if boolean(given, "raw_scores", default=False):
        return "none"
    name = given.get("function_to_apply")
    if name is not None and name not in _FUNCTIONS:
        raise wrong(f"'function_to_apply' must be one of {', '.join(_FUNCTIONS)}. Got {shown(name)} instead.")
    return cast("Function", name or "")


def _rows(inputs: Any) -> tuple[list[tuple[str, ...]], bool]:
    """Read `inputs`: the text, or the two texts, of each row; and whether a list of answers is wanted."""
    if isinstance(inputs, list) and inputs and not isinstance(inputs[0], str):
        return [_row(each, f"'inputs': number {place + 1}") for place, each in enumerate(inputs)], True
    if isinstance(inputs, list) and len(inputs) > 2:
        raise wrong(f"'inputs' is a list of {len(inputs):,} strings; a text, or a pair of two, was expected. {_BATCH}")
    return [_row(inputs, "'inputs'")], False


def _row(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, dict):
        return _row_of_names(value, where)
    if isinstance(value, list) and len(value) in {1, 2} and all(isinstance(each, str) for each in value):
        return tuple(value)
    found = f"a list of {len(value):,}" if isinstance(value, list) else shown(value)
    raise wrong(f"{where} must be a text, a list of one or two texts, or an object with 'text'. Got {found} instead.")


def _row_of_names(value: dict[str, Any], where: str) -> tuple[str, ...]:
    first = next((value[name] for name in _FIRST if name in value), None)
    second = next((value[name] for name in _SECOND if name in value), None)
    if not isinstance(first, str):
        raise wrong(f"{where}: 'text' must be a string. Got {shown(first)} instead.")
    if second is None:
        return (first,)
    if not isinstance(second, str):
        raise wrong(f"{where}: 'text_pair' must be a string. Got {shown(second)} instead.")
    return first, second


def _columns(rows: list[tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    firsts = tuple(row[0] for row in rows)
    seconds = tuple(row[1] for row in rows if len(row) > 1)
    if seconds and len(seconds) != len(rows):
        raise wrong(
            f"'inputs' has {len(seconds):,} pairs and {len(rows) - len(seconds):,} single texts; give one kind."
        )
    return firsts, seconds or None


def check_function(wanted: Wanted, task: str) -> None:
    """Refuse a function of scores where the answers of a task have none.

    Raises:
        Refused: 422.
    """
    if wanted.asked.function and task not in _OF_LABELS:
        raise wrong(f"'function_to_apply' and 'raw_scores' are for models of labels; this is a {task} model.")


def check_cut(wanted: Wanted, served: Served, most: int) -> None:
    """Refuse what had to be cut where `truncate` is false.

    Args:
        wanted: What was asked.
        served: What was answered.
        most: Tokens that the model reads.

    Raises:
        Refused: 422; it names the first text that is too long.
    """
    if wanted.truncate:
        return
    for place, lost in enumerate(served.cut):
        if lost:
            raise wrong(
                f"text {place + 1:,} is longer than the {most} tokens that the model reads, by {lost:,}. Shorten it, "
                "or leave out 'truncate': false."
            )


def answers(wanted: Wanted, served: Served, labels: tuple[str, ...], *, nested: bool = False) -> Any:
    """Give answers in the peers' shape.

    Args:
        wanted: What was asked.
        served: What was answered.
        labels: Names in the order of the logits.
        nested: True puts a single answer into a list of its own, which the clients of Hugging Face's API look for.

    Returns:
        For labels a list of `{label, score}`, the best first; for tags of words a list of `{entity_group, score, word,
        start, end}`; for questions `{answer, score, start, end}`, or a list of them where `top_k` wants several; for
        numbers one `{label, score}` with the number. For a batch, a list of these.
    """
    if not _has_scores(served):
        found = [_other(each, labels, wanted.asked.top_k) for each in served.answers]
        return found if wanted.batch else found[0]
    rows = scores_of(served, wanted.asked.function)
    listed = [
        [{"label": label, "score": score} for label, score in ranked(row, labels, wanted.asked.top_k)] for row in rows
    ]
    return listed if wanted.batch or nested else listed[0]


def _has_scores(served: Served) -> bool:
    return not any(each.as_json().keys() & {"spans", "answer", "value"} for each in served.answers[:1])


def _other(given: Answer, labels: tuple[str, ...], top_k: int | None) -> Any:
    answer = given.as_json()
    if "spans" in answer:
        return [
            {"entity_group": each["label"], "score": each["score"], "word": each["text"], "start": each["start"],
             "end": each["end"]}
            for each in answer["spans"]
        ]  # fmt: skip
    if "value" in answer:
        return [{"label": labels[0] if labels else "value", "score": answer["value"]}]
    if top_k is None or top_k == 1:
        return _found(answer)
    return [_found(each) for each in given.as_json(scores=True)["alternatives"][:top_k]]


def _found(answer: Mapping[str, Any]) -> dict[str, Any]:
    # "No answer" stands nowhere; the peers put it at 0.
    start, end = answer["start"] or 0, answer["end"] or 0
    return {"answer": answer["answer"], "score": answer["score"], "start": start, "end": end}
