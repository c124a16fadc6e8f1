"""Trainings that run out of memory, blow up, or are interrupted: what becomes of them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertsmith import encoders
from bertsmith.errors import BertsmithError, CheckpointError, StoppedError
from bertsmith.listener import Silent
from bertsmith.run_folder import RunFolder
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.training.checkpoints import Checkpoints
from bertsmith.training.fit import Fitted, fit
from bertsmith.training.model import build
from bertsmith.training.savings import state_of
from bertsmith.training.trainer import TaskTrainer, is_out_of_memory
from tests.conftest import toy_rows
from tests.training.steps import fresh_model, recipe, rows_of


class Heard(Silent):
    """A listener that keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warnings.append(text)


@pytest.fixture
def every_step(monkeypatch):
    """Log each step, so that the whole curve can be compared."""
    monkeypatch.setattr("bertsmith.training.fit.LOG_EVERY", 1)


def train(folder: Path, encoder: Path, *, count: int = 90, **settings: Any) -> tuple[Any, Fitted, Heard]:
    """Train a fresh model; the same settings learn the same."""
    task, heard = SingleLabel(), Heard()
    rows, held = rows_of(encoder, task, toy_rows(count)), rows_of(encoder, task, toy_rows(40, seed=3))
    model = fresh_model(encoder, task, rows)
    folder.mkdir(exist_ok=True)
    fitted = fit(model, rows, held, task=task, recipe=recipe(**settings), run=RunFolder(folder), listener=heard)
    return model, fitted, heard


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Memory:
    """A model's forward pass that has room for so many rows, and a backward pass that may fail as well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int, *, backward: bool = False) -> None:
        self.rows = rows
        self.refused = 0
        whole = TaskTrainer.compute_loss

        def compute(trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if len(inputs["input_ids"]) <= self.rows:
                return whole(trainer, model, inputs, *args, **kwargs)
            self.refused += 1
            if not backward:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            loss = whole(trainer, model, inputs, *args, **kwargs)
            loss.register_hook(lambda gradient: gradient * 3)
            # Some gradients are there already when the memory ends: the embeddings come last in a backward pass.
            model.get_input_embeddings().weight.register_hook(self._refuse)
            return loss

        monkeypatch.setattr(TaskTrainer, "compute_loss", compute)

    def _refuse(self, gradient: torch.Tensor) -> None:
        if self.refused:
            self.refused -= 1
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_out_of_memory_halves_the_batch_and_learns_the_same(
    tiny_encoder, tmp_path, every_step, monkeypatch, accumulate, backward
):
    """In fp32 without dropout the loss curve is the undisturbed one's within 1e-4; it is said once."""
    settings = {"batch_size": 12, "accumulate": accumulate, "epochs": 2}
    expected, _, _ = train(tmp_path / "whole", tiny_encoder, **settings)
    memory = Memory(monkeypatch, 3, backward=backward)

    found, _, heard = train(tmp_path / "short", tiny_encoder, **settings)

    if not backward:
        assert memory.refused == 2
    assert losses(tmp_path / "short") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)
    for name, each in weights(expected).items():
        torch.testing.assert_close(weights(found)[name], each, atol=1e-4, rtol=0, msg=name)
    step = f"{accumulate * 4} micro-batches a step. The effective batch of {12 * accumulate} rows"
    assert [text for text in heard.warnings if "memory" in text] == [
        f"out of memory at 12 rows a micro-batch: goes on with 6 rows, {accumulate * 2} micro-batches a step. The "
        f"effective batch of {12 * accumulate} rows and the order stay the same.",
        f"out of memory at 12 rows a micro-batch: goes on with 3 rows, {step} and the order stay the same.",
    ]


def test_a_row_that_does_not_fit_is_said(tiny_encoder, tmp_path, monkeypatch):
    """Halving ends at one row."""
    Memory(monkeypatch, 0)
    with pytest.raises(BertsmithError) as caught:
        train(tmp_path / "run", tiny_encoder, batch_size=4)
    assert str(caught.value) == (
        "out of memory for a single row.\n  A smaller --max-length, a smaller encoder, or --strategy head needs less."
    )


def test_other_errors_are_not_taken_for_a_lack_of_memory(tiny_encoder, tmp_path, monkeypatch):
    """A bug must stay a bug."""
    monkeypatch.setattr(TaskTrainer, "compute_loss", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match=r"^a bug$"):
        train(tmp_path / "run", tiny_encoder)


