"""The list of feedback: as CSV on the terminal or in a file, and deletion by id."""

from __future__ import annotations

import datetime

import pytest

from bertsmith.cli.review import review
from bertsmith.errors import DataError, UsageError
from bertsmith.feedback.entry import Entry
from bertsmith.feedback.opening import open_store

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)


@pytest.fixture
def place(tmp_path) -> str:
    entries = [
        Entry("=cmd", "m", correction="good", label="bad", guess="bad", score=0.5, version="v", id="a" * 32, created=NOW),
        Entry("fine", "m", right=True, label="good", guess="good", score=0.4, id="b" * 32, created=NOW),
    ]  # fmt: skip
    with open_store(str(tmp_path / "f.db"), create=True) as store:
        for each in entries:
            store.add(each)
    return str(tmp_path / "f.db")


HEADER = "id,created,model,version,text,text_pair,label,guess,score,unknown,right,correction,comment\n"
CORRECTED = f"{'a' * 32},2026-11-21T00:00:00+00:00,m,v,'=cmd,,bad,bad,0.5,false,false,good,\n"
CONFIRMED = f"{'b' * 32},2026-11-21T00:00:00+00:00,m,,fine,,good,good,0.4,false,true,,\n"


def test_the_list_is_csv_that_a_spreadsheet_may_open(place, tmp_path, capsys):
    """All columns are there, formulas are guarded, and a file is written whole, with the mark that Excel needs."""
    assert review(place) == 0
    assert capsys.readouterr().out == HEADER + CORRECTED + CONFIRMED
    assert review(place, least_certain=1) == 0
    assert capsys.readouterr().out == HEADER + CONFIRMED
    assert review(place, corrected=True, out=tmp_path / "list.csv") == 0
    assert (tmp_path / "list.csv").read_bytes().decode() == "\ufeff" + HEADER + CORRECTED


def test_an_id_is_deleted_once(place):
    """The second time it is said that there is none."""
    assert review(place, delete=["a" * 32]) == 0
    with pytest.raises(DataError) as error:
        review(place, delete=["a" * 32])
    assert str(error.value) == f"{place}: there is no entry '{'a' * 32}'.\n  bertsmith review lists the ids."


def test_a_number_below_one_is_refused(place):
    """None of the least certain is no list."""
    with pytest.raises(UsageError) as error:
        review(place, least_certain=0)
    assert str(error.value) == "'--least-certain' must be at least 1. Got 0 instead."
