"""A whole run from a CSV to a model: what it writes, that it can be repeated, and that it keeps its promises."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pickletools
import re
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, f1_score

import bertsmith
from bertsmith import run_folder
from bertsmith.atomic import sha256
from bertsmith.bundle import load_info
from bertsmith.errors import BundleError, DataError, UsageError
from bertsmith.examples import SIDES
from tests.cli.finished import QUICK, SETTINGS, finished_run, flags, say
from tests.conftest import toy_rows

MARKER = "zyxmarkerxyz never before"
"""Three words, so that no vocabulary of words and word pairs holds it."""


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv)


def write_csv(path: Path, header: list[str], rows: list) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def quick(data, out, encoder, **changes) -> bertsmith.Run:
    return bertsmith.train(data, out=out, encoder=str(encoder), **{**QUICK, **changes})


def weights(run) -> str:
    return sha256(run.path / "model" / "model.safetensors")


def test_a_run_holds_these_files(run):
    """All that RunFolder names is there, and nothing else: no checkpoints, no temporary files."""
    found = {each.relative_to(run.path).as_posix() for each in run.path.rglob("*") if each.is_file()}
    assert found == {
        "recipe.toml", "data.json", "split.parquet", "findings.json", "history.jsonl", "scores.json", "predictions.parquet",
        "report.html", "suspects.csv", "model/reference.json", "model/scope.safetensors",
        "manifest.json", "baselines/majority.skops", "baselines/tfidf.skops", "baselines/frozen.skops", "model/README.md",
        "model/bertsmith.json", "model/config.json", "model/manifest.json", "model/model.safetensors",
        "model/tokenizer.json", "model/tokenizer_config.json",
    }  # fmt: skip
    manifest = json.loads((run.path / "manifest.json").read_text())["files"]
    assert {name: entry["sha256"] for name, entry in manifest.items()} == {
        name: sha256(run.path / name) for name in found - {"manifest.json"}
    }


def test_scores_json_is_the_contract_for_scripts(run):
    """Every key that scripts may rely on is there, with its type and in its range."""
    scores = json.loads((run.path / "scores.json").read_text(encoding="utf-8"))
    assert {**run.scores, "format": 1} == scores
    assert (scores["task"], scores["labels"]) == ("single-label", ["negative", "neutral", "positive"])
    assert scores["test"]["rows"] == 40
    judged = [scores["test"], *scores["baselines"].values()]
    for each in judged:
        for name in ("accuracy", "macro_f1"):
            interval = each[name]
            assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
    assert list(scores["baselines"]) == ["majority", "tfidf", "frozen"]
    assert all(each["seconds"] >= 0 for each in scores["baselines"].values())
    training = scores["training"]
    assert set(training) >= {
        "examples_per_second", "tokens_per_second", "padding_waste", "utilisation", "epochs", "best_epoch",
    }  # fmt: skip
    assert training["epochs"] == SETTINGS["epochs"]
    assert 1 <= training["best_epoch"] <= training["epochs"]
    assert training["examples_per_second"] > 0
    assert training["tokens_per_second"] > training["examples_per_second"]
    assert 0 <= training["padding_waste"] < 1
    assert training["utilisation"] > 0
    stages = set(scores["seconds"])
    assert stages >= {"total", "read", "check", "split", "encode", "baselines", "fit", "bundle", "evaluate"}
    assert scores["seconds"]["total"] >= scores["seconds"]["fit"] > 0


def test_the_scores_are_scikit_learns_on_the_stored_answers(run):
    """predictions.parquet gives, by scikit-learn, the accuracy and macro-F1 of scores.json."""
    rows = pq.read_table(run.path / "predictions.parquet").to_pylist()
    test = [row for row in rows if row["side"] == "test"]
    gold, answer = [row["gold"] for row in test], [row["guess"] for row in test]
    assert run.scores["test"]["accuracy"]["value"] == pytest.approx(accuracy_score(gold, answer))
    assert run.scores["test"]["macro_f1"]["value"] == pytest.approx(f1_score(gold, answer, average="macro"))
    assert accuracy_score(gold, answer) > 0.8


def test_the_history_has_a_line_for_each_step_and_each_validation(run):
    """Logged steps have loss, norm of the gradient and rate; validations have every metric; seconds never go back."""
    lines = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    validations = [line for line in lines if "loss" not in line]
    assert all(set(line) == {"step", "epoch", "loss", "grad_norm", "learning_rate", "seconds"} for line in steps)
    metrics = {"accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc", "log_loss"}
    assert all(set(line) == {"step", "epoch", "seconds"} | {f"eval_{name}" for name in metrics} for line in validations)
    assert [line["epoch"] for line in validations] == [*range(1, SETTINGS["epochs"] + 1)]
    assert [line["step"] for line in steps] == [*range(10, 18 * SETTINGS["epochs"] + 1, 10)]
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    curve = [line["eval_macro_f1"] for line in validations]
    assert run.scores["training"]["best_epoch"] == curve.index(max(curve)) + 1


def test_every_row_is_on_one_side(run, toy_csv):
    """split.parquet has each row of the file once, in order; the sizes are those of scores.json."""
    table = pq.read_table(run.path / "split.parquet").to_pydict()
    assert table["row"] == [*range(1, 401)]
    assert set(table["file"]) == {str(toy_csv)}
    assert {side: table["side"].count(side) for side in SIDES} == run.scores["data"]["split"]


def test_predictions_hold_all_rows_that_were_not_learned_from(run, toy_csv):
    """Row, side, text and gold label are those of the file; score and scores belong to the guess."""
    with toy_csv.open(newline="") as file:
        given = dict(enumerate(csv.DictReader(file), 1))
    split = pq.read_table(run.path / "split.parquet").to_pydict()
    side_of = dict(zip(split["row"], split["side"], strict=True))
    rows = pq.read_table(run.path / "predictions.parquet").to_pylist()
    assert sorted(row["row"] for row in rows) == sorted(row for row, side in side_of.items() if side != "train")
    for row in rows:
        assert (row["text"], row["gold"]) == (given[row["row"]]["text"], given[row["row"]]["label"])
        assert row["side"] == side_of[row["row"]]
        assert run.scores["labels"][int(np.argmax(row["scores"]))] == row["guess"]
        assert row["label"] == ("UNKNOWN" if row["unknown"] else row["guess"])
        assert row["score"] == max(row["scores"])
        assert sum(row["scores"]) == pytest.approx(1)


def test_plain_transformers_answers_the_same(run):
    """pipeline("text-classification", model=RUN/model) agrees with Predictor and predictions.parquet within 1e-5."""
    from transformers import pipeline

    rows = [row for row in pq.read_table(run.path / "predictions.parquet").to_pylist() if row["side"] == "test"]
    texts = [row["text"] for row in rows]
    plain = pipeline("text-classification", model=str(run.path / "model"), device="cpu")
    theirs = plain(texts, truncation=True, top_k=None)
    ours = bertsmith.load(run.path, device="cpu").predict(texts)
    for row, answer, found in zip(rows, ours, theirs, strict=True):
        probabilities = {each["label"]: each["score"] for each in found}
        assert max(probabilities, key=probabilities.get) == answer.guess == row["guess"]
        assert (answer.label, answer.unknown) == (row["label"], row["unknown"])
        for label, stored in zip(run.scores["labels"], row["scores"], strict=True):
            assert probabilities[label] == pytest.approx(stored, abs=1e-5)
            assert answer.scores[label] == pytest.approx(stored, abs=1e-5)


def is_pickle(data: bytes) -> bool:
    """Whether the bytes are a pickle from their first to their last opcode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bytes that are no pickle may look like one with odd escapes
        try:
            return bool(list(pickletools.genops(io.BytesIO(data))))
        except (ValueError, IndexError, OverflowError):
            return False


