"""fill: words for what is left out, with their probabilities; nothing is made up."""

from __future__ import annotations

import pytest

from bertsmith import encoders
from bertsmith.errors import EncoderError, UsageError
from bertsmith.masked.fill import Filled, _words, fill
from tests.cli.finished import finished_run

TEXT = "the film was good and [MASK] but the plot is great ."


@pytest.fixture(scope="module")
def filled(adapted) -> Filled:
    return fill(adapted.folder, [TEXT], device="cpu", threads_wanted=1)[0]


def test_words_that_were_learned_come_first(filled):
    """The adapted encoder names the word that always stood there; probabilities fall and are at most one."""
    [words] = filled.places
    assert len(words) == 5
    assert "great" in [each.word for each in words[:2]]
    probabilities = [each.probability for each in words]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1


def test_probabilities_are_those_of_transformers(adapted, filled):
    """Each word's probability is the softmax over the whole vocabulary, as transformers computes it."""
    from transformers import pipeline

    theirs = pipeline("fill-mask", model=str(adapted.folder), device="cpu", top_k=60)(TEXT)
    expected = {each["token_str"]: each["score"] for each in theirs}
    for each in filled.places[0]:
        assert each.probability == pytest.approx(expected[each.word], abs=1e-5)


def test_every_place_is_filled(adapted):
    """Two masks give two lists; a batch of texts gives the same as each text alone."""
    texts = ["the [MASK] was [MASK]", "food"]
    both = fill(adapted.folder, [texts[0], TEXT], top=2, device="cpu", threads_wanted=1)
    assert [len(each.places) for each in both] == [2, 1]
    assert [len(words) for words in both[0].places] == [2, 2]
    assert both[1] == fill(adapted.folder, [TEXT], top=2, device="cpu", threads_wanted=1)[0]


def test_only_words_are_listed(tiny_encoder):
    """Special tokens and pieces that continue a word are no answers."""
    words = _words(encoders.find(str(tiny_encoder)).tokenizer(), 10_000)
    assert {"film", "the", "."} <= set(words.values())
    assert [word for word in words.values() if word.startswith("##") or word in {"[MASK]", "[UNK]", "[PAD]"}] == []


def test_json_has_text_and_places(filled):
    """The contract for scripts."""
    shown = filled.as_json()
    assert list(shown) == ["text", "places"]
    assert shown["text"] == TEXT
    assert shown["places"][0][0] == {
        "word": filled.places[0][0].word,
        "probability": filled.places[0][0].probability,
    }


def test_the_encoders_own_mask_is_taken(adapted, tmp_path):
    """Where the mask is called <mask>, both spellings mean it, and the tip names both."""
    folder = tmp_path / "own"
    folder.mkdir()
    for file in adapted.folder.iterdir():
        content = file.read_bytes()
        if file.name.startswith("tokenizer"):
            content = content.replace(b"[MASK]", b"<mask>")
        (folder / file.name).write_bytes(content)
    first, second = fill(folder, [TEXT, TEXT.replace("[MASK]", "<mask>")], device="cpu", threads_wanted=1)
    assert first.places == second.places
    with pytest.raises(UsageError) as caught:
        fill(folder, ["good food"], device="cpu", threads_wanted=1)
    assert str(caught.value) == (
        "'good food' leaves nothing out.\n  Write [MASK] (or <mask>) for each word to fill in: \"The film was [MASK].\""
    )


def test_errors_of_fill(adapted, tiny_encoder, toy_csv):
    """What is wrong, and what to write instead; a head that has learned nothing gives no answers."""
    run = finished_run(tiny_encoder, toy_csv)
    long = "[MASK] " + "film " * 70
    tip = "  Let an encoder learn them from your texts: bertsmith adapt TEXTS --out ENCODER; then fill ENCODER."
    cases = [
        (adapted.folder, ["good food"], 5, UsageError, "'good food' leaves nothing out.\n  Write [MASK] for each word to fill in: \"The film was [MASK].\""),
        (adapted.folder, [], 5, UsageError, 'no text to fill in.\n  bertsmith fill ENCODER "The film was [MASK]."'),
        (adapted.folder, [TEXT], 0, UsageError, "'--top' must be a whole number from 1. Got 0 instead."),
        (adapted.folder, [long], 5, UsageError, f"{long[:60] + '…'!r} has 73 tokens; {adapted.folder} takes 64.\n  Shorten the text."),
        (tiny_encoder, [TEXT], 5, EncoderError, f"{tiny_encoder}: it has no masked-word head, so it cannot name words.\n{tip}"),
        (run.path, [TEXT], 5, EncoderError, f"{run.path}: its model is a classifier, which has no masked-word head, so it cannot name words.\n{tip}"),
        (run.path / "model", [TEXT], 5, EncoderError, f"{run.path / 'model'}: its model is a classifier, which has no masked-word head, so it cannot name words.\n{tip}"),
    ]  # fmt: skip
    for source, texts, top, kind, said in cases:
        with pytest.raises(kind) as caught:
            fill(source, texts, top=top, device="cpu", threads_wanted=1)
        assert str(caught.value) == said
