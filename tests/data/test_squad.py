"""Questions with contexts: SQuAD's JSON, and the same as lists, objects and Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsmith.data.answer_column import nearest
from bertsmith.data.files import read_table
from bertsmith.data.read import read
from bertsmith.data.roles import role_of
from bertsmith.errors import BertsmithError, DataError, UsageError
from bertsmith.recipe import Read

TIP = 'SQuAD looks like {"data": [{"paragraphs": [{"context": "…", "qas": [{"question": "…", "answers": []}]}]}]}.'
CONTEXT = "A cat sat. The cat ran. Ünder 🐈 cat."
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str) -> str:
    Path(name).write_bytes(content.encode())
    return name


def squad(*questions: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    asked = [{"id": f"q{place}", "question": f"Q {place}?", **each} for place, each in enumerate(questions)]
    return {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": asked}]}]}


def answer(text: str, start: int) -> dict[str, Any]:
    return {"text": text, "answer_start": start}


def error_of(data: Any, kind: type[BertsmithError] = DataError, **wanted: str) -> str:
    with pytest.raises(kind) as caught:
        read(data, Read(**wanted))
    assert type(caught.value) is kind
    return str(caught.value)


@st.composite
def articles(draw: st.DrawFn) -> dict[str, Any]:
    """Any file of the SQuAD kind whose answers stand where they should."""
    made: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        paragraphs = []
        for place, context in enumerate(draw(st.lists(TEXT, min_size=1, max_size=2))):
            spans = draw(st.lists(st.tuples(st.integers(0, len(context) - 1), st.integers(1, 5)), max_size=3))
            answers = [answer(context[start : start + length], start) for start, length in spans]
            asked = {"id": f"{number}-{place}", "question": draw(TEXT), "answers": answers}
            paragraphs.append({"context": context, "qas": [{**asked, "is_impossible": not answers}]})
        made.append({"title": draw(TEXT), "paragraphs": paragraphs})
    return {"version": "x", "data": made}


@FUZZ
@given(content=articles(), indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_every_question_is_a_row(content: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    """Questions come as plain json has them, with context, id and every answer, whatever the characters."""
    expected = [
        {
            "id": asked["id"],
            "title": article["title"],
            "question": asked["question"],
            "context": paragraph["context"],
            "answers": [{"text": each["text"], "start": each["answer_start"]} for each in asked["answers"]],
        }
        for article in content["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]
    name = write("a.json", json.dumps(content, indent=indent, ensure_ascii=ascii_only))
    assert read_table(name).to_pylist() == expected
    examples = read(name, Read(), labelled=False)
    assert [row["answers"] for row in examples.table.to_pylist()] == [row["answers"] for row in expected]


def test_a_file_of_questions_is_told() -> None:
    """Without a setting the task is told; questions are texts, contexts their pairs and groups; unanswerable ones stay."""
    content = squad({"answers": [answer("cat", 2), answer("A cat", 0)]}, {"answers": [], "is_impossible": True})
    examples = read(write("a.json", json.dumps(content)), Read())
    assert role_of(examples) == "answers"
    assert examples.table.drop_columns(["file", "given"]).to_pylist() == [
        {"text": "Q 0?", "text_pair": CONTEXT, "group": CONTEXT, "id": "q0", "row": 1,
         "answers": [{"text": "cat", "start": 2}, {"text": "A cat", "start": 0}]},
        {"text": "Q 1?", "text_pair": CONTEXT, "group": CONTEXT, "id": "q1", "row": 2, "answers": []},
    ]  # fmt: skip
    assert examples.column("answers").type == pa.list_(pa.struct({"text": pa.string(), "start": pa.int32()}))
    assert examples.notes == (
        "text from column 'question', text_pair from column 'context', id from column 'id', "
        "answers from column 'answers'.",
        "task question-answering, since columns 'question', 'context' and 'answers' are there.",
    )


def test_plausible_answers_to_impossible_questions_are_none() -> None:
    """Where is_impossible is true there is no answer, whatever the file lists."""
    content = squad({"answers": [answer("cat", 2)]}, {"answers": [answer("sat", 6)], "is_impossible": True})
    assert read(write("a.json", json.dumps(content)), Read()).column("answers").to_pylist()[1] == []


def test_questions_come_from_other_sources_too() -> None:
    """Lists of objects and the Hub's objects of lists give the same answers, from files and from Python."""
    lists = [[answer("cat", 2), answer("ran", 19)], []]
    objects = [{"text": ["cat", "ran"], "answer_start": [2, 19]}, {"text": [], "answer_start": []}]
    expected = [[{"text": "cat", "start": 2}, {"text": "ran", "start": 19}], []]
    for answers in (lists, objects, expected):
        frame = {"context": [CONTEXT] * 2, "question": ["Q?", "R?"], "answers": answers}
        rows = [dict(zip(frame, row, strict=True)) for row in zip(*frame.values(), strict=True)]
        pq.write_table(pa.table(frame), "a.parquet")
        path = write("a.jsonl", "\n".join(json.dumps(row) for row in rows))
        for data in (path, "a.parquet", rows, frame, datasets.Dataset.from_dict(frame)):
            assert read(data, Read()).column("answers").to_pylist() == expected


