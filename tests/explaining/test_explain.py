"""explain: the words that decide are found, what is not read is said, what cannot be explained is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from bertsmith import api, bundle, encoders
from bertsmith.bundle import BundleInfo
from bertsmith.errors import UsageError
from bertsmith.examples import LabelSet
from bertsmith.explaining.explain import explain
from bertsmith.explaining.occlusion import MOST, log_odds, occlude
from bertsmith.inference.loading import load
from bertsmith.inference.predictor import Predictor
from bertsmith.tasks import task_named
from bertsmith.training.model import build
from tests.cli.finished import finished_run
from tests.conftest import BAD, GOOD, PLAIN, toy_rows

TELLING = {*GOOD, *BAD, *PLAIN}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv)


@pytest.fixture(scope="module")
def predictor(run):
    return load(run.path, device="cpu")


def made(tiny_encoder, folder, task: str, *, pair: bool = False, **settings) -> Predictor:
    """A model with random but decided weights."""
    torch.manual_seed(3)
    encoder, labels = encoders.find(str(tiny_encoder)), LabelSet(("bad", "good", "plain"))
    model = build(task_named(task), encoder, labels, dropout=None)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 2)
    info = BundleInfo(
        task=task, labels=labels.names, max_length=12, pair=pair, encoder="tiny", fingerprint="0", **settings
    )
    bundle.save(folder / "model", model, encoder.transformers_tokenizer(), info=info)
    return load(folder / "model", device="cpu")


@pytest.mark.parametrize("method", ["gradients", "occlusion"])
def test_the_word_that_tells_the_label_is_the_weightiest(predictor, method):
    """In toy reviews one word decides: nearly always it has the greatest weight, and speaks for the label."""
    found = [explain(predictor, text, method=method) for text, _ in toy_rows(10, seed=5)]
    tops = [each.ranked()[0] for each in found]
    hits = [each.of(top) in TELLING and top.weight > 0 for each, top in zip(found, tops, strict=True)]
    assert sum(hits) >= 9


def test_an_explanation_says_what_predict_says(predictor):
    """The most probable label and its probability; for another label, that one's."""
    answer = predictor.predict(["the soup was stale"])[0]
    found = explain(predictor, "the soup was stale")
    assert (found.label, found.texts) == (answer.guess, ("the soup was stale",))
    assert found.score == pytest.approx(answer.score, abs=1e-6)
    [logits] = predictor.logits(["the soup was stale"]).astype(np.float64)
    for place, (label, score) in enumerate(answer.scores.items()):
        other = explain(predictor, "the soup was stale", label=label)
        odds = logits[place] - logsumexp(np.delete(logits, place))
        assert (other.label, other.score) == (label, pytest.approx(score, abs=1e-6))
        assert other.completeness.value == pytest.approx(odds, rel=1e-4, abs=1e-4)
    assert [found.of(word) for word in found.words] == ["the", "soup", "was", "stale"]


def test_weights_add_up_to_the_log_odds(predictor):
    """Their sum is the difference that completeness states, but for its error."""
    found = explain(predictor, "The room, it wasn't lovely 😀!")
    exact = found.completeness
    total = sum(word.weight for word in found.words)
    assert abs(total - (exact.value - exact.base)) == pytest.approx(exact.error, abs=1e-9)
    assert exact.error <= 0.01 * max(1, abs(exact.value - exact.base))
    assert explain(predictor, "good", steps=7).completeness.steps == 7


@pytest.mark.parametrize("text", ["", "  ", "\ud800"])
@pytest.mark.parametrize("method", ["gradients", "occlusion"])
def test_texts_without_words_have_no_weights(predictor, text, method):
    """Nothing, blanks, half a character: an answer all the same, and nothing to mark but a stand-in."""
    found = explain(predictor, text, method=method)
    assert [found.of(word) for word in found.words] == ([] if not text.strip() else ["\ufffd"])
    assert found.spans() == [[word.start, word.end, word.weight] for word in found.words]


@pytest.mark.parametrize("method", ["gradients", "occlusion"])
def test_what_the_model_never_sees_is_not_read(predictor, method):
    """Words after the cut have no weight, are not among the spans, and are said to be unread."""
    text = "good " * 40 + "bad"
    found = explain(predictor, text, method=method)
    cut = int(predictor.encode([text]).cut[0])
    assert [word.read for word in found.words] == [True] * (41 - cut) + [False] * cut
    assert cut > 10
    assert {word.weight for word in found.words if not word.read} == {0.0}
    assert len(found.spans()) == 41 - cut
    assert found.as_json()["words"][-1] == {
        "part": 0, "start": 200, "end": 203, "word": "bad", "weight": 0.0, "read": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{"long": "windows", "pooling": "mean"}, {"long": "windows", "pooling": "max"}, {"long": "head-tail"}]
)
@pytest.mark.parametrize("task", ["single-label", "multi-label"])
def test_pairs_and_windows_are_explained(tiny_encoder, tmp_path, task, settings):
    """Both texts have words, all windows count, and the weights are complete."""
    model = made(tiny_encoder, tmp_path, task, pair=True, **settings)
    pair = "was it very good at the shop or on the bed"
    for label in model.labels.names:
        found = explain(model, "the film", pair=pair, label=label)
        assert [word.part for word in found.words] == [0, 0] + [1] * 11
        assert all(word.read for word in found.words) == (settings["long"] == "windows")
        assert found.score == pytest.approx(
            model.probabilities(["the film"], [pair])[0, model.labels.names.index(label)]
        )
        assert found.completeness.value == pytest.approx(np.log(found.score / (1 - found.score)), abs=1e-3)
        assert found.completeness.error <= 0.01 * max(1, abs(found.completeness.value - found.completeness.base))
        assert len(found.spans(0)) == 2


