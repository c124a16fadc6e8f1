"""predict --in FILE: rows stream through the Predictor, with all their columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bertsmith.data.batches import FileBatches
from bertsmith.data.canonical import canonical
from bertsmith.data.columns import find_columns
from bertsmith.data.files import open_batches
from bertsmith.data.roles import as_settings
from bertsmith.errors import DataError
from bertsmith.examples import Columns
from bertsmith.inference.predictor import Predictor
from bertsmith.listener import Listener
from bertsmith.recipe import Read
from bertsmith.scoring.answers import AnswerColumns
from bertsmith.scoring.writers import open_writer
from bertsmith.tasks import Answer, Rows

ROWS = 4096
"""Rows that are answered together: enough to sort by length, little memory."""


@dataclass(frozen=True)
class Scored:
    """What came of a file: its rows, those whose text was cut, and the names of the answers' columns."""

    rows: int
    cut: int
    columns: AnswerColumns


@dataclass(frozen=True)
class Answered:
    """Some rows of a file, as they were read and as the model read them, their answers, and how many texts were cut."""

    batch: pa.RecordBatch
    texts: pa.ChunkedArray
    rows: Rows
    answers: Sequence[Answer]
    cut: int


def score_file(
    predictor: Predictor, source: Path, target: Path, *, settings: Read, scores: bool, listener: Listener
) -> Scored:
    """Answer every row of a file and write all its columns and the answers to another.

    Args:
        predictor: Gives the answers.
        source: CSV, TSV, JSONL or Parquet (gzip too).
        target: CSV, TSV, JSONL or Parquet; it appears only when it is whole.
        settings: Names of the columns, where they are not found by themselves; the encoding.
        scores: True to write the probability of every label.
        listener: Told of progress.

    Raises:
        DataError: The file is broken, or its text column cannot be told.
        UsageError: A path or a column does not exist.
    """
    file = open_batches(source, encoding=settings.encoding, task=predictor.task.name)
    names = AnswerColumns.beside(
        file.schema.names,
        predictor.answer_schema,
        labels=predictor.labels.names if scores and predictor.has_scores else (),
    )
    rows = cut = 0
    with (
        open_writer(target, names.schema(file.schema)) as write,
        listener.work("predict", _count(source)) as progress,
    ):
        for part in answer_batches(predictor, file, settings=settings, source=str(source)):
            write(names.join(part.batch, part.answers))
            rows, cut = rows + len(part.answers), cut + part.cut
            progress.advance(len(part.answers))
    return Scored(rows, cut, names)


def answer_batches(predictor: Predictor, file: FileBatches, *, settings: Read, source: str) -> Iterator[Answered]:
    """Answer the rows of a file, batch by batch, in their order.

    Raises:
        DataError: The file is broken or has no rows, or a column cannot be told or holds no texts.
        UsageError: A column that was named does not exist.
    """
    columns: Columns | None = None
    start = 0
    for whole in file:
        for begin in range(0, whole.num_rows, ROWS):
            batch = whole.slice(begin, ROWS)
            columns = columns or _columns(pa.Table.from_batches([whole]), settings, source, predictor)
            yield _answered(predictor, batch, columns, source=source, start=start)
            start += batch.num_rows
    if columns is None:
        raise DataError(f"{source}: no rows, only column names.", tip="Is it the right file?")


def _answered(predictor: Predictor, batch: pa.RecordBatch, columns: Columns, *, source: str, start: int) -> Answered:
    """Answer one batch; `start` rows came before it."""
    read, _ = canonical(
        pa.Table.from_batches([batch]),
        columns,
        where=lambda place: f"{source}: row {start + place + 1}",
        source=source,
        labelled=False,
    )
    pairs, words = (read.column(name) if name in read.column_names else None for name in ("text_pair", "words"))
    rows = predictor.rows(read.column("text"), pairs, words=words)
    cut = int((rows.encoded.tokens_cut > 0).sum())
    return Answered(batch, read.column("text"), rows, predictor.answer(rows), cut)


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