def test_a_wrong_place_is_mended_and_counted() -> None:
    """An answer that does not stand where it should is taken where it stands nearest, in characters."""
    content = squad({"answers": [answer("cat", 16)]}, {"answers": [answer("cat", 2)]}, {"answers": [answer("cat", 99)]})
    examples = read(write("a.json", json.dumps(content)), Read())
    assert [row[0]["start"] for row in examples.column("answers").to_pylist()] == [15, 2, 32]
    assert examples.notes[-1] == (
        "a.json: answers of 2 rows did not stand where they should and were found nearby (row 1, 3)."
    )


def test_an_answer_that_is_nowhere_is_left_out_where_others_are_left() -> None:
    """Of several answers, one that is not in the context is left out, and that is said."""
    content = squad({"answers": [answer("dog", 2), answer("cat", 2)]}, {"answers": []})
    examples = read(write("a.json", json.dumps(content)), Read())
    assert examples.column("answers").to_pylist() == [[{"text": "cat", "start": 2}], []]
    assert examples.notes[-1] == (
        "a.json: answers of 1 row that are not in the context were left out, others being there (row 1)."
    )


@given(context=st.text("ab", max_size=12), text=st.text("ab", min_size=1, max_size=3), start=st.integers(-3, 15))
@settings(max_examples=200, deadline=None)
def test_nearest_is_the_nearest_of_all(context: str, text: str, start: int) -> None:
    """The place that is found is one where the text stands, and none is nearer."""
    places = [place for place in range(len(context)) if context.startswith(text, place)]
    found = nearest(context, text, start)
    assert (found is None) == (not places)
    if found is not None:
        assert found in places
        assert abs(found - start) == min(abs(place - start) for place in places)


def test_prediction_needs_questions_and_contexts_only() -> None:
    """Without answers, questions and contexts are found by name or by setting; answers are kept when there."""
    asked = Read(task="question-answering")
    examples = read({"question": ["Q?"], "context": ["c"]}, asked, labelled=False)
    assert examples.table.column_names == ["text", "text_pair", "file", "row", "given"]
    named = Read(task="question-answering", text="q", text_pair="c")
    assert read({"q": ["Q?"], "c": ["c"]}, named, labelled=False).column("text_pair").to_pylist() == ["c"]
    content = squad({}, {})
    examples = read(write("a.json", json.dumps(content)), asked, labelled=False)
    assert examples.column("id").to_pylist() == ["q0", "q1"]
    assert "answers" not in examples


def test_pairs_with_labels_are_no_questions() -> None:
    """A question and a context with a label are a pair to be classified."""
    examples = read({"question": ["a", "b"], "context": ["c", "d"], "label": ["yes", "no"]}, Read(text_pair="context"))
    assert role_of(examples) == "label"


def test_json_lines_with_a_column_called_data_stay_json_lines() -> None:
    """Only one object with a list of articles is taken for SQuAD."""
    name = write("a.json", '{"data": "some text", "label": "x"}\n{"data": "more text", "label": "y"}')
    assert read(name, Read(text="data")).column("label").to_pylist() == ["x", "y"]


