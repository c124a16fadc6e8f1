"""One training step of every task: accumulation changes nothing, and the loss is the one of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from bertsmith.inference.outputs import head_outputs, read_out, unit_windows
from bertsmith.inference.torch_engine import known_inputs
from bertsmith.tasks import Rows, Task, task_named
from tests import task_rows
from tests.training.steps import fresh_model, gradient_of_one_step, rows_of


class Case(NamedTuple):
    """A task, toy rows for it, and how they are read."""

    task: str
    toy: Callable[..., list[dict[str, Any]]]
    max_length: int = 32
    columns: Mapping[str, Any] = MappingProxyType({})


def named_stars(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    return [{**row, "label": f"star{row['label']}"} for row in task_rows.stars(count, seed=seed)]


CASES = {
    "single-label": Case("single-label", named_stars),
    "soft": Case("single-label", task_rows.annotated, columns={"annotators": "ann,bob,cid"}),
    "multi-label": Case("multi-label", task_rows.multi_label),
    "ordered": Case("ordered", task_rows.stars),
    "regression": Case("regression", task_rows.numbers),
    # Short windows: most rows have several.
    "token-labels": Case("token-labels", task_rows.tagged, max_length=8),
    "question-answering": Case("question-answering", task_rows.questions, max_length=16),
}


def prepared(folder, case: Case, count: int, *, weights=None) -> tuple[Task, Rows]:
    task = task_named(case.task)
    rows = rows_of(folder, task, case.toy(count, seed=5), weights=weights, max_length=case.max_length, **case.columns)
    return task, rows


@pytest.mark.parametrize("name", CASES)
def test_accumulating_four_is_a_batch_of_four_times_the_size(tiny_encoder, tmp_path, name):
    """One step's gradient is the same within 1e-6 of the largest, with unequal micro-batches and unequal weights."""
    weights = np.random.default_rng(1).uniform(0, 2, 30)
    task, rows = prepared(tiny_encoder, CASES[name], 30, weights=weights)
    whole = gradient_of_one_step(tiny_encoder, task, rows, tmp_path, batch_size=32, accumulate=1)
    cut = gradient_of_one_step(tiny_encoder, task, rows, tmp_path, batch_size=8, accumulate=4)
    assert whole.abs().max() > 1e-3
    assert (whole - cut).abs().max() < 1e-6 * max(1.0, float(whole.abs().max()))


@pytest.mark.parametrize("name", ["token-labels", "question-answering"])
def test_the_toy_rows_have_several_windows(tiny_encoder, name):
    """The cases above would not show otherwise whether windows are counted right."""
    _, rows = prepared(tiny_encoder, CASES[name], 30)
    assert np.bincount(rows.encoded.owners).max() > 1


@pytest.mark.parametrize("name", CASES)
def test_the_loss_is_the_one_of_transformers(tiny_encoder, name):
    """On a whole batch of rows that weigh alike, sum over denominator is what transformers computes from labels."""
    task, rows = prepared(tiny_encoder, CASES[name], 24)
    model = fresh_model(tiny_encoder, task, rows).eval()
    batch = {part: torch.from_numpy(array) for part, array in rows.encoded.pad(np.arange(24)).items()}
    inputs = {part: batch[part] for part in known_inputs(model)}
    with torch.no_grad():
        outputs = head_outputs(model(**inputs))
        logits = read_out(outputs, batch, rows=24, pooling="mean")
        weights = torch.from_numpy(rows.unit_weights).float()
        summed = task.loss(logits, torch.tensor(rows.targets), weights, unit_windows(batch))
        ours = float(summed) / task.denominator(rows.targets, rows.unit_weights)
        theirs = float(ORACLES[name](model, inputs, batch, rows))
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    assert ours > 1e-2


def of_labels(model, inputs, batch, rows) -> torch.Tensor:
    """Text tasks: the model's own loss from `labels`."""
    targets = torch.tensor(rows.targets)
    return model(**inputs, labels=targets.float() if targets.is_floating_point() else targets).loss


def of_shares(model, inputs, batch, rows) -> torch.Tensor:
    """Soft labels, which the model takes none of: its loss for each label alone, by the label's share."""
    assert len(set(rows.targets.ravel().tolist())) > 2
    total = torch.zeros(())
    for row, shares in enumerate(rows.targets):
        alone = {part: array[row : row + 1] for part, array in inputs.items()}
        for label in np.flatnonzero(shares):
            total += float(shares[label]) * model(**alone, labels=torch.tensor([int(label)])).loss
    return total / len(rows)


def of_tags(model, inputs, batch, rows) -> torch.Tensor:
    """Tags at the first token of each word, -100 elsewhere, as in transformers' own examples."""
    labels = torch.full_like(inputs["input_ids"], -100)
    labels[batch["pick_window"], batch["pick_token"]] = torch.from_numpy(rows.targets)
    return model(**inputs, labels=labels).loss


def of_positions(model, inputs, batch, rows) -> torch.Tensor:
    """The model's own loss from positions, where tokens that can be no answer have no chance."""
    window, token = batch["pick_window"], batch["pick_token"]
    positions = {}
    for place, side in enumerate(("start_positions", "end_positions")):
        gold = np.flatnonzero(rows.targets[:, place])
        assert window[gold].tolist() == list(range(len(inputs["input_ids"])))
        positions[side] = token[gold]
    found = model(**inputs)
    masked = []
    for scores in (found.start_logits, found.end_logits):
        kept = torch.full_like(scores, -1e4)
        kept[window, token] = scores[window, token]
        masked.append(kept)
    return model.loss_function(*masked, **positions)


ORACLES = {
    **dict.fromkeys(CASES, of_labels),
    "soft": of_shares,
    "token-labels": of_tags,
    "question-answering": of_positions,
}
