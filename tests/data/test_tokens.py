"""Words and tags from lists and from marked spans: every offset points at its word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.data.read import read
from bertsmith.data.roles import role_of
from bertsmith.errors import DataError
from bertsmith.recipe import Read

TOKENS = [["Ana", "runs"], ["New", "York", "!"]]
TAGS = [["B-PER", "O"], ["B-LOC", "I-LOC", "O"]]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str) -> str:
    Path(name).write_bytes(content.encode())
    return name


def error_of(data: Any, **wanted: str) -> str:
    with pytest.raises(DataError) as caught:
        read(data, Read(**wanted))
    return str(caught.value)


def marked(text: str, *spans: tuple[int, int, str]) -> list[dict[str, Any]]:
    """One row with these spans, and one without any."""
    found = [{"start": start, "end": end, "label": label} for start, end, label in spans]
    return [{"text": text, "spans": found}, {"text": "nothing here", "spans": []}]


@pytest.mark.parametrize(("tokens", "tags"), [("tokens", "tags"), ("words", "ner_tags"), ("Tokens", "labels")])
def test_lists_of_words_beside_lists_of_tags_are_told(tokens: str, tags: str) -> None:
    """Words and tags are found by usual names, from every kind of source, without a setting."""
    frame = {"id": ["x", "y"], tokens: TOKENS, tags: TAGS}
    rows = [dict(zip(frame, row, strict=True)) for row in zip(*frame.values(), strict=True)]
    pq.write_table(pa.table(frame), "a.parquet")
    pd.DataFrame(frame).to_csv("a.csv", index=False)
    path = write("a.jsonl", "\n".join(json.dumps(row) for row in rows))
    for data in (path, "a.parquet", "a.csv", rows, frame, pd.DataFrame(frame), datasets.Dataset.from_dict(frame)):
        examples = read(data, Read())
        assert role_of(examples) == "tags"
        assert examples.column("text").to_pylist() == ["Ana runs", "New York !"]
        assert examples.column("tags").to_pylist() == TAGS
        assert examples.column("words").to_pylist()[1] == [
            {"start": 0, "end": 3}, {"start": 4, "end": 8}, {"start": 9, "end": 10},
        ]  # fmt: skip
        assert examples.column("words").type == pa.list_(pa.struct({"start": pa.int32(), "end": pa.int32()}))
        assert examples.notes == (
            f"id from column 'id', tokens from column '{tokens}', tags from column '{tags}'.",
            f"task token-labels, since columns '{tokens}' and '{tags}' hold a tag for each word.",
        )


def test_class_ids_of_tags_become_names() -> None:
    """The ids of a Sequence(ClassLabel) are tags by name; other whole numbers are tags as text."""
    classes = datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"]))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": classes})
    data = datasets.Dataset.from_dict({"tokens": TOKENS, "ner_tags": [[1, 0], [0, 0, 0]]}, features=features)
    assert read(data, Read()).column("tags").to_pylist() == [["B-PER", "O"], ["O", "O", "O"]]
    selected = read(data.select([1, 0, 1]), Read())
    assert selected.column("tags").to_pylist() == [["O", "O", "O"], ["B-PER", "O"], ["O", "O", "O"]]
    plain = {"tokens": TOKENS, "tags": [[1, 0], [0, 0, 2]]}
    assert read(plain, Read()).column("tags").to_pylist() == [["1", "0"], ["0", "0", "2"]]


def test_columns_of_words_and_tags_may_be_named() -> None:
    """--text and --label name the words and the tags; the other lists are kept as they are."""
    data = {"tokens": TOKENS, "tags": TAGS, "form": TOKENS[::-1], "pos": TAGS[::-1]}
    examples = read(data, Read(text="form", label="pos"))
    assert examples.column("tags").to_pylist() == TAGS[::-1]
    assert examples.columns.used() == {"tokens": "form", "tags": "pos"}
    assert examples.extra is not None
    assert examples.extra.column_names == ["tokens", "tags"]


def test_prediction_takes_words_or_texts() -> None:
    """Without tags, lists of words give offsets; a plain text is left for the encoder to cut into words."""
    words = read({"tokens": TOKENS}, Read(task="token-labels"), labelled=False)
    assert words.table.column_names == ["text", "words", "file", "row", "given"]
    texts = read({"text": ["Ana runs"], "label": ["x"]}, Read(task="token-labels"), labelled=False)
    assert texts.table.column_names == ["text", "file", "row", "given"]
    gaps = read({"tokens": TOKENS, "tags": [TAGS[0], None]}, Read(task="token-labels"), labelled=False)
    assert gaps.column("tags").to_pylist() == [TAGS[0], None]


@given(text=TEXT, data=st.data())
@settings(max_examples=150, deadline=None)
def test_spans_become_tags_of_the_words_that_they_touch(text: str, data: st.DataObject) -> None:
    """In any text, a span tags exactly the words that share a character with it, B first, I after."""
    text = f"{text} a"
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    rows = marked(text, (start, end, "X"))
    if not any(each.isalnum() or each == "_" or not (each.isspace()) for each in text[start:end]):
        assert "which covers no word" in error_of(rows)
        return
    row = read([*rows, *marked("b", (0, 1, "Y"))], Read()).table.to_pylist()[0]
    touched = [not (word["end"] <= start or word["start"] >= end) for word in row["words"]]
    assert [tag != "O" for tag in row["tags"]] == touched
    assert [tag for tag in row["tags"] if tag != "O"] == ["B-X"] + ["I-X"] * (sum(touched) - 1)
    assert row["text"] == text


def test_two_spans_beside_each_other_stay_two() -> None:
    """Each span begins with B, and the text is untouched."""
    text = "Bob  Ann, São Paulo"
    for data in (marked(text, (0, 3, "P"), (5, 8, "P"), (10, 19, "L")),):
        examples = read(data, Read())
        assert examples.table.to_pylist()[0]["tags"] == ["B-P", "B-P", "O", "B-L", "I-L"]
        assert examples.table.to_pylist()[0]["text"] == text
        assert examples.notes[1:] == (
            "task token-labels, since columns 'text' and 'spans' hold texts and their spans.",
        )


def test_spans_may_be_triples() -> None:
    """Spans as annotation tools export them, [start, end, label], are read like objects."""
    rows = [{"text": "Ana runs", "label": [[0, 3, "P"]]}, {"text": "b", "label": []}]
    path = write("a.jsonl", "\n".join(json.dumps(row) for row in rows))
    for data in (path, rows):
        assert read(data, Read()).column("tags").to_pylist() == [["B-P", "O"], ["O"]]


def test_a_span_that_cuts_a_word_is_widened_and_told() -> None:
    """Words have one tag, so that a span within a word stands for all of it; the rows are told."""
    examples = read(marked("Berliners run", (0, 6, "LOC")), Read())
    assert examples.table.to_pylist()[0]["tags"] == ["B-LOC", "O"]
    assert examples.notes[-1] == (
        "data: in 1 row, spans of column 'spans' that cut a word were widened to all of it (row 1)."
    )


REFUSED: dict[str, tuple[Any, dict[str, str], str]] = {
    "lengths": (
        {"tokens": [*TOKENS, ["a"]], "tags": [*TAGS, ["O", "O"]]}, {},
        "data: row 3: column 'tags' has 2 tags, column 'tokens' has 1 word. Every word needs one tag.\n"
        "  Rows so: 1 (3). Mend them, or drop them.",
    ),
    "no tags": (
        {"tokens": TOKENS, "tags": [TAGS[0], None]}, {},
        "data: row 2: column 'tags' is empty. Every word needs a tag.\n  1 row is so: 2. Fill them in, or drop them.",
    ),
    "no words": (
        {"tokens": [*TOKENS, []], "tags": [*TAGS, []]}, {},
        "data: row 3: column 'tokens' is empty. Every row needs words.\n  1 row is so: 3. Fill them in, or drop them.",
    ),
    "empty word": (
        {"tokens": [["Ana", ""], TOKENS[1]], "tags": TAGS}, {},
        "data: row 1: word 2 in column 'tokens' is empty.\n  Take it out, and its tag with it.",
    ),
    "empty tag": (
        {"tokens": TOKENS, "tags": [TAGS[0], ["O", None, "O"]]}, {},
        "data: row 2: tag 2 in column 'tags' is empty. Every word needs one tag.\n"
        "  Words outside of every entity are tagged O.",
    ),
    "tags with fractions": (
        {"tokens": TOKENS, "tags": [[0.5, 1.0], [1.0, 2.0, 3.0]]}, {},
        "data: column 'tags' holds lists of double, where lists of tags are expected.\n"
        "  Name the column of tags with --label COLUMN.",
    ),
    "one tag": (
        {"tokens": TOKENS, "tags": [["O", "O"], ["O", "O", "O"]]}, {},
        "data: column 'tags' has one tag only, 'O'. At least two are needed.\n"
        "  Is it the right column? Name another with --label COLUMN.",
    ),
    "words without tags": (
        {"tokens": TOKENS}, {"task": "token-labels"},
        "data: no columns of gold answers found. Its columns are 'tokens'.\n  Name them with --label COLUMN",
    ),
    "no such columns": (
        {"text": ["a", "b"], "label": ["x", "y"]}, {"task": "token-labels"},
        "data: no columns of lists of words and of tags, or of texts and of spans found. "
        "Its columns are 'text', 'label'.\n  Name them with --text COLUMN --label COLUMN",
    ),
    "outside": (
        marked("Ana runs", (4, 9, "X")), {},
        "data: row 1: column 'spans' holds the span {\"start\": 4, \"end\": 9, \"label\": \"X\"}, where a start and an "
        "end (not included) within the text's 8 characters, and a label, are expected.\n"
        "  Offsets are characters from 0.",
    ),
    "on a blank": (
        marked("Ana runs", (3, 4, "X")), {},
        "data: row 1: column 'spans' holds the span {\"start\": 3, \"end\": 4, \"label\": \"X\"}, "
        "which covers no word.\n  Mend it, or take it out.",
    ),
    "overlap": (
        marked("Ana runs far", (0, 8, "X"), (4, 12, "Y")), {},
        "data: row 1: column 'spans' holds the span {\"start\": 4, \"end\": 12, \"label\": \"Y\"}, which shares the word "
        "'runs' with {\"start\": 0, \"end\": 8, \"label\": \"X\"}.\n  A word has one tag: keep one of the two.",
    ),
    "no list of spans": (
        [*marked("Ana runs far", (0, 8, "X")), {"text": "b", "spans": None}], {},
        "data: row 3: column 'spans' is empty. Every row needs a list of spans; an empty one means none.\n"
        "  1 row is so: 3. Fill them in, or drop them.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_tags_that_do_not_fit_are_refused(case: str) -> None:
    """Every word has exactly one tag, and every span at least one word: else the row is named."""
    data, wanted, message = REFUSED[case]
    assert error_of(data, **wanted) == message
