"""The Predictor against transformers' own pipeline, and against itself in other batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import toy_rows

from bertsmith import bundle, encoders
from bertsmith.bundle import BundleInfo
from bertsmith.errors import BundleError, UsageError
from bertsmith.examples import LabelSet
from bertsmith.inference.engine import batches_by_length
from bertsmith.inference.loading import load
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.training.model import build

LABELS = LabelSet(("bad, really", 'good "quoted"', "null"))
TEXTS = [text for text, _ in toy_rows(40)] + ["good", "", "-5 stars", "Grüße 你好 😀", "bad " * 200]


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    """A bundle with random but decided weights."""
    torch.manual_seed(3)
    encoder = encoders.find(str(tiny_encoder))
    model = build(SingleLabel(), encoder, LABELS, dropout=None)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 2)
    path = tmp_path_factory.mktemp("bundle") / "model"
    info = BundleInfo(
        task="single-label", labels=LABELS.names, max_length=24, pair=False, encoder="tiny", fingerprint="0"
    )
    bundle.save(path, model, encoder.transformers_tokenizer(), info=info)
    return path


def test_plain_transformers_gives_our_labels_and_probabilities(folder):
    """pipeline("text-classification") with truncation agrees within 1e-5 on every label of every text."""
    from transformers import pipeline

    plain = pipeline("text-classification", model=str(folder), device="cpu")
    ours = load(folder, device="cpu").predict(TEXTS)
    for text, answer in zip(TEXTS, ours, strict=True):
        theirs = {each["label"]: each["score"] for each in plain(text, truncation=True, top_k=None)}
        assert theirs.keys() == answer.scores.keys()
        assert max(theirs, key=theirs.get) == answer.label == answer.guess
        assert max(abs(theirs[label] - answer.scores[label]) for label in theirs) < 1e-5
    assert plain.tokenizer.model_max_length == 24


def test_answers_do_not_depend_on_the_batch(folder):
    """Alone, in small and in large batches: the same label, scores within 1e-5, order kept."""
    predictor = load(folder, device="cpu")
    together = predictor.predict(TEXTS)
    for budget in (1, 64, 100_000):
        rows = predictor.rows(TEXTS)
        found = predictor.task.probabilities(predictor.engine.logits(rows.encoded, budget=budget))
        again = predictor.task.decode(rows, found, predictor.info.decision)
        assert [each.label for each in again] == [each.label for each in together]
        for one, other in zip(again, together, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-5)
    alone = [predictor.predict([text])[0] for text in TEXTS]
    assert [each.label for each in alone] == [each.label for each in together]


def test_scores_are_probabilities_in_the_order_of_the_labels(folder):
    """Scores add up to one, the guess is the greatest, nothing is unknown yet."""
    for answer in load(folder).predict(TEXTS):
        assert list(answer.scores) == list(LABELS.names)
        assert sum(answer.scores.values()) == pytest.approx(1)
        assert answer.score == max(answer.scores.values()) == answer.scores[answer.guess]
        assert answer.unknown is False


def test_no_texts_no_answers(folder):
    """An empty list is answered with an empty list."""
    assert load(folder).predict([]) == []


@pytest.mark.parametrize(
    ("texts", "pairs", "message"),
    [
        ("a text", None, "texts must be a list of strings. Got the string 'a text' instead.\n  Write [text]."),
        (["a", 3], None, "texts must be strings. Number 2 is 3 instead."),
        (["a"], ["b"], "this model was trained on single texts, so there are no pairs."),
    ],
)
def test_wrong_texts_are_refused(folder, texts, pairs, message):
    """What is no list of strings is named, with its place."""
    with pytest.raises(UsageError) as caught:
        load(folder).predict(texts, pairs)
    assert str(caught.value) == message


def test_a_changed_bundle_is_refused(folder, tmp_path):
    """One changed byte in any file, or a missing file, is found at load."""
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    config = copy / "config.json"
    config.write_text(config.read_text().replace("null", "nulL", 1))
    with pytest.raises(BundleError, match=r"config\.json: changed after training"):
        load(copy)
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BundleError) as caught:
        load(copy)
    assert str(caught.value) == (
        f"{copy / 'tokenizer.json'}: missing; the manifest lists it.\n  Copy the whole model folder again."
    )


def test_a_folder_without_manifest_is_no_model(tmp_path):
    """An interrupted save leaves no manifest, so it never loads."""
    with pytest.raises(BundleError) as caught:
        load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: no manifest.json, so this is no complete model of bertsmith.\n"
        "  A model is RUN/model of a run that came to its end."
    )


def test_the_bundle_holds_no_pickle(folder):
    """Weights are safetensors, everything else is text; no file is a pickle or a zip of pickles."""
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "bertsmith.json",
        "config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((folder / "config.json").read_text())["problem_type"] == "single_label_classification"


@settings(deadline=None)
@given(st.lists(st.integers(1, 600), max_size=200).map(np.array), st.integers(1, 5000))
def test_batches_hold_every_row_once_within_the_budget(lengths, budget):
    """No batch exceeds the budget unless it is a single row."""
    batches = list(batches_by_length(lengths.astype(int), budget=budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * lengths[batch].max() <= budget for batch in batches)
