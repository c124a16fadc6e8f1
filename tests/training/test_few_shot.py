"""Few labels: the head is scikit-learn's, names help only where they tell something, and the layers learn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from bertsmith import encoders
from bertsmith.data.encode import TokenEncoder
from bertsmith.inference.torch_engine import logits
from bertsmith.tasks.multi_label import MultiLabel
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.training import few_shot
from bertsmith.training.few_shot import learn_few, name_texts
from bertsmith.training.mean_layer import passing_parameters
from tests.conftest import toy_rows
from tests.training.steps import fresh_model, rows_of

TASK = SingleLabel()


@pytest.fixture(scope="module")
def toys(tiny_encoder):
    """36 rows to learn from and 120 to be asked."""
    data = [{"text": text, "label": label} for text, label in toy_rows(156, seed=3)]
    every = rows_of(tiny_encoder, TASK, data)
    return every.take(np.arange(36)), every.take(np.arange(36, 156))


def names_of(folder, texts):
    """Encode texts as label names."""
    return TokenEncoder(encoders.find(str(folder)).tokenizer(), 32, 0).encode(texts)


def means_of(folder, encoded):
    """Compute the mean over each text's tokens with plain transformers, a text at a time, and norm it."""
    model = fresh_model(folder, TASK, _rows(folder)).eval()
    with torch.no_grad():
        found = [
            model.base_model(input_ids=torch.from_numpy(encoded.pad([row])["input_ids"]))[0][0].mean(0)
            for row in range(len(encoded))
        ]
    means = torch.stack(found).double().numpy()
    return _normed(means)


def _rows(folder):
    return rows_of(folder, TASK, [{"text": "a", "label": label} for label in ("negative", "neutral", "positive")])


def _normed(rows):
    rows = rows - rows.mean(1, keepdims=True)
    return rows / rows.std(1, keepdims=True)


def features_of(folder, *, rows, asked):
    """Compute what the head should get: means, centred on those of `rows`, normed again, through tanh."""
    centre = means_of(folder, rows).mean(0)
    return np.tanh(0.1 * _normed(means_of(folder, asked) - centre))


@pytest.mark.parametrize("counts", [0.0, 3.0])
def test_the_head_is_scikit_learns_on_centred_means(counts, tiny_encoder, toys, monkeypatch):
    """With the layers left alone, answers are those of a logistic regression on rows and names of length 1."""
    monkeypatch.setattr(few_shot, "NAME_WEIGHTS", (counts,))
    rows, held = toys
    names = names_of(tiny_encoder, ["awful", "plain", "good"])
    model = fresh_model(tiny_encoder, TASK, rows)
    found = learn_few(model, rows, task=TASK, seed=0, names=names, epochs=0)
    assert (found.mean_layer, found.name_weight, found.steps) == (True, counts, 0)
    learned, named, asked = (
        features_of(tiny_encoder, rows=rows.encoded, asked=each) for each in (rows.encoded, names, held.encoded)
    )
    length = np.linalg.norm(np.concatenate([learned, named]), axis=1).mean()
    weights = np.concatenate([np.ones(36), np.full(3, counts)])
    kept = weights > 0
    inputs, targets = (
        np.concatenate([learned, named])[kept] / length,
        np.concatenate([rows.targets, np.arange(3)])[kept],
    )
    oracle = LogisticRegression(max_iter=1000).fit(inputs, targets, sample_weight=weights[kept])
    expected = oracle.predict_proba(asked / length)
    assert softmax(logits(model, held.encoded).astype(float), axis=1) == pytest.approx(expected, abs=0.01)
    assert expected.max(axis=1).std() > 0.01


def test_names_count_where_they_tell_something(tiny_encoder, toys):
    """Names that are texts of their own label count for much, those of another label for nothing."""
    rows, held = toys
    shown = [held.take(np.flatnonzero(held.targets == label)).examples.column("text").to_pylist() for label in range(3)]
    right = [". ".join(texts[:2]) for texts in shown]
    chosen = []
    for texts in (right, right[1:] + right[:1]):
        model = fresh_model(tiny_encoder, TASK, rows)
        names = names_of(tiny_encoder, texts)
        chosen.append(learn_few(model, rows, task=TASK, seed=0, names=names, epochs=0).name_weight)
    assert chosen[0] > 0
    assert chosen[1] == 0


def test_the_layers_learn(tiny_encoder, monkeypatch):
    """After training the layers, held-out rows are answered better than by the frozen ones."""
    monkeypatch.setattr(few_shot, "RATE", 4e-3)
    data = [{"text": text, "label": label} for text, label in toy_rows(320, seed=3)]
    every = rows_of(tiny_encoder, TASK, data)
    rows, held = every.take(np.arange(200)), every.take(np.arange(200, 320))
    right = []
    for epochs in (0, 8):
        model = fresh_model(tiny_encoder, TASK, rows)
        found = learn_few(model, rows, task=TASK, seed=0, epochs=epochs)
        assert found.steps == 13 * epochs
        right.append((logits(model, held.encoded).argmax(1) == held.targets).mean())
    assert right[1] > right[0] + 0.05


