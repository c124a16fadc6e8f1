"""CoNLL and CoNLL-U: what is written is read back, and what is broken is named by its line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertsmith.data.files import open_batches, read_table
from bertsmith.data.read import read
from bertsmith.errors import DataError, UsageError
from bertsmith.recipe import Read

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORD = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=1, max_size=5).filter(
    lambda word: not word.startswith(("#", "-DOCSTART-"))
)
TAG = st.sampled_from(["O", "B-PER", "I-PER", "B-ORT"])
SENTENCES = st.lists(st.lists(st.tuples(WORD, TAG), min_size=1, max_size=6), min_size=1, max_size=6)
TIP = "Each line holds a word and its tag; a blank line ends a sentence."


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str) -> str:
    Path(name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return name


def rows(name: str, **named: Any) -> list[tuple[list[str], list[str]]]:
    table = open_batches(name, **named).table()
    return list(zip(table.column("tokens").to_pylist(), table.column("tags").to_pylist(), strict=True))


def error_of(name: str) -> str:
    with pytest.raises(DataError) as caught:
        read_table(name)
    return str(caught.value)


@FUZZ
@given(
    sentences=SENTENCES, separator=st.sampled_from(["\t", " ", "  ", "\tNN\t", " NN NP "]),
    line_end=st.sampled_from(["\n", "\r\n"]), blank=st.sampled_from(["", " ", "\t"]), between=st.integers(1, 3),
    name=st.sampled_from(["a.conll", "a.iob2", "a.bio.gz", "A.CONLL"]),
)  # fmt: skip
def test_words_and_tags_are_read_back(
    sentences: list[list[tuple[str, str]]], separator: str, line_end: str, blank: str, between: int, name: str
) -> None:
    """Any words and tags come back, whatever separates columns, lines and sentences."""
    lines = [[f"{word}{separator}{tag}" for word, tag in sentence] for sentence in sentences]
    gap = line_end + (blank + line_end) * between
    content = gap.join(line_end.join(sentence) for sentence in lines)
    expected = [([word for word, _ in each], [tag for _, tag in each]) for each in sentences]
    assert rows(write(name, content)) == expected
    assert rows(write(name, f"{gap}{content}{gap}")) == expected


@FUZZ
@given(sentences=SENTENCES)
def test_places_of_words_are_exact(sentences: list[list[tuple[str, str]]]) -> None:
    """Each word stands in the text where its offsets say, and tags are as many as words."""
    name = write("a.conll", "\n\n".join("\n".join("\t".join(pair) for pair in each) for each in sentences))
    examples = read(name, Read(), labelled=False)
    for sentence, row in zip(sentences, examples.table.to_pylist(), strict=True):
        words = [row["text"][each["start"] : each["end"]] for each in row["words"]]
        assert words == [word for word, _ in sentence]
        assert row["text"] == " ".join(words)
        assert row["tags"] == [tag for _, tag in sentence]


UNIVERSAL = """# newdoc id = d
# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tyo\tyo\tPRON\t_\t_\t_\t_\t_\t_
3\t10 000\t10 000\tNUM\t_\t_\t1\tobl\t_\t_

# sent_id = 2
1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_
"""


def test_universal_dependencies_are_read_by_form_and_upos() -> None:
    """Of CoNLL-U, FORM and UPOS are taken; comments, ranges and empty words are left out, blanks in words stay."""
    expected = [(["Vamos", "nos", "10 000"], ["VERB", "PRON", "NUM"]), (["#"], ["SYM"])]
    assert rows(write("a.conllu", UNIVERSAL)) == expected
    assert rows(write("a.conll", UNIVERSAL)) == expected
    assert read("a.conllu", Read()).column("text").to_pylist() == ["Vamos nos 10 000", "#"]


def test_marks_of_documents_are_no_sentences() -> None:
    """-DOCSTART- and comments before a sentence are left out; a word may be a number sign."""
    content = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n# SYM O O\n\n# id 7\tdomain=en\nHi UH O O\n"
    assert rows(write("a.conll", content)) == [(["EU", "#"], ["B-ORG", "O"]), (["Hi"], ["O"])]


def test_a_text_file_is_conll_where_the_task_says_so() -> None:
    """With --task token-labels a .txt file is read as CoNLL, and only then."""
    name = write("a.txt", "Ana B-PER\nruns O\n")
    assert rows(name, task="token-labels") == [(["Ana", "runs"], ["B-PER", "O"])]
    assert read(name, Read(task="token-labels")).column("tags").to_pylist() == [["B-PER", "O"]]
    with pytest.raises(UsageError, match=r"^a\.txt: the ending '\.txt' is not known\."):
        open_batches(name)


def test_words_alone_will_do_for_prediction() -> None:
    """A file of one column has words and no tags."""
    examples = read(write("a.conll", "Ana\nruns\n\nHi\n"), Read(task="token-labels"), labelled=False)
    assert examples.column("text").to_pylist() == ["Ana runs", "Hi"]
    assert "tags" not in examples


def test_many_sentences_come_in_batches() -> None:
    """More sentences than a batch holds are read in order."""
    name = write("a.conll", "".join(f"word{number} O\n\n" for number in range(20_001)))
    batches = list(open_batches(name))
    assert len(batches) == 3
    assert [word for batch in batches for (word,) in batch.column("tokens").to_pylist()] == [
        f"word{number}" for number in range(20_001)
    ]


BROKEN = {
    "fewer columns": (
        "a.conll",
        "EU NNP B-ORG\n\nrejects O\n",
        f"a.conll: row 2 (line 3): 2 columns found, 3 expected, as in line 1.\n  {TIP}",
    ),
    "one column": (
        "a.conll",
        "EU B-ORG\nrejects\n",
        f"a.conll: row 1 (line 2): 1 column found, 2 expected, as in line 1.\n  {TIP}",
    ),
    "no CoNLL-U": (
        "a.conllu",
        "1\tEU\tNNP\n",
        f"a.conllu: row 1 (line 1): 3 columns found, 10 expected, as CoNLL-U has them.\n  {TIP}",
    ),
    "no word": ("a.conll", "EU\tO\n\tO\tO\n", f"a.conll: row 1 (line 2): 3 columns found, 2 expected, as in line 1.\n  {TIP}"),
    "empty word": ("a.conll", "EU\tNN\tO\n\tNN\tO\n", f"a.conll: row 1 (line 2): the word is empty.\n  {TIP}"),
    "empty tag": ("a.conll", "EU\tNN\tO\nEU\tNN\t\n", f"a.conll: row 1 (line 2): the tag is empty.\n  {TIP}"),
    "nothing": ("a.iob", "-DOCSTART- O\n\n", f"a.iob: there are no words in the file.\n  {TIP}"),
    "other bytes": (
        "a.conll.gz",
        "EU O\0\n",
        "a.conll.gz: line 1: there is a NUL byte, which no text has.\n  Is it a text file? Remove the byte, or save the file again.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_lines_are_named(case: str) -> None:
    """A line with another number of columns, or an empty cell, is refused with its number."""
    name, content, message = BROKEN[case]
    assert error_of(write(name, content)) == message
