"""bertsmith explain: marks for people, JSON for scripts, a page for both."""

from __future__ import annotations

import json

import pytest

from bertsmith.explaining.explain import explain
from bertsmith.explaining.marked import TERMINAL_LEGENDS, marked_page, marked_text, weight_lines
from bertsmith.inference.loading import load
from tests.cli.finished import finished_run, say

TEXT = "The soup wasn't stale, it was great!"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv).path


@pytest.fixture(scope="module")
def predictor(run):
    return load(run, device="cpu")


def explained(capsys, *arguments):
    return say(capsys, "explain", *arguments, "--device", "cpu", "--threads", "1")


def test_marks_for_people(capsys, run, predictor):
    """The answer, the marked text, the weightiest words, and how exact the weights are."""
    wanted = explain(predictor, TEXT)
    said = explained(capsys, run, TEXT)
    lines = "".join(f"  {line}\n" for line in weight_lines(wanted))
    marked = marked_text(wanted, colour=False).plain
    answer = predictor.predict([TEXT])[0]
    assert (said.code, said.err) == (0, "")
    legend = "[Words] speak for the label, {words} against it; the more brackets, the stronger."
    assert said.out == f"{answer.line}\n\n{marked}\n\n{lines}\n{legend}\n{wanted.sentence}\n"


def test_colours_have_a_legend(capsys, run, monkeypatch):
    """On a terminal with colours the line names these; without, the brackets."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    said = explained(capsys, run, TEXT, "--method", "occlusion")
    legend = "Green words speak for the label, magenta ones against it, the stronger the fuller."
    assert said.out.splitlines()[-2] == legend == TERMINAL_LEGENDS[True]
    monkeypatch.setenv("NO_COLOR", "1")
    said = explained(capsys, run, TEXT, "--method", "occlusion")
    assert said.out.splitlines()[-2] == TERMINAL_LEGENDS[False]


def test_another_label_is_named(capsys, run, predictor):
    """With --label the second line says what is explained; the first stays the answer."""
    answer = predictor.predict([TEXT])[0]
    label = min(answer.scores, key=answer.scores.get)
    said = explained(capsys, run, TEXT, "--label", label, "--method", "occlusion")
    assert said.out.splitlines()[:3] == [answer.line, f"explained: {label}  {answer.scores[label]:.3f}", ""]
    assert said.out.endswith(f"\nA weight is how far the log odds of '{label}' fall without the word.\n")


def test_json_is_the_answer_and_the_explanation(capsys, run, predictor):
    """One object: text, what predict says of it, and the words with their characters and weights."""
    said = explained(capsys, run, TEXT, "--json")
    found = json.loads(said.out)
    answer, wanted = predictor.predict([TEXT])[0], explain(predictor, TEXT)
    for key, value in {"text": TEXT, **answer.as_json(), **wanted.as_json()}.items():
        assert found.pop(key) == (
            pytest.approx(value, abs=1e-5) if isinstance(value, float) else json.loads(json.dumps(value))
        )
    assert found == {}
    assert [TEXT[each["start"] : each["end"]] for each in wanted.as_json()["words"]] == [
        "The", "soup", "wasn't", "stale", ",", "it", "was", "great", "!",
    ]  # fmt: skip


def test_a_page_is_written(capsys, run, predictor, tmp_path):
    """--html writes the page as well, whole."""
    said = explained(capsys, run, "-5 <b>stars</b>", "--html", tmp_path / "why.html")
    assert (said.code, said.err) == (0, "")
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert page == marked_page(explain(predictor, "-5 <b>stars</b>"))


def test_a_cheap_rung_is_explained_by_occlusion(capsys, run):
    """--rung explains a model of the ladder; by gradients it cannot be."""
    said = explained(capsys, run, "the soup was stale", "--rung", "tfidf", "--method", "occlusion", "--json")
    words = json.loads(said.out)["words"]
    assert max(words, key=lambda each: abs(each["weight"]))["word"] == "stale"
    said = explained(capsys, run, "good", "--rung", "tfidf")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "ERROR  explaining by gradients needs the fine-tuned model in torch, and this is another kind of model.\n"
        "TIP    Use --method occlusion, which works with every model.\n"
    )


def test_a_run_that_is_not_there(capsys, tmp_path):
    """Said before anything is loaded."""
    said = explained(capsys, tmp_path / "none", "good")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"ERROR  {tmp_path / 'none'}: no such run folder.\nTIP    A run is what `bertsmith train DATA --out RUN` makes.\n"
    )
