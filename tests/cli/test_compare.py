"""bertsmith compare: a table, a sentence, one JSON object; nothing heavy is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bertsmith.cli.compare import compare
from tests.cli.finished import finished_run
from tests.evaluation.written_runs import right_on, write_labelled

NOTE = "the runs do not have the same test rows (a has 100, b has 90): they are compared on the 90 that all have."


@pytest.fixture
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two runs, of which the second is better and has fewer test rows."""
    monkeypatch.chdir(tmp_path)
    a = write_labelled(Path("a"), ["good"] * 100, right_on(100, slice(0, 40)))
    return a, write_labelled(Path("b"), ["good"] * 90, right_on(90, slice(0, 81)))


def test_compare_prints_a_table_and_ends_in_a_sentence(two_runs: tuple[Path, Path], capsys: Any) -> None:
    """Standard output has the runs, the differences in points, McNemar's test and the verdict; notes go to stderr."""
    assert compare(*two_runs) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "90 test rows that both runs answered, 95 % intervals  (single-label)"
    assert [line.split("  ")[0] for line in lines[1:-1]] == ["", "run", "a", "b", "", "difference", "b - a", ""]
    assert lines[2].split() == ["run", "accuracy", "macro-F1"]
    assert lines[3].split()[:4] == ["a", "0.444", "[0.346,", "0.547]"]
    assert lines[6] == "difference  accuracy, points      macro-F1, points      right alone  McNemar's p"
    assert lines[7].split()[3] == "+45.6"
    assert lines[7].endswith("41 : 0       <0.001")
    low, high = lines[7].split("[+")[1].split("]")[0].split(", +")
    assert lines[-1] == f"b is better than a by 45.6 points of accuracy [{low}, {high}]"
    assert told.err.split() == ["warning", *NOTE.split()]


def test_compare_of_three_runs_says_that_intervals_hold_at_once(two_runs: tuple[Path, Path], capsys: Any) -> None:
    """With more than two runs there is a line for every pair, and the first line says how intervals are meant."""
    third = write_labelled(Path("c"), ["good"] * 90, right_on(90, slice(0, 80)))
    assert compare(*two_runs, third) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "90 test rows that all 3 runs answered, 95 % intervals, those of the 3 differences all at once  (single-label)"
    )
    assert [line[:5] for line in lines[8:11]] == ["b - a", "c - a", "c - b"]
    assert lines[10].endswith("0 : 1        1.000")


def test_compare_with_json_prints_one_object(two_runs: tuple[Path, Path], capsys: Any) -> None:
    """With --json standard output is one line of JSON, with the verdict and the notes."""
    assert compare(*two_runs, as_json=True) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert told.out.count("\n") == 1
    assert list(found) == ["task", "rows", "rows_needed", "metric", "runs", "pairs", "notes", "sentence"]
    assert (found["pairs"][0]["better"], found["rows"], found["notes"]) == ("b", 90, [NOTE])


def test_a_trained_run_can_be_compared(tiny_encoder: Path, toy_csv: Path, tmp_path: Path, capsys: Any) -> None:
    """What `train` wrote is read: the scores are those of scores.json, and a copy of a run does not differ from it."""
    run = finished_run(tiny_encoder, toy_csv)
    copy = shutil.copytree(run.path, tmp_path / "copy")
    assert compare(run.path, copy, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    test = json.loads((run.path / "scores.json").read_text())["test"]
    assert [each["metrics"]["accuracy"] for each in found["runs"]] == [test["accuracy"]] * 2
    assert found["rows"] == test["rows"]
    assert found["pairs"][0]["better"] is None
    assert found["sentence"].startswith("these runs do not differ: copy minus finished is +0.0 points of accuracy [")


def test_compare_loads_no_model_library(two_runs: tuple[Path, Path]) -> None:
    """Neither torch nor transformers nor scikit-learn is loaded, so that the answer is there at once."""
    code = (
        "import sys; from pathlib import Path; from bertsmith.cli.compare import compare; compare(Path('a'), Path('b'));"
        "print({'torch', 'transformers', 'sklearn', 'captum', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "set()"
    assert done.stderr.split() == ["warning", *NOTE.split()]
