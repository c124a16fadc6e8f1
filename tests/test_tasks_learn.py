"""Every task, from rows to a model that answers: it learns, keeps the contract for scripts, and repeats itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import bertsmith
from tests import task_rows
from tests.cli.finished import SETTINGS, say
from tests.conftest import BAD, GOOD, PLAIN

RANDOM = {**SETTINGS, "head_start": "random"}
CASES: dict[str, tuple[Callable[..., Sequence[dict[str, Any]]], dict[str, Any]]] = {
    "multi-label": (task_rows.multi_label, {"epochs": 24, "batch_size": 8, "seed": 1}),
    "ordered": (task_rows.stars, {"task": "ordered"}),
    "regression": (task_rows.numbers, {"epochs": 14}),
    "single-label": (task_rows.annotated, {"annotators": "ann,bob,cid", "seed": 1}),
    "token-labels": (task_rows.tagged, {"epochs": 6}),
    "question-answering": (task_rows.questions, {"epochs": 4}),
}
CONTRACT = {
    "multi-label": {"micro_f1": 0.7, "macro_f1": 0.7, "subset_accuracy": 0.3},
    "ordered": {"accuracy": 0.9, "quadratic_kappa": 0.9},
    "regression": {"pearson": 0.75, "spearman": 0.75},
    "single-label": {"accuracy": 0.85, "macro_f1": 0.85},
    "token-labels": {"span_f1": 0.9, "token_accuracy": 0.95},
    "question-answering": {"exact_match": 0.9, "f1": 0.9},
}
"""What scripts may rely on in scores.json, and what the toy rows must come to."""


@pytest.fixture(scope="module")
def runs(tiny_encoder, tmp_path_factory) -> dict[str, bertsmith.Run]:
    folder = tmp_path_factory.mktemp("tasks")
    made = {}
    for name, (rows, settings) in CASES.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(480, seed=3)), encoding="utf-8")
        made[name] = bertsmith.train(path, out=folder / name, encoder=str(tiny_encoder), **{**RANDOM, **settings})
    return made


def inputs(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[str] | None]:
    """The texts of toy rows, and the contexts of questions."""
    if "question" in rows[0]:
        return [row["question"] for row in rows], [row["context"] for row in rows]
    return [row["text"] if "text" in row else " ".join(row["tokens"]) for row in rows], None


@pytest.mark.parametrize("name", CASES)
def test_it_learns_and_scores_json_keeps_its_contract(runs, name):
    """The task is told from the data, and each metric that scripts rely on has a value within its interval."""
    scores = json.loads((runs[name].path / "scores.json").read_text(encoding="utf-8"))
    assert scores["task"] == name
    for metric, least in CONTRACT[name].items():
        found = scores["test"][metric]
        assert found["low"] <= found["value"] <= found["high"]
        assert found["value"] >= least, metric


@pytest.mark.parametrize("name", CASES)
def test_the_stored_recipe_names_everything(runs, name):
    """A recipe of a finished run leaves nothing to be told from the data but its columns."""
    recipe = bertsmith.Recipe.load(runs[name].path / "recipe.toml")
    assert recipe.fit.metric != "auto"
    assert recipe.text.long == ("windows" if name in {"token-labels", "question-answering"} else "head")
    assert recipe.read.task == name
    assert recipe.text.stride != "auto"


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_what_the_loaded_model_answers(runs, name):
    """Answers in predictions.parquet are those of the bundle, asked again one by one."""
    rows = CASES[name][0](480, seed=3)
    stored = [
        row for row in pq.read_table(runs[name].path / "predictions.parquet").to_pylist() if row["side"] == "test"
    ]
    model = runs[name].predictor()
    for row in stored[:6]:
        texts, pairs = inputs([rows[row["row"] - 1]])
        answer = model.predict(texts, pairs)[0].as_json()
        for key in answer.keys() & row.keys():
            if isinstance(answer[key], float):
                assert answer[key] == pytest.approx(row[key], abs=1e-4)
            elif isinstance(answer[key], str | bool):
                assert answer[key] == row[key]
            elif key in {"labels", "tags"}:
                assert list(answer[key]) == row[key]


@pytest.mark.parametrize("name", CASES)
def test_training_again_gives_the_same_weights(runs, name, tiny_encoder, tmp_path):
    """Rows, recipe and seed decide a run, whatever its task."""
    source = runs[name].path.with_suffix(".jsonl")
    settings = {**RANDOM, **CASES[name][1], "epochs": 1}
    first, second = (
        bertsmith.train(source, out=tmp_path / place, encoder=str(tiny_encoder), **settings) for place in ("a", "b")
    )
    weights = [(run.path / "model" / "model.safetensors").read_bytes() for run in (first, second)]
    assert weights[0] == weights[1]
    assert first.scores["test"] == second.scores["test"]


@pytest.mark.parametrize("name", CASES)
def test_predict_writes_a_file_of_answers(runs, name, tmp_path, capsys):
    """Rows of a file come back with their answers beside them, the same as those of predict --json."""
    rows = [dict(row) for row in CASES[name][0](6, seed=9)]
    for row in rows:
        for gold in ("labels", "label", "value", "tags", "answers", "ann", "bob", "cid"):
            row.pop(gold, None)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    said = say(capsys, "predict", runs[name].path, "--in", source, "--out", target)
    assert said.code == 0, said.err
    written = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    said = say(capsys, "predict", runs[name].path, "--in", source, "--json")
    printed = [json.loads(line) for line in said.out.splitlines()]

    assert len(written) == len(printed) == 6
    for one, other in zip(written, printed, strict=True):
        shared = one.keys() & other.keys() - {"text"}
        assert shared
        assert {key: one[key] for key in shared} == {key: other[key] for key in shared}


@pytest.mark.parametrize("name", CASES)
def test_evaluate_on_a_file_gives_the_scores_of_its_rows(runs, name, tmp_path, capsys):
    """The training file scored again has every row, and a warning that these rows were learned from."""
    said = say(capsys, "evaluate", runs[name].path, runs[name].path.with_suffix(".jsonl"), "--json")
    assert said.code == 0, said.err
    scores = json.loads(said.out)
    assert scores["test"]["rows"] == 480
    assert "these are the rows that the run learned from" in said.err
    said = say(capsys, "evaluate", runs[name].path)
    assert said.code == 0
    assert next(iter(CONTRACT[name])).split("_")[0].lower() in said.out.lower()


def test_multi_label_thresholds_are_kept_and_used(runs):
    """Thresholds were tuned on calibration rows, lie in the bundle, and decide; no label above its own is UNKNOWN."""
    run = runs["multi-label"]
    kept = json.loads((run.path / "model" / "bertsmith.json").read_text())["decision"]["thresholds"]
    assert set(kept) == {"bad", "good", "plain"}
    model = run.predictor()
    texts = [row["text"] for row in task_rows.multi_label(50, seed=7)]
    answers = model.predict(texts)
    for each in answers:
        assert set(each.labels) == {name for name, score in each.scores.items() if score >= kept[name]}
        assert each.unknown == (not each.labels)
    strict = model.deciding({"thresholds": dict.fromkeys(kept, 1.1)}).predict(texts[:1])[0]
    assert (list(strict.labels), strict.unknown) == ([], True)


def test_soft_labels_report_how_far_annotators_agree(runs):
    """Votes become shares, and the report says how far annotators agree."""
    detail = json.dumps(runs["single-label"].scores["test"])
    assert "kappa" in detail


def test_the_pipeline_of_transformers_gives_the_same_token_labels(runs):
    """`pipeline("token-classification")` loads the bundle and gives every first sub-word the same label."""
    from transformers import pipeline

    run = runs["token-labels"]
    tag = pipeline("token-classification", model=str(run.path / "model"), aggregation_strategy="simple")
    model = run.predictor()
    for row in task_rows.tagged(20, seed=8):
        text = " ".join(row["tokens"])
        ours = [(span.start, span.end, span.label) for span in model.predict([text])[0].spans]
        theirs = [(each["start"], each["end"], each["entity_group"]) for each in tag(text)]
        assert ours == theirs


def test_the_pipeline_of_transformers_gives_the_same_probabilities_for_several_labels(runs):
    """`pipeline("text-classification")` with sigmoid gives every label's probability."""
    from transformers import pipeline

    run = runs["multi-label"]
    classify = pipeline("text-classification", model=str(run.path / "model"), top_k=None)
    texts = [row["text"] for row in task_rows.multi_label(10, seed=8)]
    for answer, found in zip(run.predictor().predict(texts), classify(texts), strict=True):
        assert {each["label"]: each["score"] for each in found} == pytest.approx(answer.scores, abs=1e-5)


