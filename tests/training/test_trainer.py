"""The Trainer against an oracle that is not ours: a plain PyTorch loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from bertsmith import encoders
from bertsmith.errors import BertsmithError, RecipeError
from bertsmith.examples import LabelSet
from bertsmith.listener import Silent
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import Rows
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.training.batches import effective_batches
from bertsmith.training.checkpoints import Checkpoints
from bertsmith.training.fit import fit
from bertsmith.training.model import build
from tests.conftest import toy_rows
from tests.training.steps import fresh_model, gradient_of_one_step, recipe, rows_of

LABELS = LabelSet(("negative", "neutral", "positive"))


def toy(folder: Path, count: int, *, seed: int = 0, weights: np.ndarray | None = None) -> Rows:
    return rows_of(folder, SingleLabel(), toy_rows(count, seed=seed), weights=weights)


def plain_loop(model, rows: Rows, settings) -> list[float]:
    """The textbook loop: AdamW, warm-up and linear decay, clipping, weighted mean loss."""
    encoded, targets, weights = rows.encoded, rows.targets, rows.weights
    spared = [name for name, _ in model.named_parameters() if "bias" in name or "LayerNorm" in name]
    groups = [
        {
            "params": [p for n, p in model.named_parameters() if n not in spared],
            "weight_decay": settings.fit.weight_decay,
        },
        {"params": [p for n, p in model.named_parameters() if n in spared], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.fit.learning_rate)
    size = settings.fit.batch_size * settings.fit.accumulate
    plan = [
        batch
        for epoch in range(settings.fit.epochs)
        for batch in effective_batches(encoded.lengths, size=size, seed=settings.run.seed, epoch=epoch)
    ]
    warm = int(np.ceil(len(plan) * settings.fit.warmup))
    losses = []
    model.train()
    for step, batch in enumerate(plan):
        rate = min(step / max(1, warm), 1.0) if step < warm else (len(plan) - step) / max(1, len(plan) - warm)
        for group in optimizer.param_groups:
            group["lr"] = settings.fit.learning_rate * rate
        padded = {name: torch.from_numpy(array) for name, array in encoded.pad_windows(batch).items()}
        logits = model(**padded).logits
        each = cross_entropy(logits, torch.from_numpy(targets[batch]), reduction="none")
        share = torch.from_numpy(weights[batch]).float()
        loss = (each * share).sum() / share.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.fit.clip)
        optimizer.step()
        losses.append(loss.item())
    return losses


def logged_losses(history: Path) -> list[float]:
    return [line["loss"] for line in map(json.loads, history.read_text().splitlines()) if "loss" in line]


@pytest.fixture
def every_step(monkeypatch):
    """Log each step, so that the whole curve can be compared."""
    monkeypatch.setattr("bertsmith.training.fit.LOG_EVERY", 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_loss_curve_equals_a_plain_pytorch_loop(tiny_encoder, tmp_path, every_step, accumulate, weighted):
    """In fp32 without dropout every step's loss is the plain loop's within 1e-5, and so are the weights."""
    weights = np.random.default_rng(0).uniform(0.1, 3, 90) if weighted else None
    rows = toy(tiny_encoder, 90, weights=weights)
    assert len(rows.encoded.window_lengths) == len(rows)
    settings = recipe(batch_size=16 // accumulate, accumulate=accumulate)
    models = [fresh_model(tiny_encoder, SingleLabel(), rows) for _ in range(2)]
    history = tmp_path / "history.jsonl"
    fit(models[0], rows, None, task=SingleLabel(), recipe=settings, run=RunFolder(tmp_path), listener=Silent())

    expected = plain_loop(models[1], rows, settings)

    assert logged_losses(history) == pytest.approx(expected, abs=1e-5)
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_last_short_batch_weighs_as_the_plain_loop_has_it(tiny_encoder, tmp_path, every_step):
    """Nine rows in effective batches of eight: the last step has one row, and its loss is that row's loss."""
    rows = toy(tiny_encoder, 9)
    settings = recipe(epochs=1, batch_size=4, accumulate=2)
    models = [fresh_model(tiny_encoder, SingleLabel(), rows) for _ in range(2)]
    history = tmp_path / "history.jsonl"
    fit(models[0], rows, None, task=SingleLabel(), recipe=settings, run=RunFolder(tmp_path), listener=Silent())
    assert logged_losses(history) == pytest.approx(plain_loop(models[1], rows, settings), abs=1e-5)


