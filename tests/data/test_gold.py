"""Gold answers: labels in all their shapes and numbers become canonical, and the task is told from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.data.read import read
from bertsmith.data.roles import as_settings, levels_of, role_of, task_of
from bertsmith.errors import BertsmithError, DataError, RecipeError, UsageError
from bertsmith.recipe import Read, Recipe

TEXTS = ["a", "b", "c"]
CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=4)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str) -> str:
    Path(name).write_bytes(content.encode())
    return name


def gold(data: Any, column: str, **wanted: str) -> list[Any]:
    examples = read(data, Read(**wanted))
    assert role_of(examples) in {column, "label"}
    return list(examples.column(column).to_pylist())


def told(data: Any, **wanted: str) -> str:
    return read(data, Read(**wanted)).notes[1]


def error_of(data: Any, kind: type[BertsmithError] = DataError, **wanted: str) -> str:
    with pytest.raises(kind) as caught:
        read(data, Read(**wanted))
    assert type(caught.value) is kind
    return str(caught.value)


def sources(labels: list[Any]) -> list[Any]:
    """The same rows as JSONL, Parquet, dicts, pandas, datasets, and a CSV as pandas writes lists."""
    frame = {"text": [f"text {place}" for place in range(len(labels))], "labels": labels}
    rows = [dict(zip(frame, row, strict=True)) for row in zip(*frame.values(), strict=True)]
    pq.write_table(pa.table(frame), "a.parquet")
    pd.DataFrame(frame).to_csv("a.csv", index=False)
    return [
        write("a.jsonl", "\n".join(json.dumps(row) for row in rows)),
        write("a.json", json.dumps(rows, indent=1)),
        "a.parquet", rows, frame, pd.DataFrame(frame), datasets.Dataset.from_dict(frame), pa.table(frame), "a.csv",
    ]  # fmt: skip


def test_lists_of_labels_are_several_labels_wherever_they_come_from() -> None:
    """Lists of names stay as they are; an empty list is none of them."""
    labels = [["joy", "Joy "], [], ["anger"]]
    for data in sources(labels):
        assert gold(data, "labels") == labels
        assert told(data) == "task multi-label, since column 'labels' holds lists."


def test_class_ids_in_lists_become_names() -> None:
    """Whole numbers in lists are class ids, kept as text; so are those of a ClassLabel, by name."""
    for data in sources([[3], [1, 2], [20]]):
        assert gold(data, "labels") == [["3"], ["1", "2"], ["20"]]
    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.Sequence(datasets.ClassLabel(names=["x", "y"]))}
    )
    data = datasets.Dataset.from_dict({"text": TEXTS, "labels": [[1, 0], [], [1]]}, features=features)
    assert gold(data, "labels") == [["y", "x"], [], ["y"]]


def test_vectors_of_0_and_1_are_several_labels() -> None:
    """Lists of 0 and 1 of equal lengths mark labels, which are called by their places."""
    for kind in (int, float, bool):
        for data in sources([[kind(0), kind(1), kind(1)], [kind(0)] * 3, [kind(1), kind(0), kind(0)]]):
            assert gold(data, "labels") == [["1", "2"], [], ["0"]]
            assert told(data) == "task multi-label, since column 'labels' holds lists of 0 and 1."


def test_one_hot_vectors_are_single_labels() -> None:
    """Lists with one 1 each are classes, as the Keras tutorials pass them; numpy's too."""
    for data in [*sources([[0, 1], [1, 0]]), [("a", [0.0, 1.0]), ("b", [1.0, 0.0])]]:
        assert gold(data, "label") == ["1", "0"]
        assert told(data).startswith("task single-label, since each list in column 'label")
    assert gold({"text": TEXTS, "label": np.eye(3, dtype=int)}, "label") == ["0", "1", "2"]
    assert gold({"text": TEXTS, "label": np.eye(3)}, "labels", task="multi-label") == [["0"], ["1"], ["2"]]


def test_shares_become_soft_labels() -> None:
    """Numbers that add up to 1 are the share of each class; the label is the largest, the first of equals."""
    for data in sources([[0.25, 0.75], [0.5, 0.5], [0.333, 0.6666]]):
        examples = read(data, Read())
        assert examples.column("label").to_pylist() == ["1", "0", "1"]
        shares = examples.column("shares").to_pylist()
        assert shares[0] == [{"name": "0", "share": 0.25}, {"name": "1", "share": 0.75}]
        assert [sum(each["share"] for each in row) for row in shares] == pytest.approx([1, 1, 1], abs=1e-12)
        assert examples.notes[1] == (
            "task single-label, since column 'labels' holds the share of each class (soft labels)."
        )


