"""The page at /ui, asked about one text: it answers, and says what went wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.browser import page_server
from tests.browser.page_server import answered, model, problem


def test_a_text_is_answered_by_the_keyboard_alone(server, show):
    """Tab to the text, type, Ctrl+Enter: the answer with its probability, and the five best labels as bars."""
    found = show()
    found.page.locator("#about:has-text('tickets')").wait_for()
    found.page.keyboard.press("Tab")
    assert found.page.evaluate("document.activeElement.textContent") == "To the text"
    found.page.keyboard.press("Enter")
    found.page.keyboard.press("Tab")
    found.page.keyboard.type("Where is my parcel?")
    found.page.keyboard.press("Control+Enter")
    found.page.locator("#said:not(:empty)").wait_for()
    assert found.page.locator("#said").inner_text() == "delivery 90.0 %"
    bars = found.page.locator(".bars li")
    assert bars.all_inner_texts()[:2] == ["delivery\n90.0 %", "refund\n2.0 %"]
    assert bars.count() == 5
    widths = [each.bounding_box()["width"] for each in found.page.locator(".track, .chosen .fill").all()[:2]]
    assert widths[1] / widths[0] == pytest.approx(0.9, abs=0.01)
    assert server.asked == [("/classify", {"model": "tickets", "texts": ["Where is my parcel?"]})]


def test_all_labels_are_shown_on_demand(show):
    """The sixth label comes when it is asked for, and the focus goes there."""
    found = show()
    found.answer("my parcel")
    found.page.click("text=Show all 6 labels")
    assert found.page.locator(".bars li").count() == 6
    assert found.page.evaluate("document.activeElement.textContent") == "other2.0 %"


def test_a_long_label_breaks_between_its_words(server, show):
    """It may break after underscores, strokes and points, never in a word, and is read and copied whole."""
    label = "transfer_not/received-by.recipient_"
    given = page_server.answer("x") | {"label": label, "guess": label, "scores": {label: 0.9}}
    server.classify = lambda body: {"model": "tickets", "answers": [given], "seconds": 0}
    found = show()
    assert found.answer("x") == f"{label} 90.0 %"
    name = found.page.locator(".bars .name bdi")
    assert name.evaluate("each => each.innerHTML") == "transfer_<wbr>not/<wbr>received-<wbr>by.<wbr>recipient_"


def test_unknown_is_said_with_the_guess_and_the_reason(show):
    """An answer that was declined is never shown as its guess, in the headline or in the bars."""
    found = show()
    said = {
        "perhaps my parcel": "UNKNOWN No label is probable enough. The best guess is delivery with 90.0 %.",
        "a zebra": "UNKNOWN The text is unlike what the model learned from. The best guess is other with 90.0 %.",
    }
    for text, line in said.items():
        assert found.answer(text) == line
        assert found.page.locator(".bars .chosen").count() == 0


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        ("multi-label", {"labels": ["praise", "refund"], "unknown": False, "scores": {"refund": 0.9, "praise": 0.9999}}, "praise, refund"),
        ("multi-label", {"labels": [], "unknown": True, "scores": {"refund": 0.0001}}, "UNKNOWN No label is probable enough."),
        ("regression", {"value": 3.14159265, "cut": 2}, "3.142"),
        ("token-labels", {"spans": [{"start": 2, "end": 5, "text": "Ada", "label": "PER", "score": 0.5}], "tags": ["O", "B-PER"]}, "1 found"),
        ("question-answering", {"answer": "Ada", "start": 2, "end": 5, "score": 0.75, "unknown": False, "alternatives": []}, "Ada 75.0 %"),
    ],
)  # fmt: skip
def test_every_task_is_answered_in_its_own_way(server, show, task, given, said):
    """Sets, numbers, spans and answers are shown as such; places in a text are counted in whole characters."""
    pair = task == "question-answering"
    server.facts = replace(server.facts, models=(model(task=task, labels=(), pair=pair, explains=False),))
    server.classify = lambda body: {"model": "tickets", "answers": [given], "seconds": 0}
    found = show()
    found.page.locator(f"#about:has-text('{task}')").wait_for()
    if pair:
        found.page.fill("#pair", "😀 Ada wrote it")
    assert found.answer("😀 Ada wrote it") == said
    if task in ("token-labels", "question-answering"):
        assert found.page.locator("mark").all_inner_texts() == ["Ada"]
    if task == "regression":
        assert (
            found.page.locator("#answer").inner_text() == "The text is too long for the model: 2 tokens were not read."
        )


def test_words_are_marked_where_they_stand(show):
    """The weightiest word is the fullest, a word against the label is orange, and emoji move no mark."""
    found = show()
    found.answer("😀😀 the enormous parcel")
    found.page.click("text=Which words?")
    found.page.locator("mark").first.wait_for()
    marks = [(each.get_attribute("class"), each.inner_text()) for each in found.page.locator("mark").all()]
    assert marks == [("for-1", "😀😀"), ("against-3", "the"), ("for-3", "enormous"), ("for-3", "parcel")]
    assert found.page.locator(".marked").inner_text() == "😀😀 the enormous parcel"
    found.picture("page-words")


def test_a_second_text_is_asked_for_where_the_model_reads_pairs(server, show):
    """Both texts go out, as the lists that the route wants."""
    server.facts = replace(server.facts, models=(model(), model("pairs", pair=True)))
    found = show()
    found.page.select_option("#model", "pairs")
    found.page.fill("#pair", "two")
    found.answer("one")
    assert server.asked[-1][1] == {"model": "pairs", "texts": ["one"], "pairs": ["two"]}


PROBLEMS = [
    (429, {"Retry_After": "3"}, "The server has too much to do just now. Try again in 3 s."),
    (503, {"Retry_After": "1"}, "The server takes no questions just now: why. Try again in 1 s."),
    (504, {}, "The answer took longer than the server allows. Try again, or with a shorter text."),
    (422, {}, "The server refused this (422): why"),
    (500, {"X_Request_ID": "abc"}, "The server failed (500): why (request abc)"),
]


def test_what_went_wrong_is_said(server, show):
    """Each refusal has a sentence of its own, the old answer is gone, and the next text is answered."""
    found = show(quiet=False)
    for status, headers, said in PROBLEMS:
        server.classify = answered
        assert found.answer("my parcel") == "delivery 90.0 %"
        assert not found.page.locator("#problem").is_visible()
        server.classify = lambda body, status=status, headers=headers: problem(status, "no", "why", **headers)
        assert found.refused("another") == said
        assert not found.page.locator("#answer").is_visible()
    found.picture("page-problem")


def test_a_server_that_is_gone_is_said_to_be_gone(show):
    """Without a connection there is a sentence and no endless waiting."""
    found = show(quiet=False)
    found.answer("my parcel")
    found.page.context.set_offline(True)
    said = "The server does not answer. Is it running, and is this computer connected?"
    assert found.refused("another") == said
    assert found.page.locator("#submit").inner_text() == "Answer"


def test_of_two_questions_the_later_is_answered(server, show):
    """An answer that comes late does not stand below a newer text."""
    found = show()
    held: list[Any] = []
    found.page.route("**/classify", lambda route: held.append(route) if not held else route.continue_())
    found.page.fill("#text", "money")
    with found.page.expect_request("**/classify"):
        found.page.press("#text", "Control+Enter")
    assert found.answer("my parcel") == "delivery 90.0 %"
    held[0].abort()
    assert found.page.locator("#said").inner_text() == "delivery 90.0 %"


def test_a_key_is_asked_for_where_the_server_wants_one(server, show):
    """Nothing is shown before it, a wrong one is said to be wrong, and the right one is kept in no storage."""
    server.key = "s3cret"
    found = show(quiet=False)
    found.page.locator("#key").wait_for()
    assert not found.page.locator("#start-problem").is_visible()
    found.page.fill("#key", "wrong")
    found.page.press("#key", "Enter")
    assert found.shown("#start-problem") == "The server wants a valid API key: the API key is not known here."
    found.page.fill("#key", "s3cret")
    found.page.press("#key", "Enter")
    found.page.locator("#key-form").wait_for(state="hidden")
    assert found.answer("my parcel") == "delivery 90.0 %"
    assert found.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    server.key = "another"
    found.page.press("#text", "Control+Enter")
    assert found.shown("#start-problem") == "The server wants a valid API key: the API key is not known here."
    assert found.page.evaluate("document.activeElement.id") == "key"


def test_what_is_wrong_is_sent_with_what_is_right(server, show):
    """The correction goes out with text and answer; it is sent once, and the buttons are gone then."""
    found = show()
    found.answer("my parcel")
    found.page.click("text=That is wrong")
    assert found.page.evaluate("document.activeElement.id") == "correction"
    found.page.select_option("#correction", "refund")
    found.page.fill("#comment", "It is about money.")
    found.picture("page-feedback")
    found.page.click("text=Send")
    found.page.locator("text=Kept. Thank you.").wait_for()
    sent = {
        "model": "tickets", "text": "my parcel", "correction": "refund", "comment": "It is about money.",
        "answer": {"label": "delivery", "guess": "delivery", "score": pytest.approx(0.9), "unknown": False},
    }  # fmt: skip
    assert server.asked[1:] == [("/feedback", sent)]
    assert found.page.locator("text=That is wrong").count() == 0


def test_feedback_is_offered_only_where_it_is_kept(server, show):
    """Without a store there is no button."""
    server.facts = replace(server.facts, feedback=False)
    found = show()
    found.answer("my parcel")
    assert found.page.locator("text=That is wrong").count() == 0
