"""The same text is answered once; cells are safe in a spreadsheet; groups of rows are bounded by bytes."""

from __future__ import annotations

import csv

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.errors import UsageError
from bertsmith.listener import Silent
from bertsmith.recipe import Read
from bertsmith.scoring import files
from bertsmith.scoring.cache import AnswerCache, Known, answer_once
from bertsmith.scoring.files import Asked, score_file
from bertsmith.scoring.spreadsheet import safe_batch
from bertsmith.scoring.writers import check_ending
from tests.scoring.test_files import Stub, expected


@given(st.lists(st.lists(st.text("ab", max_size=3), min_size=1, max_size=6), max_size=5))
def test_every_row_gets_its_answer_and_every_text_is_asked_once(batches):
    """Over any batches: answers in order, each text given to the model once, and the repeats counted."""
    stub, cache, repeated = Stub(), AnswerCache(), 0
    for texts in batches:
        found = answer_once(stub, pa.table({"text": pa.array(texts, pa.string())}), scores=True, cache=cache)
        assert [each["label"] for each in found.parts] == [expected(text) for text in texts]
        repeated += found.repeated
    texts = [text for batch in batches for text in batch]
    assert (sum(stub.batches), repeated) == (len(set(texts)), len(texts) - len(set(texts)))


def test_pairs_are_the_same_where_both_texts_are():
    """A pair is not its first text, and not what its texts are when joined."""
    stub = Stub(pair=True)
    table = pa.table({"text": ["a", "a", "ab", "a"], "text_pair": ["bc", "b", "c", "bc"]})
    found = answer_once(stub, table, scores=False, cache=AnswerCache())
    assert ([each["label"] for each in found.parts], found.repeated) == (["odd", "even", "odd", "odd"], 1)


def test_the_cache_holds_so_many_bytes_and_forgets_the_oldest():
    """What was asked for lately stays."""
    cache = AnswerCache(2000)
    for key in ("a", "b", "c"):
        cache.keep(key, Known({}, cut=False))
    assert cache.get("a") is not None
    cache.keep("x" * 200, Known({}, cut=False))
    assert (cache.get("b"), cache.get("c"), len(cache)) == (None, None, 2)
    cache.keep("y" * 2000, Known({}, cut=False))
    assert len(cache) == 0


def test_repeats_are_counted_with_the_cut_among_them(tmp_path):
    """A long text that comes twice is cut twice, and asked once."""
    (tmp_path / "in.csv").write_text("text\n" + "x" * 12 + "\nab\n" + "x" * 12 + "\n")
    stub = Stub()
    done = score_file(stub, tmp_path / "in.csv", tmp_path / "out.csv", asked=Asked(Read()), listener=Silent())
    assert (done.rows, done.cut, done.repeated, stub.batches) == (3, 2, 1, [2])


def test_long_texts_come_in_smaller_groups(tmp_path, monkeypatch):
    """A group has at most so many bytes of text, or one row."""
    monkeypatch.setattr(files, "BYTES", 100)
    rows = ["a" * 30, "b" * 31, "c" * 30, "d" * 300, "e" * 99, "f"]
    (tmp_path / "in.csv").write_text("\n".join(["text", *rows, ""]))
    stub = Stub()
    score_file(stub, tmp_path / "in.csv", tmp_path / "out.csv", asked=Asked(Read()), listener=Silent())
    assert stub.batches == [3, 1, 2]


RUNS = "=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - the wide ones are meant


@given(st.lists(st.text(st.sampled_from(RUNS + "1.,e%ab'"), max_size=6), min_size=1))
def test_no_cell_begins_like_a_formula_unless_it_is_a_number(texts):
    """Cells are as they were, or have one apostrophe in front; what begins like a formula is a number."""
    batch = pa.RecordBatch.from_pydict({"=text": texts, "n": [-1.5] * len(texts)})
    found = safe_batch(batch)
    assert found.schema.names == ["'=text", "n"]
    assert found.column("n").equals(batch.column("n"))
    for before, after in zip(texts, found.column(0).to_pylist(), strict=True):
        if before[:1] in tuple(RUNS):
            assert after == "'" + before or set(before) <= set("+-1.,e%")
        else:
            assert after == before


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"), ("+1-555-0100", "'+1-555-0100"), ("-1+cmd|' /C calc'!A0",) * 1 + ("'-1+cmd|' /C calc'!A0",),
        ("-5", "-5"), ("+1.5e-3", "+1.5e-3"), ("-1,234.50", "-1,234.50"), ("-3 %", "-3 %"), ("-", "'-"), ("\t=1", "'\t=1"), ("", ""), ("a=1", "a=1"),
        ("－1", "'－1"),  # noqa: RUF001 - the wide one is meant
    ],
)  # fmt: skip
def test_numbers_are_left_alone_and_formulas_are_not(cell, safe):
    """A number that stands as text stays one; a telephone number or a sum does not run."""
    assert safe_batch(pa.RecordBatch.from_pydict({"a": [cell, None]})).column(0).to_pylist() == [safe, None]


def test_a_safe_file_is_safe_in_its_cells_headers_and_labels(tmp_path):
    """Own columns, their names, and the answers: what the csv module reads back begins like no formula."""
    (tmp_path / "in.csv").write_text('text,=evil\n=1+1,-5\nab,"=HYPERLINK(""x"")"\n')
    asked = Asked(Read(text="text"), scores=True, spreadsheet_safe=True)
    score_file(Stub(), tmp_path / "in.csv", tmp_path / "out.csv", asked=asked, listener=Silent())
    with (tmp_path / "out.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[:3] == ["text", "'=evil", "label"]
    assert [row[:3] for row in rows] == [["'=1+1", "-5", "even"], ["ab", '\'=HYPERLINK("x")', "even"]]


def test_only_spreadsheets_are_made_safe(tmp_path):
    """In JSON lines and Parquet the flag would only spoil texts, so it is refused."""
    with pytest.raises(UsageError) as caught:
        check_ending(tmp_path / "a.parquet", spreadsheet_safe=True)
    assert str(caught.value) == (
        f"{tmp_path / 'a.parquet'}: --spreadsheet-safe is for .csv and .tsv; no spreadsheet runs what a .parquet file "
        "holds.\n  Leave the flag out, or choose another --out."
    )