def test_shares_may_be_named() -> None:
    """Objects of shares name their classes; a class that one does not name has the share 0."""
    rows = [{"text": "a", "label": {"pos": 0.7, "neg": 0.3}}, {"text": "b", "label": {"neg": 1}}]
    for data in (rows, write("a.jsonl", "\n".join(json.dumps(row) for row in rows))):
        examples = read(data, Read())
        assert examples.column("label").to_pylist() == ["pos", "neg"]
        assert examples.column("shares").to_pylist()[1] == [
            {"name": "pos", "share": 0.0}, {"name": "neg", "share": 1.0},
        ]  # fmt: skip


def test_two_classes_are_enough_where_labels_are_soft() -> None:
    """The same class may be the largest everywhere, as long as another has a share."""
    assert gold({"text": ["a", "b"], "label": [[0.9, 0.1], [0.8, 0.2]]}, "label") == ["0", "0"]


def test_columns_of_0_and_1_are_several_labels() -> None:
    """Two columns of 0 and 1 and no label column are labels, called as the columns; or they are named."""
    jigsaw = write("a.csv", "id,comment_text,toxic,insult\n1,a,0,1\n2,b,1,1\n3,c,0,0\n")
    examples = read(jigsaw, Read())
    assert examples.column("labels").to_pylist() == [["insult"], ["toxic", "insult"], []]
    assert examples.columns.labels == ("toxic", "insult")
    assert examples.columns.used() == {"text": "comment_text", "id": "id", "labels": "toxic,insult"}
    assert examples.notes == (
        "text from column 'comment_text', id from column 'id', labels from columns 'toxic', 'insult'.",
        "task multi-label, since columns 'toxic', 'insult' hold 0 and 1.",
    )
    assert gold({"text": TEXTS, "p": [True, False, True], "q": [0, 1, 1]}, "labels") == [["p"], ["q"], ["p", "q"]]
    named = {"text": TEXTS, "label": ["p", "q", "q"], "x": [1, 0, 0], "y": [1, 1, 0], "z": [0, 0, 0]}
    assert gold(named, "labels", label="X, y") == [["x", "y"], ["y"], []]
    assert gold(named, "label") == ["p", "q", "q"]


def test_a_second_file_needs_the_same_columns_of_labels() -> None:
    """Rows for a side have their 0/1 columns under the same names, in any order."""
    write("v.csv", "text,b,a\nv,0,1\n")
    examples = read(write("a.csv", "text,a,b\nx,1,0\ny,0,1\n"), Read(validation="v.csv"))
    assert examples.column("labels").to_pylist() == [["a"], ["b"], ["a"]]
    assert examples.extra is None


def test_columns_are_named_again_by_settings() -> None:
    """What a run was told about its columns reads the same rows again, whatever their shape."""
    tokens = {"words": [["a", "b"], ["c"]], "pos": [["X", "Y"], ["X"]], "tags": [["U", "V"], ["U"]]}
    flags = {"text": TEXTS, "p": [0, 1, 1], "q": [0, 1, 0], "r": [1, 1, 0]}
    for data, wanted in ((tokens, {"label": "pos"}), (flags, {"label": "p,r"}), ({"t": TEXTS, "s": [0.5, 1, 2]}, {})):
        examples = read(data, Read(**wanted, **({} if "words" in data else {"task": ""})))
        again = Read(task=task_of(examples, Read()), **as_settings(examples.columns.used()))
        assert read(data, again, labelled=False).table == examples.table


def test_lists_in_another_file_stay_lists() -> None:
    """Where cells are cut in one file, another may have lists."""
    write("v.jsonl", '{"text": "v", "labels": ["x", "y|z"]}')
    examples = read(write("a.csv", "text,labels\na,x|y\nb,\n"), Read(validation="v.jsonl"))
    assert examples.column("labels").to_pylist() == [["x", "y"], [], ["x", "y|z"]]


def test_levels_are_named_in_their_order() -> None:
    """Levels are separated by commas; blanks around them do not count."""
    assert levels_of(Read(levels="low, so so ,high")) == ("low", "so so", "high")
    assert levels_of(Read()) == ()


