"""Feedback is kept whole, read in order and deleted for good, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsmith.errors import DataError, UsageError
from bertsmith.feedback.entry import Entry
from bertsmith.feedback.opening import open_store
from bertsmith.feedback.places import database_url, lasting, without_password
from bertsmith.feedback.store import Store, Wanted

NOW = datetime.datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=datetime.UTC)


def place_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    return str(folder / "feedback.db") if kind == "sqlite" else request.getfixturevalue("postgresql")


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path) -> Iterator[Store]:
    with open_store(place_of(request.param, request, tmp_path), create=True) as opened:
        yield opened
        opened.purge(days=-1)


def entry(text: str, minutes: int = 0, **more) -> Entry:
    return Entry(text, "reviews", created=NOW + datetime.timedelta(minutes=minutes), **more)


def test_an_entry_comes_back_as_it_was(store):
    """Every field survives, a moment to the microsecond and in UTC, from a place with another time zone too."""
    there = datetime.timezone(datetime.timedelta(hours=-3))
    one = Entry(
        "Où est\r\n'); DROP TABLE bertsmith_feedback; -- 🙂", "reviews", correction="good", text_pair="", version="ab12",
        label="UNKNOWN", guess="bad", score=0.1 + 0.2, unknown=True, comment="=1+1", created=NOW.astimezone(there),
    )  # fmt: skip
    two = entry("right", right=True)
    store.add(one)
    store.add(two)
    found = {each.id: each for each in store.entries()}
    assert found == {one.id: one, two.id: two}
    assert {each.created.utcoffset() for each in found.values()} == {datetime.timedelta(0)}


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_kept(store, text):
    """What is no blank and no half character comes back letter by letter."""
    if not text.strip():
        return
    one = entry(text, comment=text)
    store.add(one)
    assert [each.text for each in store.entries()] == [text]
    assert store.delete(one.id)


def test_what_is_asked_for_is_read(store):
    """Entries come in order of time; or the least certain first; or the corrected, of a model, up to a moment."""
    given_entries = [
        entry("third", 3, score=0.5, correction="a"), entry("first", 1, score=0.9, correction="b"),
        entry("second", 2, score=0.2), replace(entry("other", 4, correction="c"), model="other"),
    ]  # fmt: skip
    for each in given_entries:
        store.add(each)

    def texts(**wanted) -> list[str]:
        return [each.text for each in store.entries(Wanted(**wanted))]

    assert texts() == ["first", "second", "third", "other"]
    assert texts(corrected=True) == ["first", "third", "other"]
    assert texts(corrected=True, model="reviews") == ["first", "third"]
    assert texts(before=NOW + datetime.timedelta(minutes=2)) == ["first", "second"]
    assert texts(least_certain=2) == ["second", "third"]
    assert texts(least_certain=9, corrected=True) == ["third", "first"]
    assert store.count() == 4


def test_an_id_or_old_age_deletes(store):
    """One entry goes by its id, once; those older than so many days go together, younger ones stay."""
    now = datetime.datetime.now(datetime.UTC)
    old, young, gone = (
        replace(entry(name), created=now - datetime.timedelta(days=days))
        for name, days in (("old", 31), ("young", 29), ("gone", 0))
    )
    for each in (old, young, gone):
        store.add(each)
    assert (store.delete(gone.id), store.delete(gone.id), store.delete("' OR 1=1 --")) == (True, False, False)
    assert store.purge(days=30) == 1
    assert [each.text for each in store.entries()] == ["young"]


def test_entries_are_read_on_behind_one_of_them(store):
    """What follows an entry is what was made later, and of one moment what has the greater id: nothing comes twice."""
    moment = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
    times = [moment, moment, moment, moment + datetime.timedelta(microseconds=1), moment - datetime.timedelta(days=1)]
    made = [Entry(f"text {place}", "follows", created=time) for place, time in enumerate(times)]
    order = sorted(made, key=lambda each: (each.created, each.id))
    for each in made:
        store.add(each)
    for place, each in enumerate(order):
        assert store.find(each.id) == each
        assert list(store.entries(Wanted(model="follows", after=each))) == order[place + 1 :]
    assert store.find("0" * 32) is None


def test_a_deleted_text_is_in_no_byte_of_the_files(tmp_path):
    """SQLite overwrites it, in the database and in its log of writes."""
    with open_store(str(tmp_path / "f.db"), create=True) as store:
        secret, other = entry("my number is 4711-0815"), entry("stays")
        store.add(secret)
        store.add(other)
        store.delete(secret.id)
        held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"stays" in held
    assert b"4711-0815" not in held


def test_texts_of_customers_are_for_the_owner_alone(tmp_path):
    """The database and the files beside it cannot be read by others."""
    with open_store(str(tmp_path / "deep" / "f.db"), create=True) as store:
        store.add(entry("a"))
        assert {path.stat().st_mode & 0o077 for path in (tmp_path / "deep").iterdir()} == {0}


WRITES = """
import sys
from bertsmith.feedback.entry import Entry
from bertsmith.feedback.opening import open_store
with open_store(sys.argv[1], create=True) as store:
    for number in range(25):
        store.add(Entry(f"{sys.argv[2]}-{number}", "reviews"))
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_workers_that_start_and_write_at_once_lose_nothing(kind, request, tmp_path):
    """Three processes make the table together and write 25 entries each; all 75 are there."""
    place = place_of(kind, request, tmp_path)
    if kind == "postgresql":
        import psycopg

        with psycopg.connect(place) as connection:
            connection.execute("DROP TABLE IF EXISTS bertsmith_feedback")
    workers = [
        subprocess.Popen([sys.executable, "-c", WRITES, place, str(number)], stderr=subprocess.PIPE)
        for number in range(3)
    ]
    assert [worker.communicate(timeout=120)[1] for worker in workers] == [b""] * 3
    with open_store(place) as store:
        found = sorted(each.text for each in store.entries())
        store.purge(days=-1)
    assert found == sorted(f"{worker}-{number}" for worker in range(3) for number in range(25))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": " \n"}, "'text' is empty. The text that was answered is expected."),
        ({"text": "a\0b"}, "'text' holds the character U+0000, which a database cannot store."),
        ({"comment": "\ud83d"}, "'comment' holds half a character (a lone surrogate), which is no text."),
        ({"comment": "x" * 2001}, "'comment' has 2,001 characters. At most 2,000 are kept."),
        ({"right": True, "correction": "a"}, "'right' is true, and there is a correction. Only one of them can be meant."),
        ({"score": 1.5}, "'score' is 1.5. A probability from 0 to 1 is expected."),
        ({"score": float("nan")}, "'score' is nan. A probability from 0 to 1 is expected."),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_or_stored_is_refused(fields, message):
    """An entry is refused where it is made, in one sentence that names the field."""
    with pytest.raises(DataError) as error:
        Entry(**{"text": "a", "model": "m", **fields})
    assert str(error.value) == message


