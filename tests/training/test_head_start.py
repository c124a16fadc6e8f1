"""The head start: scikit-learn's probe, written into the model, answers as scikit-learn does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bertsmith import encoders
from bertsmith.data.encode import TokenEncoder
from bertsmith.examples import LabelSet
from bertsmith.inference.head import head_layer
from bertsmith.inference.torch_engine import logits
from bertsmith.recipe import Recipe
from bertsmith.tasks import Rows
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.head_start import STRENGTHS, ProbeRows, probe_weights, start_head
from bertsmith.training.model import build
from tests.conftest import toy_rows
from tests.tasks.made import encoded_of, examples_of

LABELS = LabelSet(("negative", "neutral", "positive"))


def blobs(classes: int, *, rows: int = 200, width: int = 6, constant: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Features of very unequal scale and place, one of them constant if wanted, and their classes."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, classes, rows)
    centres = generator.normal(size=(classes, width))
    features = centres[targets] + generator.normal(size=(rows, width))
    features = features * np.array([1, 10, 0.1, 3, 0 if constant else 1, 1]) + np.array([0, 50, -3, 2, 1, 0])
    return features.astype(np.float32), targets


def probe(features, targets, weights=None) -> ProbeRows:
    """Rows of classes that are told by their numbers; the head's input is given."""
    count = len(targets)
    examples = examples_of(label=pa.array([str(target) for target in targets], pa.string()))
    weights = np.ones(count) if weights is None else weights
    labels = LabelSet(tuple(str(target) for target in range(int(max(targets, default=1)) + 1)))
    return ProbeRows(Rows(examples, encoded_of(count), targets, weights, labels), features)


def oracle(features, targets, *, intercept: bool = True, weights=None, strength: float = STRENGTHS[0]):
    scaler = StandardScaler(with_mean=intercept)
    model = make_pipeline(scaler, LogisticRegression(C=strength, max_iter=1000, fit_intercept=intercept))
    return model.fit(features, targets, logisticregression__sample_weight=weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_probe_is_scikit_learns_on_raw_features(classes, intercept, weighted):
    """Softmax of the linear layer on unscaled features is the probability of a scaler and a logistic regression.

    A head without bias answers the same wherever its input has a direction that is the same on every row.
    """
    features, targets = blobs(classes)
    weights = np.random.default_rng(1).uniform(0, 3, len(targets)) if weighted else None
    weight, bias = probe_weights(
        SingleLabel(), probe(features, targets, weights), outputs=classes, intercept=intercept, seed=0
    )
    expected = oracle(features, targets, weights=weights).predict_proba(features)
    found = softmax(features.astype(np.float64) @ weight.T.astype(np.float64) + bias, axis=1)
    assert found == pytest.approx(expected, abs=5e-3)
    assert weight.dtype == bias.dtype == np.float32
    assert intercept or not bias.any()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_head_without_bias_comes_near_where_nothing_is_constant(classes):
    """Without any constant direction it loses little against scikit-learn's model that was fitted without intercept."""
    features, targets = blobs(classes, constant=False)
    weight, bias = probe_weights(SingleLabel(), probe(features, targets), outputs=classes, intercept=False, seed=0)
    found = softmax(features.astype(np.float64) @ weight.T.astype(np.float64), axis=1)
    best = oracle(features, targets, intercept=False).predict_proba(features)
    assert log_loss(targets, found) < 1.02 * log_loss(targets, best)
    assert not bias.any()


def test_a_class_without_training_rows_is_never_the_answer():
    """Its weights are zero and its bias that of the least probable class; the others answer as scikit-learn does."""
    features, targets = blobs(3)
    targets = np.array([0, 2, 3])[targets]
    weight, bias = probe_weights(SingleLabel(), probe(features, targets), outputs=5, intercept=True, seed=0)
    model = oracle(features, targets)
    scores = features.astype(np.float64) @ weight.T.astype(np.float64) + bias
    assert not weight[[1, 4]].any()
    assert bias[[1, 4]] == pytest.approx(model[-1].intercept_.min(), abs=1e-3)
    seen = scores[:, [0, 2, 3]]
    assert softmax(seen, axis=1) == pytest.approx(model.predict_proba(features), abs=5e-3)


def test_a_row_of_weight_two_is_two_rows():
    """Weights mean what they say."""
    features, targets = blobs(3, rows=60)
    weights = np.ones(60)
    weights[:20] = 2
    doubled = np.concatenate([features, features[:20]]), np.concatenate([targets, targets[:20]])
    scale = oracle(features, targets)[0]
    kept = LogisticRegression(C=STRENGTHS[0], max_iter=1000).fit(scale.transform(doubled[0]), doubled[1])
    weight, bias = probe_weights(SingleLabel(), probe(features, targets, weights), outputs=3, intercept=True, seed=0)
    found = softmax(features.astype(np.float64) @ weight.T.astype(np.float64) + bias, axis=1)
    assert found == pytest.approx(kept.predict_proba(scale.transform(features)), abs=5e-3)


@pytest.fixture(scope="module")
def started(tiny_encoder):
    """A model, its rows and their frozen features."""
    encoder = encoders.find(str(tiny_encoder))
    torch.manual_seed(0)
    model = build(SingleLabel(), encoder, LABELS, dropout=None)
    rows = toy_rows(150)
    encoded = TokenEncoder(encoder.tokenizer(), 32, 0).encode([text for text, _ in rows])
    targets = LABELS.ids([label for _, label in rows])
    return model, encoded, targets, frozen_features(model, encoded, outputs=3)


def test_the_models_first_answers_are_the_probes(started):
    """Before any training the logits give the probabilities of the probe on the head's own input."""
    model, encoded, targets, features = started
    nothing = probe(features.head[:0], targets[:0])
    start_head(model, SingleLabel(), probe(features.head, targets), nothing, Recipe.of(seed=3))
    expected = oracle(features.head, targets).predict_proba(features.head)
    assert softmax(logits(model, encoded).astype(np.float64), axis=1) == pytest.approx(expected, abs=5e-3)
    assert (expected.argmax(1) == targets).mean() > 0.4


def test_a_random_start_leaves_the_head_alone(started):
    """--head-start random changes no weight."""
    model, _, targets, features = started
    before = head_layer(model, 3).weight.detach().clone()
    rows = probe(features.head, targets)
    start_head(model, SingleLabel(), rows, rows, Recipe.of(head_start="random"))
    assert torch.equal(head_layer(model, 3).weight, before)


@pytest.mark.parametrize("noise", [0.0, 0.9])
def test_validation_rows_choose_how_sure_the_probe_is(started, noise):
    """Of the strengths the one with scikit-learn's least log loss on the validation rows is taken, at its own answers."""
    model, encoded, targets, features = started
    generator = np.random.default_rng(5)
    learned, held = np.arange(100), np.arange(100, 150)
    golds = np.where(generator.random(150) < noise, generator.integers(0, 3, 150), targets)
    probes = {
        strength: oracle(features.head[learned], golds[learned], strength=strength).predict_proba(features.head)
        for strength in STRENGTHS
    }
    losses = {strength: log_loss(golds[held], answers[held]) for strength, answers in probes.items()}
    best = min(losses, key=losses.__getitem__)
    assert max(losses.values()) > min(losses.values()) + 1e-3
    start_head(
        model, SingleLabel(), probe(features.head[learned], golds[learned]), probe(features.head[held], golds[held]),
        Recipe.of(seed=3),
    )  # fmt: skip
    assert softmax(logits(model, encoded).astype(np.float64), axis=1) == pytest.approx(probes[best], abs=5e-3)
