"""The benchmark of serving under load: its client against a server that answers by a script, and what it counts."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n[{"label": "a", "score": 0.75}]'


@pytest.fixture(scope="module", autouse=True)
def found():
    """The benchmark's modules can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield


def module(name):
    """One of the benchmark's modules."""
    return importlib.import_module(name)


class Scripted:
    """A server that gives the next of some answers to each request, b"" closes the connection, and keeps what came."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self.came = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while self._answers:
            connection, _ = self._sock.accept()
            with connection:
                while self._answers and (request := self._request(connection)):
                    self.came.append(request)
                    answer = self._answers.pop(0)
                    connection.sendall(answer)
                    if not answer or b"Connection: close" in answer:
                        break
        self._sock.close()

    @staticmethod
    def _request(connection):
        got = b""
        while b"\r\n\r\n" not in got:
            part = connection.recv(65_536)
            if not part:
                return b""
            got += part
        length = int(got.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while len(got.split(b"\r\n\r\n", 1)[1]) < length:
            got += connection.recv(65_536)
        return got


def asked(folder, server, requests, **settings):
    """What the client notes, run in its own process as the benchmark does, over one connection."""
    given = {"seconds": 0.4, "connections": 1, "patience": 0.2, **settings}
    job = module("serve_load_client").Job(server.port, requests, **given)
    file = folder / "job.json"
    file.write_text(json.dumps(module("serve_load_client").job_as_json(job)), encoding="utf-8")
    program = [sys.executable, "-S", "-E", str(BENCHMARKS / "serve_load_client.py"), str(file), str(folder)]
    subprocess.run(program, check=True, capture_output=True, timeout=30)
    return module("serve_load_figures").Load.read(folder)


def load_of(rows, *, answers=(), seconds=10.0, names=()):
    """Notes of a client: rows of due, sent, ended, status; the client began at 100."""
    columns = dict(zip(("due", "sent", "ended", "status"), map(np.array, zip(*rows, strict=True)), strict=True))
    columns["which"] = np.zeros(len(rows), int)
    client = {"begin": 100.0, "seconds": seconds, "processor": 0.1, "not_sent": 0}
    return module("serve_load_figures").Load(columns, list(answers), {}, list(names), client)


def expected(*probabilities, tolerance=0.0):
    """Offline answers with the labels a and b."""
    return module("serve_load_figures").Expected(("a", "b"), np.array(probabilities), tolerance)


def scores(a, b):
    """The body of an answer."""
    listed = [{"label": "a", "score": a}, {"label": "b", "score": b}]
    return json.dumps(sorted(listed, key=lambda each: -each["score"]))


def test_client_keeps_a_connection_and_asks_in_order(tmp_path):
    """A closed load asks one request after the other over one connection, each with its id, until the server is gone."""
    post = module("serve_load_servers").post
    server = Scripted(OK, OK, OK)
    load = asked(tmp_path, server, [post("/predict", b"one"), post("/predict", b"two")], names="n-")
    assert [each.split(b"\r\n\r\n")[1] for each in server.came] == [b"one", b"two", b"one"]
    assert [each.split(b"X-Request-ID: ")[1].split(b"\r\n")[0] for each in server.came] == [b"n-0", b"n-1", b"n-2"]
    assert load.status.tolist()[:3] == [200, 200, 200]
    assert load.names[:3] == ["n-0", "n-1", "n-2"]
    assert load.answers == [(0, '[{"label": "a", "score": 0.75}]', 2), (1, '[{"label": "a", "score": 0.75}]', 1)]
    assert (load.seconds >= 0).all()


def test_client_tells_broken_connections_from_those_never_made(tmp_path):
    """A connection that breaks before its answer is lost; once nobody listens, the next is not connected, and the client ends."""
    server = Scripted(OK, b"")
    load = asked(tmp_path, server, [module("serve_load_servers").post("/", b"one")])
    assert module("serve_load_figures").counted(load.status) == {"not connected": 1, "lost": 1, "200": 1}


def test_client_gives_up_what_is_not_answered(tmp_path):
    """A request that has no whole answer when patience ends is noted as one without an answer."""
    server = Scripted(OK, b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n[", OK)
    load = asked(tmp_path, server, [module("serve_load_servers").post("/", b"one")])
    assert module("serve_load_figures").counted(load.status) == {"no answer": 1, "200": 1}


def test_client_connects_again_where_the_server_says_close(tmp_path):
    """After an answer with `Connection: close` the client asks over a new connection, and nothing counts as lost."""
    closing = b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nContent-Length: 4\r\n\r\nfull"
    server = Scripted(closing, OK)
    load = asked(tmp_path, server, [module("serve_load_servers").post("/", b"one")])
    assert load.status.tolist()[:2] == [429, 200]
    assert load.others == {"429": "full"}


def test_client_hangs_up_half_a_request(tmp_path):
    """A request that is to hang up is noted so, and the next comes over a new connection."""
    post = module("serve_load_servers").post
    server = Scripted(OK)
    half = post("/", b"on", length=3, hang_up=True)
    load = asked(tmp_path, server, [post("/", b"one"), half], rate=0, seconds=0.2)
    assert load.status.tolist()[:2] == [200, -2]


def test_open_load_comes_at_its_rate_whatever_the_server_does(tmp_path):
    """An open load of 50 a second for 0.39 s is due 20 times, over connections of its own, though nobody answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        server = type("Silent", (), {"port": silent.getsockname()[1]})
        load = asked(
            tmp_path, server, [module("serve_load_servers").post("/", b"one")], rate=50.0, connections=15, seconds=0.39
        )
    assert module("serve_load_figures").counted(load.status) == {"no answer": 15}
    assert load.client["not_sent"] == 5
    gaps = np.diff(np.sort(load.columns["due"]))
    assert np.allclose(gaps, 0.02)