def pickles_in(path: Path) -> list[str]:
    """Name a file, or the members of a zip, that are pickles (or arrays that hold some)."""
    data = path.read_bytes()
    if not zipfile.is_zipfile(path):
        return [path.name] if is_pickle(data) else []
    with zipfile.ZipFile(path) as packed:
        members = {f"{path.name}/{name}": packed.read(name) for name in packed.namelist()}
    for name, content in members.items():
        if name.endswith(".npy"):
            np.load(io.BytesIO(content), allow_pickle=False)
    return [name for name, content in members.items() if is_pickle(content)]


def test_no_file_of_a_run_is_a_pickle(run, tmp_path):
    """Neither by name nor by content, members of zips included; and the detector finds a pickle."""
    import pickle

    found = []
    for path in run.path.rglob("*"):
        if path.is_file():
            assert path.suffix in {
                ".json",
                ".jsonl",
                ".toml",
                ".parquet",
                ".skops",
                ".md",
                ".safetensors",
                ".html",
                ".csv",
            }
            found += pickles_in(path)
    assert found == []
    (tmp_path / "bad").write_bytes(pickle.dumps({"a": [1, 2]}))
    assert pickles_in(tmp_path / "bad") == ["bad"]


def test_a_recipe_repeats_a_run_bit_for_bit(run, tmp_path, capsys, toy_csv):
    """`train --recipe RUN/recipe.toml` and the same in Python give the same weights, scores and answers."""
    recipe = run.path / "recipe.toml"
    said = say(capsys, "train", "--recipe", recipe, "--out", tmp_path / "again")
    assert said.code == 0, said.err
    again = json.loads((tmp_path / "again" / "scores.json").read_text())
    assert sha256(tmp_path / "again" / "model" / "model.safetensors") == weights(run)
    assert again["test"] == run.scores["test"]
    for name in ("split.parquet", "predictions.parquet", "recipe.toml", "findings.json"):
        first, second = run.path / name, tmp_path / "again" / name
        if name.endswith(".parquet"):
            assert pq.read_table(first).equals(pq.read_table(second))
        elif name == "recipe.toml":
            assert first.read_text() == second.read_text()

    from_python = bertsmith.train(toy_csv, out=tmp_path / "third", recipe=bertsmith.Recipe.load(recipe))
    assert weights(from_python) == weights(run)


