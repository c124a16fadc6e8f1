"""predict --in FILE: rows stream through the Predictor, with all their columns."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertsmith.atomic import replacing
from bertsmith.data.batches import FileBatches
from bertsmith.data.canonical import canonical
from bertsmith.data.columns import find_columns
from bertsmith.data.files import open_batches
from bertsmith.data.roles import as_settings
from bertsmith.data.text_encoding import open_bytes
from bertsmith.errors import BertsmithError, DataError
from bertsmith.examples import Columns
from bertsmith.inference.predictor import Predictor
from bertsmith.listener import Listener
from bertsmith.recipe import Read
from bertsmith.scoring.answers import AnswerColumns
from bertsmith.scoring.cache import AnswerCache, answer_once
from bertsmith.scoring.quarantine import set_apart
from bertsmith.scoring.writers import cannot_be_written, check_ending, writing
from bertsmith.tasks import Answer, Rows

ROWS = 4096
"""Rows that are answered together: enough to sort by length, little memory."""
BYTES = 4 << 20
"""Bytes of text that are answered together, or one row: long texts come in smaller groups."""

Told = Callable[[int, int], None]
"""Told of rows that were answered, and of the bytes they had in memory."""


@dataclass(frozen=True)
class Asked:
    """What is wanted of a file's rows.

    Attributes:
        settings: Names of the columns, where they are not found by themselves; the encoding.
        scores: True to write the probability of every label.
        spreadsheet_safe: True to keep cells of CSV and TSV from running as formulas.
    """

    settings: Read
    scores: bool = False
    spreadsheet_safe: bool = False


def _nobody(rows: int, size: int) -> None:
    """Tell no one."""


@dataclass(frozen=True)
class Scorer:
    """What answers the rows of files.

    Attributes:
        predictor: Gives the answers.
        asked: What is wanted.
        cache: Answers to texts that came before.
        told: Told of progress.
        empty: True where a file without rows gives answers without rows; else it is an error.
    """

    predictor: Predictor
    asked: Asked
    cache: AnswerCache = field(default_factory=AnswerCache)
    told: Told = _nobody
    empty: bool = False


@dataclass(frozen=True)
class Scored:
    """What came of a file.

    Attributes:
        rows: Rows that were answered.
        cut: Those of them whose text was cut.
        columns: Names of the answers' columns.
        repeated: Rows whose text had been answered before.
        bad: Rows that could not be read and were set apart.
    """

    rows: int
    cut: int
    columns: AnswerColumns
    repeated: int = 0
    bad: int = 0


@dataclass(frozen=True)
class Answered:
    """Some rows of a file, as they were read and as the model read them, their answers, and how many texts were cut."""

    batch: pa.RecordBatch
    texts: pa.ChunkedArray
    rows: Rows
    answers: Sequence[Answer]
    cut: int


def score_file(
    predictor: Predictor,
    source: Path,
    target: Path,
    *,
    asked: Asked,
    listener: Listener,
    quarantine: Path | None = None,
) -> Scored:
    """Answer every row of a file and write all its columns and the answers to another.

    Args:
        predictor: Gives the answers.
        source: CSV, TSV, JSONL or Parquet (gzip too).
        target: CSV, TSV, JSONL or Parquet; it appears only when it is whole.
        asked: What is wanted.
        listener: Told of progress.
        quarantine: JSONL file for the rows that cannot be read; None makes the first of them an error.

    Raises:
        DataError: The file is broken, or its text column cannot be told.
        UsageError: A path or a column does not exist.
    """
    check_ending(target, spreadsheet_safe=asked.spreadsheet_safe)
    with listener.work("predict", _count(source)) as progress, cannot_be_written(target), replacing(target) as out:
        scorer = Scorer(predictor, asked, told=lambda rows, _: progress.advance(rows))
        if quarantine is None:
            return write_answers(scorer, source, out, name=target.name)
        # The rows that were set apart are there before the answers are: who sees these can rely on those.
        with replacing(quarantine) as bad:
            return write_what_can_be(dataclasses.replace(scorer, empty=True), source, out, name=target.name, bad=bad)


def write_answers(scorer: Scorer, source: Path, out: Path, *, name: str) -> Scored:
    """Answer the rows of a file into another, whose format the ending of `name` tells.

    Raises:
        DataError: The file is broken or has no rows, or a column cannot be told or holds no texts.
        UsageError: A column that was named does not exist.
    """
    predictor, asked = scorer.predictor, scorer.asked
    labels = predictor.labels.names if asked.scores and predictor.has_scores else ()
    if scorer.empty and _is_blank(source):
        out.write_bytes(b"")
        return Scored(0, 0, AnswerColumns(predictor.answer_schema, "", labels))
    file = open_batches(source, encoding=asked.settings.encoding, task=predictor.task.name)
    names = AnswerColumns.beside(file.schema.names, predictor.answer_schema, labels=labels)
    rows = cut = repeated = 0
    with writing(out, names.schema(file.schema), name=name, spreadsheet_safe=asked.spreadsheet_safe) as write:
        for batch, table in _parts(predictor, file, settings=asked.settings, source=str(source), empty=scorer.empty):
            found = answer_once(predictor, table, scores=asked.scores, cache=scorer.cache)
            write(names.join(batch, found.parts))
            rows, cut, repeated = rows + batch.num_rows, cut + found.cut, repeated + found.repeated
            scorer.told(batch.num_rows, batch.nbytes)
    return Scored(rows, cut, names, repeated)


def write_what_can_be(scorer: Scorer, source: Path, out: Path, *, name: str, bad: Path) -> Scored:
    """Answer the rows of a file that can be read; the others go to `bad`, each with its reason.

    Raises:
        DataError: As `write_answers`, where it is no single row that is broken.
    """
    try:
        return write_answers(scorer, source, out, name=name)
    except DataError:
        with tempfile.TemporaryDirectory(prefix=f".{name}.", suffix=".rows", dir=out.parent) as folder:
            clean = Path(folder) / source.name.removesuffix(".gz")
            count = set_apart(source, clean, bad, settings=_settings_of(scorer))
            if not count:
                raise
            plain = scorer.asked.settings.model_copy(update={"encoding": ""})
            again = dataclasses.replace(scorer, asked=dataclasses.replace(scorer.asked, settings=plain))
            with named(clean, f"{source} (without {count} bad rows)"):
                done = write_answers(again, clean, out, name=name)
        return dataclasses.replace(done, bad=count)


@contextlib.contextmanager
def named(path: Path, shown: str) -> Iterator[None]:
    """Let errors about a file that stands for another name that one."""
    try:
        yield
    except BertsmithError as error:
        if str(path) == shown:
            raise
        message, tip = (each.replace(str(path), shown) for each in (error.message, error.tip))
        raise type(error)(message, tip=tip) from error


def answer_batches(predictor: Predictor, file: FileBatches, *, settings: Read, source: str) -> Iterator[Answered]:
    """Answer the rows of a file, batch by batch, in their order.

    Raises:
        DataError: The file is broken or has no rows, or a column cannot be told or holds no texts.
        UsageError: A column that was named does not exist.
    """
    for batch, table in _parts(predictor, file, settings=settings, source=source):
        pairs, words = (table.column(name) if name in table.column_names else None for name in ("text_pair", "words"))
        rows = predictor.rows(table.column("text"), pairs, words=words)
        cut = int((rows.encoded.tokens_cut > 0).sum())
        yield Answered(batch, table.column("text"), rows, predictor.answer(rows), cut)


def _parts(
    predictor: Predictor, file: FileBatches, *, settings: Read, source: str, empty: bool = False
) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Give the rows of a file in parts of bounded size: as they were read, and the columns that play a part."""
    columns: Columns | None = None
    start = 0
    for whole in file:
        columns = columns or _columns(pa.Table.from_batches([whole]), settings, source, predictor)
        for batch in _pieces(whole, columns):
            yield batch, _canonical(batch, columns, source=source, start=start)
            start += batch.num_rows
    if columns is None and not empty:
        raise DataError(f"{source}: no rows, only column names.", tip="Is it the right file?")