@given(
    rows=st.lists(st.lists(CELL.filter(lambda cell: "|" not in cell and cell.strip() == cell), unique=True), min_size=2)
)
@settings(max_examples=80, deadline=None)
def test_labels_are_cut_at_the_separator(rows: list[list[str]]) -> None:
    """What is joined by a separator, with blanks around it or without, is taken apart again."""
    rows = [["one"], *rows]
    cells = {"text": ["x"] * len(rows), "labels": [" | ".join(row) for row in rows]}
    assert gold(cells, "labels", labels_separator="|") == rows
    cells["labels"] = [f"{'|'.join(row)}|" for row in rows]
    assert gold(cells, "labels") == rows


def test_a_separator_makes_several_labels() -> None:
    """A separator that is given is used in any column, '|' by itself in one called labels."""
    path = write("a.csv", "text,topics\na,x; y\nb,\nc,z\n")
    assert gold(path, "labels", labels_separator=";") == [["x", "y"], [], ["z"]]
    assert told(path, labels_separator=";") == "task multi-label, since labels are separated by ';'."
    path = write("b.csv", "text,labels\na,x|y\nb,\nc,z\n")
    assert told(path) == "task multi-label, since column 'labels' holds labels separated by '|'."
    assert gold(write("c.csv", "text,label\na,x|y\nb,z\n"), "label") == ["x|y", "z"]


def test_a_label_that_stands_twice_counts_once() -> None:
    """Duplicates within a row are merged, and that is said."""
    examples = read({"text": TEXTS, "labels": [["x", "y", "x"], ["y"], ["x", "x"]]}, Read())
    assert examples.column("labels").to_pylist() == [["x", "y"], ["y"], ["x"]]
    assert examples.notes[-1] == "data: 2 rows name a label twice in column 'labels'; it counts once (row 1, 3)."


def test_numbers_with_fractions_are_learned_as_numbers() -> None:
    """A column of numbers with fractions is regression; whole numbers are, when the task is asked for."""
    for data in (write("a.csv", "text,score\na,1\nb,2.5\nc,-3e2\n"), {"text": TEXTS, "score": [1, 2.5, -300]}):
        assert gold(data, "value") == [1.0, 2.5, -300.0]
        assert told(data) == "task regression, since column 'score' holds numbers with fractions, such as 2.5."
    whole = {"text": TEXTS, "stars": [1, 2, 5]}
    assert gold(whole, "label") == ["1", "2", "5"]
    assert gold(whole, "value", task="regression") == [1.0, 2.0, 5.0]
    assert gold({"text": TEXTS, "much": [0.5, 1.5, 2.5]}, "value", task="regression") == [0.5, 1.5, 2.5]


def test_ordered_labels_may_be_numbers() -> None:
    """With --task ordered, or with levels, labels are kept; 2.0 is written as 2."""
    assert gold({"text": TEXTS, "stars": [1.0, 2.0, 4.5]}, "label", task="ordered") == ["1", "2", "4.5"]
    data = {"text": TEXTS, "label": ["bad", "good", "bad"]}
    assert task_of(read(data, Read(levels="bad,good")), Read(levels="bad,good")) == "ordered"
    assert read(data, Read(levels="bad,good")).notes[1:] == ()


def test_annotators_become_shares_of_votes() -> None:
    """Each annotator has a vote; the label is the majority, the first of equals in the order of labels."""
    path = write("a.csv", "text,ann,bob,cy\na,x,y,x\nb,,y,x\nc,y,,\n")
    examples = read(path, Read(annotators="ann, bob,cy"))
    assert examples.column("label").to_pylist() == ["x", "x", "y"]
    assert examples.column("votes").to_pylist() == [["x", "y", "x"], [None, "y", "x"], ["y", None, None]]
    assert examples.column("shares").to_pylist()[0] == [
        {"name": "x", "share": pytest.approx(2 / 3)}, {"name": "y", "share": pytest.approx(1 / 3)},
    ]  # fmt: skip
    assert examples.notes == (
        "text from column 'text', annotators from columns 'ann', 'bob', 'cy'.",
        "task single-label, since annotators gave the labels.",
    )
    numbers = pd.DataFrame({"text": TEXTS, "a": [1, None, 10], "b": [2, 2, None]})
    assert gold(numbers, "label", annotators="a,b") == ["1", "2", "10"]