def test_a_recipe_knows_where_its_data_lies(run, tmp_path):
    """In Python too a recipe of a run is enough: data need not be given again."""
    again = bertsmith.train(out=tmp_path / "again", recipe=bertsmith.Recipe.load(run.path / "recipe.toml"), epochs=1)
    assert again.scores["data"] == run.scores["data"]


def test_another_seed_gives_other_weights_and_another_split(tiny_encoder, toy_csv, tmp_path):
    """The same seed twice is the same run; another one is another."""
    first, same, other = (
        quick(toy_csv, tmp_path / name, tiny_encoder, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert weights(first) == weights(same) != weights(other)
    splits = [pq.read_table(each.path / "split.parquet")["side"].to_pylist() for each in (first, same, other)]
    assert splits[0] == splits[1] != splits[2]


def test_rows_of_no_weight_teach_nothing(tiny_encoder, tmp_path):
    """A class whose rows all weigh 0 is never answered, though the same rows at weight 1 are."""
    rows = [(text, label, 0 if label == "positive" else 1) for text, label in toy_rows(400)]
    answered = {}
    for name, header in (("weighted", "weight"), ("plain", "ignored")):
        data = write_csv(tmp_path / f"{name}.csv", ["text", "label", header], rows)
        run = quick(data, tmp_path / name, tiny_encoder, **(SETTINGS | {"seed": 1}))
        answered[name] = set(pq.read_table(run.path / "predictions.parquet")["guess"].to_pylist())
    assert answered == {"weighted": {"negative", "neutral"}, "plain": {"negative", "neutral", "positive"}}


def test_equal_texts_never_stand_on_two_sides(tiny_encoder, tmp_path):
    """Repeated texts, also in other case and spacing, are all learned from or all tested on."""
    rows = toy_rows(150, seed=3)
    again = [(f"  {text.upper()} ", label) for text, label in rows[:60]]
    data = write_csv(tmp_path / "data.csv", ["text", "label"], [*rows, *again, *rows[20:80]])
    run = quick(data, tmp_path / "run", tiny_encoder)
    sides: dict[str, set[str]] = {}
    texts = [text for text, _ in [*rows, *again, *rows[20:80]]]
    for text, side in zip(texts, pq.read_table(run.path / "split.parquet")["side"].to_pylist(), strict=True):
        sides.setdefault(" ".join(text.lower().split()), set()).add(side)
    assert {len(found) for found in sides.values()} == {1}
    assert {side for found in sides.values() for side in found} >= {"train", "test"}


def test_given_files_are_the_given_sides(tiny_encoder, tmp_path):
    """--validation and --test take no rows from DATA, and each row is known by its own file."""
    parts = {"train": toy_rows(120), "held": toy_rows(40, seed=5), "new": toy_rows(50, seed=6)}
    paths = {name: write_csv(tmp_path / f"{name}.csv", ["text", "label"], rows) for name, rows in parts.items()}
    run = quick(paths["train"], tmp_path / "run", tiny_encoder, validation=str(paths["held"]), test=str(paths["new"]))
    split = pq.read_table(run.path / "split.parquet").to_pylist()
    assert len({(each["file"], each["row"]) for each in split}) == 210
    assert {each["side"] for each in split if each["file"] == str(paths["new"])} == {"test"}
    assert {each["side"] for each in split if each["file"] == str(paths["held"])} == {"validation"}
    assert {each["side"] for each in split if each["file"] == str(paths["train"])} <= {"train", "calibration"}


def test_no_texts_means_no_text_anywhere(tiny_encoder, tmp_path):
    """With texts=False no file of the run has a text of the data in it; without, the answers have."""
    rows = [(f"{MARKER} {text}", label) for text, label in toy_rows(200)]
    rows += [(f"{MARKER} same text twice", label) for label in ("positive", "negative")]
    rows += [
        (f"{MARKER} and very long {'film ' * 99}", "neutral"),
        (f"  {MARKER} 7", "neutral"),
        (f"{MARKER} 8", "neutral"),
    ]
    data = write_csv(tmp_path / "data.csv", ["text", "label"], rows)
    holding = {}
    for name, texts in (("kept", True), ("left", False)):
        run = quick(data, tmp_path / name, tiny_encoder, texts=texts)
        files = [path for path in run.path.rglob("*") if path.is_file()]
        holding[name] = {path.relative_to(run.path).as_posix() for path in files if has_marker(path)}
    assert "predictions.parquet" in holding["kept"]
    assert holding["left"] == set()


def has_marker(path: Path, marker: str = MARKER) -> bool:
    """Whether the marker stands in a file, in a member of a zip or in a column of a Parquet file."""
    needle = marker.encode()
    if path.suffix == ".parquet":
        return marker in str(pq.read_table(path).to_pydict())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            return any(needle in packed.read(name) for name in packed.namelist())
    return needle in path.read_bytes()


def test_a_run_without_test_rows_says_that_it_cannot_tell(tiny_encoder, toy_csv, tmp_path, capsys):
    """With all rows in training there is no score, and nobody pretends there is."""
    run = quick(toy_csv, tmp_path / "run", tiny_encoder, shares="100/0/0/0")
    assert run.scores["test"] is None
    assert {name: each["accuracy"] for name, each in run.scores["baselines"].items()} == {
        "majority": None, "tfidf": None, "frozen": None,
    }  # fmt: skip
    assert run.scores["data"]["split"] == {"train": 400, "validation": 0, "calibration": 0, "test": 0}
    said = say(capsys, "evaluate", run.path)
    assert said.out == "The run had no test rows. Give a file: bertsmith evaluate RUN DATA\n"


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "pairs", "dicts", "columns", "dataset"])
def test_python_objects_train_as_files_do(kind, tiny_encoder, tmp_path, capsys):
    """Whatever holds the rows, the same rows give the same weights."""
    import datasets
    import pandas
    import polars
    import pyarrow as pa

    rows = toy_rows(80)
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    given = {
        "pandas": lambda: pandas.DataFrame(columns), "polars": lambda: polars.DataFrame(columns),
        "arrow": lambda: pa.table(columns), "pairs": lambda: rows,
        "dicts": lambda: [{"text": text, "label": label} for text, label in rows], "columns": lambda: columns,
        "dataset": lambda: datasets.Dataset.from_dict(columns),
    }[kind]()  # fmt: skip
    run = quick(given, tmp_path / "run", tiny_encoder)
    file = write_csv(tmp_path / "data.csv", ["text", "label"], rows)
    if kind == "pandas":
        assert weights(quick(file, tmp_path / "file", tiny_encoder)) == weights(run)
    stored = json.loads((run.path / "data.json").read_text())
    assert (stored["task"], stored["fingerprint"]) == ("single-label", fingerprint_of(file))