def test_a_store_that_is_not_there_is_not_made_by_reading(tmp_path):
    """A slip of the pen in a path is said, and leaves no empty database behind."""
    with pytest.raises(UsageError) as error:
        open_store(str(tmp_path / "no.db"))
    assert str(error.value) == (
        f"{tmp_path / 'no.db'}: there is no such feedback store.\n"
        f"  bertsmith serve RUN --feedback {tmp_path / 'no.db'} makes it when the first feedback comes."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_stays_as_it_is(tmp_path):
    """What is no database is refused in the driver's words, and not written to."""
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" * 100)
    with pytest.raises(DataError) as error:
        open_store(str(path), create=True)
    assert str(error.value) == f"{path}: cannot be made: file is not a database."
    assert path.read_text() == "text,label\n" * 100


def test_a_server_that_does_not_answer_is_said_without_its_password():
    """The message names place and fault, and the password is nowhere in it."""
    with pytest.raises(DataError) as error:
        open_store("postgresql://me:secret@127.0.0.1:9/db")
    assert str(error.value).startswith("postgresql://me@127.0.0.1:9/db: cannot be read: ")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("mysql://u:secret@h/d", "mysql://u@h/d: is neither an SQLite file nor PostgreSQL."),
        ("sqlite://", "sqlite://: is no file."),
        ("sqlite:///:memory:", "sqlite:///:memory:: is no file."),
        ("", "no place for feedback was given."),
    ],
)
def test_other_places_are_refused(place, message):
    """Only a file or PostgreSQL will do."""
    with pytest.raises(UsageError) as error:
        database_url(place)
    assert (
        str(error.value)
        == f"{message}\n  Give a file, such as feedback.db, or a URL, such as postgresql://user@host/database."
    )


@given(password=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=20))
@settings(max_examples=50, deadline=None)
def test_no_password_is_shown_or_written_down(password):
    """Wherever it stands in the URL, it is left out of what is shown and kept."""
    secret = f"X{password}Y"
    for place in (f"postgresql://me:{secret}@h/d", f"postgres://me@h/d?password={secret}&sslmode=require"):
        assert secret not in without_password(place) + lasting(place)
