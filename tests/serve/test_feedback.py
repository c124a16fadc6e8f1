"""What a client says of an answer is read field by field, kept, listed for those who may, and deleted."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.testclient import TestClient

from bertsmith.errors import DataError
from bertsmith.feedback.entry import Entry
from bertsmith.serve.app import create_app
from bertsmith.serve.asked import Refused
from bertsmith.serve.feedback import Page, entry_of, page_of
from bertsmith.serve.keys import add_key
from bertsmith.serve.settings import ServeSettings
from tests.serve.standing import StandIn


def model(task: str = "single-label", *, pair: bool = False) -> Any:
    info = SimpleNamespace(pair=pair)
    return cast("Any", SimpleNamespace(name="reviews", version="ab12", task=task, labels=("bad", "good"), info=info))


def test_what_the_page_sends_is_kept_whole():
    """Text, answer, correction and comment stand in the entry, with the model's name and version."""
    answer = {"label": "UNKNOWN", "guess": "bad", "score": 0.5, "unknown": True, "scores": {"bad": 0.5}}
    body = {"model": "reviews", "text": "so so", "answer": answer, "correction": "good", "comment": "hm"}
    found = entry_of(body, model())
    assert (found.text, found.model, found.version, found.right) == ("so so", "reviews", "ab12", False)
    assert (found.label, found.guess, found.score, found.unknown) == ("UNKNOWN", "bad", 0.5, True)
    assert (found.correction, found.comment, found.text_pair) == ("good", "hm", None)


@pytest.mark.parametrize(
    ("task", "value", "kept"),
    [("ordered", "bad", "bad"), ("multi-label", ["good", "bad"], '["good", "bad"]'), ("multi-label", [], "[]"), ("regression", 2.5, "2.5")],
)  # fmt: skip
def test_a_correction_is_of_the_kind_of_the_task(task, value, kept):
    """A label, a list of labels, or a number."""
    assert entry_of({"text": "a", "correction": value}, model(task)).correction == kept


