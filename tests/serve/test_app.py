"""The application: routes, refusals in the shape of their route, limits, and real clients against a live server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from bertsmith.errors import UsageError
from bertsmith.serve.app import create_app
from bertsmith.serve.asked import Refused
from bertsmith.serve.settings import ServeSettings
from tests.live_server import served
from tests.serve.own_loop import in_own_loop
from tests.serve.standing import LABELS, LOGITS, StandIn, softmax

GOOD = softmax(np.array([LOGITS["good"]], np.float32))[0].tolist()
BEST = [{"label": "good", "score": GOOD[2]}, {"label": "fine", "score": GOOD[1]}, {"label": "bad", "score": GOOD[0]}]


@contextlib.contextmanager
def client(models: StandIn | None = None, **given):
    app = create_app(ServeSettings(runs=(Path("toy"),), **given), models or StandIn())
    with TestClient(app, base_url="http://127.0.0.1:8000") as found:
        yield found


@pytest.fixture(scope="module")
def toy():
    with client(StandIn(names=("toy", "other"))) as found:
        yield found


@pytest.fixture(scope="module")
def live():
    """The address of a server that listens on a free port."""
    with served(create_app(ServeSettings(runs=(Path("toy"),)), StandIn()), lifespan="on") as (url, _):
        yield url.removeprefix("http://")


@pytest.mark.parametrize("path", ["/", "/predict", "/models/toy/predict"])
def test_one_text_is_answered_with_a_list_of_labels(toy, path):
    """`{"inputs": "text"}` answers `{label, score}`, sorted from the best, as the model decides by."""
    assert toy.post(path, json={"inputs": "good"}).json() == BEST


def test_a_batch_is_answered_with_a_list_of_lists(toy):
    """TEI's batch has an answer a text; `top_k` cuts each."""
    found = toy.post("/predict", json={"inputs": [["good"], ["bad"]], "parameters": {"top_k": 1}}).json()
    assert [[each["label"] for each in row] for row in found] == [["good"], ["bad"]]


def test_raw_scores_are_logits(toy):
    """TEI's `raw_scores` are what the model gave before anything was made of it."""
    found = toy.post("/predict", json={"inputs": "good", "raw_scores": True}).json()
    assert found == [{"label": "good", "score": 2.0}, {"label": "fine", "score": 1.0}, {"label": "bad", "score": 0.0}]


def test_classify_tells_all(toy):
    """Our own route has label, guess, score, what is unknown and foreign, scores, and what was cut."""
    found = toy.post("/classify", json={"texts": ["good"], "model": "other", "top_k": 2}).json()
    assert found.pop("seconds") > 0
    assert found == {
        "model": "other",
        "version": "0123456789ab",
        "answers": [
            {"label": "good", "guess": "good", "score": GOOD[2], "unknown": False, "out_of_scope": None, "foreign": False,
             "scores": {"good": GOOD[2], "fine": GOOD[1]}, "cut": 0},
        ],
    }  # fmt: skip


def test_other_tasks_are_answered():
    """Several labels and numbers have an answer on every route."""
    with client(StandIn(task="multi-label")) as several, client(StandIn(task="regression")) as number:
        assert several.post("/classify", json={"texts": ["good"]}).json()["answers"][0]["labels"] == ["good"]
        assert several.post("/predict", json={"inputs": "good"}).json() == BEST
        assert number.post("/classify", json={"texts": ["good"]}).json()["answers"] == [{"value": 2.5, "cut": 0}]
        assert number.post("/predict", json={"inputs": "good"}).json() == [{"label": "bad", "score": 2.5}]


def test_what_is_cut_is_refused_where_that_was_asked():
    """`truncate: false` refuses a text that is too long; otherwise it is cut as in training, and said."""
    with client(StandIn(cut=7)) as found:
        refused = found.post("/predict", json={"inputs": "good", "truncate": False})
        assert found.post("/classify", json={"texts": ["good"]}).json()["answers"][0]["cut"] == 7
        assert found.post("/predict", json={"inputs": "good"}).status_code == 200
    assert refused.status_code == 422
    assert refused.json() == {
        "error": "text 1 is longer than the 64 tokens that the model reads, by 7. Shorten it, or leave out 'truncate': false.",
        "error_type": "Validation",
    }


