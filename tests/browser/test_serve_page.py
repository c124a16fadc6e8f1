"""The page at /ui in headless Chromium: it answers, it says what went wrong, and nothing that is typed runs in it.

BERTSMITH_SCREENSHOTS=FOLDER keeps a picture of each page, to be looked at.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bertsmith.scoring.spreadsheet import safe_batch
from bertsmith.serve import page_routes
from tests.browser import page_server
from tests.browser.page_server import PageFacts, PageServer, answered, model, problem
from tests.browser.test_report import _TEXTS as TEXTS

PHONE, DESK = 360, 1000
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@dataclass
class Opened:
    """The page, what the browser said of it, and the addresses it asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def answer(self, text: str) -> str:
        """Ask for one text's answer and read it."""
        self._ask(text)
        return self.shown("#said")

    def refused(self, text: str, place: str = "#problem") -> str:
        """Ask and read why there is no answer."""
        self._ask(text)
        return self.shown(place)

    def _ask(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.press("#text", "Control+Enter")
        self.page.locator("#question[aria-busy=false]").wait_for()

    def shown(self, place: str) -> str:
        """Wait for an element and read it."""
        found = self.page.locator(place)
        found.wait_for()
        return str(found.inner_text())

    def choose(self, body: str | bytes, name: str = "tickets.csv") -> None:
        """Choose a file of these bytes."""
        held = body.encode() if isinstance(body, str) else body
        self.page.set_input_files("#csv", {"name": name, "mimeType": "text/csv", "buffer": held})

    def saved(self, button: str = "#download") -> bytes:
        """Save a file and read its bytes."""
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_bytes()

    def rows(self) -> list[list[str]]:
        """Save the answers and read them as CSV."""
        return list(csv.reader(io.StringIO(self.saved().decode("utf-8-sig"), newline="")))


@pytest.fixture(scope="module")
def running(browser: Any) -> Iterator[PageServer]:
    """One server for all tests of this file."""
    with page_server.running() as server:
        yield server


@pytest.fixture
def server(running: PageServer) -> PageServer:
    running.reset()
    return running


@pytest.fixture
def show(browser: Any, server: PageServer) -> Iterator[Callable[..., Opened]]:
    """Open the page in a window of some width, light or dark; at the end the browser may have said nothing."""
    contexts, opened = [], []

    def open_page(*, width: int = DESK, dark: bool = False, quiet: bool = True, **more: Any) -> Opened:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", **more
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        found = Opened(context.new_page())
        found.page.on("console", lambda message: found.said.append(message.text))
        found.page.on("pageerror", lambda error: found.said.append(str(error)))
        found.page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
        found.page.on("request", lambda request: found.asked.append(request.url))
        found.page.goto(f"{server.url}/ui")
        found.page.locator("#about:has-text('Model'), #key:visible").first.wait_for()
        if quiet:
            opened.append(found)
        return found

    yield open_page
    for each in opened:
        assert each.said == []
        assert [url for url in each.asked if not url.startswith((server.url, f"blob:{server.url}"))] == []
    for each in contexts:
        each.close()


def picture(found: Opened, name: str) -> None:
    folder = os.environ.get("BERTSMITH_SCREENSHOTS")
    if folder:
        found.page.screenshot(path=Path(folder) / f"page-{name}.png", full_page=True)


def reviews(count: int) -> str:
    return "id,text\r\n" + "".join(f"{row},my parcel {row}\r\n" for row in range(count))


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
    picture(found, "words")


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
    picture(found, "problem")


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


def test_a_file_comes_back_with_its_answers(server, show):
    """Every row is answered once, in order, in slices; own columns are untouched, and spreadsheets run nothing."""
    rows = [
        ["id", "text", "label"],
        ["1", 'my "big" parcel;\nlate', "old"],
        ["2", "=1+1", "-3"],
        ["-4", "perhaps", "+49 30 1"],
    ]
    rows += [[str(row), f"money {row}", ""] for row in range(5, 150)]
    body = io.StringIO()
    csv.writer(body, delimiter=";").writerows(rows)
    found = show()
    found.choose(codecs.BOM_UTF8 + body.getvalue().encode())
    assert found.shown("#csv-about") == "tickets.csv: 148 rows, 3 columns."
    assert found.page.locator("#column").evaluate("each => each.selectedOptions[0].text") == "text"
    found.page.click("#go")
    assert found.shown("#csv-done").splitlines()[0] == "Download the answers"
    assert found.page.locator("#csv-said").inner_text() == "148 rows answered; 1 of them UNKNOWN."
    picture(found, "file")
    saved = found.saved()
    assert saved.startswith(codecs.BOM_UTF8)
    back = list(csv.reader(io.StringIO(saved.decode("utf-8-sig"), newline=""), delimiter=";"))
    answers = ["predicted_label", "predicted_guess", "predicted_score", "predicted_unknown"]
    assert back[0] == [*rows[0], *answers]
    assert back[1] == [*rows[1], "delivery", "delivery", "0.9", "false"]
    assert back[2] == ["2", "'=1+1", "-3", "other", "other", "0.9", "false"]
    assert back[3] == ["-4", "perhaps", "'+49 30 1", "UNKNOWN", "other", "0.9", "true"]
    assert [row[:3] for row in back[4:]] == rows[4:]
    assert [text for texts in server.texts for text in texts] == [row[1] for row in rows[1:]]
    assert max(map(len, server.texts)) == 64


def test_a_busy_server_is_waited_for_and_a_bad_row_costs_only_itself(server, show):
    """After 429 the same rows are asked again; of rows that are refused the others are answered."""
    calls = []

    def classify(body: dict[str, Any]) -> Any:
        calls.append(body)
        if len(calls) == 1:
            return problem(429, "busy", "later", Retry_After="0")
        if any("7" in text for text in body["texts"]):
            return problem(422, "no", "text 1 is too long.")
        return answered(body)

    server.classify = classify
    found = show(quiet=False)
    found.choose(reviews(10))
    found.page.click("#go")
    found.page.locator("#csv-done").wait_for()
    said = '10 rows answered; 1 refused by the server: the column "error" says why.'
    assert found.page.locator("#csv-said").inner_text() == said
    rows = found.rows()
    assert rows[0] == ["id", "text", "label", "guess", "score", "unknown", "error"]
    assert rows[8] == ["7", "my parcel 7", "", "", "", "", "The server refused this (422): text 1 is too long."]
    assert [row[2] for row in rows[1:]] == ["delivery"] * 7 + [""] + ["delivery"] * 2


def test_a_file_can_be_gone_on_with_where_the_server_went_away(server, show):
    """What was answered is kept and can be saved; going on asks only for the rest."""

    def classify(body: dict[str, Any]) -> Any:
        return answered(body) if len(server.texts) < 2 else problem(500, "no", "broken")

    server.classify = classify
    found = show(quiet=False)
    found.choose(reviews(150))
    found.page.click("#go")
    assert found.shown("#csv-problem") == "The server failed (500): broken"
    assert [row[2:] for row in found.rows()[64:66]] == [["delivery", "delivery", "0.9", "false"], ["", "", "", ""]]
    server.classify = answered
    found.page.click("#go")
    found.page.locator("#csv-said:has-text('150 rows answered.')").wait_for()
    assert [len(texts) for texts in server.texts] == [64, 64, 64, 22]
    assert [row[2] for row in found.rows()[1:]] == ["delivery"] * 150


def test_a_file_can_be_stopped(server, show):
    """Stop ends the requests, even while the server asks to wait."""
    server.classify = lambda body: problem(429, "busy", "later", Retry_After="50")
    found = show(quiet=False)
    found.choose(reviews(3))
    found.page.click("#go")
    found.page.locator("#count:has-text('0 of 3; the server is busy, waiting 50 s')").wait_for()
    found.page.click("#stop")
    found.page.locator("#csv-said:has-text('Stopped.')").wait_for()
    assert found.page.locator("#go").inner_text() == "Go on"
    assert len(server.texts) == 1


UNREADABLE = [
    (b"", "The file is empty."),
    (b"text\n", "The file has a header and no rows."),
    (b"a,b\n1,2\n3\n", "Line 3 has 1 cell; the header has 2."),
    (b'a,b\n1,"2\n3,4\n', "Line 2: a quote is opened and never closed."),
    (b'a,b\n1,"2"3\n', "Line 2: characters follow a closing quote."),
    (b"text\ncaf\xe9\n", 'The file is not UTF-8. Save it as "CSV UTF-8" and choose it again.'),
]


def test_a_file_that_cannot_be_read_is_refused_with_the_line(show):
    """The message names the file and the line, and there is nothing to start."""
    found = show()
    for body, said in UNREADABLE:
        found.choose(reviews(2))
        found.page.locator("#go").wait_for()
        found.choose(body)
        assert found.shown("#csv-problem") == f"tickets.csv: {said}"
        assert not found.page.locator("#go").is_visible()


def test_a_dropped_file_is_read(show):
    """Dropping is the same as choosing."""
    found = show()
    found.page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["text\\nmy parcel\\n"], "dropped.csv"));
          document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    assert found.shown("#csv-about") == "dropped.csv: 1 rows, 1 column."