@pytest.mark.parametrize("rung", ["majority", "words", "frozen"])
def test_the_rungs_of_token_labels_can_be_used(runs, rung):
    """Cheap models of the ladder answer with spans, as the fine-tuned one does."""
    answer = bertsmith.load(runs["token-labels"].path, rung=rung).predict(["the staff was good okay"])[0]
    assert len(answer.tags) == 5
    assert all(answer.tags[0] == "O" for _ in answer.tags)


@pytest.fixture(scope="module")
def far(tmp_path_factory) -> Path:
    """Texts of 90 words whose label is told by one word near the end, where a max length of 32 does not reach."""
    generator = np.random.default_rng(5)
    lines = []
    for row in task_rows.stars(300, seed=4):
        words = [str(generator.choice(["the", "film", "room", "was", "it"])) for _ in range(80)]
        told = [word for word in row["text"].split() if word in GOOD + BAD + PLAIN] * 8
        lines.append({"text": " ".join(words[:70] + told + words[70:]), "label": f"star{row['label']}"})
    path = tmp_path_factory.mktemp("far") / "far.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_long_texts_are_read_in_the_way_that_scores_best(far, tiny_encoder, tmp_path):
    """What stands behind the max length is lost to `head`, seen by `head-tail` and `windows`; auto finds out."""
    settings = {**RANDOM, "max_length": 32, "epochs": 4}
    run = bertsmith.train(far, out=tmp_path / "auto", encoder=str(tiny_encoder), **settings)
    long = run.scores["long"]
    assert set(long["choices"]) == {"head", "head-tail", "windows"}
    assert long["choices"]["head"]["work"] == 1.0
    assert long["choices"]["windows"]["work"] > 2
    assert not long["choices"]["windows"]["allowed"]
    assert long["chosen"] == "head-tail"
    assert long["choices"]["head-tail"]["score"] > long["choices"]["head"]["score"]
    assert run.scores["test"]["accuracy"]["value"] > 0.7


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_windows_are_pooled_alike_in_training_evaluation_and_prediction(far, tiny_encoder, tmp_path, pooling):
    """The bundle answers a long text by the pooled logits of its windows, each of which it would answer alone."""
    settings = {**RANDOM, "max_length": 32, "epochs": 8, "long": "windows", "pooling": pooling}
    run = bertsmith.train(far, out=tmp_path / "windows", encoder=str(tiny_encoder), **settings)
    assert run.scores["test"]["accuracy"]["value"] > 0.55
    model = run.predictor()
    texts = [json.loads(line)["text"] for line in far.read_text().splitlines()[:3]]
    for text in texts:
        encoded = model.encode([text])
        assert len(encoded.window_lengths) > 2
        alone = [bare_logits(model, encoded, window) for window in range(len(encoded.window_lengths))]
        pooled = np.mean(alone, axis=0) if pooling == "mean" else np.max(alone, axis=0)
        np.testing.assert_allclose(model.logits([text])[0], pooled, atol=1e-5)


