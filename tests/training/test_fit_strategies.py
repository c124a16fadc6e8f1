"""Every strategy through `fit`: what it trains, that it goes on after a stop, and what a bundle of it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from bertsmith.errors import StoppedError
from bertsmith.inference.torch_engine import logits
from bertsmith.listener import Silent
from bertsmith.run_folder import RunFolder
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.training.fit import fit
from tests.conftest import toy_rows
from tests.training.steps import fresh_model, recipe, rows_of
from tests.training.test_never_breaks import stop_at

STRATEGIES: dict[str, dict[str, Any]] = {
    "head": {"strategy": "head"},
    "freeze": {"freeze": "embeddings, 0"},
    "freeze-bf16": {"freeze": "embeddings, 0", "precision": "bf16"},
    "two-stage": {"strategy": "two-stage"},
    "top-first": {"strategy": "two-stage", "unfreeze": "top-first"},
    "lora": {"strategy": "lora", "lora_rank": 4},
    "layer-decay": {"layer_decay": 0.7},
    "smoothing": {"label_smoothing": 0.1},
    "balanced": {"class_weights": "balanced"},
}


def train(folder: Path, encoder: Path, **settings: Any) -> tuple[Any, Any, Any]:
    task = SingleLabel()
    rows, held = rows_of(encoder, task, toy_rows(90)), rows_of(encoder, task, toy_rows(40, seed=3))
    model = fresh_model(encoder, task, rows)
    folder.mkdir(exist_ok=True)
    chosen = recipe(**{"epochs": 3, "patience": 0, "metric": "log_loss", **settings})
    fitted = fit(model, rows, held, task=task, recipe=chosen, run=RunFolder(folder), listener=Silent())
    return model, fitted, held


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return [line.get("loss", line.get("eval_log_loss")) for line in lines]


def moved(encoder: Path, model: Any) -> set[str]:
    task = SingleLabel()
    before = fresh_model(encoder, task, rows_of(encoder, task, toy_rows(90)))
    after = model.state_dict()
    assert {name for name, _ in before.named_parameters()} <= set(after)
    return {name for name, each in before.named_parameters() if not torch.equal(each, after[name])}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_stopped_strategy_goes_on_to_the_same_bits_and_reloads(tiny_encoder, tmp_path, monkeypatch, name):
    """With dropout, stopped in the second epoch; the model on disk is plain and answers as the one in memory."""
    settings = {**STRATEGIES[name], "dropout": 0.1}
    whole, expected, held = train(tmp_path / "whole", tiny_encoder, **settings)
    stop_at(monkeypatch, 17)
    with pytest.raises(StoppedError):
        train(tmp_path / "run", tiny_encoder, **settings)
    monkeypatch.undo()
    resumed, found, _ = train(tmp_path / "run", tiny_encoder, **settings)

    ours, theirs = dict(resumed.named_parameters()), dict(whole.named_parameters())
    assert all(torch.equal(each, ours[key]) for key, each in theirs.items())
    assert found.trained_parameters == expected.trained_parameters
    whole.save_pretrained(tmp_path / "model")
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert {key for key, _ in plain.named_parameters()} == set(theirs)
    np.testing.assert_allclose(logits(plain, held.encoded), logits(whole, held.encoded), atol=1e-5)


def test_head_trains_the_head_alone(tiny_encoder, tmp_path):
    """All layers and the embeddings are what they were; the pooler counts as part of the head."""
    model, fitted, _ = train(tmp_path / "run", tiny_encoder, strategy="head")
    assert moved(tiny_encoder, model) == {
        "classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias",
    }  # fmt: skip
    assert fitted.trained_parameters == 32 * 3 + 3 + 32 * 32 + 32


def test_frozen_parts_do_not_move(tiny_encoder, tmp_path):
    """Embeddings and the lower layer are what they were; all above has moved."""
    model, _, _ = train(tmp_path / "run", tiny_encoder, freeze="embeddings, 0")
    names = moved(tiny_encoder, model)
    assert not [name for name in names if "embeddings" in name or "layer.0." in name]
    assert {"classifier.weight", "bert.encoder.layer.1.output.dense.weight", "bert.pooler.dense.weight"} <= names


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_frozen_layers_run_once_learn_what_they_learn_run_each_epoch(tiny_encoder, tmp_path, dropout):
    """In fp32 the loss curve and the weights are the same within 1e-5, with the same dropout above."""
    settings = {"freeze": "embeddings, 0", "dropout": dropout}
    cached, _, _ = train(tmp_path / "cached", tiny_encoder, **settings)
    plain, _, _ = train(tmp_path / "plain", tiny_encoder, activation_cache="none", **settings)
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "plain"), abs=1e-5)
    ours, theirs = dict(cached.named_parameters()), dict(plain.named_parameters())
    for name, each in theirs.items():
        torch.testing.assert_close(ours[name], each, atol=1e-5, rtol=0, msg=name)
    assert not list((tmp_path / "cached").rglob("states-*/*"))


def test_a_cache_that_is_too_large_is_not_made(tiny_encoder, tmp_path):
    """Above the cap the frozen layers run in every epoch; what is learned is the same."""
    settings = {"freeze": "embeddings, 0"}
    capped, _, _ = train(tmp_path / "capped", tiny_encoder, activation_cache_gib=0.0, **settings)
    plain, _, _ = train(tmp_path / "plain", tiny_encoder, activation_cache="none", **settings)
    ours, theirs = dict(capped.named_parameters()), dict(plain.named_parameters())
    assert all(torch.equal(each, ours[name]) for name, each in theirs.items())


@pytest.mark.parametrize(
    ("unfreeze", "expected"), [("at-once", [set(), {"0", "1"}]), ("top-first", [set(), {"1"}, {"0", "1"}])]
)
def test_stages_train_what_is_due(tiny_encoder, tmp_path, unfreeze, expected):
    """One epoch the head alone; then all layers at once, or from the top. Seen after each epoch, in the weights."""
    task = SingleLabel()
    rows, held = rows_of(tiny_encoder, task, toy_rows(90)), rows_of(tiny_encoder, task, toy_rows(40, seed=3))
    model = fresh_model(tiny_encoder, task, rows)
    layers: list[set[str]] = []

    def look(epoch: int, metric: float) -> None:
        names = moved(tiny_encoder, model)
        layers.append({name.split(".")[3] for name in names if ".layer." in name})
        assert epoch == len(layers)

    chosen = recipe(epochs=len(expected), patience=0, strategy="two-stage", unfreeze=unfreeze)
    (tmp_path / "run").mkdir()
    fit(model, rows, held, task=task, recipe=chosen, run=RunFolder(tmp_path / "run"), listener=Silent(), report=look)
    assert layers == expected


def test_balanced_weights_are_those_of_scikit_learn(tiny_encoder, tmp_path):
    """The loss of a step is the weighted cross-entropy with compute_class_weight's figures."""
    from sklearn.utils.class_weight import compute_class_weight

    task = SingleLabel()
    rows = rows_of(tiny_encoder, task, toy_rows(40))
    model = fresh_model(tiny_encoder, task, rows)
    given = logits(model, rows.encoded)
    weights = compute_class_weight("balanced", classes=np.unique(rows.targets), y=rows.targets)
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(given), torch.from_numpy(rows.targets), weight=torch.from_numpy(weights).float()
    )
    chosen = recipe(epochs=1, batch_size=40, class_weights="balanced")
    (tmp_path / "run").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertsmith.training.fit.LOG_EVERY", 1)
        fit(model, rows, None, task=task, recipe=chosen, run=RunFolder(tmp_path / "run"), listener=Silent())
    assert losses(tmp_path / "run")[0] == pytest.approx(float(expected), abs=1e-6)