CELLS = [
    "", "a", " a ", "a,b", "a;b", 'a "quoted" cell', '"', '""', "two\nlines", "two\r\nlines", "\tx", "\rx", "=1+1", "+49", "-1", "-1,5 %", "+",
    "-", "@SUM(A1)", "\uff1d1", "1e5", "-1e5", "--1", "-1-1", "+49 30", ".5", "-.5", "é", "😀", "\u2028", "=", "'=1",
]  # fmt: skip


def test_csv_is_read_and_written_as_python_does(show):
    """Cells come back as Python's csv module reads them, and guarded as `predict --spreadsheet-safe` guards them."""
    header = [f"c{place}" for place in range(len(CELLS))]
    rows = [header, CELLS, CELLS[::-1]]
    expected = safe_batch(pa.record_batch({"cell": pa.array(CELLS)})).column("cell").to_pylist()
    found = show()
    for delimiter in (",", ";", "\t"):
        body = io.StringIO()
        csv.writer(body, delimiter=delimiter).writerows(rows)
        read, written = found.page.evaluate(
            """async ([text, cells, delimiter]) => {
              const { parsed, written } = await import(new URL('ui/csv.js', document.baseURI));
              return [parsed(text), written(cells, delimiter)];
            }""",
            [body.getvalue(), CELLS, delimiter],
        )
        assert read == {"delimiter": delimiter, "names": header, "rows": rows[1:]}
        assert list(csv.reader(io.StringIO(written, newline=""), delimiter=delimiter)) == [expected]