def test_torch_says_so_when_memory_runs_out():
    """The words of torch's own CPU allocator are known."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)


class Poison:
    """Makes the loss of some steps no number, as often as it is asked to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, *, times: int, value: float = float("nan")) -> None:
        self.left = times
        whole = TaskTrainer.compute_loss

        def compute(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            loss = whole(trainer, *args, **kwargs)
            if trainer.state.global_step == step - 1 and self.left:
                self.left -= 1
                return loss * value
            return loss

        monkeypatch.setattr(TaskTrainer, "compute_loss", compute)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_goes_back_at_half_the_rate(tiny_encoder, tmp_path, every_step, monkeypatch, value):
    """It goes on from the last checkpoint, with half the learning rate from there on, and says so."""
    Poison(monkeypatch, 17, times=1, value=value)
    model, fitted, heard = train(tmp_path / "run", tiny_encoder, epochs=2, patience=0, warmup=0.0)

    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["learning_rate"] for line in lines if "loss" in line}
    assert fitted.rate_scale == 0.5
    assert sorted(rates) == list(range(1, 25))
    for step, rate in rates.items():
        assert rate == pytest.approx(1e-3 * (1 - (step - 1) / 24) * (1 if step <= 12 else 0.5))
    shown = "nan" if np.isnan(value) else "inf"
    blown = [text for text in heard.warnings if text.startswith("training blew up")]
    assert len(blown) == 1
    assert blown[0].startswith(f"training blew up: at step 17 the loss is {shown} and the norm of the gradient ")
    assert blown[0].endswith(
        "; both must be finite numbers. It goes back to the last good state, with half the learning rate, 0.0005 "
        "(for the first time)."
    )
    assert all(torch.isfinite(each).all() for each in weights(model).values())


def test_the_third_time_it_stops(tiny_encoder, tmp_path, monkeypatch):
    """Two lower rates that did not help are enough; the message says what else to do."""
    poison = Poison(monkeypatch, 5, times=9)
    with pytest.raises(BertsmithError) as caught:
        train(tmp_path / "run", tiny_encoder)
    assert poison.left == 6
    assert str(caught.value) == (
        "training blew up: at step 5 the loss is nan and the norm of the gradient nan; both must be finite numbers. "
        "Going back and halving the learning rate, 2 times, did not help.\n"
        "  Lower --learning-rate (2e-5 is safe for most encoders), or use --precision fp32."
    )


