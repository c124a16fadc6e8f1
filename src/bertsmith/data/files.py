"""Files of labelled text: CSV, TSV, JSONL, SQuAD, CoNLL, Parquet (all but this also .gz), and a folder per label."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from bertsmith.data.batches import FileBatches
from bertsmith.data.conll import ENDINGS, open_conll
from bertsmith.data.delimited import open_delimited
from bertsmith.data.json_lines import open_json
from bertsmith.data.parquet import open_parquet
from bertsmith.data.squad import is_squad, open_squad
from bertsmith.data.text_encoding import first_wrong_byte, open_text, wrong_byte_error
from bertsmith.errors import DataError, UsageError

FORMATS = (
    ".csv, .tsv, .jsonl, .ndjson, .json, .conll, .conllu, .iob, .iob2, .bio (each also with .gz), .parquet, or a "
    "folder with one sub-folder a label"
)


def open_batches(path: str | Path, *, encoding: str = "", task: str = "") -> FileBatches:
    """Open a file whose rows are wanted in batches, in constant memory (SQuAD's JSON is held as a whole).

    Args:
        path: A CSV, TSV, JSONL, SQuAD, CoNLL or Parquet file; text formats may be packed as `.gz`.
        encoding: Encoding of a text format; "" is UTF-8.
        task: The task that is meant; with token-labels a `.txt` file is CoNLL.

    Raises:
        UsageError: The path does not exist, may not be read, or has an unknown ending.
        DataError: The file is broken; the message names the row. Errors deep in the file may come while
            the batches are read.
    """
    path = Path(path)
    require_there(path)
    if path.is_dir():
        raise UsageError(f"{path}: a folder, where a file is expected.", tip=f"Files that can be read: {FORMATS}.")
    ending = _ending(path, task)
    if ending == ".conll":
        return open_conll(path, encoding=encoding)
    if ending in {".csv", ".tsv"}:
        return open_delimited(path, delimiter="," if ending == ".csv" else "\t", encoding=encoding)
    if ending == ".json":
        return open_squad(path, encoding=encoding) if is_squad(path, encoding) else open_json(path, encoding=encoding)
    return open_parquet(path)


def read_table(path: str | Path, *, encoding: str = "") -> pa.Table:
    """Read a whole file as a table of the user's columns.

    Raises:
        UsageError: As `open_batches`.
        DataError: As `open_batches`.
    """
    return open_batches(path, encoding=encoding).table()


def read_folder(path: Path, *, encoding: str = "") -> tuple[pa.Table, tuple[str, ...]]:
    """Read a folder that has one sub-folder of .txt files for each label.

    Returns:
        A table with `text`, `label` (the sub-folder's name) and `file` (path inside the folder), in order of
        labels and file names; and notes about what was left out.

    Raises:
        DataError: It has no such sub-folders, or a file is no clean text.
    """
    folders = _listed(path, Path.is_dir)
    files = {folder: _listed(folder, Path.is_file) for folder in folders}
    texts = [file for found in files.values() for file in found if file.suffix.lower() == ".txt"]
    if not texts:
        raise _no_label_folders(path, folders)
    table = pa.table(
        {
            "text": pa.array([_whole_text(file, encoding) for file in texts], pa.string()),
            "label": pa.array([file.parent.name for file in texts], pa.string()),
            "file": pa.array([file.relative_to(path).as_posix() for file in texts], pa.string()),
        }
    )
    return table, tuple(_left_out(path, files))


def require_there(path: Path) -> None:
    """Refuse a path that does not exist; the nearest name beside it is offered."""
    try:
        if path.is_dir() or path.is_file():
            return
        exists = path.exists()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}.") from error
    if exists:
        raise UsageError(f"{path}: neither a file nor a folder.", tip="Save the data to a file first.")
    raise UsageError(f"{path}: does not exist.", tip=_near_path(path))


def _near_path(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"The folder '{folder}' does not exist either."
    try:
        names = [each.name for each in folder.iterdir()]
    except OSError:
        return ""
    # An equal ending alone makes no two names alike.
    alike = difflib.get_close_matches(path.stem, {Path(name).stem for name in names}, n=3, cutoff=0.6)
    near = difflib.get_close_matches(path.name, [name for name in names if Path(name).stem in alike], n=1, cutoff=0.6)
    return (
        f"Did you mean '{folder / near[0]}'?"
        if near
        else f"Is it in another folder? '{folder.resolve()}' was looked in."
    )


def known_ending(name: str) -> bool:
    """Whether the ending of a name tells a format that can be read.

    >>> known_ending("a.csv.gz"), known_ending("a.parquet.gz"), known_ending("_SUCCESS")
    (True, False, False)
    """
    return _format(Path(name), "") != ""


def _ending(path: Path, task: str) -> str:
    """Return the format that a name stands for: .csv, .tsv, .json, .conll or .parquet."""
    found = _format(path, task)
    if found:
        return found
    packed = path.suffix.lower() == ".gz"
    shown = "".join(path.suffixes[-2 if packed else -1 :])
    wrong = f"the ending '{shown}' is not known" if shown else "the name has no ending that tells the format"
    raise UsageError(f"{path}: {wrong}.", tip=f"What can be read: {FORMATS}.")


def _format(path: Path, task: str) -> str:
    packed = path.suffix.lower() == ".gz"
    ending = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    ending = ".json" if ending in {".jsonl", ".ndjson"} else ending
    ending = ".conll" if ending in ENDINGS or (ending == ".txt" and task == "token-labels") else ending
    return ending if ending in {".csv", ".tsv", ".json", ".conll"} or (ending == ".parquet" and not packed) else ""


def _listed(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """List a folder in order of names, hidden entries left out."""
    try:
        return sorted(each for each in folder.iterdir() if wanted(each) and not each.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror}.") from error


def _no_label_folders(path: Path, folders: list[Path]) -> DataError:
    if folders:
        return DataError(
            f"{path}: no .txt file in its sub-folders ({', '.join(each.name for each in folders[:5])}).",
            tip="A folder of data has one sub-folder a label, with .txt files in it.",
        )
    tables = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".gz")
    names = [each.name for each in _listed(path, Path.is_file) if each.suffix.lower() in tables][:5]
    tip = f"Give one of its files instead: {', '.join(names)}." if names else "Is it the right folder?"
    return DataError(f"{path}: the folder has no sub-folders. One sub-folder for each label is needed.", tip=tip)


def _whole_text(path: Path, encoding: str) -> str:
    wrong = first_wrong_byte(path, encoding)
    if wrong is not None:
        raise wrong_byte_error(path, encoding, wrong, None)
    with open_text(path, encoding) as file:
        return file.read()


def _left_out(path: Path, files: dict[Path, list[Path]]) -> Iterator[str]:
    other = sum(file.suffix.lower() != ".txt" for found in files.values() for file in found)
    if other:
        yield f"{path}: {other} file{'s' * (other != 1)} without the ending .txt left out."
    empty = [folder.name for folder, found in files.items() if not any(each.suffix.lower() == ".txt" for each in found)]
    if empty:
        yield f"{path}: sub-folders without .txt files left out: {', '.join(empty)}."


__all__ = ["FORMATS", "FileBatches", "open_batches", "read_folder", "read_table"]
