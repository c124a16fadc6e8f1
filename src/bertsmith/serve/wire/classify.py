"""Our own shape, on `/classify`: everything that is known of an answer, for every task."""

from __future__ import annotations

from typing import Any

from bertsmith.serve.asked import Asked, Served
from bertsmith.serve.wire.fields import boolean, json_object, refuse_unknown, shown, strings, top_k, wrong
from bertsmith.serve.wire.scores import ranked

FIELDS = ("texts", "pairs", "model", "explain", "top_k")


def read(body: Any, *, model: str = "") -> Asked:
    """Read a request: `{"texts": […], "pairs": […], "model": name, "explain": false, "top_k": n}`.

    Args:
        body: The JSON value of its body.
        model: Name of the model that the path names; "" where it names none.

    Raises:
        Refused: 422; it says which field is wrong, and how.
    """
    given = json_object(body)
    refuse_unknown(given, FIELDS)
    if "texts" not in given:
        raise wrong('the field \'texts\' is missing. Give a list of texts: {"texts": ["text"]}.')
    pairs = given.get("pairs")
    return Asked(
        strings(given["texts"], "texts"),
        None if pairs is None else strings(pairs, "pairs"),
        top_k=top_k(given),
        explain=boolean(given, "explain", default=False),
        model=_model(given.get("model"), model),
    )


def _model(value: Any, of_path: str) -> str:
    if value is None:
        return of_path
    if not isinstance(value, str):
        raise wrong(f"'model' must be a string. Got {shown(value)} instead.")
    if of_path and value != of_path:
        raise wrong(f"the path names the model {of_path!r}, but 'model' is {value[:60]!r}. Leave one of them out.")
    return value


def answers(asked: Asked, served: Served, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Give answers, one a text.

    Args:
        asked: What was asked.
        served: What was answered.
        labels: Names in the order of the logits.

    Returns:
        For one label of several: `label`, `guess`, `score`, `unknown`, `out_of_scope` (null where the model has no
        scope), `foreign` and `scores`, label → probability, the best first. Other tasks have what `predict --json
        --scores` prints. Every answer has `cut`, the tokens that its text lost; with `explain` it has `explained`,
        `probability`, `method` and `words` besides.
    """
    found = []
    for place, answer in enumerate(served.answers):
        told = answer.as_json()
        if "label" in told:
            told = told | {"out_of_scope": told.get("out_of_scope"), "foreign": told.get("foreign", False)}
        if "label" in told or "labels" in told:
            told["scores"] = dict(ranked(served.probabilities[place], labels, asked.top_k))
        elif "answer" in told:
            told["alternatives"] = answer.as_json(scores=True)["alternatives"][: asked.top_k]
        told["cut"] = int(served.cut[place])
        if served.explanations:
            told |= served.explanations[place].as_json()
        found.append(told)
    return found