SQUAD_ERRORS = {
    "no answers": (squad({}, {"answers": []}), "a.json: row 1: column 'answers' is empty. Every row needs a list of "
        "answers; an empty one means that there is none.\n  1 row is so: 1. Fill them in, or drop them."),
    "nothing answered": (squad({"answers": []}), "a.json: column 'answers' has no answer at all.\n"
        "  Is it the right column? Name another with --label COLUMN."),
    "nowhere": (squad({"answers": [answer("dog", 2)]}, {"answers": [answer("hen", 2)]}),
        "a.json: row 1: column 'answers' holds [{\"text\": \"dog\", \"start\": 2}], which does not stand in the context.\n"
        "  2 rows are so: 1, 2. An answer must be a part of its context, letter by letter."),
    "empty answer": (squad({"answers": [answer("", 2)]}),
        "a.json: row 1: column 'answers' holds {\"text\": \"\", \"start\": 2}, where an answer is expected.\n"
        '  An answer looks like {"text": "Paris", "answer_start": 17}; a list without any means none.'),
    "start in words": (squad({"answers": [{"text": "cat", "answer_start": "2"}]}),
        f"a.json: row 1: 'answer_start' must be a whole number. Got '2' instead.\n  {TIP}"),
    "no text": (squad({"answers": [{"answer_start": 2}]}), f"a.json: row 1: 'text' is missing, or is not a text.\n  {TIP}"),
    "no question": (squad({"question": None, "answers": []}),
        f"a.json: row 1: 'question' is missing, or is not a text.\n  {TIP}"),
    "no context": ({"data": [{"paragraphs": [{"qas": [{"question": "Q?", "answers": []}]}]}]},
        f"a.json: row 1: 'context' is missing, or is not a text.\n  {TIP}"),
    "no paragraphs": ({"data": [{"text": "a", "label": "x"}]},
        f"a.json: article 1: 'paragraphs' is missing, or is not a list.\n  {TIP}"),
    "no questions": ({"data": [{"paragraphs": [{"context": "a"}]}]},
        f"a.json: article 1: 'qas' is missing, or is not a list.\n  {TIP}"),
    "empty": ({"data": []}, "a.json: no rows, only column names.\n  Is it the right file?"),
}  # fmt: skip


@pytest.mark.parametrize("case", SQUAD_ERRORS)
def test_broken_files_of_questions_are_refused(case: str) -> None:
    """What is missing is named, with its row."""
    content, message = SQUAD_ERRORS[case]
    assert error_of(write("a.json", json.dumps(content))) == message


def test_broken_json_names_its_line() -> None:
    """A file that is cut off is refused with the line."""
    content = json.dumps(squad({"answers": []}), indent=1)
    assert error_of(write("a.json", content[:-2])) == (
        f"a.json: line 19: broken JSON: Expecting ',' delimiter.\n  {TIP}"
    )
    assert error_of(write("b.json", '{"data": [{}], "more": "\xff"'.replace("\xff", "\0"))) == (
        "b.json: line 1: there is a NUL byte, which no text has.\n"
        "  Is it a text file? Remove the byte, or save the file again."
    )


def test_what_the_task_needs_is_asked_for() -> None:
    """With the task asked for, missing columns are told, and how to name them."""
    assert error_of({"text": ["a", "b"], "label": ["x", "y"]}, task="question-answering") == (
        "data: no columns of a question and its context found. Its columns are 'text', 'label'.\n"
        "  Name them with --text QUESTION --text-pair CONTEXT --label ANSWERS"
    )
    assert error_of({"question": ["a", "b"], "context": ["x", "y"]}, task="question-answering") == (
        "data: no columns of gold answers found. Its columns are 'question', 'context'.\n"
        "  Name them with --label COLUMN"
    )
    assert error_of({"question": ["a"], "context": ["x"]}, UsageError, task="question-answering", label="gold") == (
        "data: no column 'gold' (--label). Its columns are 'question', 'context'."
    )
