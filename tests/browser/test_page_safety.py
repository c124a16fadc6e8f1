"""The page at /ui and its files: nothing that somebody writes runs in it, and it is sent under a strict policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bertsmith.serve import page_routes
from tests.browser import page_server
from tests.browser.page_server import PageFacts, model, problem

OUTLINE = """(all) => all.map(each => {
  const parts = each.querySelectorAll('th, td, li');
  return [each.tagName, ...(parts.length ? [...parts].map(part => part.textContent) : [each.textContent])];
})"""
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.mark.parametrize("place", ["text", "label", "model", "detail", "column", "cell"])
def test_nothing_that_a_user_writes_runs_or_is_drawn(server, show, place):
    """Markup in texts, labels, names, messages and files is shown as text: no dialog, no request, no new element."""
    names = {"label": (MARKUP, *page_server.LABELS), "model": page_server.LABELS}
    server.facts = replace(
        server.facts, models=(model(MARKUP if place == "model" else "tickets", labels=names.get(place, page_server.LABELS)),)
    )  # fmt: skip
    if place == "label":
        given = page_server.answer("x") | {"label": MARKUP, "guess": MARKUP, "scores": {MARKUP: 0.9, "__proto__": 0.1}}
        server.classify = lambda body: {"model": "tickets", "answers": [given], "seconds": 0}
    elif place == "detail":
        server.classify = lambda body: problem(422, "no", MARKUP)
    found = show(quiet=place != "detail")
    if place == "detail":
        assert found.refused("x") == f"The server refused this (422): {MARKUP}"
    elif place in ("column", "cell"):
        found.choose(f'"{MARKUP}"\r\nx\r\n' if place == "column" else f'text\r\n"{MARKUP}"\r\n')
        found.page.click("#go")
        assert MARKUP in found.shown("#first")
    else:
        found.answer(f"{MARKUP} enormous")
        found.page.wait_for_timeout(50)
    if place == "text":
        found.page.click("text=Which words?")
        assert found.shown(".marked") == f"{MARKUP} enormous"
    assert [each for each in found.said if "422" not in each] == []
    assert found.page.locator("img, iframe, [onerror], script:not([src='ui/page.js'])").count() == 0
    if place in ("label", "model"):
        assert MARKUP in found.page.locator("body").inner_text()


def test_the_policy_itself_stops_what_would_slip_through(show):
    """Even markup that a fault of ours would put into the page neither runs nor loads."""
    found = show(quiet=False)
    made = found.page.evaluate(
        "() => { try { document.body.innerHTML = '<b id=made>x</b>'; return 'made'; } catch (error) { return error.name; } }"
    )
    assert made == "TypeError"
    found.page.evaluate(
        "() => { const image = document.createElement('img'); image.src = 'https://example.org/x.png'; document.body.append(image); }"
    )
    found.page.wait_for_timeout(100)
    assert any("Content Security Policy" in each for each in found.said)


def test_report_and_card_can_be_read(server, show, tmp_path):
    """The report opens beside the page under a policy that runs nothing; of the card only its own marks are drawn."""
    server.facts = PageFacts((page_server.run_with_papers(tmp_path),), False, 10, 10_000)
    found = show()
    found.page.click("#card")
    found.page.locator("#card-text:not(:empty)").wait_for()
    assert found.page.locator("#card-text > *").evaluate_all(OUTLINE) == [
        ["H2", "A text model"],
        ["P", "Made from minilm, <img src=x onerror=alert(1)>"],
        ["H3", "Scores"],
        ["TABLE", "score", "value", "a | b", "0.9"],
        ["UL", "one", "<b>two</b>"],
        ["PRE", "# no heading\n\n- no list"],
    ]
    with found.page.context.expect_page() as opened:
        found.page.click("#report")
    report = opened.value
    report.wait_for_load_state()
    assert report.locator("h1").inner_text() == "How good it is"
    assert report.evaluate("window.origin") == "null"
    response = found.page.request.get(f"{server.url}/models/tickets/report")
    assert response.headers["content-security-policy"] == page_routes.REPORT_POLICY


def test_files_of_the_page_are_sent_once(server, show):
    """A browser that has a file is told 304; what is no file of the page is refused, and a slash too many is led back."""
    request = show().page.request
    first = request.get(f"{server.url}/ui/page.js")
    tag = {"If-None-Match": f'"old", W/{first.headers["etag"]}'}
    assert (first.status, first.headers["content-security-policy"]) == (200, page_routes.POLICY)
    assert request.get(f"{server.url}/ui/page.js", headers=tag).status == 304
    refused = request.get(f"{server.url}/ui/index.html")
    assert (refused.status, refused.json()["detail"]) == (404, "the page has no file 'index.html'.")
    assert request.get(f"{server.url}/ui/").url == f"{server.url}/ui"