def _pieces(whole: pa.RecordBatch, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Cut a batch into pieces of at most `ROWS` rows and `BYTES` bytes of text, or one row."""
    texts = [whole.column(name) for names in columns.names().values() for name in names if name in whole.schema.names]
    sizes = np.zeros(whole.num_rows, np.int64)
    for text in texts:
        if pa.types.is_string(text.type) or pa.types.is_large_string(text.type):
            sizes += pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    begin = 0
    while begin < whole.num_rows:
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, min(begin + ROWS, int(np.searchsorted(ends, before + BYTES, side="right"))))
        yield whole.slice(begin, end - begin)
        begin = end


def _canonical(batch: pa.RecordBatch, columns: Columns, *, source: str, start: int) -> pa.Table:
    """Pick the columns that play a part; `start` rows came before."""
    return canonical(
        pa.Table.from_batches([batch]),
        columns,
        where=lambda place: f"{source}: row {start + place + 1}",
        source=source,
        labelled=False,
    )[0]


def _settings_of(scorer: Scorer) -> Read:
    """Name the columns of texts: those that were named, else those of the training data."""
    own, settings = scorer.predictor.info.columns, scorer.asked.settings
    parts: dict[str, Any] = {part: own.get(part, "") for part in ("text", "text_pair") if not getattr(settings, part)}
    return settings.model_copy(update=parts)


def _is_blank(source: Path) -> bool:
    """Whether a file of text holds nothing at all, as some programs write empty parts."""
    if source.suffix.lower() == ".parquet":
        return False
    with open_bytes(source) as stream:
        return not stream.read(1)


def _columns(table: pa.Table, settings: Read, source: str, predictor: Predictor) -> Columns:
    """Find the text as in training: under the same name, where the file has it and none was named."""
    same = as_settings({part: name for part, name in predictor.info.columns.items() if name in table.column_names})
    named = {part: name for part, name in same.items() if not getattr(settings, part)}
    wanted = settings.model_copy(update={**named, "task": predictor.task.name})
    found = find_columns(table, wanted, source=source, labelled=False).columns.inputs()
    if predictor.info.pair and found.text_pair is None:
        raise DataError(
            f"{source}: no column with the second text; this model was trained on pairs.",
            tip="Name it with --text-pair COLUMN.",
        )
    return found if predictor.info.pair else dataclasses.replace(found, text_pair=None)


def _count(source: Path) -> int | None:
    """Count rows where that is cheap (Parquet knows), so that progress can show what is left."""
    if source.suffix.lower() != ".parquet":
        return None
    import pyarrow.parquet as pq

    return int(pq.read_metadata(source).num_rows)