def test_without_labels_gaps_are_kept() -> None:
    """Unlabelled reading keeps gold answers that are there, and needs none."""

    def column(data: Any, name: str, **wanted: str) -> list[Any]:
        return list(read(data, Read(**wanted), labelled=False).column(name).to_pylist())

    assert column({"text": TEXTS, "labels": [["x"], None, []]}, "labels") == [["x"], None, []]
    assert column({"text": TEXTS, "score": [0.5, None, 1]}, "value", task="regression") == [0.5, None, 1.0]
    assert column({"text": TEXTS, "stars": [1.0, None, 2.0]}, "label", task="ordered") == ["1", None, "2"]
    shares = {"text": TEXTS, "label": [[0.5, 0.5], None, [0.0, 1.0]]}
    assert column(shares, "label") == ["0", None, "1"]
    assert [len(row) for row in column(shares, "shares")] == [2, 0, 2]
    votes = {"text": TEXTS, "a": ["x", None, "y"], "b": [None, None, "y"]}
    assert column(votes, "label", annotators="a,b") == ["x", None, "y"]
    flags = {"text": TEXTS, "x": [1, None, 0], "y": [1, 1, 1]}
    assert column(flags, "labels", label="x,y") == [["x", "y"], None, ["y"]]
    assert "labels" not in read({"text": TEXTS, "labels": [[0.5], [0.7, 0.2], "x"]}, Read(), labelled=False)