def fingerprint_of(path: Path) -> str:
    from bertsmith.data.read import read
    from bertsmith.recipe import Read
    from bertsmith.record import data_fingerprint

    return data_fingerprint(read(path, Read()))


def test_pairs_train_and_answer(tiny_encoder, tmp_path):
    """Two texts a row: the model learns from both and answers as transformers does."""
    from transformers import pipeline

    rows = [
        (first, second, label) for (first, label), (second, _) in zip(toy_rows(120), toy_rows(120, seed=2), strict=True)
    ]
    data = write_csv(tmp_path / "pairs.csv", ["premise", "hypothesis", "label"], rows)
    run = quick(data, tmp_path / "run", tiny_encoder)
    info = load_info(run.path / "model")
    assert (info.pair, info.columns) == (True, {"text": "premise", "text_pair": "hypothesis"})
    firsts, seconds = [row[0] for row in rows[:9]], [row[1] for row in rows[:9]]
    ours = bertsmith.load(run.path).predict(firsts, seconds)
    plain = pipeline("text-classification", model=str(run.path / "model"), device="cpu")
    for first, second, answer in zip(firsts, seconds, ours, strict=True):
        found = plain({"text": first, "text_pair": second}, truncation=True)
        found = found[0] if isinstance(found, list) else found
        assert found["label"] == answer.label
        assert found["score"] == pytest.approx(answer.score, abs=1e-5)