def test_the_same_seed_gives_the_same_weights(tiny_encoder, toys):
    """A run repeats bit for bit; another seed gives other weights."""
    rows, _ = toys
    states = []
    for seed in (1, 1, 2):
        model = fresh_model(tiny_encoder, TASK, rows)
        learn_few(model, rows, task=TASK, seed=seed, names=names_of(tiny_encoder, name_texts(rows.labels.names)))
        states.append(torch.cat([each.flatten() for each in model.state_dict().values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_words_and_the_mean_layer_stay_as_they_are(tiny_encoder, toys):
    """Training changes all layers and the head, but for embeddings and what hands the mean on; all may learn again."""
    rows, _ = toys
    model = fresh_model(tiny_encoder, TASK, rows)
    model.bert.encoder.layer[0].requires_grad_(False)
    learn_few(model, rows, task=TASK, seed=0, epochs=0)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    passing = {id(each) for each in passing_parameters(model)}
    few = few_shot._Few(model, TASK, rows, len(rows), 0, True)
    few_shot._train(few, np.ones(36), precision="fp32", epochs=1, done=None)
    moved = {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}
    # Keys' biases have no gradient but for rounding: softmax does not see them.
    expected = {
        name
        for name, each in model.named_parameters()
        if id(each) not in passing and "embeddings.word" not in name and "encoder.layer.0" not in name
        and not name.endswith("key.bias")
    }  # fmt: skip
    assert moved - {name for name in moved if name.endswith("key.bias")} == expected
    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if "encoder.layer.0" in name}
    assert all(each.grad is None for each in model.parameters())


def test_the_head_starts_where_rows_of_weight_two_are_two_rows(tiny_encoder, toys):
    """Weights mean what they say."""
    rows, held = toys
    doubled = rows.take(np.concatenate([np.arange(36), np.arange(12)]))
    weighted = type(rows)(
        rows.examples, rows.encoded, rows.targets, np.where(np.arange(36) < 12, 2.0, 1.0), rows.labels
    )
    found = []
    for each in (doubled, weighted):
        model = fresh_model(tiny_encoder, TASK, rows)
        few = few_shot._Few(model, TASK, each, len(each), 0, False)
        features = few.features()
        few.write(few.fitted(features, few.counting(0.0)), features)
        found.append(softmax(logits(model, held.encoded).astype(float), axis=1))
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_several_labels_learn_as_well(tiny_encoder):
    """Each label is a regression of its own; names are rows with one label."""
    task = MultiLabel()
    families = {"positive": "good", "negative": "awful"}
    data = [
        {"text": text, "labels": [label, *(["long"] if len(text) > 40 else [])]}
        for text, label in toy_rows(60, seed=5)
        if label in families
    ]
    rows = rows_of(tiny_encoder, task, data)
    model = fresh_model(tiny_encoder, task, rows)
    names = names_of(tiny_encoder, name_texts(rows.labels.names))
    found = learn_few(model, rows, task=task, seed=0, names=names, epochs=2)
    answers = expit(logits(model, rows.encoded)) > 0.5
    assert found.mean_layer
    assert (answers == rows.targets).mean() > 0.7


def test_long_texts_in_windows_learn_too(tiny_encoder):
    """The windows of a text count as one row."""
    data = [{"text": f"{text} . " * 4, "label": label} for text, label in toy_rows(24, seed=7)]
    rows = rows_of(tiny_encoder, TASK, data)
    tokens = TokenEncoder(encoders.find(str(tiny_encoder)).tokenizer(), 16, 0, long="windows")
    windows = type(rows)(
        rows.examples, tokens.encode(rows.examples.column("text")), rows.targets, rows.weights, rows.labels
    )
    assert len(windows.encoded.window_lengths) > 48
    model = fresh_model(tiny_encoder, TASK, rows)
    learn_few(model, windows, task=TASK, seed=0, epochs=2, names=names_of(tiny_encoder, ["bad", "fine", "good"]))
    assert (logits(model, windows.encoded).argmax(1) == windows.targets).mean() > 0.5


@pytest.mark.parametrize(
    ("name", "text"),
    [("card_arrival", "card arrival"), ("Sci/Tech", "Sci Tech"), ("not-found", "not found"), ("notFound", "not Found"),
     ("0", "0"), ("!", "!"), ("été_chaud", "été chaud")],
)  # fmt: skip
def test_names_are_read_as_words(name, text):
    """What joins words is taken out; a name without letters and digits stays as it is."""
    assert name_texts([name]) == [text]


def test_importing_it_loads_no_torch():
    """Torch is loaded when something is trained, not before."""
    script = "import sys, bertsmith.training.few_shot; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
