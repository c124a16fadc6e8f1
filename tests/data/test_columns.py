"""Columns: found by setting, by name and by content, or asked for; never guessed between two."""

from __future__ import annotations

import pyarrow as pa
import pytest

from bertsmith.data.canonical import canonical
from bertsmith.data.columns import LABEL_NAMES, PAIRS, TEXT_NAMES, find_columns, match_column
from bertsmith.errors import BertsmithError, DataError, UsageError
from bertsmith.recipe import Read

LONG = [
    "the quick brown fox jumps over it",
    "pack my box with five dozen jugs",
    "how vexingly quick daft zebras jump",
] * 2
FEW = ["good", "bad", "good", "good", "bad", "bad"]
CODES = ["q1", "q2", "q3", "q4", "q5", "q6"]


def found(table: dict[str, list[object]], *, labelled: bool = True, **wanted: str) -> dict[str, str]:
    return find_columns(pa.table(table), Read(**wanted), source="a.csv", labelled=labelled).columns.used()


def error_of(table: dict[str, list[object]], kind: type[BertsmithError] = DataError, **wanted: str) -> str:
    with pytest.raises(kind) as caught:
        find_columns(pa.table(table), Read(**wanted), source="a.csv")
    assert type(caught.value) is kind
    return str(caught.value)


def test_text_and_label_win_over_usual_names() -> None:
    """Columns named text and label are taken, whatever else there is."""
    table = {"review": LONG, "text": CODES, "sentiment": CODES, "label": FEW, "label_text": FEW}
    assert found(table) == {"text": "text", "label": "label"}


@pytest.mark.parametrize("name", sorted(TEXT_NAMES))
def test_each_usual_text_name_is_found(name: str) -> None:
    """Usual names of text columns are found, in any case and with blanks around."""
    assert found({"label": FEW, f" {name.title()} ": CODES, "other": LONG})["text"] == f" {name.title()} "


@pytest.mark.parametrize("name", sorted(LABEL_NAMES))
def test_each_usual_label_name_is_found(name: str) -> None:
    """Usual names of label columns are found, in any case."""
    assert found({name.upper(): CODES, "text": LONG, "other": FEW})["label"] == name.upper()


def test_two_usual_names_are_asked_about() -> None:
    """Between two candidates nothing is chosen; both are shown with a value."""
    assert error_of({"title": CODES, "body": LONG, "label": FEW}) == (
        "a.csv: 2 columns could be the text: 'title' (such as 'q1'); "
        "'body' (such as 'the quick brown fox jumps over it').\n  Name the one that is meant: --text title"
    )
    assert error_of({"text": LONG, "intent": ["", "a\nb", "c", "d", "e", "f"], "topic": [None, *range(5)]}) == (
        "a.csv: 2 columns could be the label: 'intent' (such as 'a b'); 'topic' (such as '0').\n"
        "  Name the one that is meant: --label intent"
    )


def test_content_decides_where_names_do_not() -> None:
    """The one column of long texts is the text, the one whose few values repeat is the label."""
    assert found({"a": CODES, "b": LONG, "c": FEW}) == {"text": "b", "label": "c"}
    assert found({"a": [1, 0, 1, 0, 1, 0], "b": LONG, "c": [0.5] * 6}) == {"text": "b", "label": "a"}