def test_evaluate_on_a_file_is_scikit_learns_accuracy(run, tmp_path, capsys):
    """`evaluate RUN DATA` scores the answers that predict gives, by scikit-learn's definitions."""
    rows = [(text, "neutral" if place % 3 == 0 else label) for place, (text, label) in enumerate(toy_rows(60, seed=8))]
    data = write_csv(tmp_path / "new.csv", ["text", "label"], rows)
    said = say(capsys, "evaluate", run.path, data, "--json")
    found = json.loads(said.out)
    answers = [each.guess for each in bertsmith.load(run.path).predict([text for text, _ in rows])]
    gold = [label for _, label in rows]
    assert (said.code, said.err) == (0, "")
    assert (found["task"], found["labels"], found["source"]) == ("single-label", run.scores["labels"], str(data))
    assert found["test"]["rows"] == 60
    assert found["test"]["accuracy"]["value"] == pytest.approx(accuracy_score(gold, answers))
    assert found["test"]["macro_f1"]["value"] == pytest.approx(f1_score(gold, answers, average="macro"))
    assert 0.5 < accuracy_score(gold, answers) < 1
    given = [each for each in bertsmith.load(run.path).predict([text for text, _ in rows]) if not each.unknown]
    assert found["decide"]["test"]["coverage"]["value"] == pytest.approx(len(given) / 60)
    assert found["out_of_scope"]["test"]["rows"] == 60


def test_evaluate_shows_the_runs_own_scores(run, capsys):
    """`evaluate RUN` gives again what was scored once, as JSON and as a table."""
    found = json.loads(say(capsys, "evaluate", run.path, "--json").out)
    assert found == {
        "task": "single-label", "labels": run.scores["labels"], "test": run.scores["test"],
        "source": f"test rows of {run.path}", "decide": {"test": run.scores["decide"]["test"]},
        "out_of_scope": run.scores["out_of_scope"],
    }  # fmt: skip
    told = say(capsys, "evaluate", run.path)
    accuracy = run.scores["test"]["accuracy"]
    assert told.out.splitlines()[:2] == [
        f"40 rows, 95 % intervals  (test rows of {run.path})",
        f"  accuracy {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]",
    ]
    assert told.err == ""


def test_force_replaces_a_run(tiny_encoder, toy_csv, tmp_path):
    """A finished run is replaced only when that is said, and then as a whole."""
    first = quick(toy_csv, tmp_path / "run", tiny_encoder, seed=1)
    before = weights(first)
    with pytest.raises(UsageError, match="holds a finished run"):
        quick(toy_csv, tmp_path / "run", tiny_encoder, seed=2)
    assert weights(first) == before
    second = quick(toy_csv, tmp_path / "run", tiny_encoder, seed=2, force=True)
    assert weights(second) != before


def test_refused_data_leave_nothing_behind(tiny_encoder, tmp_path):
    """When the data will not do, there is no folder at --out, and a run that was there stays."""
    bad = write_csv(tmp_path / "bad.csv", ["text", "label"], [("a b", "x"), ("c d", "x")])
    with pytest.raises(DataError):
        quick(bad, tmp_path / "run", tiny_encoder)
    assert not (tmp_path / "run").exists()


