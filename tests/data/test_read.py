"""Read: from what the user has to Examples, with nothing guessed, dropped or merged on the way."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.data.read import read
from bertsmith.errors import BertsmithError, DataError, MissingExtraError, UsageError
from bertsmith.recipe import Read

CSV = "text,label\nso good,pos\nso bad,neg\n"
CLASSES_TIP = "Write classes as 0, 1, 2 (not 1.0), or learn the numbers themselves with --task regression."
NOT_CLASSES = "is a number with a fraction or a point. Labels must be classes: names or whole numbers."


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str) -> str:
    Path(name).write_bytes(content.encode())
    return name


def error_of(data: Any, kind: type[BertsmithError] = DataError, **wanted: str) -> str:
    with pytest.raises(kind) as caught:
        read(data, Read(**wanted))
    assert type(caught.value) is kind
    return str(caught.value)


def labels(data: Any) -> list[str | None]:
    return read(data, Read()).column("label").to_pylist()


def test_a_csv_becomes_the_canonical_table() -> None:
    """Columns, types and places are those that Examples promises."""
    name = write("a.csv", "Review,sentiment,ID,weight,more\nso good,pos,007,1,x\nso bad,neg,008,0.5,\n")
    examples = read(name, Read(group="more"))
    assert examples.table.schema == pa.schema(
        [
            ("text", pa.string()), ("label", pa.string()), ("id", pa.string()), ("group", pa.string()),
            ("weight", pa.float64()), ("file", pa.dictionary(pa.int32(), pa.string())), ("row", pa.int64()),
            ("given", pa.string()),
        ]
    )  # fmt: skip
    assert examples.table.to_pylist() == [
        {"text": "so good", "label": "pos", "id": "007", "group": "x", "weight": 1.0,
         "file": "a.csv", "row": 1, "given": None},
        {"text": "so bad", "label": "neg", "id": "008", "group": "", "weight": 0.5,
         "file": "a.csv", "row": 2, "given": None},
    ]  # fmt: skip
    assert (examples.source, examples.extra) == ("a.csv", None)
    assert examples.columns.used() == {
        "text": "Review", "label": "sentiment", "id": "ID", "group": "more", "weight": "weight",
    }  # fmt: skip
    assert examples.notes == (
        "text from column 'Review', label from column 'sentiment', id from column 'ID', "
        "group from column 'more', weight from column 'weight'.",
    )


def test_other_columns_are_kept_in_the_same_order() -> None:
    """What plays no part is kept as extra, row by row."""
    examples = read(write("a.csv", "x,text,label,y\n1,a,p,2\n3,b,q,4\n"), Read())
    assert examples.extra is not None
    assert examples.extra.to_pydict() == {"x": ["1", "3"], "y": ["2", "4"]}


@pytest.mark.parametrize("path", ["a.csv", Path("a.csv")])
def test_paths_may_be_texts_or_paths(path: str | Path) -> None:
    """A path may be a str or a Path."""
    write("a.csv", CSV)
    assert read(path, Read()).where([1], 5) == ("a.csv:2",)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5), min_size=2, unique=True))
@settings(max_examples=60, deadline=None)
def test_labels_are_untouched(names: list[str]) -> None:
    """Labels that differ in case, blanks or kind of blank stay different."""
    assert labels([("a", name) for name in ["one", "two", *names]]) == ["one", "two", *names]


def test_labels_of_other_types_become_text() -> None:
    """Whole numbers and truth values become the text that they are written as."""
    assert labels([("a", 0), ("b", 1)]) == ["0", "1"]
    assert labels([("a", True), ("b", False)]) == ["true", "false"]
    assert labels(write("a.jsonl", '{"text": "a", "label": true}\n{"text": "b", "label": 1}')) == [
        "true",
        "1",
    ]
    assert labels(pd.DataFrame({"text": ["a", "b"], "label": pd.Categorical(["v", "u"])})) == ["v", "u"]
    assert labels([("a", "1.0"), ("b", "NA")]) == ["1.0", "NA"]
    assert labels([("a", "1"), ("b", "-02")]) == ["1", "-02"]


@pytest.mark.parametrize(
    ("values", "row", "shown"),
    [
        (["1.0", "2"], 1, "'1.0'"), (["2", " 5."], 2, "' 5.'"), (["1", "1e5"], 2, "'1e5'"),
        ([3.0, 1], 1, "3.0"),
        ([None, 1.0], 2, "1.0"),
    ],
)  # fmt: skip
def test_measurements_are_no_labels(values: list[Any], row: int, shown: str) -> None:
    """Whole numbers with a point may be classes or measurements: they are refused, and both ways are told."""
    assert error_of({"text": ["a", "b"], "label": values}) == (
        f"data: row {row}: label {shown} in column 'label' {NOT_CLASSES}\n  {CLASSES_TIP}"
    )


def test_rows_without_a_label_are_counted_and_named() -> None:
    """Missing labels are an error that counts them and names the first rows."""
    rows = "".join(f"text {number},{'' if number % 2 else 'x'}\n" for number in range(1, 15))
    assert error_of(write("a.csv", f"text,label\n{rows}")) == (
        "a.csv: row 1: column 'label' is empty. Every row needs a label.\n"
        "  7 rows are so: 1, 3, 5, 7, 9, …. Fill them in, or drop them."
    )
    assert error_of([("a", "x"), ("b", None)]) == (
        "data: row 2: column 'label' is empty. Every row needs a label.\n  1 row is so: 2. Fill them in, or drop them."
    )


def test_without_labels_gaps_are_missing_labels() -> None:
    """Unlabelled reading keeps the labels that are there, and needs none."""
    path = write("a.csv", "text,label\na,\nb,x\n")
    assert read(path, Read(), labelled=False).column("label").to_pylist() == [None, "x"]
    assert "label" not in read(write("b.csv", "text\na\n"), Read(), labelled=False)


def test_missing_texts_are_empty_and_noted() -> None:
    """A null text is read as an empty one, and that is said."""
    examples = read(write("a.jsonl", '{"text": null, "label": "x"}\n{"text": "b", "label": "y"}'), Read())
    assert examples.column("text").to_pylist() == ["", "b"]
    assert examples.notes[1] == "a.jsonl: 1 text is missing in column 'text' and read as empty (row 1)."


SOURCES = {
    "only a header": ("text,label\n", "a.csv: no rows, only column names.\n  Is it the right file?"),
    "one label": (
        "text,label\na,x\nb,x\n",
        "a.csv: column 'label' has one label only, 'x'. At least two are needed.\n"
        "  Is it the right column? Name another with --label COLUMN.",
    ),
    "negative weight": (
        "text,label,weight\na,x,1\nb,y,-1\n",
        "a.csv: row 2: column 'weight' must be a number of at least 0. Got '-1' instead.\n"
        "  A weight says how much a row counts; 1 is usual. Rename the column if it is no weight.",
    ),
    "weight in words": (
        "text,label,weight\na,x,heavy\nb,y,1\n",
        "a.csv: row 1: column 'weight' must be a number of at least 0. Got 'heavy' instead.\n"
        "  A weight says how much a row counts; 1 is usual. Rename the column if it is no weight.",
    ),
    "infinite weight": (
        "text,label,weight\na,x,1e999\nb,y,1\n",
        "a.csv: row 1: column 'weight' must be a number of at least 0. Got '1e999' instead.\n"
        "  A weight says how much a row counts; 1 is usual. Rename the column if it is no weight.",
    ),
    "no weight at all": (
        "text,label,weight\na,x,0\nb,y,0.0\n",
        "a.csv: every weight in column 'weight' is 0.\n  Nothing could be learned from it.",
    ),
}


@pytest.mark.parametrize("case", SOURCES)
def test_data_that_nothing_can_be_learned_from_is_refused(case: str) -> None:
    """Empty, one-sided and badly weighted data is refused with the reason."""
    content, message = SOURCES[case]
    assert error_of(write("a.csv", content)) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": ["a", "b"], "label": ["x", ["y", "z"]]},
         "a.jsonl: row 2: column 'label' holds [\"y\", \"z\"], a list of texts, where a text is expected, "
         "as in the rows before.\n  Give every row of the column the same kind of value."),
        ({"text": ["a", {"b": 1}], "label": ["x", "y"]},
         "a.jsonl: row 2: column 'text' holds a list or an object, where one text is expected.\n"
         "  Join its parts into one text, or name another column with --text."),
        ({"text": [1, 2], "label": ["x", "y"]},
         "a.jsonl: column 'text' holds int64, not text.\n  Name the column of texts with --text COLUMN."),
    ],
)  # fmt: skip
def test_values_that_are_no_text_are_refused(values: dict[str, list[Any]], message: str) -> None:
    """Lists, objects and numbers are no texts; from a file and from Python the row is the same."""
    lines = [json.dumps({"text": text, "label": label}) for text, label in zip(*values.values(), strict=True)]
    assert error_of(write("a.jsonl", "\n".join(lines))) == message
    assert error_of(pa.table({"text": [["a"], ["b"]], "label": ["x", "y"]})).startswith("data: row 1: column 'text'")


def test_files_for_sides_are_marked() -> None:
    """Rows of --validation and --test are marked, and count rows in their own file."""
    write("v.jsonl", '{"Label": "pos", "text": "v", "more": 1}')
    write("t.csv", "label,text\nneg,t\npos,u\n")
    examples = read(write("a.csv", CSV), Read(validation="v.jsonl", test="t.csv"))
    assert examples.table.select(["text", "label", "file", "row", "given"]).to_pylist() == [
        {"text": "so good", "label": "pos", "file": "a.csv", "row": 1, "given": None},
        {"text": "so bad", "label": "neg", "file": "a.csv", "row": 2, "given": None},
        {"text": "v", "label": "pos", "file": "v.jsonl", "row": 1, "given": "validation"},
        {"text": "t", "label": "neg", "file": "t.csv", "row": 1, "given": "test"},
        {"text": "u", "label": "pos", "file": "t.csv", "row": 2, "given": "test"},
    ]
    assert examples.extra is not None
    assert examples.extra.to_pydict() == {"more": [None, None, 1, None, None]}
    assert examples.take([4, 2]).column("file").to_pylist() == ["t.csv", "v.jsonl"]


def test_columns_of_other_types_in_another_file_become_text() -> None:
    """An id that is a number in one file and a text in the other is a text in both."""
    write("v.jsonl", '{"text": "v", "label": "pos", "id": 7, "more": [1]}')
    examples = read(write("a.csv", "text,label,id,more\na,pos,1,x\nb,neg,2,y\n"), Read(validation="v.jsonl"))
    assert examples.column("id").to_pylist() == ["1", "2", "7"]
    assert examples.extra is not None
    assert examples.extra.column("more").to_pylist() == ["x", "y", "[1]"]


def test_a_side_without_the_column_is_refused_by_its_name() -> None:
    """A file for a side needs the same columns and at least one row."""
    write("v.csv", "txt,label\nv,pos\n")
    assert error_of(write("a.csv", CSV), validation="v.csv") == (
        "v.csv: no column 'text'. Did you mean 'txt'? Its columns are 'txt', 'label'.\n"
        "  It needs the same columns as the other rows."
    )
    write("v.csv", "text,label\n")
    assert error_of("a.csv", test="v.csv") == "v.csv: no rows, only column names.\n  Is it the right file?"


def test_a_folder_of_texts_names_each_file() -> None:
    """In a folder per label, each text is row 1 of its own file."""
    for name in ("neg/a.txt", "pos/b.txt"):
        Path("data", name).parent.mkdir(parents=True)
        Path("data", name).write_text(name, encoding="utf-8")
    examples = read("data", Read())
    assert examples.table.to_pylist() == [
        {"text": "neg/a.txt", "label": "neg", "file": "neg/a.txt", "row": 1, "given": None},
        {"text": "pos/b.txt", "label": "pos", "file": "pos/b.txt", "row": 1, "given": None},
    ]


HUB = datasets.DatasetDict(
    train=datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]}),
    validation=datasets.Dataset.from_dict({"text": ["c"], "label": ["x"]}),
)


def test_a_hub_data_set_is_loaded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """--dataset asks the Hub, a configuration after a colon; its validation split is a given side."""
    asked: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments: asked.append(arguments) or HUB)
    examples = read(None, Read(dataset="some/set:small"))
    assert asked == [("some/set", "small")]
    assert examples.column("file").to_pylist() == ["some/set:small/train"] * 2 + ["some/set:small/validation"]
    assert examples.column("given").to_pylist() == [None, None, "validation"]


def test_a_file_takes_the_place_of_a_hub_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """--validation replaces the split that the data set has itself, and that is said."""
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: HUB)
    examples = read(None, Read(dataset="s", validation=write("v.csv", CSV)))
    assert examples.column("file").to_pylist() == ["s/train", "s/train", "v.csv", "v.csv"]
    assert examples.notes[0] == "s/validation: left out for v.csv."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (datasets.exceptions.DatasetNotFoundError("no"),
         "the Hub has no data set 's/t' (or it is private).\n  Names look like stanfordnlp/imdb."),
        (ConnectionError("no"),
         "the data set 's/t' is not on this machine, and the Hub cannot be reached.\n"
         "  Go online once, or give a file instead of --dataset."),
        (ValueError("Config name is missing.\nmore"),
         "the data set 's/t' cannot be loaded: Config name is missing.\n"
         "  Where a data set has several configurations, name one after a colon: nyu-mll/glue:sst2"),
    ],
)  # fmt: skip
def test_a_hub_data_set_that_cannot_be_had(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong with the Hub is one clear usage error."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert error_of(None, UsageError, dataset="s/t") == message


def test_without_the_datasets_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `datasets` is not installed, the command that installs it is told."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert error_of(None, MissingExtraError, dataset="s/t") == (
        "the data set 's/t' needs the package 'datasets', which is not installed.\n"
        "  Install it with: pip install 'bertsmith[train]'"
    )


def test_data_is_given_exactly_once() -> None:
    """DATA or --dataset: neither is too few, both are too many."""
    assert error_of(None, UsageError) == "no data given.\n  Give a file, a folder, or --dataset NAME."
    assert error_of("a.csv", UsageError, dataset="s") == "DATA and --dataset are both given.\n  Give one of them."


def test_reading_needs_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a file imports neither torch nor transformers nor datasets."""
    original = builtins.__import__

    def guarded(name: str, *rest: Any, **named: Any) -> Any:
        assert name.partition(".")[0] not in {"torch", "transformers", "datasets"}
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", guarded)
    assert len(read(write("a.csv", CSV), Read())) == 2
