"""Files: what is written is read back, and what is broken is named by row."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
import os
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsmith.data import delimited, json_lines
from bertsmith.data.files import open_batches, read_folder, read_table
from bertsmith.errors import BertsmithError, DataError, UsageError

TRICKY = [
    ",",
    ";",
    "\t",
    '"',
    '""',
    "\n",
    "\r\n",
    "\r",
    "NA",
    "null",
    "",
    " ",
    "\u2028",
    "\x85",
    "\ufeff",
    "1.0",
    "😀",
]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
CELL = st.lists(st.one_of(st.sampled_from(TRICKY), ANY_TEXT), max_size=3).map("".join)
ROWS = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8)
QUOTES = 'Inside a quoted cell each quote is doubled: "she said ""no""".'
ONE_OBJECT = 'Each line is one object, such as {"text": "so good", "label": "positive"}.'
CELLS = 'A cell that holds the separator or a line end must stand in quotes: "like, this".'
FORMATS = (
    ".csv, .tsv, .jsonl, .ndjson, .json, .conll, .conllu, .iob, .iob2, .bio (each also with .gz), .parquet, or a "
    "folder with one sub-folder a label"
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: bytes | str) -> str:
    data = content.encode() if isinstance(content, str) else content
    Path(name).write_bytes(gzip.compress(data, 1) if name.endswith(".gz") else data)
    return name


def error_of(name: str, content: bytes | str | None = None, *, encoding: str = "") -> str:
    if content is not None:
        write(name, content)
    with pytest.raises(BertsmithError) as caught:
        read_table(name, encoding=encoding)
    return str(caught.value)


def pairs(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table.column("text").to_pylist(), table.column("label").to_pylist(), strict=True))


def as_csv(rows: list[tuple[str, str]], delimiter: str, line_end: str) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([("text", "label")])
    # Pythons before 3.13 do not quote a lone \r when lines end in \n; such a file has no single meaning.
    writer = csv.writer(file, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows(rows)
    return file.getvalue()


FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    rows=ROWS,
    delimiter=st.sampled_from([",", "\t"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    packed=st.booleans(),
)
def test_csv_and_tsv_are_read_back_as_python_wrote_them(
    rows: list[tuple[str, str]], delimiter: str, line_end: str, packed: bool
) -> None:
    """Whatever Python's csv module writes, quoted, is read back exactly, packed or not."""
    name = ("a.csv" if delimiter == "," else "a.tsv") + ".gz" * packed
    assert pairs(read_table(write(name, as_csv(rows, delimiter, line_end)))) == rows


@FUZZ
@given(rows=ROWS)
def test_minimal_quoting_is_read_back(rows: list[tuple[str, str]]) -> None:
    """The csv module's default dialect (quotes only where needed) is read back exactly."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("text", "label"), *rows])
    assert pairs(read_table(write("a.csv", file.getvalue()))) == rows


@FUZZ
@given(cells=st.lists(st.text(st.sampled_from('ab"",;\t\n\r '), max_size=6), min_size=2, max_size=12))
def test_csv_means_what_python_takes_it_for_or_is_refused(cells: list[str]) -> None:
    """Raw bytes are read as Python's strict csv reader does, or refused with a row; never differently."""
    content = "text,label\n" + ",".join(cells)
    try:
        expected = [row for row in csv.reader(io.StringIO(content, newline=""), strict=True) if row][1:]
    except csv.Error:
        expected = None
    write("a.csv", content)
    if expected is not None and all(len(row) == 2 for row in expected):
        assert [list(pair) for pair in pairs(read_table("a.csv"))] == expected
    else:
        assert error_of("a.csv").startswith("a.csv: row ")


@FUZZ
@given(rows=ROWS, ascii_only=st.booleans(), packed=st.booleans())
def test_jsonl_is_read_back(rows: list[tuple[str, str]], ascii_only: bool, packed: bool) -> None:
    """Texts that look like dates, numbers or nothing at all stay the texts they are."""
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=ascii_only) for text, label in rows]
    name = "a.jsonl" + ".gz" * packed
    assert pairs(read_table(write(name, "\n".join(lines)))) == rows


