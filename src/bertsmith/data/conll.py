"""CoNLL: one word a line, its tag in the last column, a blank line after each sentence; and CoNLL-U."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from bertsmith.data.batches import FileBatches
from bertsmith.data.text_encoding import first_wrong_byte, open_text, wrong_byte_error
from bertsmith.errors import DataError

ENDINGS = frozenset([".conll", ".conllu", ".iob", ".iob2", ".bio"])
_ROWS = 10_000
_BLANKS = re.compile(r"[ \t]+")
_COMMENT = re.compile(r"#\s*(id|sent_id|text|newdoc|newpar|global)\b")
_NO_WORD = re.compile(r"\d+[-.]\d+")
_WIDTH = 10
"""Columns of CoNLL-U: ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC."""
_TIP = "Each line holds a word and its tag; a blank line ends a sentence."


@dataclass
class _Sentence:
    """The words of one sentence, and their tags; without tags where the file has one column."""

    words: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)


@dataclass
class _Reader:
    """Reads one file: where it is, and how its first line of a word was laid out."""

    path: Path
    encoding: str
    width: int = 0
    first: int = 0
    row: int = 1
    line: int = 0

    def sentences(self) -> Iterator[_Sentence]:
        """Give sentence by sentence.

        Raises:
            DataError: A line has another number of columns than the first.
        """
        sentence = _Sentence()
        with open_text(self.path, self.encoding) as file:
            for text in file:
                self.line += 1
                plain = text.strip(" \t\r\n")
                if not plain:
                    if sentence.words:
                        yield sentence
                        self.row, sentence = self.row + 1, _Sentence()
                elif not self._is_aside(plain, started=bool(sentence.words)):
                    self._add(sentence, self._cells(text.strip("\r\n")))
        if sentence.words:
            yield sentence

    @property
    def is_universal(self) -> bool:
        """Whether the file is CoNLL-U."""
        return self.path.name.lower().removesuffix(".gz").endswith(".conllu") or self.width == _WIDTH

    def _is_aside(self, text: str, *, started: bool) -> bool:
        """Whether a line is a comment or the mark of a new document."""
        if text.startswith("-DOCSTART-"):
            return True
        if not text.startswith("#"):
            return False
        if self.path.name.lower().removesuffix(".gz").endswith(".conllu"):
            return True
        return not started and (_COMMENT.match(text) is not None or 0 < self.width != len(self._cells(text)))

    def _cells(self, text: str) -> list[str]:
        return text.split("\t") if "\t" in text.strip(" \t") else _BLANKS.split(text.strip(" \t"))

    def _add(self, sentence: _Sentence, cells: list[str]) -> None:
        if not self.width:
            self.width, self.first = len(cells), self.line
            if self.path.name.lower().removesuffix(".gz").endswith(".conllu"):
                self.width = _WIDTH
        if len(cells) != self.width:
            same = "as CoNLL-U has them" if self.is_universal else f"as in line {self.first}"
            raise self._error(f"{len(cells)} column{'s' * (len(cells) != 1)} found, {self.width} expected, {same}")
        if self.is_universal and _NO_WORD.fullmatch(cells[0]):
            return
        word, tag = (cells[1], cells[3]) if self.is_universal else (cells[0], cells[-1].strip(" "))
        word = word.strip(" ")
        if not word or (self.width > 1 and not tag):
            raise self._error(f"the {'tag' if word else 'word'} is empty")
        sentence.words.append(word)
        if self.width > 1:
            sentence.tags.append(tag)

    def _error(self, found: str) -> DataError:
        return DataError(f"{self.path}: row {self.row} (line {self.line}): {found}.", tip=_TIP)


def open_conll(path: Path, *, encoding: str = "") -> FileBatches:
    """Open a file of words and tags: columns `tokens` and `tags`, one row a sentence.

    The first column of a line is the word and the last its tag; columns are separated by tabs or blanks. Files
    named `.conllu`, and others with ten columns, are CoNLL-U: the tag is UPOS, comments, words of several tokens
    (ids such as 1-2) and empty words (1.1) are left out. Lines that begin with -DOCSTART- are left out everywhere.

    Raises:
        DataError: The file is no clean text, has no words, or a line has too few or too many columns (that may
            come while the batches are read).
    """
    wrong = first_wrong_byte(path, encoding)
    if wrong is not None:
        raise wrong_byte_error(path, encoding, wrong, None)
    first = next(_Reader(path, encoding).sentences(), None)
    if first is None:
        raise DataError(f"{path}: there are no words in the file.", tip=_TIP)
    lists = pa.list_(pa.string())
    schema = pa.schema([("tokens", lists), ("tags", lists)] if first.tags else [("tokens", lists)])
    return FileBatches(schema, lambda: _batches(_Reader(path, encoding), schema))


def _batches(reader: _Reader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    held: list[_Sentence] = []
    for sentence in reader.sentences():
        held.append(sentence)
        if len(held) == _ROWS:
            yield _batch(held, schema)
            held = []
    if held:
        yield _batch(held, schema)


def _batch(sentences: list[_Sentence], schema: pa.Schema) -> pa.RecordBatch:
    columns = {"tokens": [each.words for each in sentences], "tags": [each.tags for each in sentences]}
    return pa.RecordBatch.from_pydict({name: columns[name] for name in schema.names}, schema=schema)


__all__ = ["ENDINGS", "open_conll"]
