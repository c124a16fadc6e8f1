"""bertsmith train --few-shot: a classifier of few rows, which plain transformers loads."""

from __future__ import annotations

import json

import pytest

import bertsmith
from tests.cli.finished import say
from tests.conftest import toy_rows

SHARES = {"shares": "50/0/0/50", "threads": 1, "device": "cpu", "precision": "fp32"}


def test_few_rows_learn_and_plain_transformers_agrees(tiny_encoder, tmp_path):
    """The model has one layer more, is a plain classifier, repeats itself, and answers in transformers as here."""
    from transformers import pipeline

    runs = [
        bertsmith.train(toy_rows(60), out=tmp_path / name, encoder=str(tiny_encoder), few_shot=True, **SHARES)
        for name in ("one", "two")
    ]
    scores = runs[0].scores
    assert scores["training"]["epochs"] == 4
    assert json.loads((runs[0].path / "model" / "config.json").read_text())["num_hidden_layers"] == 3
    same = [(run.path / "model" / "model.safetensors").read_bytes() for run in runs]
    assert same[0] == same[1]
    texts = [text for text, _ in toy_rows(12, seed=8)]
    ours = runs[0].predictor().predict(texts)
    theirs = pipeline("text-classification", model=str(runs[0].path / "model"), device="cpu")(texts)
    assert [each.label for each in ours] == [each["label"] for each in theirs]
    assert [each.score for each in ours] == pytest.approx([each["score"] for each in theirs], abs=1e-5)


def test_few_rows_are_offered_it(tiny_encoder, tmp_path, capsys):
    """Where labels have few rows the run says so; where it was taken, it does not."""
    from tests.cli.finished import QUICK, flags

    path = tmp_path / "few.csv"
    path.write_text("text,label\n" + "".join(f'"{text}",{label}\n' for text, label in toy_rows(90)), encoding="utf-8")
    said = say(capsys, "train", path, "--out", tmp_path / "one", "--encoder", tiny_encoder, *flags(QUICK))
    assert said.code == 0, said.err
    assert "few rows a label (" in said.out
    assert "): --few-shot is made for that\n" in said.out
    said = say(
        capsys, "train", path, "--out", tmp_path / "two", "--encoder", tiny_encoder, "--few-shot", "--threads", 1,
        "--device", "cpu", "--precision", "fp32",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "is made for that" not in said.out
    assert "few-shot, fp32 on cpu, 1 thread" in said.out
    assert "few_shot = true" in (tmp_path / "two" / "recipe.toml").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--strategy", "head", "--freeze", "0"],
            "ERROR  'few_shot' trains in its own way, so it cannot be combined with 'strategy' and 'freeze'.\n"
            "TIP    Leave one of them out.\n",
        ),
        (
            ["--task", "regression"],
            "ERROR  'few_shot' is for texts with named labels, and this is the task regression.\n"
            "TIP    Train without --few-shot.\n",
        ),
    ],
)
def test_what_few_shot_cannot_do_is_said_before_anything_is_written(tiny_encoder, tmp_path, capsys, given, message):
    """Other options and tasks without named labels."""
    path = tmp_path / "numbers.csv"
    rows = "".join(f'"{text}",{place % 5}\n' for place, (text, _) in enumerate(toy_rows(90)))
    path.write_text("text,label\n" + rows, encoding="utf-8")
    said = say(
        capsys, "train", path, "--out", tmp_path / "run", "--encoder", tiny_encoder, "--few-shot", "--threads", 1,
        "--device", "cpu", *given,
    )  # fmt: skip
    assert said.code == 2
    assert said.err.endswith(message)
    assert not (tmp_path / "run").exists()
