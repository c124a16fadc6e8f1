"""bertsmith fill: words for people, JSON for scripts."""

from __future__ import annotations

import json

import pytest

from bertsmith.masked.adapt import Settings, adapt
from bertsmith.masked.fill import fill
from tests.cli.finished import say
from tests.masked.conftest import SETTINGS, toy_texts

TEXTS = ["the film was [MASK] and great", "the [MASK] was  [MASK]"]


@pytest.fixture(scope="module")
def encoder(tiny_encoder, tmp_path_factory):
    settings = Settings(**{**SETTINGS, "encoder": str(tiny_encoder), "epochs": 1})
    return adapt(toy_texts(40), out=tmp_path_factory.mktemp("fill") / "ours", settings=settings, device="cpu").folder


@pytest.fixture(scope="module")
def answers(encoder):
    return fill(encoder, TEXTS, top=2, device="cpu")


def test_words_for_people(capsys, encoder, answers):
    """A line a word: probability, word; several texts and several places have headings."""
    said = say(capsys, "fill", encoder, *TEXTS, "--top", "2", "--device", "cpu")
    first, second = (
        [[f"  {each.probability:.3f}  {each.word}\n" for each in place] for place in one.places] for one in answers
    )
    expected = [
        f"{TEXTS[0]}\n",
        *first[0],
        "the [MASK] was [MASK]\n",
        "[MASK] 1\n",
        *second[0],
        "[MASK] 2\n",
        *second[1],
    ]
    assert (said.code, said.out, said.err) == (0, "".join(expected), "")
    alone = say(capsys, "fill", encoder, TEXTS[0], "--top", "2", "--device", "cpu")
    assert alone.out == "".join(first[0])


def test_json_is_one_object_a_line(capsys, encoder, answers):
    """An object has text and places, each a list of word and probability."""
    said = say(capsys, "fill", encoder, *TEXTS, "--top", "2", "--json", "--device", "cpu")
    assert [json.loads(line) for line in said.out.splitlines()] == [each.as_json() for each in answers]


def test_errors(capsys, encoder):
    """A text without a mask is refused with what to write."""
    said = say(capsys, "fill", encoder, "good food")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "ERROR  'good food' leaves nothing out.\n"
        'TIP    Write [MASK] for each word to fill in: "The film was [MASK]."\n'
    )
