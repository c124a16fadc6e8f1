"""report.html in headless Chromium: it opens offline, can be read everywhere, and nothing in it runs.

BERTSMITH_SCREENSHOTS=FOLDER keeps a picture of each page, to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bertsmith.report.html import render
from tests.report.made import TASKS, findings_of, history_of, scores_of
from tests.report.test_html import changed

PHONE, DESK = 390, 1100
_TEXTS = """() => {
  const shown = [];
  const colour = (value) => value.match(/[\\d.]+/g).map(Number);
  const light = (value) => {
    const [r, g, b] = colour(value).slice(0, 3).map(each => { const c = each / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let each = node; each; each = each.parentElement) {
      if (each.tagName === 'text' && each.previousElementSibling && each.previousElementSibling.classList.contains('cell') && each.classList.contains('inside'))
        return getComputedStyle(each.previousElementSibling).fill;
      const value = getComputedStyle(each).backgroundColor;
      if ((colour(value)[3] ?? 1) > 0.99) return value;
    }
    return 'rgb(255, 255, 255)';
  };
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(each => each.nodeType === 3 && each.textContent.trim());
    if (!own || node.tagName === 'title' || !node.getClientRects().length) continue;
    const style = getComputedStyle(node), front = light(node.tagName === 'text' ? style.fill : style.color), back = light(ground(node));
    const [high, low] = front > back ? [front, back] : [back, front];
    const scale = node.tagName === 'text' ? node.getScreenCTM().a : 1;
    const turned = node.tagName === 'text' && node.getScreenCTM().b !== 0;
    shown.push({ text: node.textContent.trim().slice(0, 60), contrast: (high + 0.05) / (low + 0.05), size: parseFloat(style.fontSize) * (turned ? 1 : scale) });
  }
  return shown;
}"""
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


@dataclass
class Opened:
    """A page that was opened, and what happened while it was."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def report(task: str = "single-label", *, classes: int = 3) -> str:
    return render(
        scores_of(task, classes=classes), history=history_of(task), findings=findings_of(), recipe="[fit]\nepochs = 5\n" * 20, environment={"python": "3.11.7", "torch": "2.13.0"},
    )  # fmt: skip


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Open a report from a file, without a network, in a window of some width, light or dark."""
    contexts = []

    def opened(text: str, *, width: int = DESK, dark: bool = False, name: str = "") -> Opened:
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", offline=True
        )
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.goto(file.as_uri())
        if name and os.environ.get("BERTSMITH_SCREENSHOTS"):
            folder = Path(os.environ["BERTSMITH_SCREENSHOTS"])
            found.page.screenshot(path=folder / f"{name}-{width}{'-dark' if dark else ''}.png", full_page=True)
        return found

    yield opened
    for each in contexts:
        each.close()


@pytest.mark.parametrize("task", TASKS)
def test_a_report_opens_offline_and_fits_a_phone(show, task):
    """It asks for nothing but itself, the browser has nothing to say, and only tables scroll sideways."""
    found = show(report(task), width=PHONE, name=task)
    assert (found.said, len(found.asked)) == ([], 1)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= PHONE
    assert found.page.evaluate(_CLIPPED) == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("classes", [2, 150])
def test_every_text_can_be_read_in_both_themes(show, classes, dark):
    """Each text, those in pictures too, has a contrast of 4.5 and ten pixels at least, on a phone as on a desk."""
    for width in (PHONE, DESK):
        found = show(report(classes=classes), width=width, dark=dark, name=f"{classes}-classes")
        shown = found.page.evaluate(_TEXTS)
        assert len(shown) > 100
        assert [each for each in shown if each["contrast"] < 4.5] == []
        assert [each for each in shown if each["size"] < 9.9] == []
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width


def test_light_and_dark_are_two_themes(show):
    """The page follows the reader's own setting."""
    grounds = [
        show(report(), dark=dark).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for dark in (False, True)
    ]
    assert grounds == ["rgb(255, 255, 255)", "rgb(18, 22, 27)"]


@pytest.mark.parametrize("classes", [2, 7, 20, 150])
def test_no_two_texts_of_a_picture_cover_each_other(show, classes):
    """Labels, counts and ticks stand apart in the matrix and in the other pictures, and none is cut off."""
    found = show(report(classes=classes))
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
def test_nothing_that_a_user_writes_runs_or_is_drawn(show, payload):
    """Markup in texts, labels, file names and recipe is shown as text: no dialog, no request, no new element."""
    scores, findings = (changed(each, lambda told: f"{told} {payload}") for each in (scores_of(), findings_of()))
    text = render(scores, history=history_of(), findings=findings, recipe=payload, environment={payload: payload})
    found = show(text)
    assert (found.said, len(found.asked)) == ([], 1)
    assert found.page.locator("script, img, iframe, form, input, [onload], [onerror], [style], a:not([href^='#'])").count() == 0  # fmt: skip
    assert payload in found.page.locator("body").inner_text()


def test_the_policy_itself_stops_what_would_slip_through(show):
    """Even markup that is put into the page raw neither runs nor loads: the content security policy is real."""
    text = report().replace("</main>", "<script>document.title = 'ran'</script><img src='https://example.org/x.png'></main>")  # fmt: skip
    found = show(text)
    assert found.page.title() != "ran"
    assert len(found.said) >= 2
    assert all("Content Security Policy" in each for each in found.said)


def test_printing_opens_what_is_folded_and_cuts_nothing(show, tmp_path):
    """On paper the folded tables are open, the theme is light, and nothing is wider than the sheet."""
    found = show(report(classes=2), width=PHONE * 2, dark=True)
    found.page.emulate_media(media="print", color_scheme="dark")
    assert found.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    heights = found.page.evaluate("[...document.querySelectorAll('details > :not(summary)')].map(each => each.getBoundingClientRect().height)")  # fmt: skip
    assert min(heights) > 10
    file = tmp_path / "report.pdf"
    found.page.pdf(path=file, format="A4")
    assert file.read_bytes().startswith(b"%PDF")
