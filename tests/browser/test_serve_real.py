"""The page at /ui before the real server and a real model: each of its functions once."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import bertsmith
from bertsmith.feedback.opening import open_store
from bertsmith.serve.app import create_app
from bertsmith.serve.keys import add_key
from bertsmith.serve.metrics import Metrics
from bertsmith.serve.serving import load_models
from bertsmith.serve.settings import ServeSettings
from tests.browser.asking import AskingPage
from tests.browser.opened import windows
from tests.cli.finished import finished_run
from tests.live_server import served


@dataclass
class Standing:
    """A server that stands, and what it needs."""

    url: str
    key: str
    store: Path
    stop: Callable[[], None]


@pytest.fixture
def run(tiny_encoder: Path, toy_csv: Path) -> Path:
    return finished_run(tiny_encoder, toy_csv).path


@pytest.fixture
def standing(run: Path, tmp_path: Path) -> Iterator[Standing]:
    """Two models, keys and a store for feedback."""
    shutil.copytree(run / "model", tmp_path / "second" / "model")
    keys, store = tmp_path / "keys.toml", tmp_path / "said.db"
    key = add_key(keys, "page")
    settings = ServeSettings(
        runs=(run, tmp_path / "second"), threads=1, engine="torch", api_key_file=keys, feedback=str(store), max_characters=200,
    )  # fmt: skip
    watcher = Metrics()
    with served(create_app(settings, load_models(settings, watcher), watcher=watcher)) as (url, stop):
        yield Standing(url, key, store, stop)


def test_the_page_and_the_server_agree(browser: Any, run: Path, standing: Standing) -> None:
    """Key, answer, words, feedback, report, card, file, figures, another model, a limit, a server that went away."""
    predictor = bertsmith.load(run, engine="torch", threads=1)
    with windows(browser, AskingPage) as opened:
        found = opened(f"{standing.url}/ui", width=360)
        found.page.locator("#key:visible").wait_for()
        found.page.fill("#key", standing.key)
        found.page.press("#key", "Enter")
        found.page.locator("#about:has-text('Model')").wait_for()
        one = predictor.predict(["the soup was lovely"])[0]
        assert found.answer("the soup was lovely").startswith(f"{one.label} ")
        assert found.page.locator(".bars li").count() == 3
        mark_words(found, "the soup was lovely")
        say_what_is_wrong(found, standing.store)
        read_papers(found, run)
        answer_file(found, predictor)
        watch_figures(found)
        found.page.select_option("#model", "second")
        assert found.answer("the soup was awful").startswith(f"{predictor.predict(['the soup was awful'])[0].label} ")
        assert found.refused("x" * 201).startswith("The server refused this (413): Text 1 has 201 characters; ")
        assert found.page.evaluate("document.documentElement.scrollWidth") <= 360
        standing.stop()
        gone = "The server does not answer. Is it running, and is this computer connected?"
        assert found.refused("the bed was fresh") == gone
        # What the browser says by itself of 401, 413 and the lost connection, and nothing of the page's own.
        assert [each for each in found.said if not each.startswith("Failed to load resource: ")] == []


def mark_words(found: AskingPage, text: str) -> None:
    found.page.click("text=Which words?")
    found.page.locator("mark").first.wait_for()
    assert found.shown(".marked") == text
    assert "lovely" in found.page.locator("mark").all_inner_texts()


def say_what_is_wrong(found: AskingPage, store: Path) -> None:
    found.page.click("text=That is wrong")
    found.page.select_option("#correction", "neutral")
    found.page.fill("#comment", "only soup")
    found.page.click("text=Send")
    found.page.locator("text=Kept. Thank you.").wait_for()
    with open_store(str(store)) as opened:
        (kept,) = opened.entries()
    assert (kept.text, kept.model, kept.correction, kept.comment) == (
        "the soup was lovely",
        "finished",
        "neutral",
        "only soup",
    )


def read_papers(found: AskingPage, run: Path) -> None:
    """Where keys are wanted the report is saved, since a link carries no key."""
    assert found.saved("#report") == (run / "report.html").read_bytes()
    found.page.click("#card")
    found.page.locator("#card-text h2").wait_for()
    assert "How good it is" in found.page.locator("#card-text h3").all_inner_texts()


def answer_file(found: AskingPage, predictor: Any) -> None:
    """The file's answers are those that the model gives without a server."""
    texts = [
        f"the {noun} was {word}" for noun in ("film", "soup", "bed", "app") for word in ("good", "rude", "plain")
    ] * 8
    body = io.StringIO()
    csv.writer(body).writerows([["text"], *([text] for text in texts)])
    found.choose(body.getvalue())
    found.page.click("#go")
    found.page.locator("#csv-said:has-text('96 rows answered')").wait_for()
    expected = predictor.predict(texts)
    head, *rows = found.rows()
    assert head == ["text", "label", "guess", "score", "unknown", "out_of_scope", "foreign"]
    assert [row[:3] for row in rows] == [
        [text, one.label, one.guess] for text, one in zip(texts, expected, strict=True)
    ]
    assert [float(row[3]) for row in rows] == pytest.approx([one.score for one in expected], abs=1e-5)


def watch_figures(found: AskingPage) -> None:
    found.page.click("#live summary")
    found.page.locator("dd").first.wait_for()
    shown = found.page.locator("#figures").inner_text().splitlines()
    # One text by hand, one explained, 96 of the file.
    assert shown[shown.index("Texts answered") + 1] == "98"