def test_a_weight_of_zero_takes_a_row_out(tiny_encoder, tmp_path):
    """A row of no weight moves nothing: the gradient is that of the others alone."""
    rows = toy(tiny_encoder, 12, weights=np.repeat([1.0, 0.0], 6))
    ours = gradient_of_one_step(tiny_encoder, SingleLabel(), rows, tmp_path, batch_size=12)
    alone = gradient_of_one_step(tiny_encoder, SingleLabel(), rows.take(np.arange(6)), tmp_path, batch_size=12)
    assert alone.abs().max() > 1e-3
    assert (ours - alone).abs().max() < 1e-6


def test_best_epoch_is_restored(tiny_encoder, tmp_path):
    """The weights at the end give the best validation metric of the history, and its checkpoint is kept."""
    from bertsmith.inference.torch_engine import logits

    rows, held = toy(tiny_encoder, 120), toy(tiny_encoder, 60, seed=9)
    torch.manual_seed(0)
    model = build(SingleLabel(), encoders.find(str(tiny_encoder)), LABELS, dropout=None)
    history = tmp_path / "history.jsonl"
    task = SingleLabel()
    fitted = fit(model, rows, held, task=task,
                 recipe=recipe(epochs=8, learning_rate=5e-3, patience=2, dropout="auto"), run=RunFolder(tmp_path),
                 listener=Silent())  # fmt: skip
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    curve = [line["eval_macro_f1"] for line in lines if "eval_macro_f1" in line]

    assert fitted.best_metric == max(curve)
    assert fitted.best_epoch == curve.index(max(curve)) + 1
    assert task.measure(held, task.probabilities(logits(model, held.encoded)))["macro_f1"] == pytest.approx(max(curve))
    kept = Checkpoints(RunFolder(tmp_path).scratch)
    assert fitted.best_epoch * 15 in kept.steps()
    assert len(kept.steps()) <= 3


def test_an_unknown_metric_is_refused(tiny_encoder, tmp_path):
    """Early stopping on a metric that does not exist would be off and say nothing."""
    from bertsmith.tasks import check_metric

    with pytest.raises(RecipeError) as caught:
        check_metric("macro_f2", SingleLabel())
    assert str(caught.value) == (
        "'metric' must be one of accuracy, macro_f1, weighted_f1, balanced_accuracy, mcc, log_loss for a single-label "
        "model. Got 'macro_f2' instead. Did you mean 'macro_f1'?"
    )


def test_a_run_that_blows_up_is_stopped_with_a_remedy(tiny_encoder, tmp_path, every_step):
    """A loss that is no number ends the run and says what to do."""
    rows = toy(tiny_encoder, 16)
    model = build(SingleLabel(), encoders.find(str(tiny_encoder)), LABELS, dropout=0.0)
    with torch.no_grad():
        model.classifier.weight.fill_(float("inf"))
    with pytest.raises(BertsmithError) as caught:
        fit(model, rows, None, task=SingleLabel(), recipe=recipe(), run=RunFolder(tmp_path), listener=Silent())
    assert str(caught.value) == (
        "training blew up: at step 1 the loss is nan and the norm of the gradient nan; both must be finite numbers. "
        "Going back and halving the learning rate, 2 times, did not help.\n  Lower --learning-rate (2e-5 is safe for most encoders), or use --precision fp32."
    )


def test_the_task_is_learned(tiny_encoder, tmp_path):
    """A random tiny encoder learns toy sentiment to at least 90 % on unseen rows."""
    rows, held = toy(tiny_encoder, 300), toy(tiny_encoder, 100, seed=5)
    model = build(SingleLabel(), encoders.find(str(tiny_encoder)), LABELS, dropout=None)
    fitted = fit(model, rows, held, task=SingleLabel(),
                 recipe=recipe(epochs=10, learning_rate=3e-3, metric="accuracy", patience=0), run=RunFolder(tmp_path),
                 listener=Silent())  # fmt: skip
    assert fitted.best_metric is not None
    assert fitted.best_metric >= 0.9


@pytest.mark.parametrize(
    ("max_length", "dropout", "inside", "around"), [(64, None, 0.1, 0.1), (128, None, 0.0, 0.1), (512, 0.2, 0.2, 0.2)]
)
def test_long_texts_have_no_dropout_inside_attention(tiny_encoder, max_length, dropout, inside, around):
    """From 128 tokens on the encoder's own dropout is kept everywhere but there; a dropout that was asked for holds."""
    encoder = encoders.find(str(tiny_encoder))
    config = build(SingleLabel(), encoder, LABELS, dropout=dropout, max_length=max_length).config
    assert (config.attention_probs_dropout_prob, config.hidden_dropout_prob) == (inside, around)