@FUZZ
@given(rows=ROWS, indent=st.sampled_from([None, 1]))
def test_a_json_list_is_read_back(rows: list[tuple[str, str]], indent: int | None) -> None:
    """One list of objects, printed in one line or in many, is read like JSONL."""
    content = json.dumps([{"text": text, "label": label} for text, label in rows], indent=indent)
    assert pairs(read_table(write("a.json", content))) == rows


@FUZZ
@given(rows=ROWS)
def test_parquet_is_read_back(rows: list[tuple[str, str]]) -> None:
    """Parquet files of strings are read back exactly."""
    pq.write_table(pa.table({"text": [row[0] for row in rows], "label": [row[1] for row in rows]}), "a.parquet")
    assert pairs(read_table("a.parquet")) == rows


@FUZZ
@given(
    values=st.lists(st.one_of(st.none(), st.booleans(), st.integers(), ANY_TEXT, st.lists(st.integers())), min_size=1)
)
def test_mixed_json_values_become_text_in_json(values: list[object]) -> None:
    """A column of one kind keeps its type; of several it becomes text, 64-bit overflow included."""
    write("a.jsonl", "\n".join(json.dumps({"a": value}) for value in values))
    table = read_table("a.jsonl")
    found = table.column("a").to_pylist()
    if pa.types.is_string(table.schema.field("a").type):
        assert found == [each if each is None or isinstance(each, str) else json.dumps(each) for each in values]
    else:
        assert [(type(each), each) for each in found] == [(type(each), each) for each in values]


def test_polars_reads_the_same_table() -> None:
    """On an ordinary file, polars and we agree cell for cell."""
    rows = [(f'text {number}, "quoted"\nsecond line', f"label {number % 3}") for number in range(500)]
    write("a.csv", as_csv(rows, ",", "\n"))
    assert read_table("a.csv").to_pydict() == pl.read_csv("a.csv", infer_schema=False).to_dict(as_series=False)


def test_nothing_is_inferred_from_csv() -> None:
    """NA, null, nan, numbers, dates and blanks are text; an empty cell is an empty text."""
    cells = ["NA", "null", "None", "nan", "", "1.0", "007", "2024-01-01", " x ", "TRUE"]
    write("a.csv", "text,label\n" + "".join(f"{cell},{cell}\n" for cell in cells))
    assert pairs(read_table("a.csv")) == [(cell, cell) for cell in cells]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_line_ends_of_all_systems(line_end: str) -> None:
    """Unix, Windows and old Mac line ends part rows; blank lines are none."""
    write("a.csv", line_end.join(["", "text,label", "a,x", "", "b,y", ""]))
    assert pairs(read_table("a.csv")) == [("a", "x"), ("b", "y")]


