"""From a bundle and a file to the verdict: what a user sees."""

from __future__ import annotations

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from cyclopts import App

from bertsmith import encoders
from bertsmith.atomic import write_manifest
from bertsmith.bundle import BundleInfo, save
from bertsmith.cli.drift import drift as verb
from bertsmith.data.encode import TokenEncoder
from bertsmith.drift.facts import answer_facts, facts_of, text_facts
from bertsmith.drift.new_rows import drift
from bertsmith.drift.reference import Reference
from bertsmith.encoders import Encoder
from bertsmith.errors import BundleError, DataError, UsageError
from bertsmith.examples import Columns, Examples, LabelSet, LabelsPrediction, NumberPrediction, Prediction
from bertsmith.inference.loading import load
from bertsmith.recipe import Read
from bertsmith.tasks import Rows, task_named
from bertsmith.tasks.question_answering import AnswerPrediction
from bertsmith.tasks.single_label import SingleLabel
from bertsmith.tasks.spans import Span, SpansPrediction
from bertsmith.training.model import build
from tests.conftest import toy_rows

LABELS = LabelSet(("bad", "good", "null"))


@pytest.fixture(scope="module")
def bundle(tiny_encoder, tmp_path_factory):
    """A model with random but decided weights, and the reference of 300 rows."""
    torch.manual_seed(3)
    encoder = encoders.find(str(tiny_encoder))
    model = build(SingleLabel(), encoder, LABELS, dropout=None)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 2)
    folder = tmp_path_factory.mktemp("drift") / "model"
    info = BundleInfo("single-label", LABELS.names, 24, pair=False, encoder="tiny", fingerprint="0")
    save(folder, model, encoder.transformers_tokenizer(), info=info)
    predictor = load(folder, device="cpu")
    rows = predictor.rows([text for text, _ in toy_rows(300, seed=21)])
    made = Reference.of(
        {"test": rows}, {"test": predictor.answer(rows)}, task=predictor.task, tokenizer=predictor.tokens.tokenizer
    )
    made.save(folder)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def predictor(bundle):
    return load(bundle, device="cpu")


@pytest.fixture
def write(tmp_path):
    """Writes a CSV of texts."""

    def write(texts, name="new.csv"):
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], *([text] for text in texts)])
        return path

    return write


def command(capsys, *words):
    app = App(result_action="return_value")
    app.command(verb, name="drift")
    capsys.readouterr()
    code = app(["drift", *map(str, words), "--device", "cpu", "--threads", "1"], exit_on_error=False)
    return code, capsys.readouterr().out


def test_rows_of_the_same_kind_did_not_move(bundle, write, capsys):
    """Other reviews of the same making are like those of the run; the exit code is 0."""
    path = write([text for text, _ in toy_rows(400, seed=22)])
    code, out = command(capsys, bundle, path)
    assert code == 0
    assert out.startswith(f"400 rows of {path} against those of {bundle}\n\n")
    assert out.endswith("\nNothing moved: 400 rows are like those of the run.\n")


