"""What clients send is read strictly, and what they get has the shapes that they expect."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.serve.asked import Refused, Served
from bertsmith.serve.wire import classify, hugging_face, open_inference
from bertsmith.serve.wire.plain_json import as_bytes
from bertsmith.serve.wire.scores import scores_of
from bertsmith.serve.wire.strict_json import is_deeper, read_json
from bertsmith.tasks.question_answering import AnswerPrediction
from bertsmith.tasks.spans import Span, SpansPrediction

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def status_of(read, *given, **more) -> int:
    """The status with which something is refused; 200 where it is read."""
    try:
        read(*given, **more)
    except Refused as refused:
        return refused.status
    return 200


def served(*answers, columns: int = 2) -> Served:
    rows = len(answers)
    return Served(
        list(answers),
        np.zeros((rows, columns), np.float32),
        np.full((rows, columns), 0.5),
        np.arange(rows + 1),
        [0] * rows,
    )


@given(JSON)
@settings(max_examples=25, deadline=None)
def test_json_is_read_as_the_standard_library_reads_it(value):
    """What is JSON comes through untouched."""
    assert read_json(json.dumps(value).encode(), most_depth=64) == value


@given(st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_bytes_are_read_or_refused(body):
    """No body raises anything but a refusal."""
    assert status_of(read_json, body, most_depth=4) in {200, 400}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "The body is empty. A JSON object was expected."),
        (b"{", "The body is no JSON: Expecting property name enclosed in double quotes at line 1, column 2."),
        (b'{"a": NaN}', "The body has NaN, which is no JSON."),
        (b'{"a": -Infinity}', "The body has -Infinity, which is no JSON."),
        (b'{"a": 1, "a": 2}', "The key 'a' stands twice in one object."),
        (b'{"a": "\xff"}', "The body is not UTF-8: byte 8 is 0xff."),
        (b"[[[[[1]]]]]", "The body has arrays or objects more than 4 deep."),
        (b"[" * 100_000, "The body has arrays or objects more than 4 deep."),
        (b"9" * 5000, "The body has a whole number with too many digits."),
    ],
)
def test_what_is_no_json_is_said(body, detail):
    """A body that cannot be read is refused with what is wrong with it."""
    with pytest.raises(Refused) as refused:
        read_json(body, most_depth=4)
    assert (refused.value.status, refused.value.detail) == (400, detail)


def test_an_empty_array_is_a_level():
    """Depth counts brackets, whatever is in them."""
    assert is_deeper([[]], 1)
    assert not is_deeper([[]], 2)
    assert not is_deeper("[[[", 0)


@pytest.mark.parametrize(
    ("inputs", "texts", "pairs", "batch"),
    [
        ("a", ("a",), None, False),
        (["a"], ("a",), None, False),
        (["a", "b"], ("a",), ("b",), False),
        ([["a"], ["b"]], ("a", "b"), None, True),
        ([["a", "b"], ["c", "d"]], ("a", "c"), ("b", "d"), True),
        ({"text": "a", "text_pair": "b"}, ("a",), ("b",), False),
        ([{"text": "a"}, {"text": "b", "text_pair": None}], ("a", "b"), None, True),
        ({"question": "q", "context": "c"}, ("q",), ("c",), False),
    ],
)
def test_every_form_of_inputs_is_read_as_the_peers_read_it(inputs, texts, pairs, batch):
    """A list of two strings is a pair, a list of lists a batch."""
    wanted = hugging_face.read({"inputs": inputs})
    assert (wanted.asked.texts, wanted.asked.pairs, wanted.batch) == (texts, pairs, batch)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([], "The body must be a JSON object. Got an array instead."),
        ({}, "the field 'inputs' is missing. Give a text: {\"inputs\": \"text\"}."),
        ({"inputs": 3}, "'inputs' must be a text, a list of one or two texts, or an object with 'text'. Got the number 3 instead."),
        ({"inputs": []}, "'inputs' must be a text, a list of one or two texts, or an object with 'text'. Got a list of 0 instead."),
        ({"inputs": ["a", "b", "c"]}, "'inputs' is a list of 3 strings; a text, or a pair of two, was expected. A batch is a list of lists: [[\"first text\"], [\"second text\"]]."),
        ({"inputs": [["a"], ["b", "c"]]}, "'inputs' has 1 pairs and 1 single texts; give one kind."),
        ({"inputs": [["a"], [None]]}, "'inputs': number 2 must be a text, a list of one or two texts, or an object with 'text'. Got a list of 1 instead."),
        ({"inputs": "a", "parameters": {"top_k": 0}}, "'top_k' must be a whole number of at least 1. Got the number 0 instead."),
        ({"inputs": "a", "parameters": {"top_k": True}}, "'top_k' must be a whole number of at least 1. Got true instead."),
        ({"inputs": "a", "parameters": {"function_to_apply": "tanh"}}, "'function_to_apply' must be one of softmax, sigmoid, none. Got the string 'tanh' instead."),
        ({"inputs": "a", "raw_scores": "yes"}, "'raw_scores' must be true or false. Got the string 'yes' instead."),
    ],
)  # fmt: skip
def test_wrong_fields_on_predict_are_named(body, detail):
    """A refusal says which field is wrong, what stands there and what was expected."""
    with pytest.raises(Refused) as refused:
        hugging_face.read(body)
    assert (refused.value.status, refused.value.detail) == (422, detail)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"texts": "a"}, "'texts' must be a list of strings. Got the string 'a' instead."),
        ({"texts": ["a", None]}, "'texts' must be a list of strings. Number 2 is null instead."),
        ({"texts": ["a"], "topk": 1}, "unknown field 'topk'. Did you mean 'top_k'?"),
        ({"text": "a"}, "unknown field 'text'. Did you mean 'texts'?"),
        ({}, "the field 'texts' is missing. Give a list of texts: {\"texts\": [\"text\"]}."),
        ({"texts": ["a"], "model": "other"}, "the path names the model 'toy', but 'model' is 'other'. Leave one of them out."),
    ],
)  # fmt: skip
def test_wrong_fields_on_classify_are_named(body, detail):
    """A slip of the pen is not taken for a default."""
    with pytest.raises(Refused) as refused:
        classify.read(body, model="toy")
    assert (refused.value.status, refused.value.detail) == (422, detail)


@given(JSON)
@settings(max_examples=40, deadline=None)
def test_any_json_is_read_or_refused(value):
    """No JSON value raises anything but a refusal, on any route."""
    for body in (value, {"inputs": value}, {"texts": value}, {"inputs": [value]}, {"inputs": "a", "parameters": value}):
        found = {
            status_of(hugging_face.read, body),
            status_of(classify.read, body),
            status_of(open_inference.read, as_bytes(body), None, model="m", task="single-label", most_depth=64),
        }
        assert found <= {200, 422}


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_functions_are_those_of_scipy(function):
    """Scores made of logits anew are softmax, sigmoid, or the logits."""
    from scipy import special

    logits = np.array([[0.0, 800.0, -800.0], [1.0, 2.0, 3.0]], np.float32)
    oracle = {
        "softmax": lambda each: special.softmax(each, axis=1),
        "sigmoid": special.expit,
        "none": lambda each: each,
    }
    found = scores_of(Served([], logits, logits, np.arange(3), []), function)
    np.testing.assert_allclose(found, oracle[function](logits.astype(np.float64)), atol=1e-15)


def test_other_tasks_answer_in_their_pipelines_shape():
    """Tags and questions have the shape of transformers' own pipelines."""
    wanted = hugging_face.read({"inputs": "Ada wrote"})
    spans = SpansPrediction(("B-PER", "O"), (Span(0, 3, "Ada", "PER", 0.9),))
    assert hugging_face.answers(wanted, served(spans), ("O", "B-PER")) == [
        {"entity_group": "PER", "score": 0.9, "word": "Ada", "start": 0, "end": 3}
    ]
    nothing = AnswerPrediction("", None, None, 0.7, unknown=True)
    assert hugging_face.answers(wanted, served(nothing), ()) == {"answer": "", "score": 0.7, "start": 0, "end": 0}