@given(head=st.binary(max_size=40), length=st.integers(0, 500), status=st.integers(200, 599), cut=st.integers(0, 600))
def test_heads_of_answers_are_read_once_they_are_whole(head, length, status, cut):
    """However an answer is cut into parts, its head is read once it is whole, and says where the body lies."""
    head_of = module("serve_load_client").head_of
    first = b"HTTP/1.1 %d Some Words\r\nX-Any: " % status + head.translate(None, b"\r\n")
    whole = first + b"\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length
    begin = len(whole) - length
    assert head_of(whole[:cut]) == ((status, begin, len(whole), False) if cut >= begin else None)


def test_answers_without_a_length_are_refused():
    """An answer that does not say its length is an error, and not waited for."""
    with pytest.raises(ValueError, match=r"^no answer that says its length: b'http/1.1 200 ok'$"):
        module("serve_load_client").head_of(b"HTTP/1.1 200 OK\r\n\r\n")


def test_answers_are_compared_with_every_probability():
    """An answer is right if each label's score is the offline one to the bit, and the best stands first."""
    offline = expected([0.75, 0.25], [0.1, 0.9])
    assert offline.is_right(0, scores(0.75, 0.25))
    assert offline.is_right(0, '[{"label": "a", "score": 0.75}]')
    assert not offline.is_right(0, scores(0.75, np.nextafter(0.25, 1)))
    assert not offline.is_right(0, '[{"label": "b", "score": 0.25}]')
    assert not offline.is_right(0, '[{"label": "c", "score": 0.75}]')
    assert not offline.is_right(0, '{"error": "no"}')
    assert not offline.is_right(0, "[]")
    assert not offline.is_right(1, scores(0.75, 0.25))
    assert expected([0.75, 0.25], tolerance=1e-5).is_right(0, scores(0.750009, 0.249991))


def test_wrong_answers_are_counted_by_request():
    """Of three requests with one wrong body all three are wrong; those to rubbish are left out."""
    load = load_of([(0, 0, 1, 200)], answers=[(0, scores(0.5, 0.5), 3), (1, scores(0.1, 0.9), 2), (2, "[]", 4)])
    offline = expected([0.75, 0.25], [0.1, 0.9], [np.nan, np.nan])
    assert offline.wrong(load, left_out={2}) == 3
    assert offline.agreement(load) == pytest.approx(5 / 9)


def test_open_loads_are_summed_up_by_what_became_of_them():
    """Goodput counts what was answered in time; latencies are those of accepted and of refused requests apart."""
    rows = [(100, 100, 101, 200), (101, 101, 103, 200), (102, 102, 102.004, 429), (103, 103.5, 111, 200)]
    figures = module("serve_load_figures").open_figures(load_of(rows))
    assert figures == {
        "offered_a_second": 0.4, "goodput_a_second": 0.2, "statuses": {"200": 3, "429": 1}, "accepted_p50_ms": 2000.0,
        "accepted_p99_ms": 7390.0, "refused_p50_ms": 4.0, "refused_p99_ms": 4.0, "late_ms": 485.0, "not_sent": 0,
        "client_cpu": 0.1,
    }  # fmt: skip


def test_closed_loads_leave_out_the_warm_up():
    """Requests that ended in the first seconds count for nothing."""
    rows = [(100, 100, 101, 500), (102, 102, 103.5, 200), (104, 104, 106, 200), (105, 105, 107, 429)]
    figures = module("serve_load_figures").closed_figures(load_of(rows), warm=2.0)
    assert (figures["requests_a_second"], figures["p50_ms"], figures["not_200"]) == (0.2, 1750.0, 1)


def test_the_log_tells_which_requests_the_server_had_read(tmp_path):
    """Lines of requests are found by id among others, and half a line that a killed process left is passed over."""
    log = tmp_path / "server.log"
    log.write_text('{"event": "up"}\n{"request_id": "a", "status": 200}\nno json\n{"request_id": "b", "sta', "utf-8")
    assert module("serve_load_figures").by_name(log) == {"a": {"request_id": "a", "status": 200}}


