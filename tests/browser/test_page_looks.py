"""The page at /ui as it is seen, read aloud and worked by the keyboard: contrast, names, sizes, live figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.browser.asking import parcels
from tests.browser.opened import DESK, TEXTS
from tests.browser.page_server import model

PHONE = 360
UNNAMED = """() => [...document.querySelectorAll('input, select, textarea, button, progress, .scroll, a[href]')].filter(each => {
  const labelled = (each.getAttribute('aria-labelledby') || '').split(' ').map(id => document.getElementById(id)?.textContent).join('');
  const name = each.getAttribute('aria-label') || labelled || [...(each.labels || [])].map(one => one.textContent).join('') || (['BUTTON', 'A'].includes(each.tagName) ? each.textContent : '');
  return !name.trim();
}).map(each => each.outerHTML)"""
SMALL = """() => [...document.querySelectorAll('input, select, textarea, button, summary')].filter(each => {
  const box = each.getBoundingClientRect();
  return box.width && (box.width < 24 || box.height < 24);
}).map(each => [each.outerHTML, each.getBoundingClientRect().height])"""


def test_live_figures_are_asked_for_only_while_they_are_looked_at(server, show):
    """Closed, nothing is polled; open, they are shown in words."""
    shares = {"unknown": 0.031, "foreign": None, "drift": None}
    server.stats = {"uptime_s": 7300.5, "requests": 1234, "latency_s": {"p99": 0.00825}, "models": {"tickets": shares}}
    found = show()
    found.answer("my parcel")
    assert not any(url.endswith("/stats") for url in found.asked)
    found.page.click("#live summary")
    found.page.locator("dd").first.wait_for()
    shown = found.page.locator("#figures").inner_text().splitlines()
    assert shown == [
        "Requests",
        "1,234",
        "99 of 100 answers within",
        "8.3 ms",
        "UNKNOWN",
        "3.1 %",
        "Running for",
        "2 h",
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_everything_can_be_read_and_named(server, show, width, dark):
    """Contrast 4.5, ten pixels, no sideways scrolling, targets of 24 pixels, and a name for every control."""
    server.facts = replace(server.facts, models=(model(), model("reviews")))
    server.stats = {"requests": 3}
    found = show(width=width, dark=dark, reduced_motion="reduce")
    found.answer("perhaps the enormous parcel: " + "averyveryverylongword" * 8)
    found.page.click("text=Which words?")
    found.page.click("text=That is wrong")
    found.choose(parcels(3))
    found.page.click("#go")
    found.page.click("#live summary")
    for place in ("mark >> nth=0", "#csv-done", "dd >> nth=0"):
        found.page.locator(place).wait_for()
    found.picture(f"page-{width}{'-dark' if dark else ''}")
    shown = found.page.evaluate(TEXTS)
    assert len(shown) > 40
    assert [each for each in shown if each["contrast"] < 4.5 or each["size"] < 9.9] == []
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert found.page.evaluate(UNNAMED) == []
    assert found.page.evaluate(SMALL) == []
    assert found.page.evaluate("new Set([...document.querySelectorAll('[id]')].map(each => each.id)).size == document.querySelectorAll('[id]').length")  # fmt: skip
    assert found.page.locator("html").get_attribute("lang") == "en"