def test_refusals_have_the_shape_of_their_route():
    """A full queue is 429 with Retry-After: problem+json on our routes, the peers' shapes on theirs."""
    detail = "65,536 tokens wait. Come again later."
    bodies = {"/classify": {"texts": ["a"]}, "/predict": {"inputs": "a"}, "/v2/models/toy/infer": {"inputs": []}}
    with client(StandIn(full=True)) as found:
        told = {path: found.post(path, json=body, headers={"X-Request-ID": "r1"}) for path, body in bodies.items()}
    assert {each.status_code for each in told.values()} == {429}
    assert {each.headers["retry-after"] for each in told.values()} == {"1"}
    assert told["/predict"].json() == {"error": detail, "error_type": "Overloaded"}
    assert told["/v2/models/toy/infer"].json() == {"error": detail}
    assert told["/classify"].headers["content-type"] == "application/problem+json"
    assert told["/classify"].json() == {
        "type": "urn:bertsmith:queue-full", "title": "Queue full", "status": 429, "detail": detail, "request_id": "r1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "/classify", b'{"texts": ["' + b"a" * 400 + b'"]}', 413, "The body has more than 256 bytes. Send several requests instead."),
        ("POST", "/classify", b'{"texts": ["a", "b", "c"]}', 413, "There are 3 texts; 2 is the most of one request. Send them in several requests."),
        ("POST", "/classify", b'{"texts": ["123456789"]}', 413, "Text 1 has 9 characters; 8 is the most it may have. Send it in parts."),
        ("POST", "/classify", b'{"texts": []}', 422, "There is no text. A request has one text at least."),
        ("POST", "/classify", b'{"texts": ["a"], "pairs": ["b"]}', 422, "This model was trained on single texts, and takes no second texts."),
        ("GET", "/nowhere", b"", 404, "there is no '/nowhere' here. GET /openapi.json lists what there is."),
        ("PUT", "/classify", b"", 405, "'/classify' does not take PUT, but POST."),
        ("POST", "/models/nix/classify", b'{"texts": ["a"]}', 404, "no model is called 'nix'. The models are toy."),
    ],
)  # fmt: skip
def test_limits_are_said(method, path, body, status, detail):
    """What is more than may be, and what is nowhere, is refused with a clear 4xx."""
    with client(max_body=256, max_texts=2, max_characters=8) as found:
        told = found.request(method, path, content=body)
    assert (told.status_code, told.json()["detail"]) == (status, detail)
    assert told.headers["content-type"] == "application/problem+json"


