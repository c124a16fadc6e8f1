"""Bad rows are set apart with their reason; every other row is answered, and none is made up."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bertsmith.data.files import read_table
from bertsmith.data.parquet import rows_at_once
from bertsmith.data.sieve import sieve
from bertsmith.errors import DataError
from bertsmith.listener import Silent
from bertsmith.recipe import Read
from bertsmith.scoring import quarantine
from bertsmith.scoring.files import Asked, Scored, score_file
from tests.scoring.test_files import CELLS, Stub


def scored(folder: Path, name: str, content: bytes, **read: str) -> tuple[Scored, list[dict], list[dict]]:
    """Answer a file with a quarantine: what came of it, the rows that were set apart, the answers."""
    source, target, apart = folder / name, folder / "out.jsonl", folder / "bad.jsonl"
    source.write_bytes(content)
    done = score_file(
        Stub(), source, target, asked=Asked(Read(**read)), listener=Silent(), quarantine=apart
    )  # fmt: skip
    rows, bad = ([json.loads(line) for line in path.read_text().splitlines()] for path in (target, apart))
    return done, bad, rows


def test_every_kind_of_bad_row_of_a_csv(tmp_path):
    """Wrong cells, a quote that goes on, a byte that is no text, a NUL: number, line, reason and raw text of each."""
    content = b'id,text\n1,good\n2,a,b\n\n3,"x" y\n4,caf\xe9\n5,nul\0\n6,"two\nlines"\n7\n8,"a ""quoted"" one"\n'
    done, bad, rows = scored(tmp_path, "in.csv", content)
    assert bad == [
        {"row": 2, "line": 3, "reason": "3 cells found, 2 expected (id, text).", "raw": "2,a,b"},
        {"row": 3, "line": 5, "reason": 'a quoted cell goes on after its closing quote (").', "raw": '3,"x" y'},
        {"row": 4, "line": 6, "reason": "byte 0xe9 is no text in this encoding.", "raw": "4,caf\\xe9"},
        {"row": 5, "line": 7, "reason": "there is a NUL byte.", "raw": "5,nul\0"},
        {"row": 7, "line": 10, "reason": "1 cell found, 2 expected (id, text).", "raw": "7"},
    ]
    assert [(row["id"], row["text"]) for row in rows] == [("1", "good"), ("6", "two\nlines"), ("8", 'a "quoted" one')]
    assert (done.rows, done.bad) == (3, 5)


@pytest.mark.parametrize("end", ["", '99,"closed"\n'])
def test_an_open_quote_costs_its_own_row_only(tmp_path, end):
    """A thousand rows that a quote swallowed are rows by themselves, and are answered."""
    rows = [f"{number},text {number}" for number in range(1000)]
    content = "\n".join(["id,text", '0,"open', *rows, ""]) + end
    done, bad, _ = scored(tmp_path, "in.csv", content.encode())
    assert [(each["row"], each["raw"]) for each in bad] == [(1, '0,"open')]
    assert done.rows == 1000 + bool(end)


def test_pieces_of_a_text_are_never_taken_for_rows(tmp_path):
    """Lines inside a broken cell are not rows: all that the quote swallowed is one bad row."""
    content = b'id,text\n1,ok\n2,"first line\nsecond line\nthird" line, here\n3,ok\n'
    done, bad, rows = scored(tmp_path, "in.csv", content)
    assert [(each["row"], each["raw"]) for each in bad] == [(2, '2,"first line\nsecond line\nthird" line, here')]
    assert [row["id"] for row in rows] == ["1", "3"]
    assert done.bad == 1


def test_every_kind_of_bad_row_of_json_lines(tmp_path):
    """Broken JSON, no object, a name twice, a list for a text, half a character: each with its number and reason."""
    lines = [b'{"text": "ab"}', b"", b"{", b"[1]", b'{"text": "a", "text": "b"}', b'{"text": ["a"]}',
             b'{"text": "\\ud800"}', b'{"text": "\xff"}', b'{"text": "abc", "more": [1]}']  # fmt: skip
    _, bad, rows = scored(tmp_path, "in.jsonl.gz", gzip.compress(b"\n".join(lines)))
    assert [(each["row"], each["line"], each["reason"]) for each in bad] == [
        (2, 3, "broken JSON: Expecting property name enclosed in double quotes at character 2 of {"),
        (3, 4, "an object is expected, [1] found."),
        (4, 5, "broken JSON: the name 'text' is there twice."),
        (5, 6, "column 'text' holds a list or an object, where one text is expected: [\"a\"]"),
        (6, 7, "there is half of a surrogate pair, which is no character."),
        (7, 8, "byte 0xff is no text in this encoding."),
    ]
    assert [(row["text"], row["more"], row["label"]) for row in rows] == [("ab", None, "even"), ("abc", [1], "odd")]


def test_bad_cells_of_parquet(tmp_path):
    """Bytes that are no text are set apart; without a quarantine the row is named."""
    texts = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(np.array([0, 2, 4, 7], np.int32)), pa.py_buffer(b"aba\xffabc")]
    )
    pq.write_table(pa.table({"n": [1, 2, 3], "text": texts}), tmp_path / "in.parquet")
    done, bad, rows = scored(tmp_path, "in.parquet", (tmp_path / "in.parquet").read_bytes())
    assert bad == [{"row": 2, "reason": "the cell in column 'text' is not UTF-8.", "raw": '{"n": 2, "text": "a\\xff"}'}]
    assert [(row["n"], row["text"], row["label"]) for row in rows] == [(1, "ab", "even"), (3, "abc", "odd")]
    assert done.bad == 1
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / "in.parquet")
    assert str(caught.value) == (
        f"{tmp_path / 'in.parquet'}: row 2: the cell in column 'text' is not UTF-8.\n"
        "  Write the file again from its source, with texts and not bytes."
    )


def test_a_cell_that_is_far_too_long_is_a_bad_row(tmp_path, monkeypatch):
    """Its raw text is kept up to a bound, with its true length; the limit is the readers' own."""
    monkeypatch.setattr(quarantine, "_LONGEST", 20)
    content = b"id,text\n1," + b"x" * 5_000_001 + b"\n2,ok\n"
    _, bad, rows = scored(tmp_path, "in.csv", content)
    assert bad == [
        {"row": 1, "line": 2, "raw": "1," + "x" * 18 + " … (5,000,003 characters)",
         "reason": "the cell in column 'text' has 5,000,001 characters. At most 5,000,000 are read."}
    ]  # fmt: skip
    assert [row["id"] for row in rows] == ["2"]