@pytest.mark.parametrize(
    ("stop", "statuses", "more", "kept"),
    [
        ("sigterm", {"200": 9, "503": 1, "lost": 2, "not connected": 4}, {"exit": [0], "read_and_lost": 0}, True),
        ("sigterm", {"200": 9, "lost": 2}, {"exit": [0], "read_and_lost": 1}, False),
        ("sigterm", {"200": 9}, {"exit": [None], "read_and_lost": 0}, False),
        ("sigterm", {"200": 9, "500": 1}, {"exit": [0], "read_and_lost": 0}, False),
        ("reload", {"200": 9, "429": 3}, {"answer": [200]}, True),
        ("reload", {"200": 9}, {"answer": [200, 409]}, False),
        ("kill", {"200": 9, "lost": 5}, {"lost_elsewhere": 0}, True),
        ("kill", {"200": 9, "lost": 5}, {"lost_elsewhere": 1}, False),
    ],
)
def test_a_promise_is_kept_only_if_nothing_accepted_is_lost(stop, statuses, more, kept):
    """What each kind of stop may cost: refusals always, broken connections of requests that nobody had read."""
    found = {"stop": stop, "statuses": statuses, "wrong": 0, "no_answer": 0, **more}
    assert module("serve_load_stops").is_kept(found) is kept
    assert not module("serve_load_stops").is_kept({**found, "wrong": 1})


@given(good=st.integers(0, 400), share=st.sampled_from([0.0, 0.01, 0.2]))
def test_rubbish_keeps_the_order_of_the_rest(good, share):
    """All good requests stand in the row once and in order, and the places told are those of the rubbish."""
    post, texts = module("serve_load_servers").post, module("serve_load_texts")
    requests, bad = [post("/", str(number).encode()) for number in range(good)], [post("/", b"bad"), post("/", b"{")]
    row, places = texts.with_rubbish(requests, bad, share)
    assert [each for place, each in enumerate(row) if place not in places] == requests
    assert [row[place] for place in sorted(places)] == [bad[number % 2] for number in range(len(places))]
    assert len(places) == round(good * share / (1 - share))


def test_rubbish_is_nothing_that_can_be_answered():
    """No piece of rubbish is a whole request with a text in it, and two bodies are larger than the server takes."""
    texts = module("serve_load_texts")
    whole = json.dumps({"inputs": "Where is my card?"}).encode()
    pieces = texts.rubbish("/predict")
    assert all(each.body != whole for each in pieces if not each.hang_up)
    assert sum(len(each.body) > texts.MOST_BODY for each in pieces) == 2
    assert sum(each.hang_up for each in pieces) == 4


def test_soaks_have_texts_of_all_lengths():
    """Words, lines, pages and texts of 2,000 words come in their shares, the same every time."""
    varied = module("serve_load_texts").varied
    long = ["a page of many words " * 30] * 3
    drawn = varied(["a line of text"], long, 1000)
    lengths = np.array([len(text.split()) for text in drawn])
    counts = {length: int((lengths == length).sum()) for length in (1, 4, 150, 2000)}
    assert sum(counts.values()) == 1000
    assert all(
        abs(counts[length] - 1000 * share) < 60 for length, share in {4: 0.5, 150: 0.2, 1: 0.2, 2000: 0.1}.items()
    )
    assert drawn == varied(["a line of text"], long, 1000)


def test_families_of_processes_are_found_with_their_memory():
    """A process that was started counts with the one that started it, and holds some memory."""
    servers = module("serve_load_servers")
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in servers.family(servers.os.getpid())
        assert servers.resident(child.pid) > 0
        child.communicate(b"\n")
    assert servers.resident(child.pid) == 0


def test_all_sides_are_asked_one_text_a_request(tmp_path):
    """Each peer is asked in its own shape, the text whole; ours without parameters, so that it gives every label."""
    servers = module("serve_load_servers")
    sides = {name: servers.peer(name, tmp_path / "run", tmp_path, batch=64) for name in servers.PEERS}
    sides["ours"] = servers.ours(tmp_path / "run", engine="onnx")
    bodies = {name: json.loads(side.request("Where?").body) for name, side in sides.items()}
    assert bodies == {
        "plain": {"text": "Where?"}, "plain-async": {"text": "Where?"}, "litserve": {"text": "Where?"},
        "infinity": {"model": "model", "input": ["Where?"]}, "ours": {"inputs": "Where?"},
    }  # fmt: skip
    assert sides["litserve"].command[1:] == (
        str(BENCHMARKS / "serve_load_litserve.py"), str(tmp_path / "run" / "model"), "{port}", "64",
    )  # fmt: skip


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path):
    """A server that cannot start ends the benchmark with what it said."""
    servers = module("serve_load_servers")
    command = (sys.executable, "-S", "-c", "raise SystemExit('no model')")
    side = servers.Side("broken", command, "/predict", lambda text: {"text": text})
    with pytest.raises(SystemExit, match=r"^broken does not answer:\nno model\n$"):
        servers.Server(side, tmp_path)