def test_rows_of_another_kind_moved_and_the_json_says_how(bundle, write, capsys):
    """Long texts in a foreign script: length and unknown tokens moved, and the exit code is still 0."""
    path = write([f"Привет мир {text} {text}" for text, _ in toy_rows(400, seed=23)])
    code, out = command(capsys, bundle, path, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["drifted"] is True
    assert found["source"] == str(path)
    assert found["rows"] == 400
    moved = {each["feature"]: each for each in found["features"] if each["moved"]}
    assert {"length", "unknown_tokens"} <= set(moved)
    assert moved["unknown_tokens"]["sentence"] == (
        "unknown tokens moved: 1 unknown token or more in 100 % of the rows, before in 0 %"
    )
    assert "unknown tokens moved: " in found["sentence"]
    _, out = command(capsys, bundle, path)
    assert "moved: 1 unknown token or more in 100 % of the rows, before in 0 %" in out


def test_the_batches_of_a_file_count_as_one(bundle, predictor, write, monkeypatch):
    """However a file is cut into batches, its counts are those of all rows at once."""
    texts = [text for text, _ in toy_rows(90, seed=24)]
    monkeypatch.setattr("bertsmith.scoring.files.ROWS", 32)
    found = drift(predictor, Reference.load(bundle), write(texts), settings=Read())
    seen, rows = Reference.load(bundle).empty(), predictor.rows(texts)
    seen.add(facts_of(rows, predictor.answer(rows), task=predictor.task, tokenizer=predictor.tokens.tokenizer))
    assert found.observed.as_json() == seen.as_json()
    assert found.rows == 90


def test_what_is_missing_is_said_before_a_model_is_loaded(bundle, write, tmp_path, monkeypatch, capsys):
    """No run, no file, no reference: each has its message, and no model was loaded for it."""
    monkeypatch.setattr("bertsmith.cli.drift.load_model", None)
    path = write(["good"])
    with pytest.raises(UsageError) as error:
        command(capsys, tmp_path / "nothing", path)
    assert str(error.value) == (
        f"{tmp_path}/nothing: no such run folder.\n  A run is what `bertsmith train DATA --out RUN` makes."
    )
    with pytest.raises(UsageError, match=r"none\.csv"):
        command(capsys, bundle, tmp_path / "none.csv")
    with pytest.raises(DataError) as bare:
        command(capsys, bundle, write([], "bare.csv"))
    assert str(bare.value) == f"{tmp_path}/bare.csv: no rows, only column names.\n  Is it the right file?"
    with pytest.raises(UsageError) as column:
        command(capsys, bundle, path, "--text", "body")
    assert str(column.value) == f"{path}: no column 'body' (--text). Its columns are 'text'."
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match=r"numbers\.csv: "):
        command(capsys, bundle, tmp_path / "numbers.csv")
    old = shutil.copytree(bundle, tmp_path / "old")
    (old / "reference.json").unlink()
    with pytest.raises(BundleError, match=r"^.*old/reference\.json: missing, so there is nothing that new rows"):
        command(capsys, old, path)


def test_a_file_without_rows_is_refused(bundle, predictor, write):
    """Column names alone can be compared with nothing."""
    path = write([])
    with pytest.raises(DataError, match=r"no rows"):
        drift(predictor, Reference.load(bundle), path, settings=Read())


def test_lengths_and_unknown_tokens_are_those_of_the_tokenizer(tiny_encoder):
    """Of cut texts, of pairs and of windows: each token of the tokenizer counts, [UNK] among what is read."""
    texts = pa.chunked_array([["good food", "Привет the мир", ""], ["soup " * 40 + "Привет", "a"]])
    tokenizer = Encoder("tiny", tiny_encoder).tokenizer()
    examples = Examples(pa.table({"text": texts}), Columns("text"), "texts")
    whole = [tokenizer.encode(text).tokens for text in texts.to_pylist()]
    for long in ("head", "windows"):
        encoder = TokenEncoder(tokenizer, 64, 0, long=long)
        rows = Rows(examples, encoder.encode(texts), np.zeros(0), np.ones(5), LabelSet(("a",)))
        facts = text_facts(rows, tokenizer)
        assert facts["length"].tolist() == [len(tokens) for tokens in whole]
        assert facts["unknown_tokens"].tolist() == [tokens.count("[UNK]") for tokens in whole]
        assert facts["characters_per_token"][0] == pytest.approx(9 / 2)
    cut = TokenEncoder(tokenizer, 8, 0).encode(texts)
    facts = text_facts(Rows(examples, cut, np.zeros(0), np.ones(5), LabelSet(("a",))), tokenizer)
    assert facts["length"].tolist() == [len(tokens) for tokens in whole]
    assert facts["unknown_tokens"].tolist() == [0, 2, 0, 0, 0]


