"""Real data sets: the figures of the README hold, and real leaks are found. Skipped where the data is absent."""

from __future__ import annotations

import gzip
import json

import pytest

import bertsmith

pytestmark = [pytest.mark.shared_data, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_banking77_reaches_its_mark(shared_data, tmp_path):
    """The default recipe with the embedded encoder answers at least 92 % of the official test, above the ladder."""
    folder = shared_data / "banking77"
    run = bertsmith.train(folder / "train.jsonl.gz", out=tmp_path / "run", test=str(folder / "test.jsonl.gz"))
    assert run.scores["test"]["rows"] == 3080
    assert run.scores["test"]["accuracy"]["value"] >= 0.92
    assert run.scores["baselines"]["tfidf"]["accuracy"]["value"] >= 0.87
    assert run.scores["baselines"]["frozen"]["accuracy"]["value"] >= 0.91
    assert len(run.scores["labels"]) == 77


def test_the_leak_of_imdb_is_found(shared_data):
    """Of the official test reviews 123 also stand in the training file; check says so and counts them."""
    folder = shared_data / "imdb"
    findings = bertsmith.check(folder / "train.jsonl.gz", test=str(folder / "test.jsonl.gz"))
    crossing = [finding for finding in findings.items if finding.kind == "text-on-two-sides"]
    assert len(crossing) == 1
    assert crossing[0].count >= 123
    assert findings.passed


def test_frozen_features_and_few_rows_of_sst2(shared_data, tmp_path):
    """Two thousand sentences, one epoch: above TF-IDF on the same rows, and plain transformers agrees on all answers."""
    from transformers import pipeline

    folder = shared_data / "sst2"
    with gzip.open(folder / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:2000]
    run = bertsmith.train(rows, out=tmp_path / "run", epochs=1)
    scores = run.scores
    assert scores["test"]["accuracy"]["value"] > scores["baselines"]["tfidf"]["accuracy"]["value"]

    texts = [row["text"] for row in rows[:200]]
    plain = pipeline("text-classification", model=str(run.path / "model"), device="cpu")
    theirs = plain(texts, truncation=True, batch_size=16)
    ours = run.predictor().predict(texts)
    assert [each["label"] for each in theirs] == [each.label for each in ours]
    assert max(abs(a["score"] - b.score) for a, b in zip(theirs, ours, strict=True)) < 1e-5
