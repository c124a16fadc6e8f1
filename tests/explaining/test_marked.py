"""Marked text: nothing of the user's text becomes markup, strength and side are told with and without colour."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bertsmith.explaining.explanation import Completeness, Explanation, Word
from bertsmith.explaining.marked import LEGEND, STYLE, marked_html, marked_page, marked_text, step_of, weight_lines
from bertsmith.explaining.words import word_spans

EVIL = "<script>alert(1)</script> \"x\" onload='y' &amp; </mark>"


def explained(*texts: str, weights=(3.0, -1.5, 0.9, 0.1), label: str = "good", unread: int = 0) -> Explanation:
    """An explanation with these weights, over and over; the last words are unread."""
    places = [(part, span) for part, text in enumerate(texts) for span in word_spans(text)]
    read = [place < len(places) - unread for place in range(len(places))]
    words = tuple(
        Word(part, *span, weights[place % len(weights)] if read[place] else 0.0, read[place])
        for place, (part, span) in enumerate(places)
    )
    return Explanation(texts, label, 0.75, "gradients", words, Completeness(1.5, -1.0, 0.002, 0.0008, 32))


class Seen(HTMLParser):
    """Collects tags with their attributes, and the text of the body."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):  # noqa: D102 - the parser's name
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):  # noqa: D102 - the parser's name
        self.text += data


def parsed(markup: str) -> Seen:
    seen = Seen()
    seen.feed(markup)
    seen.close()
    return seen


def test_words_get_a_class_for_side_and_strength():
    """Three steps each way; faint words and what is between words are left as they are."""
    found = explained("very bad soup here")
    assert marked_html("very bad soup here", found.spans()) == (
        '<mark class="for-3" title="+3.00">very</mark> <mark class="against-2" title="-1.50">bad</mark> '
        '<mark class="for-1" title="+0.90">soup</mark> here'
    )
    assert marked_html("very bad", [[0, 4, 3.0]], unread=[(5, 8)]) == (
        '<mark class="for-3" title="+3.00">very</mark> <span class="unread" title="not read">bad</span>'
    )
    assert marked_html("very", [[0, 4, 1.0]], greatest=2.0) == '<mark class="for-2" title="+1.00">very</mark>'
    assert marked_html("very", [[0, 4, 0.0]]) == marked_html("very", []) == "very"
    assert [step_of(weight, 3.0) for weight in (3, 2.01, 2, 1.01, 1, 0.3, 0.2, 0, -0.3, -3)] == [
        3,
        3,
        2,
        2,
        1,
        1,
        0,
        0,
        -1,
        -3,
    ]
    assert step_of(1.0, 0.0) == 0


@given(st.text(st.sampled_from("a<>&\"' é你\n"), max_size=20))
def test_marked_html_is_the_text_and_marks(text):
    """A parser gives the text back to the letter, and sees no tag but ours, whatever the text holds."""
    seen = parsed(marked_html(text, explained(text).spans()))
    assert seen.text == text
    assert all(tag == "mark" and attributes.keys() == {"class", "title"} for tag, attributes in seen.tags)


def test_a_page_needs_nothing_and_runs_nothing():
    """Its CSP allows its own style by hash alone; texts and labels stay text."""
    page = marked_page(explained(EVIL, "second & last", label="<b>good</b>"))
    [style] = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    seen = parsed(page)
    assert (
        "meta",
        {"http-equiv": "Content-Security-Policy", "content": f"default-src 'none'; style-src 'sha256-{digest}'"},
    ) in seen.tags
    assert {tag for tag, _ in seen.tags} == {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "bdi",
        "p",
        "mark",
        "table",
        "tr",
        "td",
    }
    used = {name for _, attributes in seen.tags for name in attributes}
    assert used == {"lang", "charset", "http-equiv", "content", "name", "class", "dir", "title"}
    body = seen.text.partition("Why <b>good</b> 0.750\n")[2]
    assert EVIL in body
    assert "second & last" in body
    assert LEGEND in body
    for step in (1, 2, 3):
        assert f"mark.for-{step}" in STYLE
        assert f"mark.against-{step}" in STYLE


def test_without_colour_brackets_tell():
    """As many brackets as the step is strong, square for the label, curly against it."""
    found = explained("very bad soup here", "so good")
    assert marked_text(found, colour=False).plain == "[[[very]]] {{bad}} [soup] here"
    assert marked_text(found, part=1, colour=False).plain == "[[[so]]] {{good}}"
    cut = explained("very bad soup, here and there", unread=4)
    assert marked_text(cut, colour=False).plain == "[[[very]]] {{bad}} [soup](not read: , here and there)"


def test_colours_leave_the_text_as_it_is():
    """On a terminal the text stands unchanged, in green and magenta."""
    found = marked_text(explained("very bad soup here"))
    assert found.plain == "very bad soup here"
    assert [(span.start, span.end, str(span.style)) for span in found.spans] == [
        (0, 4, "bold black on bright_green"),
        (5, 8, "black on magenta"),
        (9, 13, "green"),
    ]


@pytest.mark.parametrize("colour", [True, False])
def test_a_text_cannot_steer_the_terminal(colour):
    """Escape sequences and signs that turn the writing round are shown as what cannot be shown; markup is text."""
    found = explained("\x1b[31mred\x07 \u202eright [bold]x[/bold]")
    console = Console(color_system=None, width=200, markup=False)
    with console.capture() as caught:
        console.print(marked_text(found, colour=colour))
        console.print("\n".join(weight_lines(found)))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", caught.get())
    assert html.unescape(marked_html(found.texts[0], [])) == found.texts[0]


def test_the_weightiest_words_come_first_with_bars():
    """Weight, bar, word; full bars speak for the label, hollow ones against it."""
    assert weight_lines(explained("very bad soup here"), most=3) == [
        "+3.00  ████████████████████  very",
        "-1.50  ░░░░░░░░░░            bad",
        "+0.90  ██████                soup",
    ]
    assert weight_lines(explained("")) == []


def test_the_sentence_says_how_exact_the_weights_are():
    """Gradients state both ends, the error, its share and the steps; occlusion what its weights are."""
    assert explained("x").sentence == (
        "A weight is what the word adds to the log odds of 'good', which are -1.00 for a blank text and +1.50 for this "
        "one; the sum misses that by 0.002 (0.08%, 32 steps)."
    )
    other = Explanation(("x",), "good", 0.5, "occlusion", ())
    assert other.sentence == "A weight is how far the log odds of 'good' fall without the word."