@pytest.mark.parametrize(
    ("task", "answers", "facts"),
    [
        (
            "single-label",
            [Prediction("a", "a", 0.9, out_of_scope=1.5), Prediction("UNKNOWN", "b", 0.4, unknown=True, out_of_scope=9.0)],
            {"confidence": [0.9, 0.4], "label": ["a", "b"], "answered": ["answered", "UNKNOWN"], "out_of_scope": [1.5, 9.0]},
        ),
        (
            "ordered",
            [Prediction("1", "1", 0.9)],
            {"confidence": [0.9], "label": ["1"], "answered": ["answered"]},
        ),
        (
            "multi-label",
            [LabelsPrediction((), True, {"a": 0.2, "b": 0.4}), LabelsPrediction(("a", "b"), False, {"a": 0.8, "b": 0.7})],
            {"confidence": [0.4, 0.8], "label": ["b", "a"], "answered": ["UNKNOWN", "answered"], "labels_per_row": [0, 2]},
        ),
        ("regression", [NumberPrediction(2.5), NumberPrediction(-1.0)], {"value": [2.5, -1.0]}),
        (
            "token-labels",
            [SpansPrediction(("B-X", "O"), (Span(0, 1, "a", "X", 0.9),), np.array([[0.9, 0.1], [0.3, 0.7]]), ("B-X", "O"))],
            {"confidence": [0.8], "spans_per_row": [1]},
        ),
        (
            "question-answering",
            [AnswerPrediction("", None, None, 0.6, True, ())],
            {"confidence": [0.6], "answered": ["UNKNOWN"]},
        ),
    ],
)  # fmt: skip
def test_every_task_has_the_features_that_its_answers_have(task, answers, facts):
    """What is counted of an answer follows from what it holds, for all six tasks."""
    found = answer_facts(answers, task_named(task, levels=("1", "2")) if task == "ordered" else task_named(task))
    assert found == {name: pytest.approx(values) if name == "confidence" else values for name, values in facts.items()}


def test_sides_without_rows_have_no_part_in_the_reference(predictor):
    """Texts are those of all sides, answers those of the sides that were answered; empty ones add nothing."""
    texts = [text for text, _ in toy_rows(40, seed=25)]
    sides = {"train": predictor.rows(texts[:30]), "validation": predictor.rows([]), "test": predictor.rows(texts[30:])}
    answers = {side: predictor.answer(sides[side]) for side in ("validation", "test")}
    made = Reference.of(sides, answers, task=predictor.task, tokenizer=predictor.tokens.tokenizer).observed
    assert made.rows == 40
    assert {key: int(counts.sum()) for key, counts in made.counts.items()} == {
        "length": 40, "unknown_tokens": 40, "characters_per_token": 40, "confidence": 10, "label": 10, "answered": 10,
    }  # fmt: skip
    alone = Reference.of({"train": sides["train"]}, {}, task=predictor.task, tokenizer=SimpleNamespace(
        model=SimpleNamespace(unk_token="[UNK]"), token_to_id=lambda name: None, num_special_tokens_to_add=lambda pair: 2
    ))  # fmt: skip
    assert list(alone.observed.counts) == ["length", "unknown_tokens", "characters_per_token"]
    assert alone.observed.counts["unknown_tokens"].tolist() == [0, 30, 0]


def test_the_rows_of_the_run_itself_are_no_new_rows(tiny_encoder, toy_csv, tmp_path, monkeypatch, capsys):
    """Who looks for drift in the training data is warned, by whatever path; the counts come all the same."""
    from tests.cli.finished import finished_run, say

    run = finished_run(tiny_encoder, toy_csv).path
    monkeypatch.chdir(toy_csv.parent)
    said = say(capsys, "drift", run, toy_csv.name, "--device", "cpu", "--threads", "1")
    assert (said.code, said.err.splitlines()[0]) == (
        0, "warning   these are the rows that the run learned from: it is surer of them than of new ones.",
    )  # fmt: skip
    other = tmp_path / "other.csv"
    other.write_bytes(toy_csv.read_bytes())
    assert "warning" not in say(capsys, "drift", run, other, "--device", "cpu", "--threads", "1").err