REFUSED: dict[str, tuple[Any, dict[str, str], str]] = {
    "no list": (
        {"text": TEXTS, "labels": [["x"], None, []]}, {},
        "data: row 2: column 'labels' is empty. Every row needs a list; an empty one means none of the labels.\n"
        "  1 row is so: 2. Fill them in, or drop them.",
    ),
    "empty label": (
        {"text": TEXTS, "labels": [["x"], ["y", ""], []]}, {},
        "data: row 2: column 'labels' holds [\"y\", \"\"], in which a label is empty.\n"
        "  Name every label, or take the empty one out.",
    ),
    "lists of lists": (
        {"text": TEXTS, "labels": [[["x"]], [["y"]], []]}, {},
        "data: row 1: column 'labels' holds lists of list<item: string>, where lists of labels are expected.\n"
        "  Write labels as names or whole numbers: [\"sport\", \"news\"].",
    ),
    "no label at all": (
        {"text": TEXTS, "labels": [[], [], []]}, {},
        "data: column 'labels' has no label at all.\n"
        "  Is it the right column? Name another with --label COLUMN.",
    ),
    "unlike cells": (
        [{"text": "a", "labels": ["x"]}, {"text": "b", "labels": "y"}], {},
        "data: row 2: column 'labels' holds 'y', a text, where a list of texts is expected, as in the rows before.\n"
        "  Give every row of the column the same kind of value.",
    ),
    "shares beyond 1": (
        {"text": TEXTS, "label": [[0.5, 0.5], [0.5, 0.502], [1.0, 0.0]]}, {},
        "data: row 2: column 'label' holds the numbers [0.5, 0.502], which add up to 1.002. "
        "Shares of classes are at least 0 and add up to 1.\n"
        "  Divide each row by its sum, or name another column with --label COLUMN.",
    ),
    "negative shares": (
        {"text": TEXTS, "label": [[0.5, 0.5], [1.5, -0.5], [1.0, 0.0]]}, {},
        "data: row 2: column 'label' holds the numbers [1.5, -0.5], one of which is below 0. "
        "Shares of classes are at least 0 and add up to 1.\n"
        "  Divide each row by its sum, or name another column with --label COLUMN.",
    ),
    "shares that are no numbers": (
        {"text": TEXTS, "label": [[0.5, 0.5], [0.5, float("nan")], [1.0, 0.0]]}, {},
        "data: row 2: column 'label' holds [0.5, NaN], in which a number is missing or not finite.\n"
        "  Every row needs one number a class.",
    ),
    "uneven shares": (
        {"text": TEXTS, "label": [[0.5, 0.5], [1.0], [1.0, 0.0]]}, {},
        "data: row 2: column 'label' holds 1 number, 2 expected, as in the rows before.\n"
        "  Every row needs one number a class.",
    ),
    "objects of words": (
        [{"text": "a", "label": {"pos": "much"}}, {"text": "b", "label": {"pos": "little"}}], {},
        "data: row 1: column 'label' holds {\"pos\": \"much\"}, in which 'pos' is no number.\n"
        "  The share of each class is expected: {\"pos\": 0.7, \"neg\": 0.3}.",
    ),
    "no one-hot vector": (
        {"text": TEXTS, "label": [[0, 1], [1, 1], [1, 0]]}, {"task": "single-label"},
        "data: row 2: column 'label' holds [1, 1], which is no one-hot vector: exactly one 1 is expected.\n"
        "  Where rows may have several labels, say --task multi-label.",
    ),
    "lists for one label": (
        {"text": TEXTS, "label": [["x"], ["y"], []]}, {"task": "single-label"},
        "data: row 1: column 'label' holds a list or an object, where one label is expected.\n"
        "  Rows with several labels are for --task multi-label.",
    ),
    "one label for several": (
        {"text": TEXTS, "label": ["x", "y", "z"]}, {"task": "multi-label"},
        "data: column 'label' holds one label a row, where several are expected.\n"
        "  Give lists, name what separates labels with --labels-separator, or name 0/1 columns: --label a,b,c",
    ),
    "neither 0 nor 1": (
        {"text": TEXTS, "x": [0, 1, 2], "y": [0, 1, 1]}, {"label": "x,y"},
        "data: row 3: column 'x' holds 2. A column of one label holds 0 or 1.\n"
        "  Where each row has one label, name its column with --label COLUMN.",
    ),
    "a gap between 0 and 1": (
        {"text": TEXTS, "x": ["0", "1", ""], "y": ["0", "1", "1"]}, {"label": "x,y"},
        "data: row 3: column 'x' is empty. A column of one label holds 0 or 1.\n"
        "  1 row is so: 3. Fill them in, or drop them.",
    ),
    "no number": (
        {"text": TEXTS, "score": ["1", " 2x", "3"]}, {"task": "regression"},
        "data: row 2: column 'score' must be a finite number. Got ' 2x' instead.\n"
        "  Mend or drop the row. If the column holds classes, say --task single-label.",
    ),
    "not finite": (
        {"text": TEXTS, "score": [0.5, 1.5, float("inf")]}, {},
        "data: row 3: column 'score' must be a finite number. Got inf instead.\n"
        "  Mend or drop the row. If the column holds classes, say --task single-label.",
    ),
    "a missing number": (
        {"text": TEXTS, "score": ["0.5", "", "1"]}, {},
        "data: row 2: column 'score' is empty. Every row needs a number.\n"
        "  1 row is so: 2. Fill them in, or drop them.",
    ),
    "one number": (
        {"text": TEXTS, "score": [0.5, 0.5, 0.5]}, {},
        "data: column 'score' has one number only, 0.5. At least two are needed.\n"
        "  Is it the right column? Name another with --label COLUMN.",
    ),
    "no vote": (
        {"text": TEXTS, "a": ["x", "", "y"], "b": ["x", None, "y"]}, {"annotators": "a,b"},
        "data: row 2: no annotator gave a label (columns 'a', 'b'). Every row needs one vote.\n"
        "  1 row is so: 2. Drop them.",
    ),
    "votes with fractions": (
        {"text": TEXTS, "a": [0.5, 1, 2], "b": ["x", "x", "y"]}, {"annotators": "a,b"},
        "data: column 'a' holds double, where an annotator's labels are expected.\n"
        "  Labels are names or whole numbers.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_gold_answers_that_are_wrong_are_refused(case: str) -> None:
    """Each wrong cell is named by its row, with what it holds and what is expected."""
    data, wanted, message = REFUSED[case]
    assert error_of(data, **wanted) == message


def test_settings_that_do_not_fit_are_usage_errors() -> None:
    """Columns that are not there, or not for the task that was asked for, are told at once."""
    data = {"text": TEXTS, "x": [0, 1, 1], "y": [0, 1, 1]}
    assert error_of(data, UsageError, label="x,z") == (
        "data: no column 'z' (--label). Its columns are 'text', 'x', 'y'."
    )
    assert error_of(data, UsageError, annotators="x,z") == (
        "data: no column 'z' (--annotators). Its columns are 'text', 'x', 'y'."
    )
    assert error_of(data, UsageError, label="x", annotators="x,y") == (
        "data: column 'x' cannot be both --label and --annotators.\n  Its columns are 'text', 'x', 'y'."
    )
    assert error_of(data, UsageError, label="x,y", task="single-label") == (
        "data: several columns of labels are for the task multi-label, not single-label.\n"
        "  Leave --task out, or name one column."
    )


def test_an_unknown_task_is_a_recipe_error() -> None:
    """A wrong name of a task is refused with all names."""
    with pytest.raises(RecipeError) as caught:
        Recipe.of(task="multilabel")
    assert str(caught.value) == (
        "'task' must be one of single-label, multi-label, ordered, regression, token-labels, question-answering. "
        "Got 'multilabel' instead."
    )


def test_settings_survive_the_recipe_file(tmp_path: Path) -> None:
    """The task, the separator, levels and annotators are kept in the recipe."""
    recipe = Recipe.of(task="ordered", labels_separator="|", levels="a,b", annotators="x,y")
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.dumps(), encoding="utf-8")
    assert Recipe.load(path) == recipe
