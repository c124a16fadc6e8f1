"""Options of `train` that reach beyond the training itself: raw texts first, trackers, strategies by flag."""

from __future__ import annotations

import json

import pytest

from bertsmith.run_folder import RunFolder
from tests.cli.finished import QUICK, flags, say
from tests.conftest import toy_rows


def test_adapt_lets_the_encoder_read_raw_texts_first(tiny_encoder, toy_csv, tmp_path, capsys):
    """The adapted encoder lies in the run, was changed, and is what the model began from; it outlives a resume."""
    from safetensors.numpy import load_file

    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(dict.fromkeys(text for text, _ in toy_rows(300, seed=4))), encoding="utf-8")
    out = tmp_path / "run"
    said = say(
        capsys, "train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(QUICK), "--adapt", texts, "--strategy",
        "head",
    )  # fmt: skip
    assert said.code == 0, said.err
    began, adapted = (load_file(each / "model.safetensors") for each in (tiny_encoder, out / "encoder"))
    ended = load_file(out / "model" / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    assert (adapted[f"bert.{name}"] != began[name]).any()
    # `head` leaves the encoder as it was given: so it was given the adapted one.
    assert (ended[f"bert.{name}"] == adapted[f"bert.{name}"]).all()
    files = json.loads((out / "manifest.json").read_text())["files"]
    assert "encoder/model.safetensors" in files


def test_a_file_of_raw_texts_that_is_not_there_is_said(tiny_encoder, toy_csv, tmp_path, capsys):
    """Before anything is read or written."""
    out = tmp_path / "run"
    said = say(
        capsys, "train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(QUICK), "--adapt", tmp_path / "no.txt"
    )
    assert said.code == 2
    assert said.err.startswith(f"ERROR  {tmp_path / 'no.txt'}: does not exist.\n")
    assert not out.exists()


def test_tensorboard_gets_the_history(tiny_encoder, toy_csv, tmp_path, capsys):
    """Read back with TensorBoard's own reader: losses of training and metrics of validation, within the run."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "run"
    said = say(
        capsys, "train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(QUICK), "--track", "tensorboard"
    )
    assert said.code == 0, said.err
    events = accumulator.EventAccumulator(str(RunFolder(out).trackers))
    events.Reload()
    assert {"train/loss", "eval/macro_f1"} <= set(events.Tags()["scalars"])
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert [each.value for each in events.Scalars("train/loss")] == pytest.approx(losses, rel=1e-5)


def test_a_tracker_that_is_not_installed_is_named(tiny_encoder, toy_csv, tmp_path, capsys):
    """Before anything is read, with the command that installs it."""
    said = say(capsys, "train", toy_csv, "--out", tmp_path / "run", "--encoder", tiny_encoder, "--track", "wandb")
    assert (said.code, said.err) == (
        2,
        "ERROR  the tracker wandb needs the package 'wandb', which is not installed.\n"
        "TIP    Install it with: pip install 'bertsmith[wandb]'\n",
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            ["--freeze", "embedings"],
            "ERROR  'freeze' must be embeddings, numbers of layers or ranges of them, separated",
        ),
        (["--freeze", "7"], "ERROR  'freeze' names layer 7, which the encoder does not have."),
        (
            ["--strategy", "two-stage", "--epochs", "1"],
            "ERROR  'epochs' must be at least 2 with the strategy two-stage",
        ),
    ],
)
def test_wrong_strategies_leave_no_run(tiny_encoder, toy_csv, tmp_path, capsys, given, expected):
    """What cannot be done is said before anything is written."""
    said = say(
        capsys, "train", toy_csv, "--out", tmp_path / "run", "--encoder", tiny_encoder, "--threads", 1, "--device", "cpu",
        *given,
    )  # fmt: skip
    assert said.code == 2
    assert expected in said.err
    assert not (tmp_path / "run").exists()


def test_strategy_flags_reach_the_recipe_and_the_lines(tiny_encoder, toy_csv, tmp_path, capsys):
    """What was chosen stands in the run's lines, in its recipe, and in the number of trained parameters."""
    out = tmp_path / "run"
    settings = {**QUICK, "epochs": 2}
    said = say(
        capsys, "train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(settings), "--strategy", "lora",
        "--lora-rank", 4, "--freeze", "0", "--class-weights", "effective-number", "--label-smoothing", 0.1,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "strategy lora · freeze 0 · class weights effective-number · label smoothing 0.1" in said.out
    scores = json.loads((out / "scores.json").read_text())
    model = scores["model"]
    assert model["trainable_parameters"] < model["parameters"] / 2
    assert 'class_weights = "effective-number"' in (out / "recipe.toml").read_text()