def test_a_lower_rate_outlives_a_kill(tiny_encoder, tmp_path, monkeypatch):
    """A run that was lowered and then interrupted goes on at the lower rate, to the same weights."""
    Poison(monkeypatch, 5, times=1)
    whole, _, _ = train(tmp_path / "whole", tiny_encoder)
    Poison(monkeypatch, 5, times=1)
    stop_at(monkeypatch, 15)
    with pytest.raises(StoppedError):
        train(tmp_path / "stopped", tiny_encoder)
    monkeypatch.undo()
    resumed, fitted, _ = train(tmp_path / "stopped", tiny_encoder)
    assert fitted.rate_scale == 0.5
    assert same(weights(whole), weights(resumed))


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal in the middle of a step."""
    whole = TaskTrainer.training_step

    def stepping(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == step - 1:
            os.kill(os.getpid(), number)
        return whole(trainer, *args, **kwargs)

    monkeypatch.setattr(TaskTrainer, "training_step", stepping)


@pytest.mark.parametrize(
    ("number", "step"), [(signal.SIGTERM, 1), (signal.SIGINT, 7), (signal.SIGTERM, 12), (signal.SIGINT, 23)]
)
def test_a_signal_saves_and_leaves(tiny_encoder, tmp_path, monkeypatch, number, step):
    """The step is finished and saved; going on gives bit for bit the weights of the undisturbed run."""
    before = signal.getsignal(number)
    settings = {"epochs": 2, "dropout": 0.1, "patience": 0}
    whole, expected, _ = train(tmp_path / "whole", tiny_encoder, **settings)
    stop_at(monkeypatch, step, number)
    with pytest.raises(StoppedError) as caught:
        train(tmp_path / "run", tiny_encoder, **settings)
    monkeypatch.undo()

    assert caught.value.exit_code == 130
    assert str(caught.value) == (
        f"interrupted at step {step} of 24; everything up to there is saved.\n"
        f"  Go on with: bertsmith train --resume {tmp_path / 'run'}"
    )
    assert signal.getsignal(number) is before
    resumed, found, _ = train(tmp_path / "run", tiny_encoder, **settings)
    assert same(weights(whole), weights(resumed))
    assert (found.epochs, found.best_epoch, found.best_metric) == (
        expected.epochs, expected.best_epoch, expected.best_metric,
    )  # fmt: skip
    told = [
        [{name: value for name, value in line.items() if name != "seconds"} for line in map(json.loads, lines)]
        for lines in ((tmp_path / name / "history.jsonl").read_text().splitlines() for name in ("run", "whole"))
    ]
    assert told[0] == told[1]


def test_patience_survives_an_interruption(tiny_encoder, tmp_path, monkeypatch):
    """Early stopping counts the epochs before the interruption too."""
    settings = {"epochs": 9, "learning_rate": 1e-9, "patience": 2}
    whole, expected, _ = train(tmp_path / "whole", tiny_encoder, **settings)
    stop_at(monkeypatch, 30)
    with pytest.raises(StoppedError):
        train(tmp_path / "run", tiny_encoder, **settings)
    monkeypatch.undo()
    resumed, found, _ = train(tmp_path / "run", tiny_encoder, **settings)
    assert expected.epochs == found.epochs == 3
    assert same(weights(whole), weights(resumed))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_damaged_best_checkpoint_is_replayed(tiny_encoder, tmp_path, name):
    """What is finished but lost its best epoch is trained again from an older checkpoint, or from the start."""
    settings = {"epochs": 4, "dropout": 0.1, "patience": 0, "metric": "log_loss"}
    whole, fitted, _ = train(tmp_path / "run", tiny_encoder, **settings)
    folder = RunFolder(tmp_path / "run").scratch
    best = Checkpoints(folder).folder / f"step-{fitted.best_epoch * 12:08d}"
    flip(best / name)
    again, found, heard = train(tmp_path / "run", tiny_encoder, **settings)
    assert same(weights(whole), weights(again))
    assert found.best_epoch == fitted.best_epoch
    assert any(f"{best / name}" in text for text in heard.warnings)


def test_every_checkpoint_is_without_pickles(tiny_encoder, tmp_path):
    """Safetensors and JSON only; a pickle would run code when it is loaded."""
    train(tmp_path / "run", tiny_encoder)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".jsonl"}
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"PK")]


def test_a_full_disk_inside_an_epoch_is_said_once_and_training_goes_on(tiny_encoder, tmp_path, monkeypatch):
    """A checkpoint that is missed costs nothing but the way back."""
    whole = Checkpoints.save

    def save(checkpoints: Any, step: int, **parts: Any) -> Any:
        if step % 12:
            raise CheckpointError(f"{checkpoints.folder}: the checkpoint of step {step} cannot be saved: disk full.")
        return whole(checkpoints, step, **parts)

    expected, _, _ = train(tmp_path / "whole", tiny_encoder)
    monkeypatch.setattr(Checkpoints, "save", save)
    found, _, heard = train(tmp_path / "run", tiny_encoder, checkpoint_minutes=1e-9)
    assert same(weights(expected), weights(found))
    assert [text for text in heard.warnings if "saved" in text] == [
        f"{tmp_path}/run/checkpoints: the checkpoint of step 1 cannot be saved: disk full. Training goes on; it can be "
        "resumed from the checkpoint before."
    ]


def test_a_full_disk_at_the_end_of_an_epoch_stops_with_what_to_do(tiny_encoder, tmp_path, monkeypatch):
    """The best epoch could not be restored, so it is no use to go on."""
    whole = Checkpoints.save

    def save(checkpoints: Any, step: int, **parts: Any) -> Any:
        if step == 12:
            raise CheckpointError(f"{checkpoints.folder}: the checkpoint of step {step} cannot be saved: disk full.")
        return whole(checkpoints, step, **parts)

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(CheckpointError) as caught:
        train(tmp_path / "run", tiny_encoder)
    assert str(caught.value) == (
        f"{tmp_path}/run/checkpoints: the checkpoint of step 12 cannot be saved: disk full.\n"
        f"  Make room or mend the folder, then go on with: bertsmith train --resume {tmp_path}/run"
    )
    monkeypatch.undo()
    expected, _, _ = train(tmp_path / "whole", tiny_encoder)
    found, _, _ = train(tmp_path / "run", tiny_encoder)
    assert same(weights(expected), weights(found))


def test_another_machine_is_said(tiny_encoder, tmp_path, monkeypatch):
    """On another CPU, with other versions or threads the last bits may differ; it goes on all the same."""
    stop_at(monkeypatch, 7)
    with pytest.raises(StoppedError):
        train(tmp_path / "run", tiny_encoder)
    monkeypatch.undo()
    monkeypatch.setattr("bertsmith.training.fit.cpu_name", lambda: "Another CPU")
    start = Checkpoints(RunFolder(tmp_path / "run").scratch).verified(7)
    was = state_of(start)["machine"]["cpu"]
    _, _, heard = train(tmp_path / "run", tiny_encoder)
    assert [text for text in heard.warnings if "machine" in text] == [
        f"The run began on another machine (cpu: {was}, now Another CPU): it goes on, but may differ in the last digits "
        "from what it would have been there."
    ]


def test_the_weights_of_a_finished_training_come_from_its_checkpoint(tiny_encoder, tmp_path):
    """A run that was killed after its training does not train again."""
    whole, _, _ = train(tmp_path / "run", tiny_encoder)
    task = SingleLabel()
    rows = rows_of(tiny_encoder, task, toy_rows(90))
    torch.manual_seed(99)
    model = build(task, encoders.find(str(tiny_encoder)), rows.labels, dropout=0.0)
    before = (tmp_path / "run" / "history.jsonl").read_text()
    fit(model, rows, rows_of(tiny_encoder, task, toy_rows(40, seed=3)), task=task, recipe=recipe(),
        run=RunFolder(tmp_path / "run"), listener=Silent())  # fmt: skip
    assert same(weights(whole), weights(model))
    assert (tmp_path / "run" / "history.jsonl").read_text() == before