def test_what_is_wrong_is_sent_with_what_is_right(server, show):
    """The correction goes out with text and answer; it is sent once, and the buttons are gone then."""
    found = show()
    found.answer("my parcel")
    found.page.click("text=That is wrong")
    assert found.page.evaluate("document.activeElement.id") == "correction"
    found.page.select_option("#correction", "refund")
    found.page.fill("#comment", "It is about money.")
    picture(found, "feedback")
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


def test_report_and_card_can_be_read(server, show, tmp_path):
    """The report opens beside the page under a policy that runs nothing; the card is shown as text."""
    server.facts = PageFacts((page_server.run_with_papers(tmp_path),), False, 10, 10_000)
    found = show()
    found.page.click("#card")
    found.page.locator("#card-text:not(:empty)").wait_for()
    assert found.page.locator("#card-text").inner_text() == "# A text model\n\n<img src=x onerror=alert(1)>\n"
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
    found.choose(reviews(3))
    found.page.click("#go")
    found.page.click("#live summary")
    for place in ("mark >> nth=0", "#csv-done", "dd >> nth=0"):
        found.page.locator(place).wait_for()
    picture(found, f"{width}{'-dark' if dark else ''}")
    shown = found.page.evaluate(TEXTS)
    assert len(shown) > 40
    assert [each for each in shown if each["contrast"] < 4.5 or each["size"] < 9.9] == []
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert found.page.evaluate(UNNAMED) == []
    assert found.page.evaluate(SMALL) == []
    assert found.page.evaluate("new Set([...document.querySelectorAll('[id]')].map(each => each.id)).size == document.querySelectorAll('[id]').length")  # fmt: skip
    assert found.page.locator("html").get_attribute("lang") == "en"


UNNAMED = """() => [...document.querySelectorAll('input, select, textarea, button, progress, .scroll, a[href]')].filter(each => {
  const labelled = (each.getAttribute('aria-labelledby') || '').split(' ').map(id => document.getElementById(id)?.textContent).join('');
  const name = each.getAttribute('aria-label') || labelled || [...(each.labels || [])].map(one => one.textContent).join('') || (['BUTTON', 'A'].includes(each.tagName) ? each.textContent : '');
  return !name.trim();
}).map(each => each.outerHTML)"""
SMALL = """() => [...document.querySelectorAll('input, select, textarea, button, summary')].filter(each => {
  const box = each.getBoundingClientRect();
  return box.width && (box.width < 24 || box.height < 24);
}).map(each => [each.outerHTML, each.getBoundingClientRect().height])"""