def sent_slowly(*parts: bytes, headers=(), **given) -> tuple[int, dict]:
    """What a client is told that sends parts of a body and then nothing more."""
    app = create_app(ServeSettings(runs=(Path("toy"),), **given), StandIn())
    scope = {"type": "http", "method": "POST", "path": "/classify", "headers": [(b"host", b"localhost"), *headers], "query_string": b""}  # fmt: skip
    coming, sent = list(parts), []

    async def receive():
        if not coming:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": coming.pop(0), "more_body": True}

    async def send(message):
        sent.append(message)

    in_own_loop(app(scope, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_half_a_body_is_waited_for_no_longer_than_the_deadline():
    """A client that stops in the middle does not keep its place for good."""
    status, told = sent_slowly(b'{"texts": ["a"', deadline_s=0.05)
    assert (status, told["detail"]) == (408, "The whole body did not come within 0.05 s. Send it at once, or in parts.")


def test_a_body_that_is_said_to_be_huge_is_not_waited_for():
    """More than twice the most is refused by its Content-Length; a little more is read, so that its sender sees why."""
    status, told = sent_slowly(headers=[(b"content-length", b"1001")], max_body=500)
    assert (status, told["detail"]) == (413, "The body has 1,001 bytes; 500 is the most it may have. Send less.")


def raw(live: str, request: bytes) -> tuple[int, bytes]:
    """Send bytes as they are, and give the status and the body of what comes back."""
    with contextlib.closing(socket.create_connection(live.split(":"), timeout=20)) as one:
        with contextlib.suppress(ConnectionError):
            one.sendall(request)
        # The server may close while it is still being sent to; what it said before is there to be read.
        found = http.client.HTTPResponse(one)
        found.begin()
        return found.status, found.read()


def request_of(
    body: bytes = b'{"texts": ["good"]}', *headers: bytes, begin: bytes = b"POST /classify HTTP/1.1"
) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return b"\r\n".join([begin, b"Host: localhost", *(headers or (length,)), b"", body])


CHUNKED = b'1\r\n{\r\n12\r\n"texts": ["good"]}\r\n0\r\n\r\n'


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (request_of(CHUNKED, b"Transfer-Encoding: chunked"), 200),
        (request_of(b"zz\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"), 400),
        (request_of(b"{}", b"Content-Length: 2", b"Content-Length: 3"), 400),
        (request_of(b"{}", b"Content-Length: -2"), 400),
        (request_of(b'{"texts": ["good"]}', b"Content-Length: 19", b"Content-Type: text/plain"), 200),
        (request_of(b'{"texts": ["good"]}', b"Content-Length: 19", b"Content-Type: \xff/\xfe"), 200),
        (request_of(b"", begin=b"GET /" + b"a" * 30_000 + b" HTTP/1.1"), 404),
        (request_of(b"", begin=b"GET /" + b"a" * 300_000 + b" HTTP/1.1"), 400),
        (request_of(b"", *(b"X-%d: a" % number for number in range(3_000)), begin=b"GET /nowhere HTTP/1.1"), 404),
        (request_of(b"", b"X A: 1", begin=b"GET /models HTTP/1.1"), 400),
        (request_of(b"", b"X-A: 1", begin=b"GET /models/%ff%00/classify HTTP/1.1"), 405),
        (request_of(b"", b"X-A: 1", begin=b"GET /ui/%2e%2e%2fapp.py HTTP/1.1"), 404),
        (request_of(b"", b"X-A: 1", begin=b"OPTIONS * HTTP/1.1"), 404),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 80 + b"\r\n\r\n", 400),
    ],
    ids=["chunked", "bad chunk", "two lengths", "negative", "text/plain", "no type", "long", "too long",
         "many headers", "bad header", "no UTF-8", "dots", "star", "TLS"],
)  # fmt: skip
def test_bytes_that_no_client_library_sends_are_answered(live, request_, status):
    """Whatever comes through the socket has a status below 500, and the next request is answered."""
    assert raw(live, request_)[0] == status
    assert raw(live, request_of())[0] == 200


def test_those_who_hang_up_harm_nobody(live):
    """Half of a header, half of a body, and all of it without waiting: the next request is answered."""
    whole = request_of()
    for size in (10, len(whole) - 3, len(whole)):
        with contextlib.closing(socket.create_connection(live.split(":"), timeout=20)) as one:
            one.sendall(whole[:size])
    assert raw(live, whole)[0] == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/", "GET, HEAD, POST"), ("/ui", "GET, HEAD"), ("/classify", "POST"), ("/health/live", "GET, HEAD")],
)
def test_methods_that_a_path_takes_are_all_said(toy, path, allowed):
    """405 lists those of every route of the path."""
    told = toy.put(path)
    assert (told.status_code, told.headers["allow"]) == (405, allowed)


