"""The cheap rungs can be used, and answer as they were scored."""

from __future__ import annotations

import csv
import json

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import bertsmith
from bertsmith.errors import UsageError
from tests.cli.finished import finished_run, say


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv)


@pytest.mark.parametrize("name", ["majority", "tfidf", "frozen"])
def test_a_rung_answers_as_it_was_scored(run, name):
    """Loaded again, its accuracy on the test rows is the one in scores.json, and scores are probabilities."""
    table = pq.read_table(run.folder.predictions)
    test = table.filter(pc.equal(table.column("side"), "test"))
    answers = bertsmith.load(run.path, rung=name, device="cpu").predict(test.column("text"))
    right = sum(answer.label == gold for answer, gold in zip(answers, test.column("gold").to_pylist(), strict=True))
    assert right / len(answers) == pytest.approx(run.scores["baselines"][name]["accuracy"]["value"])
    assert all(sum(answer.scores.values()) == pytest.approx(1) for answer in answers)


def test_predict_takes_a_rung_for_texts_and_files(run, tmp_path, capsys):
    """The same answers from the command line, for texts and for the rows of a file."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("text\ngood film\nthe staff was rude\n", encoding="utf-8")
    said = say(capsys, "predict", run.path, "--rung", "tfidf", "--json", "good film", "the staff was rude")
    labels = [json.loads(line)["label"] for line in said.out.splitlines()]
    assert labels == ["positive", "negative"]
    assert say(capsys, "predict", run.path, "--rung", "tfidf", "--in", source, "--out", target).code == 0
    with target.open(encoding="utf-8", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == labels


def test_an_unknown_rung_is_refused(run):
    """The error names the rungs that there are."""
    with pytest.raises(UsageError) as caught:
        bertsmith.load(run.path, rung="svm")
    assert str(caught.value) == "'rung' must be one of majority, tfidf, words, frozen. Got 'svm' instead."