def test_a_clean_file_has_an_empty_quarantine(tmp_path):
    """The file that was asked for is there; so a script can tell "no bad rows" from "not run"."""
    done, bad, _ = scored(tmp_path, "in.csv", b"text\nab\n")
    assert (done.bad, bad) == (0, [])


def test_what_no_row_is_to_blame_for_stays_an_error(tmp_path):
    """A broken header, or a file without a column of texts, is said as without a quarantine, and nothing is written."""
    for content, message in (
        (b"id,t\xffext\n1,a\n", "in.csv: line 1: byte 0xff at offset 4 is not UTF-8"),
        (b'[{"text": 1}', "in.jsonl: line 1: broken JSON: ',' or ']' expected, the end of the file found."),
    ):
        name = message.partition(":")[0]
        with pytest.raises(DataError) as caught:
            scored(tmp_path, name, content)
        assert str(caught.value).startswith(f"{tmp_path}/{message}")
        assert sorted(each.name for each in tmp_path.iterdir() if each.name != name) == []
        (tmp_path / name).unlink()


ROW = st.tuples(CELLS, CELLS)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(rows=[["", "", ""], ["", "\n", "\n"]], ending=".tsv")
@given(
    rows=st.lists(st.one_of(ROW, st.lists(CELLS, min_size=3, max_size=4)), min_size=1, max_size=10),
    ending=st.sampled_from([".csv", ".tsv"]),
)
def test_a_sieve_parts_good_rows_from_bad(rows, ending):
    """Of any rows as the csv module writes them, those of two cells come through unchanged and the others are named."""
    delimiter = "," if ending == ".csv" else "\t"
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    with tempfile.TemporaryDirectory() as folder:
        source, clean = Path(folder) / f"in{ending}", Path(folder) / f"clean{ending}"
        source.write_bytes(text.getvalue().encode())
        bad: list = []
        assert sieve(source, clean, encoding="", texts=("a",), bad=bad.append)
        with clean.open(encoding="utf-8", newline="") as file:
            header, *found = csv.reader(file, delimiter=delimiter)
    assert header == ["a", "b"]
    assert [tuple(row) for row in found] == [tuple(row) for row in rows if len(row) == 2]
    assert [each.row for each in bad] == [place for place, row in enumerate(rows, 1) if len(row) != 2]


def test_large_rows_of_parquet_come_in_small_batches(tmp_path):
    """Batches have so many bytes, not so many rows."""
    pq.write_table(pa.table({"text": [f"{n}" * 20_000 for n in range(1000, 1100)]}), tmp_path / "a.parquet",
                   use_dictionary=False)  # fmt: skip
    assert rows_at_once(pq.read_metadata(tmp_path / "a.parquet")) == (8 << 20) // 80_004
    pq.write_table(pa.table({"n": [1, 2]}), tmp_path / "b.parquet")
    assert rows_at_once(pq.read_metadata(tmp_path / "b.parquet")) == 16_384