def test_a_compressed_body_is_refused(toy):
    """What unpacks to gigabytes is never unpacked."""
    told = toy.post("/classify", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (told.status_code, told.json()["detail"]) == (415, "A body is taken as it is, not as 'gzip'.")


def test_readiness_is_a_real_answer():
    """A server whose model cannot answer lives, but is not ready."""
    with client(StandIn(refused=Refused(503, "not ready", "The model does not answer."))) as found:
        assert found.get("/health/live").json() == {"live": True}
        told = found.get("/health/ready")
    assert (told.status_code, told.json()["detail"]) == (503, "The model does not answer.")


def test_a_bad_bundle_changes_nothing():
    """A reload that is refused says why."""
    with client(StandIn(refused=Refused(409, "reload refused", "model.onnx was changed."))) as found:
        told = found.post("/admin/reload")
    assert (told.status_code, told.json()["detail"]) == (409, "model.onnx was changed.")


def test_reload_takes_one_model_or_all():
    """The body names a model; without one all are loaded anew."""
    models = StandIn(names=("toy", "other"))
    with client(models) as found:
        found.post("/admin/reload")
        assert found.post("/admin/reload", json={"model": "other"}).json()["models"][0]["name"] == "other"
        assert found.post("/admin/reload", json={"modle": "x"}).status_code == 422
    assert models.reloaded == ["", "other"]


def test_settings_are_checked_together():
    """All wrong settings are said at once, by their flags."""
    with pytest.raises(UsageError) as error:
        ServeSettings(runs=(Path("a"),), port=70_000, workers=0, engine="gpu", cors=("*",), deadline_s=0)
    assert error.value.message == (
        "'--engine' must be one of auto, torch, onnx, onnx-int8. Got 'gpu' instead.\n"
        "'--port' must be between 0 and 65535. Got 70000 instead.\n"
        "'--cors' must be an origin such as https://shop.example. Got '*' instead.\n"
        "'--workers' must be at least 1. Got 0 instead.\n"
        "'--deadline' must be more than 0 seconds. Got 0 instead."
    )


@pytest.mark.parametrize("path", ["", "/predict"])
def test_hugging_face_hub_reads_the_answer(live, path, monkeypatch):
    """The client of Hugging Face's API gives all labels, on either route."""
    from huggingface_hub import InferenceClient

    # Offline, as the tests are, the client asks nobody, this machine included.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    found = InferenceClient(model=f"http://{live}{path}", token="none").text_classification("good", top_k=2)
    assert [(each.label, each.score) for each in found] == [("good", GOOD[2]), ("fine", GOOD[1])]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_reads_the_answer(live, binary):
    """Triton's client asks and is answered, in binary data (its default) and in JSON."""
    # It brings gevent, which warns of what other tests imported before it.
    triton = pytest.importorskip("tritonclient.http")

    asking = triton.InferenceServerClient(live)
    assert asking.is_server_live()
    assert asking.is_server_ready()
    assert asking.is_model_ready("toy")
    assert asking.get_model_metadata("toy")["name"] == "toy"
    tensor = triton.InferInput("text", [2], "BYTES")
    tensor.set_data_from_numpy(np.array(["good", "bad"], dtype=object), binary_data=binary)
    outputs = (
        None
        if binary
        else [triton.InferRequestedOutput(name, binary_data=False) for name in ("label", "probabilities")]
    )
    found = asking.infer("toy", [tensor], outputs=outputs)
    labels = [each.decode() if isinstance(each, bytes) else each for each in found.as_numpy("label")]
    assert labels == ["good", "bad"]
    if not binary:
        np.testing.assert_array_equal(
            found.as_numpy("probabilities"), softmax(np.array([LOGITS["good"], LOGITS["bad"]], np.float32))
        )
    asking.close()


def test_curl_reads_the_answer(live):
    """curl, with nothing but a body, is answered."""
    told = subprocess.run(
        ["curl", "-s", f"http://{live}/classify", "-d", '{"texts": ["good"]}'],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert json.loads(told.stdout)["answers"][0]["label"] == "good"
    assert set(json.loads(told.stdout)["answers"][0]["scores"]) == set(LABELS)