WEIGHTS = {"good": 2.0, "not": -1.5}


class Counting:
    """Answers by adding weights of words up, and counts what it is asked."""

    labels = LabelSet(("no", "yes"))

    def __init__(self) -> None:
        self.asked = 0

    def probabilities(self, texts, pairs=None):  # noqa: D102 - the engine's name
        self.asked += len(texts)
        odds = np.array([sum(WEIGHTS.get(word, 0.0) for word in text.split()) for text in texts])
        yes = 1 / (1 + np.exp(-odds))
        return np.stack([1 - yes, yes], axis=1)


def test_occlusion_needs_nothing_but_probabilities():
    """Any engine with labels and probabilities: a word's weight is how far the log odds fall without it."""
    found = explain(Counting(), "not so good", label="yes", method="occlusion")
    assert [found.of(word) for word in found.words] == ["not", "so", "good"]
    assert [word.weight for word in found.words] == pytest.approx([-1.5, 0, 2.0])
    assert found.completeness is None
    assert found.as_json()["completeness"] is None
    other = explain(Counting(), "not so good", label="no", method="occlusion")
    assert [word.weight for word in other.words] == pytest.approx([1.5, 0, -2.0])


def test_log_odds_of_the_very_sure():
    """Where labels share one whole, those of the others tell what 1 - p cannot; a sigmoid each is taken as it is."""
    sure = np.array([[1.0, 2e-20, 1e-20], [0.25, 0.5, 0.25]])
    assert log_odds(sure, 0) == pytest.approx([-np.log(3e-20), np.log(0.25 / 0.75)])
    assert log_odds(sure, 2) == pytest.approx([np.log(1e-20), np.log(0.25 / 0.75)])
    assert log_odds(np.array([[0.9, 0.8]]), 1) == pytest.approx([np.log(0.8 / 0.2)])
    assert log_odds(np.array([[0.9]]), 0) == pytest.approx([np.log(0.9 / 0.1)])


def test_long_texts_are_occluded_in_groups():
    """An explanation never asks for more than a set number of answers; neighbours share their group's fall."""
    engine = Counting()
    words = [(0, (place * 5, place * 5 + 4)) for place in range(2 * MOST)]
    found = occlude(engine, ("good " * (2 * MOST),), words, 1)
    assert engine.asked == MOST + 1
    assert found.shape == (2 * MOST,)
    few = Counting()
    assert occlude(few, ("x " * MOST + "not good",), [(0, (2 * MOST, 2 * MOST + 3))], 1) == pytest.approx([-1.5])
    assert few.asked == 2


def test_rungs_are_explained_by_occlusion(run, predictor):
    """A cheap model has probabilities, and no gradients: those are refused, not taken from another model."""
    rung = api.load(run.path, rung="tfidf")
    found = explain(rung, "the soup was stale", method="occlusion")
    assert found.of(found.ranked()[0]) == "stale"
    for engine in (rung, Counting()):
        with pytest.raises(UsageError) as caught:
            explain(engine, "good")
        assert str(caught.value) == (
            "explaining by gradients needs the fine-tuned model in torch, and this is another kind of model.\n"
            "  Use --method occlusion, which works with every model."
        )


def test_refusals(predictor, tiny_encoder, tmp_path):
    """Unknown labels and methods, pairs where there are none, other tasks: one clear error each."""
    with pytest.raises(UsageError) as caught:
        explain(predictor, "good", label="positve")
    assert str(caught.value) == (
        "unknown label 'positve'. The model's labels are negative, neutral, positive. Did you mean 'positive'?"
    )
    with pytest.raises(UsageError) as caught:
        explain(predictor, "good", method="shap")
    assert str(caught.value) == "'method' must be one of gradients, occlusion. Got 'shap' instead."
    with pytest.raises(UsageError) as caught:
        explain(predictor, "good", pair="bad")
    assert str(caught.value) == "this model was trained on single texts, so there are no pairs."
    other = dataclasses.replace(predictor, task=task_named("token-labels"))
    with pytest.raises(UsageError) as caught:
        explain(other, "good")
    assert str(caught.value) == (
        "only the labels of texts can be explained; this is a token-labels model.\n"
        "  It works for models of the tasks single-label, ordered and multi-label."
    )
