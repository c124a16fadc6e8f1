"""Scoring files: what goes through comes out as it was, with an answer beside it."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsmith.errors import DataError, UsageError
from bertsmith.examples import LabelSet
from bertsmith.listener import Silent
from bertsmith.recipe import Read
from bertsmith.scoring import files
from bertsmith.scoring.answers import AnswerColumns
from bertsmith.scoring.files import score_file
from bertsmith.scoring.writers import open_writer
from bertsmith.tasks.single_label import SingleLabel

# Any character that a file can hold: no surrogates, no NUL.
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


class Stub:
    """Answers "even" or "odd" by the number of characters, and remembers how many rows came at once."""

    labels = LabelSet(("even", "odd"))
    task = SingleLabel()
    has_scores = True

    answer_schema = task.answer_schema()

    def __init__(self, *, pair: bool = False) -> None:
        self.info = SimpleNamespace(columns={"text": "text"}, pair=pair, max_length=9)
        self.batches: list[int] = []

    def rows(self, texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None = None, *, words: Any = None) -> Any:
        """Keep the texts; those of more than nine characters count as cut."""
        assert words is None
        rows = texts.to_pylist()
        if pairs is not None:
            rows = [text + pair for text, pair in zip(rows, pairs.to_pylist(), strict=True)]
        self.batches.append(len(rows))
        cut = np.array([max(0, len(row) - 9) for row in rows])
        return SimpleNamespace(texts=rows, encoded=SimpleNamespace(tokens_cut=cut), labels=self.labels)

    def answer(self, rows: Any) -> Any:
        """Give a logit of five to the right answer."""
        odd = np.array([len(row) % 2 for row in rows.texts])
        logits = np.stack([1 - odd, odd], axis=1).astype(np.float32) * 5
        return self.task.decode(rows, self.task.probabilities(logits), {})


def expected(text: str) -> str:
    return ("even", "odd")[len(text) % 2]


def score(source: Path, target: Path, *, stub: Stub | None = None, scores: bool = False, **read: str) -> files.Scored:
    return score_file(stub or Stub(), source, target, asked=files.Asked(Read(**read), scores), listener=Silent())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12), ending=st.sampled_from([".csv", ".tsv"]))
def test_any_text_survives_a_delimited_file(rows, ending):
    """Quotes, separators, line ends and any script: Python's csv module reads back what it wrote, and the answers."""
    delimiter = "," if ending == ".csv" else "\t"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / f"in{ending}", Path(folder) / f"out{ending}"
        with source.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writerows([["text", "other"], *rows])
        done = score(source, target)
        with target.open(encoding="utf-8", newline="") as file:
            header, *found = csv.reader(file, delimiter=delimiter)
    assert header == ["text", "other", "label", "guess", "score", "unknown"]
    assert [tuple(row[:3]) for row in found] == [(*row, expected(row[0])) for row in rows]
    assert (done.rows, done.cut) == (len(rows), sum(len(text) > 9 for text, _ in rows))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "text": st.one_of(CELLS, st.just("\r\n")),
                "number": st.one_of(st.none(), st.integers(-(2**52), 2**52)),
                "any": st.recursive(
                    st.none() | st.booleans() | st.integers(-9, 9),
                    lambda inner: (
                        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
                    ),
                    max_leaves=4,
                ),
            }
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_object_survives_a_json_file(rows):
    """What json wrote comes back the same beside the answers; a column of mixed kinds comes back as JSON text."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        score(source, target)
        found = [json.loads(line) for line in target.read_bytes().split(b"\n")[:-1]]
    for row, back in zip(rows, found, strict=True):
        assert (back["text"], back["number"], back["label"]) == (row["text"], row["number"], expected(row["text"]))
        assert back["any"] == row["any"] or json.loads(back["any"]) == row["any"]


def test_rows_come_in_their_order_across_batches(tmp_path, monkeypatch):
    """More rows than are answered at once: each gets its own answer, at most so many at a time."""
    monkeypatch.setattr(files, "ROWS", 7)
    rows = ["x" * (n % 13) + str(n) for n in range(50)]
    (tmp_path / "in.csv").write_text("text\n" + "\n".join(rows) + "\n")
    stub = Stub()
    score(tmp_path / "in.csv", tmp_path / "out.csv", stub=stub)
    with (tmp_path / "out.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["text"], row["label"]) for row in found] == [(text, expected(text)) for text in rows]
    assert stub.batches == [7] * 7 + [1]


def test_scores_are_in_the_order_of_the_labels(tmp_path):
    """A column for each label, named score:LABEL, holding its probability."""
    (tmp_path / "in.csv").write_text("text\nab\nabc\n")
    done = score(tmp_path / "in.csv", tmp_path / "out.csv", scores=True)
    assert done.columns == AnswerColumns(SingleLabel().answer_schema(), "", ("even", "odd"))
    with (tmp_path / "out.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    high = 1 / (1 + np.exp(-5))
    assert [float(first["score:even"]), float(second["score:odd"])] == pytest.approx([high, high])
    assert [float(first["score:odd"]), float(second["score:even"])] == pytest.approx([1 - high, 1 - high])


def test_pairs_are_read_as_pairs(tmp_path):
    """A model of pairs gets both texts, and says when there is no second one."""
    (tmp_path / "in.csv").write_text("text,text_pair\na,bc\nab,cd\n")
    score(tmp_path / "in.csv", tmp_path / "out.csv", stub=Stub(pair=True))
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["odd", "even"]
    (tmp_path / "in.csv").write_text("text\na\n")
    with pytest.raises(DataError) as caught:
        score(tmp_path / "in.csv", tmp_path / "out.csv", stub=Stub(pair=True))
    assert str(caught.value) == (
        f"{tmp_path / 'in.csv'}: no column with the second text; this model was trained on pairs.\n"
        "  Name it with --text-pair COLUMN."
    )


def test_an_encoding_can_be_named(tmp_path):
    """A file that is not UTF-8 is read as what it is said to be, and written as UTF-8."""
    (tmp_path / "in.csv").write_bytes("text\nthé\n".encode("cp1252"))
    score(tmp_path / "in.csv", tmp_path / "out.csv", encoding="cp1252")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()[1].startswith('"thé"')


@pytest.mark.parametrize(
    ("names", "prefix"),
    [([], ""), (["text"], ""), (["label"], "predicted_"), (["score"], "predicted_"), (["score:odd"], "predicted_"),
     (["unknown", "predicted_guess"], "predicted_predicted_")],
)  # fmt: skip
def test_all_names_get_the_prefix_or_none(names, prefix):
    """One clash renames all of our columns alike, so that a reader finds them by one rule."""
    found = AnswerColumns.beside(names, SingleLabel().answer_schema(), labels=("even", "odd"))
    assert found.names == {part: prefix + part for part in ("label", "guess", "score", "unknown")}
    own = [f"own {place}" for place in range(2)]
    assert found.schema(pa.schema([(name, pa.string()) for name in own])).names == [
        *own, *found.names.values(), f"{prefix}score:even", f"{prefix}score:odd",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    """The reason of the system is part of the words."""
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "out.csv"
    with pytest.raises(UsageError) as caught, open_writer(target, pa.schema([("text", pa.string())])):
        pass
    assert str(caught.value) == f"{target}: cannot be written: File exists.\n  Choose another --out."


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_half_a_file_of_answers_is_never_there(tmp_path, ending):
    """An input that breaks after many answers leaves what was at --out before, and no litter; a whole one replaces it."""
    rows = [f"{number},{number}{'x' * 2000}" for number in range(3000)]
    source, target = tmp_path / "in.csv", tmp_path / f"out.{ending}"
    source.write_text("\n".join(["number,text", *rows, "1,2,3", ""]))
    for old in ("", "the old answers"):
        target.write_text(old) if old else target.unlink(missing_ok=True)
        stub = Stub()
        with pytest.raises(DataError, match=r"row 3001 \(line 3002\): 3 cells found, 2 expected"):
            score(source, target, stub=stub)
        assert sum(stub.batches) > 1000
        assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", *([target.name] if old else [])]
        assert not old or target.read_text() == old
    source.write_text("\n".join(["number,text", *rows[:9], ""]))
    assert score(source, target).rows == 9
    assert target.read_bytes() != b"the old answers"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", target.name]
