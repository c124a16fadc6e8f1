"""The report: complete, pure, safe, and without a figure that does not stand in the run's JSON."""

from __future__ import annotations

import base64
import copy
import hashlib
import html.parser
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.clock import in_words
from bertsmith.report import html as report
from bertsmith.report.definitions import definition_of, definitions, figures_of
from tests.report.made import TASKS, findings_of, history_of, scores_of

SECTIONS = [
    "ladder", "scores", "confusion", "learning", "calibration", "decide", "foreign", "seeds", "findings", "errors",
    "slices", "suspects", "lengths", "speed", "recipe", "meaning",
]  # fmt: skip
PAYLOADS = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title></style><svg onload=alert(1)>", "{{ 7 * 7 }}{% raw %}", "\x00\u202e\x1b[31m")  # fmt: skip
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "div", "p", "ul", "li", "a", "h1", "h2",
    "h3", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary", "dl", "dt", "dd",
    "pre", "code", "bdi", "br", "span", "strong", "mark", "svg", "text", "line", "circle", "rect", "polyline",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "id", "class", "scope", "href", "tabindex", "title", "aria-label",
    "aria-labelledby", "role", "viewbox", "width", "height", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "points", "transform",
}  # fmt: skip


class Page(html.parser.HTMLParser):
    """What a page is made of: its tags, its attributes, and its texts by the class they stand in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "line", "circle", "polyline"}:
            self._open.append(f"{tag}.{dict(attrs).get('class') or ''}")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: D102
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:  # noqa: D102
        while self._open and self._open.pop().partition(".")[0] != tag:
            pass

    def handle_data(self, data: str) -> None:  # noqa: D102
        self.texts.append((tuple(self._open), data))


def rendered(task: str = "single-label", *, classes: int = 3) -> str:
    return report.render(
        scores_of(task, classes=classes), history=history_of(task), findings=findings_of(), recipe="format = 1\n", environment={"python": "3.11.7"},
    )  # fmt: skip


def changed(value: Any, change: Callable[[str], str]) -> Any:
    """Change every string in a value; the names that the format fixes stay."""
    if isinstance(value, Mapping):
        return {name: changed(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [changed(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_task_has_a_report(task):
    """A run of any task renders, with its own metrics and nothing that stands for a missing value by accident."""
    page = Page(rendered(task))
    text = " ".join(told for _, told in page.texts)
    assert all(name in text for name in ("On 3,080 test rows", "95 % interval", "2 min 42 s"))
    assert re.findall(r"\b(?:None|nan|inf|Undefined|True|False)\b", text) == []


def test_a_full_report_has_every_section_in_the_order_of_its_contents():
    """The summary leads to sixteen sections, each of which is there once."""
    page = Page(rendered())
    ids = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert ids == SECTIONS
    assert links == [f"#{name}" for name in SECTIONS]


def test_an_empty_run_still_has_a_report():
    """Without any part, the page says that nothing honest can be said."""
    page = report.render({})
    assert "There were no test rows: nothing honest can be said about how good it is." in page
    assert "Nothing to find fault with." in page


@pytest.mark.parametrize("task", TASKS)
def test_any_part_may_be_missing_or_null(task):
    """Whatever single part of scores.json is absent or null, two levels deep, the rest of the page is there."""
    whole = scores_of(task, classes=2)
    for name, value in whole.items():
        lacking = [{key: each for key, each in whole.items() if key != name}, {**whole, name: None}]
        if isinstance(value, dict):
            lacking += [{**whole, name: {**value, key: None}} for key in value]
        for scores in lacking:
            assert '<section id="meaning">' in report.render(scores)


def test_rendering_is_pure():
    """The same arguments give the same page, and the arguments stay as they were."""
    scores, history, findings = scores_of(), history_of(), findings_of()
    before = copy.deepcopy((scores, history, findings))
    pages = {report.render(scores, history=history, findings=findings, recipe="x") for _ in range(2)}
    assert len(pages) == 1
    assert (scores, history, findings) == before


def test_the_page_loads_nothing_and_allows_nothing_but_its_own_style():
    """No script, no inline style, no address but those of its own sections; the policy names the style by its hash."""
    text = rendered()
    page = Page(text)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policies = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"]
    assert {tag for tag, _ in page.tags} <= TAGS
    assert {name for _, attrs in page.tags for name in attrs} <= ATTRIBUTES
    assert "url(" not in style
    assert "@import" not in style
    assert re.findall(r"(?:https?:)?//[a-z]", text) == []


def hostile_page(more: str) -> Page:
    """A page with something added to every text that comes from outside."""
    scores, findings = (changed(each, lambda told: f"{told}{more}") for each in (scores_of(classes=4), findings_of()))
    return Page(
        report.render(
            scores, history=history_of(), findings=findings, recipe=f"x = 1{more}", environment={f"python{more}": more}
        )
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_of_the_user_becomes_markup(payload):
    """Whatever stands in texts, labels, file names, findings, recipe or versions, the page has the same elements."""
    plain, hostile = hostile_page(""), hostile_page(payload)
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert {name for _, attrs in hostile.tags for name in attrs} <= ATTRIBUTES
    assert not any(letter in told for _, told in hostile.texts for letter in "\x00\x1b")
    assert "49{%" not in " ".join(told for _, told in hostile.texts)


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=15, deadline=None)
def test_any_label_and_text_is_shown_as_it_is(label, text):
    """Any string at all can be a label or a text; what can be shown of it is shown, and the page is UTF-8."""
    scores = scores_of(classes=2)
    scores["labels"][0] = label
    scores["errors"]["worst"][0] |= {"text": text, "gold": label, "words": []}
    page = Page(report.render(scores))
    shown = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)
    shown.encode("utf-8", "replace")
    seen = "".join(told for place, told in page.texts if "bdi." in place).replace("\r", "\n")
    assert shown.encode("utf-8", "replace").decode() in seen


def test_every_picture_says_what_it_shows():
    """Each picture has the role of an image and a title of its own as alternative text."""
    text = rendered(classes=150)
    page = Page(text)
    pictures = [attrs for tag, attrs in page.tags if tag == "svg"]
    names = [attrs["aria-labelledby"] for attrs in pictures]
    assert len(names) == len(set(names)) == 9
    for name in names:
        [title] = re.findall(rf'<title id="{name}">([^<]+)</title>', text)
        assert len(title) > 20
    assert {attrs["role"] for attrs in pictures} == {"img"}


# --- figures -------------------------------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield str(name)
            yield from leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


NUMBER = re.compile(r"(?<![\w.<])[-+\u2212]?\d[\d,]*(?:\.\d+)?")


def numbers(text: str) -> set[str]:
    return {each.replace(",", "").replace("\u2212", "-").lstrip("+") for each in NUMBER.findall(text)}


def stands(told: str, known: list[float]) -> bool:
    """Whether a written number is one of the known ones, rounded, as itself or as percent."""
    digits = len(told.partition(".")[2])
    half = 0.5 * 10**-digits + 1e-9
    if digits == 0 and "." not in told and len(told) > 3:
        half = max(half, 0.5)
    return any(abs(float(told) - each * scale) <= half for each in known for scale in (1, 100))


@pytest.mark.parametrize("task", TASKS)
def test_every_figure_of_the_page_stands_in_the_json_of_the_run(task):
    """No number is shown, in text or picture or alternative text, that is not in scores, history or findings."""
    scores, history, findings = scores_of(task, classes=2), history_of(task, epochs=2), findings_of()
    if scores["decide"]:
        scores["decide"]["risk_coverage"] = scores["decide"]["risk_coverage"][::70]
        bins = scores["calibration"]["reliability"]
        scores["calibration"]["reliability"] = {when: each[::7] for when, each in bins.items()}
    for seed, line in enumerate(history):
        line["loss" if "loss" in line else "seconds"] = 0.5 + seed / 1000
    page = Page(report.render(scores, history=history, findings=findings))
    every = [*leaves(scores), *leaves(history), *leaves(findings)]
    known = [float(each) for each in every if isinstance(each, int | float) and not isinstance(each, bool)]
    known += [float(each) for each in scores["test"].get("errors", ())]
    static = report._HERE.joinpath("page.html.j2").read_text(encoding="utf-8")
    words = " ".join([*(each for each in every if isinstance(each, str)), static, *map(in_words, known)])
    words += " ".join(definitions(scores).values())
    said = numbers(words)
    shown = [told for place, told in page.texts if not any(part in {"style.", "text.tick middle", "text.tick end"} for part in place)]  # fmt: skip
    unknown = {each for told in shown for each in numbers(told) - said if not stands(each, known)}
    assert unknown == set()


def test_a_figure_that_stands_nowhere_would_be_noticed():
    """The check above can fail: a number that is in no file is not taken for a known one."""
    known = [float(each) for each in leaves(scores_of(classes=2)) if isinstance(each, float)]
    assert not stands("0.7431", [each for each in known if abs(each - 0.7431) > 1e-3])
    assert stands("93.0", [0.9296])


@pytest.mark.parametrize(("task", "classes"), list(itertools.product(TASKS, (2, 150))))
def test_every_figure_of_scores_json_is_defined(task, classes):
    """Every number of scores.json has one sentence that says what it is."""
    scores = scores_of(task, classes=classes)
    unknown = {".".join(path) for path in set(figures_of(scores)) if definition_of(path) is None}
    assert unknown == set()
    assert all(sentence.endswith(".") for sentence in definitions(scores).values())
    assert json.loads(json.dumps(definitions(scores))) == definitions(scores)


def test_definitions_name_only_what_is_there():
    """A run without calibration has no definition of a temperature, and one with names of its own shows stars."""
    told = definitions(scores_of("regression"))
    assert "calibration.temperature" not in told
    assert told["baselines.*.mse"] == (
        "Mean squared error, in squared units of the data; lower is better; of this rung, on the same test rows; "
        "low and high are its 95 % interval."
    )