def test_other_tasks_answer_on_classify():
    """Every task says what it has, and what was cut."""
    asked = classify.read({"texts": ["Ada wrote"]})
    spans = SpansPrediction(("B-PER", "O"), (Span(0, 3, "Ada", "PER", 0.9),))
    assert classify.answers(asked, served(spans), ()) == [
        {
            "spans": [{"start": 0, "end": 3, "text": "Ada", "label": "PER", "score": 0.9}],
            "tags": ["B-PER", "O"],
            "cut": 0,
        }
    ]


def infer_body(texts: list[bytes], *, size: int | None = None) -> tuple[bytes, str]:
    data = b"".join(struct.pack("<I", len(each)) + each for each in texts)
    tensor = {
        "name": "text",
        "shape": [len(texts)],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(data) if size is None else size},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + data, str(len(head))


def read_infer(body: bytes, length: str | None) -> open_inference.Infer:
    return open_inference.read(body, length, model="toy", task="single-label", most_depth=16)


@given(st.lists(st.text(), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_binary_texts_come_through(texts):
    """Any texts that are UTF-8 are read from binary data as they were written."""
    body, length = infer_body([each.encode("utf-8", "replace") for each in texts])
    assert read_infer(body, length).asked.texts == tuple(each.encode("utf-8", "replace").decode() for each in texts)


@pytest.mark.parametrize(
    ("body", "length", "status", "detail"),
    [
        (*infer_body([b"good"], size=6), 422, "the binary data of the input 'text' ends inside text 1."),
        (*infer_body([b"good"], size=99), 422, "'binary_data_size' must be a number of bytes that the body has. Got the number 99 instead."),
        (*infer_body([b"good"], size=0), 422, "the input 'text' has the shape [1], but 0 texts."),
        (*infer_body([b"\xff"]), 422, "text 1 of the input 'text' is not UTF-8."),
        (b"{}", "-1", 400, "the header Inference-Header-Content-Length must be a whole number of at most the body's 2 bytes. Got '-1' instead."),
        (b"{}", "9" * 5000, 400, f"the header Inference-Header-Content-Length must be a whole number of at most the body's 2 bytes. Got '{'9' * 40}' instead."),
        (b"{}", None, 422, "'inputs' must be a list of tensors. Got null instead."),
        (b'{"inputs": [{"name": "text", "shape": [1], "datatype": "FP32", "data": [1]}]}', None, 422, "the input 'text' must have the datatype 'BYTES'. Got the string 'FP32' instead."),
        (b'{"inputs": [{"name": "text", "shape": [2, 2], "datatype": "BYTES", "data": []}]}', None, 422, "the input 'text' must have the shape [n] or [n, 1]. Got an array instead."),
        (b'{"inputs": [{"name": "words", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}', None, 422, "an input must be 'text' or 'text_pair', once. Got the string 'words' instead."),
        (b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}], "outputs": [{"name": "logit"}]}', None, 422,
         "an output must be one of label, score, answer, guess, unknown, probabilities. Got the string 'logit' instead."),
    ],
)  # fmt: skip
def test_wrong_tensors_are_named(body, length, status, detail):
    """A refusal says which tensor is wrong, and how."""
    with pytest.raises(Refused) as refused:
        read_infer(body, length)
    assert (refused.value.status, refused.value.detail) == (status, detail)


def test_a_column_of_texts_is_answered_as_one():
    """Shape [n, 1], which Triton's batches have, comes back with the answers."""
    body = b'{"id": "7", "inputs": [{"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["b"]]}]}'
    infer = read_infer(body, None)
    assert (infer.asked.texts, infer.shape, infer.id) == (("a", "b"), (2, 1), "7")
