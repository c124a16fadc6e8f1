"""When may a run be believed: UNKNOWN, text from elsewhere, seeds, mended labels, from the command line's settings on."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

import bertsmith
from bertsmith.errors import RecipeError
from bertsmith.report.definitions import definition_of, figures_of
from tests.cli.finished import QUICK, SETTINGS, finished_run
from tests.conftest import toy_rows

FOREIGN = [f"{word} {word} q z x {word}" for word in ("zzz", "qqq", "xyx", "kkj", "wvw", "jjq", "pqp", "vzv")] * 5


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv)


def trained(tmp_path, encoder, rows, **changes) -> bertsmith.Run:
    return bertsmith.train(rows, out=tmp_path / "run", encoder=str(encoder), **{**QUICK, **changes})


def answers_of(run, side: str = "test") -> list[dict]:
    return [row for row in pq.read_table(run.path / "predictions.parquet").to_pylist() if row["side"] == side]


def test_every_figure_of_a_run_has_a_definition(run):
    """Each number that scores.json holds is told what it is, so the report can say it."""
    assert [path for path in set(figures_of(run.scores)) if definition_of(path) is None] == []
    assert run.scores["definitions"]["decide.coverage"]


def test_the_temperature_is_folded_into_the_weights(tiny_encoder, tmp_path):
    """The stored model's logits are the calibrated ones: times the temperature they are those from before."""
    run = trained(tmp_path, tiny_encoder, toy_rows(300), epochs=3)
    rows, found = answers_of(run), run.scores["calibration"]
    logits = bertsmith.load(run.path, device="cpu").logits([row["text"] for row in rows]).astype(float)
    assert softmax(logits, axis=1) == pytest.approx(np.array([row["scores"] for row in rows]), abs=1e-5)
    gold, labels = [row["gold"] for row in rows], run.scores["labels"]
    before, after = (log_loss(gold, softmax(logits * t, axis=1), labels=labels) for t in (found["temperature"], 1))
    assert found["temperature"] != pytest.approx(1, abs=0.05)
    assert (found["log_loss_before"], found["log_loss_after"]) == pytest.approx((before, after), abs=1e-4)


def test_scores_below_the_threshold_are_unknown(tiny_encoder, tmp_path):
    """`score >= 0.9` refuses what is less sure, in the files, in Python and in scores.json alike; the guess stays."""
    run = trained(tmp_path, tiny_encoder, toy_rows(200), accept="score >= 0.9", scope="off")
    rows = answers_of(run)
    assert {row["label"] for row in rows if row["score"] < 0.9} <= {"UNKNOWN"}
    assert all(row["label"] == row["guess"] for row in rows if row["score"] >= 0.9)
    assert [row["unknown"] for row in rows] == [row["score"] < 0.9 for row in rows]
    answers = bertsmith.load(run.path, device="cpu").predict([row["text"] for row in rows])
    assert [each.label for each in answers] == [row["label"] for row in rows]
    decide = run.scores["decide"]
    assert (decide["threshold"], decide["target"], decide["guaranteed"]) == (0.9, None, False)
    given = [row for row in rows if not row["unknown"]]
    assert decide["test"]["coverage"]["value"] == pytest.approx(len(given) / len(rows))
    assert not (run.path / "model" / "scope.safetensors").exists()


def test_a_rule_that_nobody_understands_is_refused_before_anything_is_written(tiny_encoder, tmp_path):
    """The rule is read before the data are, and the message shows the forms that there are."""
    with pytest.raises(RecipeError) as caught:
        trained(tmp_path, tiny_encoder, toy_rows(60), accept="be good")
    assert "95% right" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_rows_labelled_as_foreign_are_no_class_and_set_the_threshold(tiny_encoder, tmp_path):
    """`out_of_scope_label` rows are not learned, not in the label set, and are refused when they come again."""
    rows = [*toy_rows(400), *((text, "none of these") for text in FOREIGN)]
    run = trained(tmp_path, tiny_encoder, rows, **{**SETTINGS, "epochs": 4, "out_of_scope_label": "none of these"})
    assert run.scores["labels"] == ["negative", "neutral", "positive"]
    assert run.scores["data"]["rows"] == 400
    scope = run.scores["out_of_scope"]
    assert (scope["chosen_from"], scope["foreign"]["rows"]) == ("labelled", 4)
    assert scope["foreign"]["recall"] >= 0.75
    assert scope["foreign"]["answered"] == pytest.approx(1 - scope["foreign"]["recall"])
    predictor = bertsmith.load(run.path, device="cpu")
    answers = predictor.predict(FOREIGN[:8])
    assert [each.unknown for each in answers] == [each.foreign for each in answers]
    assert sum(each.unknown for each in answers) >= 6
    assert all(each.guess in run.scores["labels"] for each in answers)
    assert answers[0].line.endswith(" (text from elsewhere)")


