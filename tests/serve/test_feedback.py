"""What a client says of an answer is read field by field, and refused by the name of the field that is wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bertsmith.serve.asked import Refused
from bertsmith.serve.feedback import entry_of


def model(task: str = "single-label", *, pair: bool = False) -> Any:
    info = SimpleNamespace(pair=pair)
    return cast("Any", SimpleNamespace(name="reviews", version="ab12", task=task, labels=("bad", "good"), info=info))


def test_what_the_page_sends_is_kept_whole():
    """Text, answer, correction and comment stand in the entry, with the model's name and version."""
    answer = {"label": "UNKNOWN", "guess": "bad", "score": 0.5, "unknown": True, "scores": {"bad": 0.5}}
    body = {"model": "reviews", "text": "so so", "answer": answer, "correction": "good", "comment": "hm"}
    found = entry_of(body, model())
    assert (found.text, found.model, found.version, found.right) == ("so so", "reviews", "ab12", False)
    assert (found.label, found.guess, found.score, found.unknown) == ("UNKNOWN", "bad", 0.5, True)
    assert (found.correction, found.comment, found.text_pair) == ("good", "hm", None)


@pytest.mark.parametrize(
    ("task", "value", "kept"),
    [("ordered", "bad", "bad"), ("multi-label", ["good", "bad"], '["good", "bad"]'), ("multi-label", [], "[]"), ("regression", 2.5, "2.5")],
)  # fmt: skip
def test_a_correction_is_of_the_kind_of_the_task(task, value, kept):
    """A label, a list of labels, or a number."""
    assert entry_of({"text": "a", "correction": value}, model(task)).correction == kept


@pytest.mark.parametrize(
    ("task", "body", "detail"),
    [
        ("single-label", {}, "'text' must be a string. Got null instead."),
        ("single-label", {"text": " "}, "'text' is empty. The text that was answered is expected."),
        ("single-label", {"text": "a", "text_pair": "b"}, "The model 'reviews' answers single texts: no 'text_pair'."),
        ("single-label", {"text": "a", "correction": "ugly"}, "'correction' must be a label of the model 'reviews'. Got the string 'ugly' instead."),
        ("multi-label", {"text": "a", "correction": "bad"}, "'correction' must be a list of labels of the model 'reviews'. Got the string 'bad' instead."),
        ("regression", {"text": "a", "correction": True}, "'correction' must be a number. Got true instead."),
        ("token-labels", {"text": "a", "correction": "x"}, "The model 'reviews' takes no correction: leave it out, and say in 'comment' what is right."),
        ("single-label", {"text": "a", "right": "yes"}, "'right' must be true or false. Got the string 'yes' instead."),
        ("single-label", {"text": "a", "answer": {"score": "1"}}, "'answer.score' must be a number. Got the string '1' instead."),
        ("single-label", {"text": "a", "answer": {"score": 7}}, "'score' is 7. A probability from 0 to 1 is expected."),
        ("single-label", {"text": "a", "answer": []}, None),
        ("single-label", {"text": "a", "answer": [1]}, "'answer' must be a JSON object. Got an array instead."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(task, body, detail):
    """Each wrong field is refused with 422 and a sentence; an empty answer is as none."""
    if detail is None:
        assert entry_of(body, model(task)).label is None
        return
    with pytest.raises(Refused) as refused:
        entry_of(body, model(task))
    assert (refused.value.status, refused.value.detail) == (422, detail)
