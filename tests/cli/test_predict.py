"""predict: texts and files go in, answers come out, and nothing of the user's is changed."""

from __future__ import annotations

import csv
import gzip
import io
import json

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import bertsmith
from tests.cli.finished import Said, finished_run, say
from tests.conftest import toy_rows

ROWS = toy_rows(30, seed=4)
TEXTS = [text for text, _ in ROWS]
ODD = ["-5 stars", "- bad food", "--- good", "-x", "Grüße 你好 😀", 'she said "no", then left', "", "a\tb"]


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv)


@pytest.fixture(scope="module")
def answers(run):
    """What the Predictor says to the texts."""
    return run.predictor(device="cpu").predict(TEXTS)


def read_csv(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def lines_of(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_json_is_one_object_a_line(run, capsys):
    """text, label, guess, score, unknown, out_of_scope, foreign: exactly these, in order, one line a text."""
    said = say(capsys, "predict", run.path, "good food", "bad staff", "--json")
    predictor = bertsmith.load(run.path)
    assert said.code == 0
    assert lines_of(said.out) == [
        {"text": text, "label": each.label, "guess": each.guess, "score": each.score, "unknown": False,
         "out_of_scope": each.out_of_scope, "foreign": each.foreign}
        for text, each in zip(["good food", "bad staff"], predictor.predict(["good food", "bad staff"]), strict=True)
    ]  # fmt: skip
    assert list(lines_of(said.out)[0]) == ["text", "label", "guess", "score", "unknown", "out_of_scope", "foreign"]
    assert said.err == ""


def test_scores_are_those_of_every_label(run, capsys):
    """--scores adds the probability of each label; they add up to one."""
    [line] = lines_of(say(capsys, "predict", run.path, "good food", "--json", "--scores").out)
    assert list(line) == ["text", "label", "guess", "score", "unknown", "out_of_scope", "foreign", "scores"]
    assert list(line["scores"]) == ["negative", "neutral", "positive"]
    assert sum(line["scores"].values()) == pytest.approx(1)
    assert max(line["scores"], key=line["scores"].get) == line["guess"]


def test_for_people_there_is_a_line_a_text(run, capsys):
    """Label, score, text; with --scores the labels below, the most probable first."""
    [answer] = bertsmith.load(run.path).predict(["good  food"])
    ranked = sorted(answer.scores.items(), key=lambda each: -each[1])
    said = say(capsys, "predict", run.path, "good  food", "--scores")
    assert said.out == f"{answer.label}  {answer.score:.3f}  good food\n" + "".join(
        f"  {score:.3f}  {label}\n" for label, score in ranked
    )


@pytest.mark.parametrize("text", ODD)
def test_any_text_is_a_text(run, capsys, text):
    """Hyphens in front, quotes, other scripts, nothing at all: each is answered as the Predictor does."""
    said = say(capsys, "predict", run.path, "--json", text)
    [line] = lines_of(said.out)
    assert line["text"] == text
    assert line["label"] == bertsmith.load(run.path).predict([text])[0].label


def test_after_a_lone_hyphen_pair_flags_are_texts(run, capsys):
    """What is spelled like a flag, or nearly so, can be asked all the same."""
    said = say(capsys, "predict", run.path, "--json", "--", "--scores", "--scorse", "--in")
    assert [line["text"] for line in lines_of(said.out)] == ["--scores", "--scorse", "--in"]


def test_a_hyphen_reads_stdin(run, monkeypatch, capsys):
    """One text a line, blank ones too, the line ends gone; with other texts in their order."""
    monkeypatch.setattr("sys.stdin", io.StringIO("good food\n\n- bad\r\n", newline=""))
    said = say(capsys, "predict", run.path, "first", "-", "--json")
    assert said.code == 0, said.err
    assert [line["text"] for line in lines_of(said.out)] == ["first", "good food", "", "- bad"]
    assert said.err == ""


def test_empty_stdin_is_no_text(run, monkeypatch, capsys):
    """Nothing on stdin is said, not answered with nothing."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert say(capsys, "predict", run.path, "-") == Said(
        2, "", 'ERROR  no text to answer.\nTIP    bertsmith predict RUN "text", or --in FILE, or - for stdin.\n'
    )


def test_the_model_folder_alone_answers_as_the_run(run, tmp_path, capsys):
    """RUN/model can be copied elsewhere and gives the same answers."""
    import shutil

    shutil.copytree(run.path / "model", tmp_path / "alone")
    alone = say(capsys, "predict", tmp_path / "alone", *TEXTS[:5], "--json")
    assert alone.out == say(capsys, "predict", run.path, *TEXTS[:5], "--json").out
    assert alone.code == 0


def write_table(path, table: dict[str, list]) -> None:
    """Write with polars or plain Python, never with what is tested."""
    frame = polars.DataFrame(table)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        text = frame.write_csv(separator="\t" if ".tsv" in path.name else ",")
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.mark.parametrize("target", ["out.csv", "out.tsv", "out.jsonl", "out.parquet"])
@pytest.mark.parametrize("source", ["in.csv", "in.tsv", "in.jsonl", "in.parquet", "in.csv.gz"])
def test_files_of_every_format_keep_their_columns(run, answers, tmp_path, capsys, source, target):
    """All columns of the input unchanged and in order, then the answers; rows in order, none lost."""
    table = {"nr": [str(1000 + n) for n in range(30)], "text": TEXTS, "note": ["NA", 'say "x", y', "null"] * 10}
    write_table(tmp_path / source, table)
    said = say(capsys, "predict", run.path, "--in", tmp_path / source, "--out", tmp_path / target)
    assert (said.code, said.err) == (0, "")
    assert said.out == (
        "predict   30 rows, answers in columns 'label', 'guess', 'score', 'unknown', 'out_of_scope' and 'foreign'  "
        f"({tmp_path / target})\n"
    )
    readers = {
        ".csv": lambda path: polars.read_csv(path, infer_schema_length=0),
        ".tsv": lambda path: polars.read_csv(path, infer_schema_length=0, separator="\t"),
        ".jsonl": polars.read_ndjson,
        ".parquet": polars.read_parquet,
    }
    found = readers[(tmp_path / target).suffix](tmp_path / target)
    assert found.columns == [*table, "label", "guess", "score", "unknown", "out_of_scope", "foreign"]
    assert {name: found[name].to_list() for name in table} == table
    assert found["label"].to_list() == [each.label for each in answers]
    assert [float(score) for score in found["score"]] == pytest.approx([each.score for each in answers], abs=1e-5)
    assert {str(each).lower() for each in found["unknown"]} == {"false"}


def test_own_columns_of_our_names_are_kept(run, tmp_path, capsys):
    """A `label` in the file stays what it is; the answers are then called predicted_label and so on."""
    write_table(tmp_path / "in.csv", {"text": TEXTS, "label": ["kept"] * 30})
    said = say(
        capsys, "predict", run.path, "--in", tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--scores", "--json"
    )
    assert json.loads(said.out) == {
        "rows": 30, "cut": 0, "repeated": 0, "bad": 0, "out": str(tmp_path / "out.csv"),
        "columns": {
            "label": "predicted_label", "guess": "predicted_guess", "score": "predicted_score",
            "unknown": "predicted_unknown", "out_of_scope": "predicted_out_of_scope", "foreign": "predicted_foreign",
        },
    }  # fmt: skip
    rows = read_csv(tmp_path / "out.csv")
    assert list(rows[0]) == [
        "text", "label", "predicted_label", "predicted_guess", "predicted_score", "predicted_unknown",
        "predicted_out_of_scope", "predicted_foreign", "predicted_score:negative", "predicted_score:neutral", "predicted_score:positive",
    ]  # fmt: skip
    assert {row["label"] for row in rows} == {"kept"}
    assert all(float(row[f"predicted_score:{row['predicted_guess']}"]) == float(row["predicted_score"]) for row in rows)


def test_answers_can_be_scored_again(run, tmp_path, capsys):
    """A file of answers goes through once more without a clash of names."""
    write_table(tmp_path / "a.csv", {"text": TEXTS})
    for source, target in (("a.csv", "b.csv"), ("b.csv", "c.csv"), ("c.csv", "d.csv")):
        assert say(capsys, "predict", run.path, "--in", tmp_path / source, "--out", tmp_path / target).code == 0
    columns = list(read_csv(tmp_path / "d.csv")[0])
    assert len(set(columns)) == len(columns) == 1 + 3 * 6
    assert columns[-1] == "predicted_predicted_foreign"


def test_types_of_json_and_parquet_survive(run, tmp_path, capsys):
    """Numbers, truth values, nothing, lists and objects of a JSONL file are the same in a JSONL file of answers."""
    given = [
        {
            "id": 1,
            "text": "good food",
            "meta": {"a": [1, None]},
            "tags": ["x"],
            "flag": True,
            "price": 0.5,
            "day": "2026-01-01",
        },
        {"id": 2, "text": "bad", "meta": None, "tags": [], "flag": None, "price": None, "day": ""},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(each) + "\n" for each in given))
    said = say(capsys, "predict", run.path, "--in", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl")
    assert said.code == 0
    found = lines_of((tmp_path / "out.jsonl").read_text())
    assert [{name: each[name] for name in given[0]} for each in found] == given

    table = pa.table(
        {
            "text": ["good food", None],
            "lists": pa.array([[1, 2], None]),
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "when": pa.array([0, None], pa.timestamp("us")),
            "size": pa.array([float("nan"), 1.5]),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    for ending in ("parquet", "jsonl", "csv"):
        said = say(capsys, "predict", run.path, "--in", tmp_path / "in.parquet", "--out", tmp_path / f"typed.{ending}")
        assert (said.code, said.err) == (0, "")
    given, found = (
        pq.read_table(tmp_path / name).select(table.column_names) for name in ("in.parquet", "typed.parquet")
    )
    assert found.schema.equals(given.schema)
    assert str(found.to_pydict()) == str(given.to_pydict())
    first, second = lines_of((tmp_path / "typed.jsonl").read_text())
    assert (first["lists"], first["size"], second["text"], second["kind"]) == ([1, 2], None, None, "b")
    assert [row["lists"] for row in read_csv(tmp_path / "typed.csv")] == ["[1, 2]", ""]


def test_a_file_may_replace_itself(run, tmp_path, capsys):
    """--in and --out may be the same file."""
    write_table(tmp_path / "a.csv", {"text": TEXTS})
    assert say(capsys, "predict", run.path, "--in", tmp_path / "a.csv", "--out", tmp_path / "a.csv").code == 0
    assert [row["text"] for row in read_csv(tmp_path / "a.csv")] == TEXTS


def test_without_out_the_answers_are_printed(run, answers, tmp_path, capsys):
    """--in alone prints a line a row, also where the text column has another name than in training."""
    write_table(tmp_path / "in.csv", {"nr": [str(n) for n in range(30)], "review": TEXTS})
    said = say(capsys, "predict", run.path, "--in", tmp_path / "in.csv", "--json")
    assert [(line["text"], line["label"]) for line in lines_of(said.out)] == [
        (text, each.label) for text, each in zip(TEXTS, answers, strict=True)
    ]


def test_the_trained_columns_name_wins_over_guessing(run, tmp_path, capsys):
    """A file with several columns of text is read by the name that the text had in training."""
    write_table(tmp_path / "in.csv", {"review": ["bad awful rude food"] * 30, "text": TEXTS})
    said = say(capsys, "predict", run.path, "--in", tmp_path / "in.csv", "--json")
    assert [line["text"] for line in lines_of(said.out)] == TEXTS
    said = say(capsys, "predict", run.path, "--in", tmp_path / "in.csv", "--json", "--text", "review")
    assert {line["text"] for line in lines_of(said.out)} == {"bad awful rude food"}


def test_cut_texts_are_told(run, tmp_path, capsys):
    """How many texts were longer than the model reads is said, never kept quiet."""
    write_table(tmp_path / "in.csv", {"text": ["good food", "good " * 300, "bad " * 200]})
    said = say(capsys, "predict", run.path, "--in", tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    length = run.scores["model"]["max_length"]
    assert said.out == (
        "predict   3 rows, answers in columns 'label', 'guess', 'score', 'unknown', 'out_of_scope' and 'foreign'; "
        f"2 texts were longer than {length} tokens and were cut  ({tmp_path / 'out.csv'})\n"
    )
