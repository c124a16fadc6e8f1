"""What a run writes down when it goes on: the same names, and the seconds of all who trained it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsmith.examples import Columns, Examples, Prediction
from bertsmith.record import as_named, history_of, seconds_kept, write_predictions
from bertsmith.run_folder import RunFolder
from bertsmith.tasks.single_label import SingleLabel
from tests.tasks.made import examples_of, rows_of


def of_files(*names: str) -> Examples:
    file = pa.array(list(names)).dictionary_encode()
    table = pa.table({"text": ["a"] * len(names), "file": file, "row": pa.array(range(1, len(names) + 1))})
    return Examples(table, Columns("text"), names[0])


@pytest.fixture
def begun(tmp_path: Path) -> RunFolder:
    """A run that began with two files by relative paths."""
    run = RunFolder(tmp_path)
    first = of_files("data/a.csv", "data/a.csv", "test.csv")
    pq.write_table(first.table.select(["file", "row"]), run.split)
    run.data.write_text(json.dumps({"source": first.source}))
    return run


def test_a_run_that_goes_on_keeps_the_names_of_its_files(begun: RunFolder) -> None:
    """Read again by absolute paths, rows and source get the names that the run began with; nothing else changes."""
    again = of_files("/home/me/data/a.csv", "/home/me/data/a.csv", "/home/me/test.csv")
    found = as_named(again, begun)
    assert (found.source, found.column("file").to_pylist()) == ("data/a.csv", ["data/a.csv", "data/a.csv", "test.csv"])
    assert found.table.schema == again.table.schema
    assert found.table.drop_columns("file").equals(again.table.drop_columns("file"))


def test_a_run_that_was_killed_before_its_split_was_written_is_left_as_it_is(begun: RunFolder) -> None:
    """Without split.parquet there are no names to take."""
    begun.split.unlink()
    again = of_files("/home/me/data/a.csv")
    assert as_named(again, begun) is again


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ([], ["1", "2"], 0.0),
        (["1", "2"], ["3"], 0.0),
        (["1", "2", "3"], ["1", "2", "2.5", "4"], 2.0),
        (["1", "2"], ["1", "2"], 2.0),
    ],
)
def test_seconds_of_earlier_trainings_that_were_gone_on_with(
    begun: RunFolder, before: list[str], after: list[str], kept: float
) -> None:
    """Lines that still stand at the beginning of the history were trained before; the last of them says how long."""
    lines = [[json.dumps({"step": 1, "seconds": float(each)}) for each in part] for part in (before, after)]
    begun.history.write_text("".join(f"{line}\n" for line in lines[1]))
    assert seconds_kept(lines[0], history_of(begun)) == kept
    begun.history.unlink()
    assert history_of(begun) == []


def test_predictions_say_which_texts_are_from_elsewhere(begun: RunFolder) -> None:
    """Beside each score of scope stands whether it is beyond the threshold; without a scope neither is there."""
    task = SingleLabel()
    rows = rows_of(task, examples_of(label=["a", "b"]))
    placed = [Prediction("a", "a", 0.9).placed(score, foreign=score > 2, refuse=False) for score in (1.0, 3.0)]
    write_predictions(begun, task, {"test": rows}, {"test": placed}, texts=False)
    table = pq.read_table(begun.predictions)
    assert table.select(["label", "out_of_scope", "foreign"]).to_pydict() == {
        "label": ["a", "a"], "out_of_scope": [1.0, 3.0], "foreign": [False, True],
    }  # fmt: skip
    assert [list(each.as_json()) for each in (placed[1], Prediction("a", "a", 0.9))] == [
        ["label", "guess", "score", "unknown", "out_of_scope", "foreign"], ["label", "guess", "score", "unknown"],
    ]  # fmt: skip
    write_predictions(begun, task, {"test": rows}, {"test": [Prediction("a", "a", 0.9)] * 2}, texts=False)
    assert pq.read_table(begun.predictions).column_names[-5:] == ["label", "guess", "score", "unknown", "scores"]