def bare_logits(model: Any, encoded: Any, window: int) -> np.ndarray:
    """Ask the model itself about one window, without padding."""
    import torch

    padded = encoded.pad_windows([window])
    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.inference_mode():
        return model.engine.model(**{name: torch.from_numpy(padded[name]) for name in names}).logits[0].numpy()


@pytest.fixture(scope="module")
def tiny_decoder(tiny_encoder, tmp_path_factory) -> Path:
    """A GPT-2 of two layers and 32 units, with the tiny encoder's words and no padding token of its own."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2Model

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=2, eos_token_id=4
    )
    assert config.pad_token_id is None
    folder = tmp_path_factory.mktemp("decoders") / "gpt"
    GPT2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_decoder_can_be_the_classifier(tiny_decoder, tmp_path):
    """The last token that is no padding decides, alone and beside longer texts, here and in transformers."""
    from transformers import pipeline

    rows = [(row["text"], f"star{row['label']}") for row in task_rows.stars(400, seed=6)]
    run = bertsmith.train(rows, out=tmp_path / "run", encoder=str(tiny_decoder), **SETTINGS)
    assert run.scores["model"]["head"].startswith("last token")
    assert run.scores["test"]["accuracy"]["value"] > 0.8
    model = run.predictor()
    texts = ["good", "the film was bad and the food and the room and the staff", "okay soup"]
    together = model.probabilities(texts)
    for place, text in enumerate(texts):
        np.testing.assert_allclose(model.probabilities([text])[0], together[place], atol=1e-5)
    classify = pipeline("text-classification", model=str(run.path / "model"), top_k=None)
    # A decoder adds segment ids to its words as if they were words; it was trained without.
    assert "token_type_ids" not in classify.tokenizer(texts[0])
    for answer, found in zip(model.predict(texts), classify(texts), strict=True):
        assert {each["label"]: each["score"] for each in found} == pytest.approx(answer.scores, abs=1e-5)