def test_what_is_only_noted_is_answered(tiny_encoder, tmp_path):
    """With scope = note the score is told, and every answer stands."""
    rows = [*toy_rows(200), *((text, "oos") for text in FOREIGN)]
    run = trained(tmp_path, tiny_encoder, rows, out_of_scope_label="oos", scope="note", accept="all")
    answers = bertsmith.load(run.path, device="cpu").predict(FOREIGN[:8])
    assert not any(each.unknown for each in answers)
    assert all(isinstance(each.out_of_scope, float) for each in answers)
    assert run.scores["decide"]["test"]["coverage"]["value"] == 1


def test_seeds_tell_what_chance_does(tiny_encoder, tmp_path):
    """`seeds = 3` trains three times on the same split; the model is that of the first, bit for bit."""
    many = trained(tmp_path, tiny_encoder, toy_rows(200), seeds=3)
    one = bertsmith.train(toy_rows(200), out=tmp_path / "one", encoder=str(tiny_encoder), **QUICK)
    seeds = many.scores["seeds"]
    assert seeds["seeds"] == [17, 18, 19]
    values = seeds["metrics"]["accuracy"]["values"]
    assert values[0] == many.scores["test"]["accuracy"]["value"] == one.scores["test"]["accuracy"]["value"]
    assert len(set(values)) > 1
    assert one.scores["seeds"] is None
    weights = [(each.path / "model" / "model.safetensors").read_bytes() for each in (many, one)]
    assert weights[0] == weights[1]


def test_seeds_without_test_rows_are_refused_at_once(tiny_encoder, tmp_path):
    """Where nothing could tell the models apart, nothing is trained."""
    with pytest.raises(RecipeError) as caught:
        trained(tmp_path, tiny_encoder, toy_rows(60), seeds=2, shares="80/10/10/0")
    assert str(caught.value).startswith("'seeds' is 2, but there are no test rows that could tell the models apart.")
    assert not (tmp_path / "run").exists()


def test_suspects_are_mended_with_relabel(tiny_encoder, tmp_path):
    """What is filled into suspects.csv is what the next run learns from: a new label, or no row at all."""
    path = tmp_path / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        wrong = [(text, "neutral" if place % 12 == 0 else label) for place, (text, label) in enumerate(toy_rows(300))]
        csv.writer(file).writerows([("text", "label"), *wrong])
    first = trained(tmp_path, tiny_encoder, path, **{**SETTINGS, "epochs": 1})
    suspects = first.path / "suspects.csv"
    with suspects.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert first.scores["suspects"]["flagged"] == len(rows) >= 2
    rows[0]["relabel"], rows[1]["relabel"] = (
        "-",
        next(each for each in ("neutral", "positive") if each != rows[1]["label"]),
    )
    mended = tmp_path / "mended.csv"
    with mended.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    second = bertsmith.train(path, out=tmp_path / "second", encoder=str(tiny_encoder), relabel=str(mended), **QUICK)
    assert second.scores["data"]["rows"] == first.scores["data"]["rows"] - 1
    notes = json.loads((second.path / "data.json").read_text())["notes"]
    assert any("mended.csv" in note for note in notes), notes
    assert str(mended) in (second.path / "recipe.toml").read_text()


def test_without_texts_no_report_holds_one(tiny_encoder, tmp_path):
    """`texts = false` keeps texts and words out of suspects.csv, the report and scores.json."""
    marked = [(f"zyxmarker {text}", label) for text, label in toy_rows(300)]
    run = trained(tmp_path, tiny_encoder, marked, texts=False)
    held = [each.name for each in run.path.rglob("*") if each.is_file() and each.suffix in {".csv", ".html", ".json", ".md"}
            and "zyxmarker" in each.read_text(encoding="utf-8") and each.name != "tokenizer.json"]  # fmt: skip
    assert held == []
