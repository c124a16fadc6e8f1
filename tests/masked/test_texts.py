"""Texts: read from any file, and no text on both sides."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.errors import DataError, UsageError
from bertsmith.masked.texts import MOST_HELD_OUT, hold_out, read_texts

LINES = 'one film\r\n\n  \ntwo, "quoted" films\nGrüße\u2028here\n'
EXPECTED = ("one film", 'two, "quoted" films', "Grüße\u2028here")


def key(text: str) -> str:
    return " ".join(text.split()).casefold()


@pytest.mark.parametrize("packed", [False, True])
def test_a_txt_file_has_a_text_a_line(tmp_path, packed):
    """Lines are texts as they stand, with either line end; blank lines are left out and counted."""
    path = tmp_path / ("texts.txt.gz" if packed else "texts.txt")
    path.write_bytes(gzip.compress(LINES.encode()) if packed else LINES.encode())
    found = read_texts(path)
    assert found.values == EXPECTED
    assert found.note == ", one a line, 2 empty left out"


def test_tables_are_read(tmp_path):
    """The column of texts is found or named; of pairs both texts are taken; labels are not needed."""
    table = tmp_path / "a.csv"
    table.write_text('text,label\nfine film,1\n"",0\nbad soup,1\n', encoding="utf-8")
    assert read_texts(table).values == ("fine film", "bad soup")
    pairs = tmp_path / "p.jsonl"
    pairs.write_text(
        "".join(json.dumps({"text_a": f"a{n}", "text_b": f"b{n}"}) + "\n" for n in range(2)), encoding="utf-8"
    )
    assert read_texts(pairs).values == ("a0", "a1", "b0", "b1")
    assert read_texts(pairs, text="text_b").values[:2] == ("b0", "b1")


@given(st.lists(st.text(max_size=6), min_size=1, max_size=60), st.floats(0.01, 0.5), st.integers(0, 9), st.randoms())
def test_no_text_is_on_both_sides(texts, share, seed, random):
    """Equal texts stay together, nothing is lost, and order changes nothing."""
    distinct = {key(text) for text in texts}
    if len(distinct) < 2:
        return
    sides = hold_out(texts, share=share, seed=seed)
    held = {key(text) for text in sides.held_out}
    assert len(held) == len(sides.held_out) == min(max(1, round(share * len(distinct))), len(distinct) - 1)
    assert Counter(sides.learn) == Counter(text for text in texts if key(text) not in held)
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert {key(text) for text in hold_out(shuffled, share=share, seed=seed).held_out} == held


def test_at_most_two_thousand_are_held_out():
    """More would cost time and tell nothing."""
    assert len(hold_out([f"text {n}" for n in range(50_000)], share=0.5, seed=0).held_out) == MOST_HELD_OUT == 2_000


def test_errors_of_texts(tmp_path):
    """Where, what was found, what is expected, what to do."""
    empty, wrong, lines = tmp_path / "empty.txt", tmp_path / "wrong.txt", tmp_path / "lines.txt"
    empty.write_text("\n \n", encoding="utf-8")
    wrong.write_bytes(b"good film\nGr\xfc\xdfe from here\n")
    lines.write_text("a\nA \n", encoding="utf-8")
    cases = [
        (lambda: read_texts(empty), DataError, f"{empty}: none of its 2 rows holds a text.\n  Is it the right file or column?"),
        (lambda: read_texts(lines, text="body"), UsageError, f"{lines}: --text body is given, but a .txt file has no columns: each line is a text.\n  Leave --text out."),
        (lambda: hold_out(read_texts(lines).values, share=0.05, seed=0), DataError, "all 2 texts are equal. At least two different ones are needed: one is held out."),
    ]  # fmt: skip
    for call, kind, said in cases:
        with pytest.raises(kind) as caught:
            call()
        assert str(caught.value) == said
    with pytest.raises(DataError, match="line 2: byte 0xfc at offset 12 is not UTF-8"):
        read_texts(wrong)