@pytest.mark.parametrize(("delimiter", "word"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_delimiters_are_recognised_and_noted(delimiter: str, word: str) -> None:
    """A .csv whose header clearly has another delimiter is read with it, and that is said."""
    batches = open_batches(write("a.csv", f"text{delimiter}label\na, b{delimiter}x\n"))
    assert pairs(batches.table()) == [("a, b", "x")]
    assert batches.notes == (f"a.csv: columns are separated by {word}.",)


def test_a_column_without_a_name_is_named_by_its_place() -> None:
    """The unnamed index that pandas writes is no obstacle."""
    assert read_table(write("a.csv", ",text,label\n0,a,x\n")).column_names == ["column 1", "text", "label"]


def test_tsv_without_quoting_keeps_its_quotes() -> None:
    """A TSV whose cells begin with quotes that are only characters loses no row and no quote."""
    batches = open_batches(write("a.tsv", 'text\tlabel\n"Great" film\tgood\n"half\tbad\nthe "end\tbad\n'))
    assert pairs(batches.table()) == [('"Great" film', "good"), ('"half', "bad"), ('the "end', "bad")]
    assert batches.notes == ("a.tsv: quotes are read as plain characters, since cells are not quoted.",)


def test_a_quoted_tsv_with_one_broken_cell_is_refused() -> None:
    """A TSV whose cells are quoted is not taken for one without quoting because of one mistake."""
    content = 'text\tlabel\n"a"\t"x"\n"b" c\t"y"\n'
    assert error_of("a.tsv", content) == (
        f'a.tsv: row 2 (line 3): a quoted cell goes on after its closing quote (") in line 3.\n  {QUOTES}'
    )


CSV_ERRORS = {
    "more cells": (
        'text,label\na,x\n\n"b\nb",y\nc,d,z\n',
        f"a.csv: row 3 (line 6): 3 cells found, 2 expected (text, label).\n  {CELLS}",
    ),
    "fewer cells": (
        "text,label\na\n",
        f"a.csv: row 1 (line 2): 1 cell found, 2 expected (text, label).\n  {CELLS}",
    ),
    "open quote": (
        'text,label\na,x\n"b,y\nc,z\n',
        f'a.csv: row 2 (line 3): a quote (") is opened here and never closed.\n  {QUOTES}',
    ),
    "open quote in the last cell": (
        'text,label\na,"x\n',
        f'a.csv: row 1 (line 2): a quote (") is opened here and never closed.\n  {QUOTES}',
    ),
    "quote closed too late": (
        'text,label\na,x\n"b,y\nc,z\n"d",x\n',
        f'a.csv: row 2 (line 3): a quoted cell goes on after its closing quote (") in line 5.\n  {QUOTES}',
    ),
    "twice the same name": (
        "text,label,text\na,x,b\n",
        "a.csv: 2 columns are named 'text' (columns 1, 3).\n  Give every column a name of its own.",
    ),
    "empty": ("", "a.csv: the file is empty.\n  A header and at least two rows are needed."),
    "blank": ("\n\n", "a.csv: the file is empty.\n  A header and at least two rows are needed."),
    "nul": (
        "text,label\na,x\nb\0,y\n",
        "a.csv: row 2 (line 3): there is a NUL byte, which no text has.\n"
        "  Is it a text file? Remove the byte, or save the file again.",
    ),
    "excel": (
        b"PK\x03\x04...",
        "a.csv: this is a zip or Excel file, not text.\n  Unpack it, or save the sheet as CSV.",
    ),
    "packed": (
        gzip.compress(b"text,label\n"),
        "a.csv: this is a gzip file, not text.\n  Give it the ending .gz.",
    ),
}


@pytest.mark.parametrize("case", CSV_ERRORS)
def test_broken_csv_is_named_by_row_and_line(case: str) -> None:
    """What is wrong with a CSV is said with its row, its line and what to do."""
    content, message = CSV_ERRORS[case]
    assert error_of("a.csv", content) == message


JSON_ERRORS = {
    "cut off": (
        '{"text": "a"}\n\n{"text": "b"',
        'a.jsonl: row 2 (line 3): broken JSON: Expecting \',\' delimiter at character 13 of {"text": "b"',
    ),
    "two in a line": (
        '{"a": 1}{"a": 2}',
        'a.jsonl: row 1 (line 1): broken JSON: Extra data at character 9 of {"a": 1}{"a": 2}',
    ),
    "no object": ('{"a": 1}\n"b"', 'a.jsonl: row 2 (line 2): an object is expected, "b" found.'),
    "no object in a list": ('[{"a": 1}, 3]', "a.jsonl: row 2: an object is expected, 3 found."),
    "list cut off": (
        '[{"a": 1}',
        "a.jsonl: line 1: broken JSON: ',' or ']' expected, the end of the file found.",
    ),
    "name twice": ('{"a": 1, "a": 2}', "a.jsonl: row 1 (line 1): broken JSON: the name 'a' is there twice."),
    "empty": (" \n", "a.jsonl: the file is empty."),
}


@pytest.mark.parametrize("case", JSON_ERRORS)
def test_broken_json_is_named_by_row_and_line(case: str) -> None:
    """What is wrong with a line of JSON is said with its row, its line and what was found."""
    content, message = JSON_ERRORS[case]
    assert error_of("a.jsonl", content) == f"{message}\n  {ONE_OBJECT}"


def test_half_an_emoji_in_json_is_refused() -> None:
    """Half of a surrogate pair is no character and is named by its row."""
    assert error_of("a.jsonl", '{"text": "a"}\n{"text": "\\ud83d"}') == (
        "a.jsonl: row 2: column 'text' holds half of a surrogate pair, which is no character.\n"
        "  The text was cut within an emoji, or decoded wrongly. Mend or drop it."
    )


@pytest.mark.parametrize("nesting", ["[" * 200_000, '{"a":' * 200_000])
def test_deep_nesting_is_an_error_not_a_crash(nesting: str) -> None:
    """A file that nests without end is refused as broken JSON."""
    assert error_of("a.jsonl", nesting).startswith("a.jsonl: row 1 (line 1): broken JSON: maximum recursion depth")


GERMAN = "text,label\nErste Zeile,x\nGrüße aus München an die schöne Küche,y\nÖl für die Straße,x\n"


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_other_encodings_are_read_when_named(encoding: str) -> None:
    """--encoding reads a file of another encoding, its byte order mark left out."""
    write("a.csv", GERMAN.encode(encoding))
    expected = list(csv.reader(io.StringIO(GERMAN)))[1:]
    assert [list(pair) for pair in pairs(read_table("a.csv", encoding=encoding))] == expected


def test_utf8_with_a_byte_order_mark_needs_no_setting() -> None:
    """The mark that Excel puts in front is no part of the first column's name."""
    assert read_table(write("a.csv", GERMAN.encode("utf-8-sig"))).column_names == ["text", "label"]


@pytest.mark.parametrize(
    ("encoding", "place"),
    [
        ("cp1252", "row 2 (line 3): byte 0xfc at offset 27"),
        ("utf-16", "line 1: byte 0xff at offset 0"),
        ("utf-16-le", "row 2 (line 3): byte 0xfc at offset 54"),
    ],
)
def test_another_encoding_is_detected_and_named(encoding: str, place: str) -> None:
    """A file that is not UTF-8 is refused with the place, the byte and the flag that reads it."""
    assert error_of("a.csv", GERMAN.encode(encoding)) == (
        f"a.csv: {place} is not UTF-8. The file looks like {encoding}.\n  Read it with --encoding {encoding}"
    )


def test_a_wrong_encoding_and_an_unknown_one_are_refused() -> None:
    """--encoding is believed, but not blindly."""
    assert error_of("a.csv", GERMAN.encode("cp1252"), encoding="utf-8") == (
        "a.csv: row 2 (line 3): byte 0xfc at offset 27 is not UTF-8.\n"
        "  Say which encoding the file has: --encoding NAME, for example cp1252."
    )
    assert error_of("a.csv", encoding="cp1225") == (
        "unknown encoding 'cp1225' (--encoding). Did you mean 'cp1252'?\n"
        "  Usual ones are cp1252, utf-16, latin-1, cp1251, gb18030, shift_jis, big5, euc-kr, utf-8."
    )


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_characters_across_chunks_are_whole(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a chunk of the file ends makes no difference, to characters or to quotes."""
    monkeypatch.setattr("bertsmith.data.text_encoding._CHUNK", chunk)
    monkeypatch.setattr(delimited, "_CHUNK", chunk)
    content = 'text,label\n"ü ""a"", b",x\n"😀\r\n",y\n'
    assert pairs(read_table(write("a.csv", content))) == [('ü "a", b', "x"), ("😀\r\n", "y")]
    assert error_of("b.csv", content.encode() + b"\xff,x\n").startswith(
        "b.csv: row 3 (line 5): byte 0xff at offset 38 is not UTF-8."
    )


def test_damaged_gzip_is_named() -> None:
    """A download that stopped half-way is no shorter file, and a wrong ending is told."""
    whole = gzip.compress(os.urandom(3000).hex().encode())
    Path("a.csv.gz").write_bytes(whole[:900])
    assert error_of("a.csv.gz") == "a.csv.gz: the gzip file is cut off or damaged.\n  Copy or download it again."
    Path("b.csv.gz").write_bytes(b"text,label\n")
    assert error_of("b.csv.gz") == (
        "b.csv.gz: not a gzip file, though its name ends in .gz.\n  Drop the .gz, or pack the file again."
    )


def test_damaged_parquet_is_named() -> None:
    """A Parquet file that is none, or was cut off, is refused in words."""
    pq.write_table(pa.table({"text": ["a"] * 100}), "a.parquet")
    Path("a.parquet").write_bytes(Path("a.parquet").read_bytes()[:-20])
    assert error_of("a.parquet") == (
        "a.parquet: no whole Parquet file: Parquet magic bytes not found in footer. "
        "Either the file is corrupted or this is not a parquet file.\n  Copy or download it again."
    )


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_monstrous_cell_is_refused(name: str) -> None:
    """A cell of more than 5 million characters is named by row, column and length."""
    rows = {"text": ["short", "x" * 5_000_001], "label": ["a", "b"]}
    if name == "a.parquet":
        pq.write_table(pa.table(rows), name)
    elif name == "a.csv":
        pl.DataFrame(rows).write_csv(name)
    else:
        pl.DataFrame(rows).write_ndjson(name)
    assert error_of(name) == (
        f"{name}: row 2: the cell in column 'text' has 5,000,001 characters. At most 5,000,000 are read.\n"
        '  Drop or cut the row. In a CSV the usual cause is a quote (") that is opened and never closed.'
    )


def test_rows_larger_than_a_block_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a row does not fit into Arrow's block, a larger one goes on where the smaller one stopped."""
    monkeypatch.setattr(delimited, "_BLOCKS", (64, 4096, 1 << 20))
    rows = [(f"row {number} " + "x" * (3000 if number % 50 == 49 else 5), str(number)) for number in range(200)]
    assert pairs(read_table(write("a.csv", as_csv(rows, ",", "\n")))) == rows


def test_json_columns_are_the_same_in_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column that is text, number or absent in different blocks has one type in all of them."""
    monkeypatch.setattr(json_lines, "_BLOCK", 10)
    values = [{"a": 1}, {"a": "x", "b": 0.5}, {"b": 2}, {"c": [1]}, {}]
    batches = open_batches(write("a.jsonl", "\n".join(map(json.dumps, values))))
    assert [batch.schema for batch in batches] == [batches.schema] * 3
    assert batches.table().to_pydict() == {
        "a": ["1", "x", None, None, None],
        "b": [None, 0.5, 2.0, None, None],
        "c": [None, None, None, "[1]", None],
    }


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_batches_can_be_read_again(name: str) -> None:
    """FileBatches starts anew each time, gives its schema, and all rows in order."""
    frame = pl.DataFrame({"text": [f"text {number}" for number in range(40_000)]})
    {"a.csv": frame.write_csv, "a.jsonl": frame.write_ndjson, "a.parquet": frame.write_parquet}[name](name)
    batches = open_batches(name)
    for _ in range(2):
        assert pa.Table.from_batches(batches).column("text").to_pylist() == frame["text"].to_list()
    assert all(batch.schema == batches.schema for batch in batches)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reviws.csv", "reviws.csv: does not exist.\n  Did you mean 'reviews.csv'?"),
        ("no/reviews.csv", "no/reviews.csv: does not exist.\n  The folder 'no' does not exist either."),
        ("reviews.xlsx", f"reviews.xlsx: the ending '.xlsx' is not known.\n  What can be read: {FORMATS}."),
        (
            "reviews",
            f"reviews: the name has no ending that tells the format.\n  What can be read: {FORMATS}.",
        ),
        (
            "x.parquet.gz",
            f"x.parquet.gz: the ending '.parquet.gz' is not known.\n  What can be read: {FORMATS}.",
        ),
        (".", f".: a folder, where a file is expected.\n  Files that can be read: {FORMATS}."),
        ("/dev/null", "/dev/null: neither a file nor a folder.\n  Save the data to a file first."),
    ],
)
def test_wrong_paths_are_usage_errors(name: str, message: str) -> None:
    """A path that leads nowhere says what is near, or what can be read."""
    for there in ("reviews.csv", "reviews.xlsx", "reviews", "x.parquet.gz"):
        write(there, "")
    with pytest.raises(UsageError) as caught:
        open_batches(name)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_file_without_permission_is_a_usage_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read says so (root may read all, so the refusal is played)."""
    write(name, "x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(UsageError) as caught:
        read_table(name)
    assert str(caught.value) == f"{name}: cannot be read: Permission denied."


def test_a_folder_per_label_is_read_in_order() -> None:
    """Each sub-folder is a label; files come sorted, hidden ones and other endings are left out."""
    for name in (
        "pos/b.txt",
        "pos/a.txt",
        "neg/c.txt",
        "neg/readme.md",
        ".git/x.txt",
        "none/x.md",
        "pos/.x.txt",
    ):
        path = Path("data", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\r\n", encoding="utf-8", newline="")
    table, notes = read_folder(Path("data"))
    assert table.to_pylist() == [
        {"text": f"{name}\r\n", "label": name[:3], "file": name} for name in ("neg/c.txt", "pos/a.txt", "pos/b.txt")
    ]
    assert notes == (
        "data: 2 files without the ending .txt left out.",
        "data: sub-folders without .txt files left out: none.",
    )


def test_folders_that_are_no_data_are_refused() -> None:
    """A folder without labels says what is missing, and names files that could be meant."""
    Path("data").mkdir()
    write("data/train.csv", "")
    with pytest.raises(DataError) as caught:
        read_folder(Path("data"))
    assert str(caught.value) == (
        "data: the folder has no sub-folders. One sub-folder for each label is needed.\n"
        "  Give one of its files instead: train.csv."
    )
    Path("data/pos").mkdir()
    with pytest.raises(DataError) as caught:
        read_folder(Path("data"))
    assert str(caught.value) == (
        "data: no .txt file in its sub-folders (pos).\n"
        "  A folder of data has one sub-folder a label, with .txt files in it."
    )


def test_a_text_file_that_is_not_utf8_is_named() -> None:
    """In a folder of texts, the file with the wrong byte is named."""
    Path("data/pos").mkdir(parents=True)
    Path("data/pos/a.txt").write_bytes("schöne Grüße aus der Küche".encode("cp1252"))
    with pytest.raises(DataError) as caught:
        read_folder(Path("data"))
    assert str(caught.value) == (
        "data/pos/a.txt: line 1: byte 0xf6 at offset 3 is not UTF-8. The file looks like cp1252.\n"
        "  Read it with --encoding cp1252"
    )
    assert read_folder(Path("data"), encoding="cp1252")[0].column("text").to_pylist() == ["schöne Grüße aus der Küche"]


def test_a_read_csv_is_let_go(tmp_path):
    """No thread of Arrow's holds the file when reading has ended: one that did would abort Python at its end."""
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a,b\n" * 1000, encoding="utf-8")

    def held() -> set[int]:
        return {id(each) for each in gc.get_objects() if type(each).__name__ == "_Utf8Stream"}

    before = held()
    assert read_table(path).num_rows == 1000
    assert held() <= before
