"""report.html in headless Chromium: it opens offline, can be read everywhere, and nothing in it runs.

BERTSMITH_SCREENSHOTS=FOLDER keeps a picture of each page, to be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bertsmith.report.html import render
from tests.browser.opened import TEXTS, Opened, windows
from tests.report.made import TASKS, findings_of, history_of, scores_of
from tests.report.test_html import changed

PHONE, DESK = 390, 1100
_CLIPPED = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const whole = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(each => {
    const box = each.getBoundingClientRect();
    return box.left < whole.left - 1 || box.right > whole.right + 1 || box.top < whole.top - 1 || box.bottom > whole.bottom + 1;
  }).map(each => each.textContent);
})"""
_OVERLAPS = """(name) => {
  const boxes = [...document.querySelectorAll(`svg[aria-labelledby=${name}-title] text`)]
    .filter(each => !each.hasAttribute('transform')).map(each => [each.textContent, each.getBoundingClientRect()]);
  const hit = [];
  boxes.forEach(([told, a], place) => boxes.slice(place + 1).forEach(([other, b]) => {
    if (a.left < b.right - 1 && b.left < a.right - 1 && a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3) hit.push([told, other]);
  }));
  return hit;
}"""


def report(task: str = "single-label", *, classes: int = 3) -> str:
    return render(
        scores_of(task, classes=classes), history=history_of(task), findings=findings_of(), recipe="[fit]\nepochs = 5\n" * 20, environment={"python": "3.11.7", "torch": "2.13.0"},
    )  # fmt: skip


@pytest.fixture
def show_report(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Open a report from a file, without a network, in a window of some width, light or dark."""
    with windows(browser, Opened) as opened:

        def open_report(text: str, *, width: int = DESK, dark: bool = False, name: str = "") -> Opened:
            file = tmp_path / "report.html"
            file.write_text(text, encoding="utf-8")
            found = opened(file.as_uri(), width=width, dark=dark, offline=True)
            if name:
                found.picture(f"{name}-{width}{'-dark' if dark else ''}")
            return found

        yield open_report


@pytest.mark.parametrize("task", TASKS)
def test_a_report_opens_offline_and_fits_a_phone(show_report, task):
    """It asks for nothing but itself, the browser has nothing to say, and only tables scroll sideways."""
    found = show_report(report(task), width=PHONE, name=task)
    assert (found.said, len(found.asked)) == ([], 1)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= PHONE
    assert found.page.evaluate(_CLIPPED) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("classes", [2, 150])
def test_every_text_can_be_read_in_both_themes(show_report, classes, dark):
    """Each text, those in pictures too, has a contrast of 4.5 and ten pixels at least, on a phone as on a desk."""
    for width in (PHONE, DESK):
        found = show_report(report(classes=classes), width=width, dark=dark, name=f"{classes}-classes")
        shown = found.page.evaluate(TEXTS)
        assert len(shown) > 100
        assert [each for each in shown if each["contrast"] < 4.5] == []
        assert [each for each in shown if each["size"] < 9.9] == []
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width


def test_light_and_dark_are_two_themes(show_report):
    """The page follows the reader's own setting."""
    grounds = [
        show_report(report(), dark=dark).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for dark in (False, True)
    ]
    assert grounds == ["rgb(255, 255, 255)", "rgb(18, 22, 27)"]


@pytest.mark.parametrize("classes", [2, 7, 20, 150])
def test_no_two_texts_of_a_picture_cover_each_other(show_report, classes):
    """Labels, counts and ticks stand apart in the matrix and in the other pictures, and none is cut off."""
    found = show_report(report(classes=classes))
    for name in ("confusion", "labels", "ladder", "stages", "lengths", "reliability", "losses"):
        assert found.page.evaluate(_OVERLAPS, name) == []
    assert found.page.evaluate(_CLIPPED) == []


@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</title></style></bdi></td><svg onload=alert(1)><iframe src='javascript:alert(1)'></iframe>",
        "<a href='https://example.org'>x</a><form action='https://example.org'><input></form>",
    ],
)
def test_nothing_that_a_user_writes_runs_or_is_drawn(show_report, payload):
    """Markup in texts, labels, file names and recipe is shown as text: no dialog, no request, no new element."""
    scores, findings = (changed(each, lambda told: f"{told} {payload}") for each in (scores_of(), findings_of()))
    text = render(scores, history=history_of(), findings=findings, recipe=payload, environment={payload: payload})
    found = show_report(text)
    assert (found.said, len(found.asked)) == ([], 1)
    assert found.page.locator("script, img, iframe, form, input, [onload], [onerror], [style], a:not([href^='#'])").count() == 0  # fmt: skip
    assert payload in found.page.locator("body").inner_text()


def test_the_policy_itself_stops_what_would_slip_through(show_report):
    """Even markup that is put into the page raw neither runs nor loads: the content security policy is real."""
    text = report().replace("</main>", "<script>document.title = 'ran'</script><img src='https://example.org/x.png'></main>")  # fmt: skip
    found = show_report(text)
    assert found.page.title() != "ran"
    assert len(found.said) >= 2
    assert all("Content Security Policy" in each for each in found.said)


def test_printing_opens_what_is_folded_and_cuts_nothing(show_report, tmp_path):
    """On paper the folded tables are open, the theme is light, and nothing is wider than the sheet."""
    found = show_report(report(classes=2), width=PHONE * 2, dark=True)
    found.page.emulate_media(media="print", color_scheme="dark")
    assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    heights = found.page.evaluate("[...document.querySelectorAll('details > :not(summary)')].map(each => each.getBoundingClientRect().height)")  # fmt: skip
    assert min(heights) > 10
    file = tmp_path / "report.pdf"
    found.page.pdf(path=file, format="A4")
    assert file.read_bytes().startswith(b"%PDF")