@pytest.mark.parametrize(
    ("task", "body", "detail"),
    [
        ("single-label", {}, "'text' must be a string. Got null instead."),
        ("single-label", {"text": " "}, "'text' is empty. The text that was answered is expected."),
        ("single-label", {"text": "a", "text_pair": "b"}, "The model 'reviews' answers single texts: no 'text_pair'."),
        ("single-label", {"text": "a", "correction": "ugly"}, "'correction' must be a label of the model 'reviews'. Got the string 'ugly' instead."),
        ("multi-label", {"text": "a", "correction": "bad"}, "'correction' must be a list of labels of the model 'reviews'. Got the string 'bad' instead."),
        ("regression", {"text": "a", "correction": True}, "'correction' must be a number. Got true instead."),
        ("token-labels", {"text": "a", "correction": "x"}, "The model 'reviews' takes no correction: leave it out, and say in 'comment' what is right."),
        ("single-label", {"text": "a", "right": "yes"}, "'right' must be true or false. Got the string 'yes' instead."),
        ("single-label", {"text": "a", "answer": {"score": "1"}}, "'answer.score' must be a number. Got the string '1' instead."),
        ("single-label", {"text": "a", "answer": {"score": 7}}, "'score' is 7. A probability from 0 to 1 is expected."),
        ("single-label", {"text": "a", "answer": []}, None),
        ("single-label", {"text": "a", "answer": [1]}, "'answer' must be a JSON object. Got an array instead."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(task, body, detail):
    """Each wrong field is refused with 422 and a sentence; an empty answer is as none."""
    if detail is None:
        assert entry_of(body, model(task)).label is None
        return
    with pytest.raises(Refused) as refused:
        entry_of(body, model(task))
    assert (refused.value.status, refused.value.detail) == (422, detail)


@contextlib.contextmanager
def client(folder, *, keys: bool = False, **given):
    """A server that keeps feedback, and the headers of three callers: admin, user, nobody."""
    callers = {"nobody": {}}
    if keys:
        for name in ("admin", "user"):
            secret = add_key(folder / "keys.toml", name, admin=name == "admin")
            callers[name] = {"X-API-Key": secret}
        given["api_key_file"] = folder / "keys.toml"
    settings = ServeSettings(runs=(Path("toy"),), feedback=str(folder / "feedback.db"), page=False, **given)
    app = create_app(settings, StandIn(names=("toy", "other")))
    with TestClient(app, base_url="http://127.0.0.1:8000") as found:
        yield found, callers


def test_what_is_sent_is_listed_page_by_page_and_deleted(tmp_path):
    """An admin's key reads what others sent, the oldest first, so many at a time, and deletes it for good."""
    with client(tmp_path, keys=True) as (server, callers):
        ids = []
        for number, model in enumerate(("toy", "other", "toy")):
            body = {"text": f"text {number}", "model": model, **({"correction": "good"} if number else {"right": True})}
            told = server.post("/feedback", json=body, headers=callers["user"])
            assert told.status_code == 201
            ids.append(told.json()["id"])

        def listed(query: str) -> tuple[list[str], Any]:
            found = server.get(f"/feedback?{query}", headers=callers["admin"]).json()
            return [each["id"] for each in found["entries"]], found["next"]

        assert listed("limit=2") == (ids[:2], ids[1])
        assert listed(f"limit=2&after={ids[1]}") == (ids[2:], None)
        assert listed("corrected=true&model=toy") == (ids[2:], None)
        first = server.get("/feedback?limit=1", headers=callers["admin"]).json()["entries"][0]
        assert first | {"created": ""} == {
            "id": ids[0], "created": "", "text": "text 0", "text_pair": None, "model": "toy", "version": "0123456789ab",
            "label": None, "guess": None, "score": None, "unknown": False, "right": True, "correction": None, "comment": "",
        }  # fmt: skip
        assert server.delete(f"/feedback/{ids[0]}", headers=callers["admin"]).status_code == 204
        assert listed("")[0] == ids[1:]
        again = server.delete(f"/feedback/{ids[0]}", headers=callers["admin"])
        assert (again.status_code, again.json()["detail"]) == (404, f"there is no feedback '{ids[0]}' here.")
        gone = server.get(f"/feedback?after={ids[0]}", headers=callers["admin"])
        assert gone.status_code == 404


def test_only_an_admin_reads_and_deletes(tmp_path):
    """Whoever may ask may say that an answer is wrong; what others wrote is read and deleted with an admin key alone."""
    with client(tmp_path, keys=True) as (server, callers):
        sent = server.post("/feedback", json={"text": "a"}, headers=callers["user"]).json()["id"]
        found = {
            name: (
                server.post("/feedback", json={"text": "a"}, headers=headers).status_code,
                server.get("/feedback", headers=headers).status_code,
                server.delete(f"/feedback/{sent}", headers=headers).status_code,
            )
            for name, headers in (("nobody", callers["nobody"]), ("user", callers["user"]), ("admin", callers["admin"]))
        }
    assert found == {"nobody": (401, 401, 401), "user": (201, 403, 403), "admin": (201, 200, 204)}


def test_without_keys_nothing_is_listed(tmp_path):
    """On loopback everyone may send and, knowing the id, delete; a list of all texts wants an admin's key."""
    with client(tmp_path) as (server, _):
        told = server.post("/feedback", json={"text": "a", "text_pair": None, "answer": None, "correction": None})
        refused = server.get("/feedback")
        assert server.delete(f"/feedback/{told.json()['id']}").status_code == 204
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "what people wrote is listed for a key that was made with --admin, and this server runs without keys. "
        "`bertsmith review` lists it too.",
    )


def test_without_a_store_there_is_no_route():
    """A server that keeps nothing says so."""
    app = create_app(ServeSettings(runs=(Path("toy"),), page=False), StandIn())
    with TestClient(app, base_url="http://127.0.0.1:8000") as server:
        assert server.post("/feedback", json={"text": "a"}).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "/feedback", b"{", 400, "The body is no JSON: Expecting property name enclosed in double quotes at line 1, column 2."),
        ("POST", "/feedback", b'{"txt": "a"}', 422, "unknown field 'txt'. Did you mean 'text'?"),
        ("POST", "/feedback", b'{"text": "a", "model": "nix"}', 404, "no model is called 'nix'. The models are toy, other."),
        ("POST", "/feedback", b'{"text": "123456789"}', 413, "'text' has 9 characters; 8 is the most it may have. Send it in parts."),
        ("POST", "/feedback", b'{"text": "a\\u0000"}', 422, "'text' holds the character U+0000, which a database cannot store."),
        ("POST", "/feedback", b'{"text": "a", "right": true, "correction": "good"}', 422, "'right' is true, and there is a correction. Only one of them can be meant."),
        ("DELETE", "/feedback/abc", b"", 404, "there is no feedback 'abc' here."),
        ("PUT", "/feedback", b"", 405, "'/feedback' does not take PUT, but GET, HEAD, POST."),
    ],
)  # fmt: skip
def test_wrong_feedback_is_refused(tmp_path, method, path, body, status, detail):
    """Each fault has its status and its sentence, as problem+json."""
    with client(tmp_path, max_characters=8) as (server, _):
        told = server.request(method, path, content=body)
    assert (told.status_code, told.json()["detail"]) == (status, detail)
    assert told.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        (b"limti=1", "unknown field 'limti'. Did you mean 'limit'?"),
        (b"limit=0", "'limit' must be a whole number from 1 to 1,000. Got the string '0' instead."),
        (b"limit=", "'limit' must be a whole number from 1 to 1,000. Got the string '' instead."),
        (b"corrected=yes", "'corrected' must be true or false. Got the string 'yes' instead."),
        (b"after=1", "'after' must be the id of an entry. Got the string '1' instead."),
    ],
)
def test_a_wrong_query_is_named(query, detail):
    """What is wanted is read strictly."""
    with pytest.raises(Refused) as refused:
        page_of(query)
    assert (refused.value.status, refused.value.detail) == (422, detail)
    assert page_of(b"") == Page(100, "", corrected=False, model="")


def test_a_database_that_fails_is_said(tmp_path, monkeypatch):
    """503 with Retry-After, without the driver's words, and answers go on."""
    with client(tmp_path) as (server, _):

        def fails(_: Entry) -> None:
            raise DataError("feedback.db: cannot be written: disk I/O error.")

        monkeypatch.setattr(server.app.state.feedback._store, "add", fails)
        told = server.post("/feedback", json={"text": "a"})
        assert server.post("/classify", json={"texts": ["a"]}).status_code == 200
    assert (told.status_code, told.headers["retry-after"], told.json()["detail"]) == (
        503,
        "5",
        "the database does not answer. Try again.",
    )


def test_the_store_is_closed_with_the_server(tmp_path):
    """What was kept is on disk, whole, once the server has stopped: nothing is left in a log of writes."""
    with client(tmp_path) as (server, _):
        server.post("/feedback", json={"text": "a"})
    assert [each.name for each in tmp_path.iterdir()] == ["feedback.db"]
