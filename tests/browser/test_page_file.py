"""The page at /ui, given a file: every row comes back with its answer, and nothing in it runs in a spreadsheet."""

from __future__ import annotations

import codecs
import csv
import io
from typing import Any

import pyarrow as pa

from bertsmith.scoring.spreadsheet import safe_batch
from tests.browser.asking import parcels
from tests.browser.page_server import answered, problem


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
    found.picture("page-file")
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
    found.choose(parcels(10))
    found.page.click("#go")
    found.page.locator("#csv-done").wait_for()
    said = '10 rows answered; 1 refused by the server: the column "error" says why.'
    assert found.page.locator("#csv-said").inner_text() == said
    rows = found.rows()
    assert rows[0] == ["id", "text", "label", "guess", "score", "unknown", "error"]
    assert rows[8] == ["7", "my parcel 7", "", "", "", "", "The server refused this (422): text 1 is too long."]
    assert [row[2] for row in rows[1:]] == ["delivery"] * 7 + [""] + ["delivery"] * 2


def test_a_column_of_the_same_name_is_left_as_it_is(server, show):
    """Where the file has a column `error`, the answers' own has another name, and what is said of it names that."""
    server.classify = lambda body: problem(422, "no", "text 1 is too long.")
    found = show(quiet=False)
    found.choose("error,text\r\nmine,my parcel\r\n")
    found.page.click("#go")
    found.page.locator("#csv-done").wait_for()
    said = '1 row answered; 1 refused by the server: the column "predicted_error" says why.'
    assert found.page.locator("#csv-said").inner_text() == said
    assert found.rows() == [
        ["error", "text", "predicted_error"],
        ["mine", "my parcel", "The server refused this (422): text 1 is too long."],
    ]


def test_a_file_can_be_gone_on_with_where_the_server_went_away(server, show):
    """What was answered is kept and can be saved; going on asks only for the rest."""

    def classify(body: dict[str, Any]) -> Any:
        return answered(body) if len(server.texts) < 2 else problem(500, "no", "broken")

    server.classify = classify
    found = show(quiet=False)
    found.choose(parcels(150))
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
    found.choose(parcels(3))
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
        found.choose(parcels(2))
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
    assert found.shown("#csv-about") == "dropped.csv: 1 row, 1 column."


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