def test_lists_are_neither_texts_nor_labels() -> None:
    """Columns of lists, as Arrow or as a JSON file has them, are not taken by content."""
    lists = pa.array([["some", "words", "of", "a", "text"]] * 6)
    marked = pa.field("json", pa.string(), metadata={b"bertsmith.nested_row": b"1"})
    schema = pa.schema([("list", lists.type), marked, ("b", pa.string()), ("c", pa.string())])
    arrays = [lists, pa.array(["[1, 2, 3, 4, 5, 6, 7]"] * 6), pa.array(LONG), pa.array(FEW)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    assert find_columns(table, Read(), source="a.jsonl").columns.used() == {"text": "b", "label": "c"}


def test_the_only_column_left_is_taken() -> None:
    """In a table of two columns, the one that is not the label is the text, and the other way round."""
    assert found({"x": ["a", "b"], "label": ["c", "d"]}) == {"text": "x", "label": "label"}
    assert found({"text": ["a", "b"], "x": ["c", "d"]}) == {"text": "text", "label": "x"}


def test_two_alike_by_content_are_asked_about() -> None:
    """Two columns of long texts, or two of few values, are asked about."""
    assert error_of({"a": LONG, "b": [value * 2 for value in LONG], "label": FEW}) == (
        "a.csv: 2 columns could be the text: 'a' (such as 'the quick brown fox jumps over it'); "
        "'b' (such as 'the quick brown fox jumps over itthe qui…').\n  Name the one that is meant: --text a"
    )
    assert error_of({"text": LONG, "a": FEW, "b": FEW}) == (
        "a.csv: 2 columns could be the label: 'a' (such as 'good'); 'b' (such as 'good').\n"
        "  Name the one that is meant: --label a"
    )


def test_nothing_found_lists_the_columns() -> None:
    """Where no column will do, all are listed, and a missing header is thought of."""
    assert error_of({"a": [1.5, 2.5], "b": ["x", "y"], "c": ["x", "z"]}) == (
        "a.csv: no column of texts found. Its columns are 'a', 'b', 'c'.\n"
        "  Name it with --text COLUMN. Does the file have a header?"
    )
    assert error_of({"text": CODES, "b": CODES, "c": CODES}) == (
        "a.csv: no column of labels found. Its columns are 'text', 'b', 'c'.\n"
        "  Name it with --label COLUMN. Does the file have a header?"
    )


def test_settings_come_first() -> None:
    """A column that is named is taken, its case and outer blanks aside."""
    table = {"text": LONG, "label": FEW, " Body": CODES, "Stars": FEW, "user": CODES, "when": CODES}
    assert found(table, text="body", label="stars", group="user", time="when") == {
        "text": " Body",
        "label": "Stars",
        "group": "user",
        "time": "when",
    }


def test_an_unknown_column_offers_the_nearest() -> None:
    """A column that is not there is a usage error with the near miss and all columns."""
    assert error_of({"text": LONG, "label": FEW}, UsageError, text="txet") == (
        "a.csv: no column 'txet' (--text). Did you mean 'text'? Its columns are 'text', 'label'."
    )
    wide = {"text": LONG, "label": FEW, **{f"column_{number}": CODES for number in range(20)}}
    assert error_of(wide, UsageError, text_pair="zzz").startswith(
        "a.csv: no column 'zzz' (--text-pair). Its columns are 'text',"
    )
    assert error_of(wide, UsageError, text_pair="zzz").endswith("'column_17' and 2 more.")


def test_one_column_cannot_play_two_parts() -> None:
    """Text and label must be two columns; a group may be the label's column."""
    assert error_of({"a": LONG, "b": FEW}, UsageError, text="a", label="A") == (
        "a.csv: column 'a' cannot be both --text and --label.\n  Its columns are 'a', 'b'."
    )
    assert found({"a": LONG, "b": FEW}, text="a", label="b", group="b")["group"] == "b"


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_complete_pair_is_found(first: str, second: str) -> None:
    """Pairs with the usual names are found, the first as the text."""
    assert found({second: LONG, "label": FEW, first.title(): LONG}) == {
        "text": first.title(),
        "label": "label",
        "text_pair": second,
    }


def test_half_a_pair_is_no_pair() -> None:
    """A premise without a hypothesis is no pair, and `text` alone is no half of one."""
    assert found({"premise": LONG, "label": FEW, "sentence2": CODES}) == {"text": "premise", "label": "label"}
    assert found({"text": LONG, "label": FEW, "sentence1": CODES, "sentence2": CODES}) == {
        "text": "text",
        "label": "label",
    }


def test_the_second_half_may_be_named() -> None:
    """--text-pair alone leaves the text to be found."""
    table = {"premise": LONG, "hypothesis": LONG, "label": FEW}
    wanted = {"text": "premise", "label": "label", "text_pair": "hypothesis"}
    assert found(table, text_pair="hypothesis") == wanted
    assert found({"text": LONG, "other": LONG, "label": FEW}, text_pair="other")["text_pair"] == "other"
    assert found({"q": LONG, "text_pair": LONG, "label": FEW}, text="q")["text_pair"] == "text_pair"


def test_id_and_weight_are_taken_by_name_only() -> None:
    """Columns named id and weight play their parts; group and time never do unless named."""
    table = {
        "ID": CODES,
        "Weight": [1, 2, 3, 4, 5, 6],
        "text": LONG,
        "label": FEW,
        "group": FEW,
        "time": CODES,
    }
    assert found(table) == {"text": "text", "label": "label", "id": "ID", "weight": "Weight"}


def test_without_labels_only_the_text_is_needed() -> None:
    """Where no labels are due, one is kept when found by name, and none is asked about."""
    assert found({"anything": CODES}, labelled=False) == {"text": "anything"}
    assert found({"text": LONG, "x": FEW}, labelled=False) == {"text": "text"}
    assert found({"text": LONG, "label": FEW}, labelled=False) == {"text": "text", "label": "label"}
    assert found({"text": LONG, "intent": FEW, "topic": FEW}, labelled=False) == {"text": "text"}
    assert found({"text": LONG, "score": [0.5] * 6}, labelled=False) == {"text": "text"}


def test_the_choice_is_told_in_one_sentence() -> None:
    """What was chosen is said, part by part."""
    table = pa.table({"review": LONG, "sentiment": FEW, "id": CODES})
    assert find_columns(table, Read(), source="a.csv").note == (
        "text from column 'review', label from column 'sentiment', id from column 'id'"
    )


def test_names_match_exactly_before_they_match_loosely() -> None:
    """Case and outer blanks are forgiven only where that leaves one column."""
    assert match_column("text", ["Text", "text"]) == "text"
    assert match_column("TEXT", ["text ", "label"]) == "text "
    assert match_column("TEXT", ["text ", "Text"]) is None


@pytest.mark.parametrize(
    ("table", "task", "parts", "canonical_names"),
    [
        ({"tokens": [["a", "b"]], "tags": [["X", "O"]]}, "token-labels", {"tokens": "tokens"}, ["text", "words"]),
        ({"note": ["a b"]}, "token-labels", {"text": "note"}, ["text"]),
        ({"question": ["q"], "context": ["c"], "answers": [[{"text": "c", "start": 0}]]}, "question-answering",
         {"text": "question", "text_pair": "context"}, ["text", "text_pair"]),
        ({"text": ["a"], "labels": [["x"]], "id": [1]}, "multi-label", {"text": "text"}, ["text"]),
    ],
)  # fmt: skip
def test_what_a_model_reads_can_be_had_batch_by_batch(
    table: dict[str, list[object]], task: str, parts: dict[str, str], canonical_names: list[str]
) -> None:
    """Without labels, columns that a model of a task reads become canonical, gold answers aside."""
    batch = pa.table(table)
    columns = find_columns(batch, Read(task=task), source="a.csv", labelled=False).columns.inputs()
    assert columns.used() == parts
    made, notes = canonical(batch, columns, where=str, source="a.csv", labelled=False)
    assert (made.column_names, notes) == (canonical_names, ())
