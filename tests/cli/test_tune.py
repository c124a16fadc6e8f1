"""bertsmith tune: a line a trial and a table for people, JSON for scripts, and errors that say what to do."""

from __future__ import annotations

import json

import pytest

from tests.cli.finished import flags, say
from tests.tuning.fakes import FakeFit

GIVEN = {"device": "cpu", "threads": 1, "precision": "fp32", "max_length": 32, "epochs": 2, "trials": 3}


@pytest.fixture
def fake(monkeypatch):
    found = FakeFit()
    monkeypatch.setattr("bertsmith.training.fit.fit", found)
    return found


def test_people_read_trials_and_the_best_of_them(capsys, tiny_encoder, toy_csv, tmp_path, fake):
    """A line for each trial, a table with the best first, and the command that trains with it."""
    out = tmp_path / "study"
    said = say(capsys, "tune", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(GIVEN))
    assert said.code == 0
    told, _, table = said.out.partition("\n\n")
    assert told.count("\ntrial     ") == 3
    assert "trial     1 of 3: macro_f1 0.8020 at epoch 2, rate 0.0001, batch 32, nothing frozen  (" in told
    head, *rows = table.partition("\n\n")[0].splitlines()
    assert head.split() == ["trial", "macro_f1", "epoch", "time", "learning", "rate", "batch", "size", "freeze"]
    values = [float(row.split()[1]) for row in rows]
    assert len(values) == 3
    assert values == sorted(values, reverse=True)
    assert said.out.endswith(f"\nTrain with the best: bertsmith train --recipe {out / 'recipe.toml'} --out RUN\n")


def test_json_is_what_the_files_hold(capsys, tiny_encoder, toy_csv, tmp_path, fake):
    """--json prints one object: the trials of trials.jsonl, the best one, and where the recipe is."""
    out = tmp_path / "study"
    said = say(capsys, "tune", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(GIVEN), "--json")
    assert said.code == 0
    shown = json.loads(said.out)
    lines = (out / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    assert shown["trials"] == [json.loads(line) for line in lines]
    assert shown["best"] == max(shown["trials"], key=lambda each: each["value"])
    assert (shown["folder"], shown["recipe"], shown["metric"]) == (str(out), str(out / "recipe.toml"), "macro_f1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "ERROR  --out is missing: it says where the study is written.\nTIP    bertsmith tune DATA --out DIR\n"),
        (["--out", "b"], "ERROR  DATA is missing: a file or folder to learn from.\nTIP    bertsmith tune DATA --out DIR\n"),
        (
            ["a.csv", "--out", "b", "--encoder", "minilm", "--encoders", "minilm,other"],
            "ERROR  --encoder and --encoders exclude each other.\nTIP    --encoders A,B chooses between A and B.\n",
        ),
        (
            ["a.csv", "--out", "b", "--trials", "0", "--timeout", "-1"],
            "ERROR  '--trials' must be a whole number of at least 1. Got 0 instead.\n"
            "       '--timeout' must be a number of seconds above 0. Got -1 instead.\n",
        ),
        (
            ["a.csv", "--out", "b", "--epochs", "no"],
            "ERROR  '--epochs' must be a whole number of at least 1, or auto. Got 'no' instead. 3 is a usual value.\n",
        ),
    ],
)  # fmt: skip
def test_errors(capsys, arguments, said):
    """Wrong usage is said in one line, with exit code 2."""
    found = say(capsys, "tune", *arguments)
    assert (found.code, found.out, found.err) == (2, "", said)
