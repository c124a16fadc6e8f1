"""Raw texts: read from files of any kind, and shared out to learning and measuring."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bertsmith.data.columns import find_columns
from bertsmith.data.files import open_batches
from bertsmith.data.text_encoding import first_wrong_byte, open_text, wrong_byte_error
from bertsmith.errors import DataError, UsageError
from bertsmith.recipe import Read

MOST_HELD_OUT = 2_000
"""Held-out texts that are enough: with 2,000 the perplexity is known to about two per cent."""


@dataclass(frozen=True)
class Texts:
    """Raw texts, none of them empty.

    Attributes:
        values: The texts, in the order of the file.
        source: The file as shown to people.
        note: How the texts were found, to stand after "100 texts".
    """

    values: tuple[str, ...]
    source: str
    note: str

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Sides:
    """Texts to learn from, and distinct texts to measure on; no text is on both sides."""

    learn: tuple[str, ...]
    held_out: tuple[str, ...]


def read_texts(source: str | Path | Iterable[str], *, text: str = "", encoding: str = "") -> Texts:
    """Read raw texts; labels, where there are any, are not looked at.

    Args:
        source: A `.txt` file (also `.txt.gz`) with one text a line; a CSV, TSV, JSONL or Parquet file (of a pair
            both texts are taken); or the texts themselves.
        text: The column of texts; "" finds it.
        encoding: Encoding of a text format; "" is UTF-8.

    Raises:
        UsageError: The file or the column is not there.
        DataError: The file is broken or holds no text.
    """
    if not isinstance(source, str | Path):
        return _not_empty(source, "the given texts", "")
    path = Path(source)
    if path.is_file() and path.name.lower().endswith((".txt", ".txt.gz")):
        return _not_empty(_lines(path, text, encoding), str(path), ", one a line")
    table = open_batches(path, encoding=encoding).table()
    if not table.num_rows:
        raise DataError(f"{path}: no rows, only column names.", tip="Is it the right file?")
    columns = find_columns(table, Read(text=text), source=str(path), labelled=False).columns
    names = [name for name in (columns.text, columns.text_pair) if name is not None]
    values = [value for name in names for value in table.column(name).cast(pa.string()).to_pylist()]
    quoted = " and ".join(f"'{name}'" for name in names)
    return _not_empty(values, str(path), f", from column{'s' * (len(names) > 1)} {quoted}")


def hold_out(texts: Sequence[str], *, share: float, seed: int) -> Sides:
    """Share texts out; texts that differ in case and blanks alone count as equal and stay together.

    A function of the set of texts and the seed: order and repeats change nothing.

    Args:
        texts: All texts.
        share: Share of the distinct texts that is held out: at least one text, at most 2,000.
        seed: Seed of the draw.

    Raises:
        DataError: Fewer than two texts differ.
    """
    keys = [" ".join(text.split()).casefold() for text in texts]
    first: dict[str, str] = {}
    for key, text in zip(keys, texts, strict=True):
        first.setdefault(key, text)
    if len(first) < 2:
        raise DataError(f"all {len(texts):,} texts are equal. At least two different ones are needed: one is held out.")
    wanted = min(MOST_HELD_OUT, max(1, round(share * len(first))), len(first) - 1)
    drawn = sorted(first, key=lambda key: hashlib.blake2b(f"{seed}\0{key}".encode(errors="replace")).digest())[:wanted]
    out = set(drawn)
    learn = tuple(text for key, text in zip(keys, texts, strict=True) if key not in out)
    return Sides(learn, tuple(first[key] for key in drawn))


def _lines(path: Path, text: str, encoding: str) -> list[str]:
    if text:
        raise UsageError(
            f"{path}: --text {text} is given, but a .txt file has no columns: each line is a text.",
            tip="Leave --text out.",
        )
    wrong = first_wrong_byte(path, encoding)
    if wrong is not None:
        raise wrong_byte_error(path, encoding, wrong, None)
    with open_text(path, encoding) as file:
        content = file.read().removesuffix("\n")
    return [line.rstrip("\r") for line in content.split("\n")]


def _not_empty(values: Iterable[str | None], source: str, note: str) -> Texts:
    given = list(values)
    kept = tuple(value for value in given if value is not None and value.strip())
    if not kept:
        raise DataError(
            f"{source}: none of its {len(given):,} rows holds a text.", tip="Is it the right file or column?"
        )
    empty = len(given) - len(kept)
    return Texts(kept, source, note + (f", {empty:,} empty left out" if empty else ""))


__all__ = ["MOST_HELD_OUT", "Sides", "Texts", "hold_out", "read_texts"]