def test_a_killed_run_never_answers(tiny_encoder, toy_csv, tmp_path, capsys):
    """SIGKILL in the middle of fit: no model that loads, `unfinished` by name, and --force trains it again."""
    out = tmp_path / "run"
    long = flags({**SETTINGS, "epochs": 60000})
    command = [sys.executable, "-m", "bertsmith", "train", toy_csv, "--out", out, "--encoder", tiny_encoder, *long]
    with subprocess.Popen(
        [str(each) for each in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (out / "history.jsonl").is_file():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with pytest.raises(UsageError) as caught:
        run_folder.open_run(out)
    assert str(caught.value) == (
        f"{out}: the run did not come to its end (no manifest.json).\n  Go on with it: bertsmith train --resume {out}"
    )
    with pytest.raises(BundleError):
        bertsmith.load(out)
    assert say(capsys, "predict", out, "text").code == 2
    refused = say(capsys, "train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(QUICK))
    assert refused.err == (
        f"ERROR  {out}: holds an unfinished run.\n"
        f"TIP    Go on with it: bertsmith train --resume {out}. Or replace it with --force.\n"
    )
    again = say(capsys, "train", toy_csv, "--out", out, "--encoder", tiny_encoder, *flags(QUICK), "--force")
    assert again.code == 0, again.err
    assert run_folder.open_run(out).is_whole


def test_labels_are_kept_as_they_are_written(tiny_encoder, tmp_path):
    """Commas, quotes, blanks, other scripts, "null" and numbers: the model answers in the user's own strings."""
    names = {"positive": 'a, "quoted" label', "negative": " null ", "neutral": "中立 😐"}
    rows = [(text, names[label]) for text, label in toy_rows(200)]
    run = quick(write_csv(tmp_path / "data.csv", ["text", "label"], rows), tmp_path / "run", tiny_encoder)
    assert run.scores["labels"] == sorted(names.values())
    config = json.loads((run.path / "model" / "config.json").read_text(encoding="utf-8"))
    assert [config["id2label"][str(place)] for place in range(3)] == run.scores["labels"]
    assert {each.guess for each in bertsmith.load(run.path).predict([text for text, _ in rows])} <= set(names.values())


def test_the_recipe_says_what_was_used(run, toy_csv, tiny_encoder):
    """Nothing is `auto` in the recipe of a run, and its data is an absolute path."""
    text = (run.path / "recipe.toml").read_text(encoding="utf-8")
    assert not re.search(r'= "auto"', text.replace('dropout = "auto"', ""))
    recipe = bertsmith.Recipe.load(run.path / "recipe.toml")
    assert recipe.read.data == str(toy_csv.resolve())
    assert recipe.fit.encoder == str(tiny_encoder)
    assert recipe.text.max_length == run.scores["model"]["max_length"]


def test_a_run_repeats_from_another_folder(tiny_encoder, toy_csv, tmp_path, monkeypatch):
    """A recipe with a relative encoder folder works wherever it is called from."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "encoder").symlink_to(tiny_encoder)
    monkeypatch.chdir(tmp_path / "here")
    first = quick(toy_csv, tmp_path / "first", "encoder")
    monkeypatch.chdir(tmp_path)
    again = bertsmith.train(toy_csv, out=tmp_path / "again", recipe=bertsmith.Recipe.load(first.path / "recipe.toml"))
    assert weights(again) == weights(first)


def test_no_texts_means_no_word_anywhere(tiny_encoder, tmp_path):
    """With texts=False not even a rare word of the data (a name, a number) stands in a file of the run."""
    word = MARKER.split(maxsplit=1)[0]
    rows = [(f"{text} {word}" if place % 9 == 0 else text, label) for place, (text, label) in enumerate(toy_rows(200))]
    run = quick(write_csv(tmp_path / "data.csv", ["text", "label"], rows), tmp_path / "run", tiny_encoder, texts=False)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert [path.name for path in files if has_marker(path, word)] == []


def test_force_deletes_nothing_that_is_the_users(tiny_encoder, toy_csv, tmp_path):
    """A file that somebody put into a run (notes, or the data itself) survives --force."""
    run = quick(toy_csv, tmp_path / "run", tiny_encoder)
    (run.path / "notes.txt").write_text("years of work")
    with contextlib.suppress(UsageError):
        quick(toy_csv, tmp_path / "run", tiny_encoder, force=True)
    assert (run.path / "notes.txt").read_text() == "years of work"


def test_a_folder_of_the_embedded_encoders_name_does_not_take_its_place(toy_csv, tmp_path, monkeypatch):
    """`minilm` means the embedded encoder, in the run and in the recipe that repeats it, whatever lies beside."""
    from bertsmith.prepare import prepare, resolved

    (tmp_path / "minilm").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = bertsmith.Recipe.of(precision="fp32", device="cpu")
    assert resolved(recipe, prepare(toy_csv, recipe=recipe), toy_csv).fit.encoder == "minilm"
