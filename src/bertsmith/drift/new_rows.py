"""drift: the rows of a file are answered as by `predict --in`, counted, and compared with the run's."""

from __future__ import annotations

from pathlib import Path

from bertsmith.data.files import open_batches
from bertsmith.drift.compare import Drift, compare
from bertsmith.drift.facts import facts_of
from bertsmith.drift.reference import Reference
from bertsmith.inference.predictor import Predictor
from bertsmith.listener import Listener, Silent
from bertsmith.recipe import Read
from bertsmith.scoring.files import answer_batches


def drift(
    predictor: Predictor, reference: Reference, source: Path, *, settings: Read, listener: Listener | None = None
) -> Drift:
    """Say whether the rows of a file are like those that a model was made of.

    Args:
        predictor: Answers the rows.
        reference: What the model's own rows were like (`Reference.load` of its folder).
        source: CSV, TSV, JSONL or Parquet (gzip too), with or without answers: they are not looked at.
        settings: Names columns where they are not those of the training data.
        listener: Told of progress.

    Raises:
        DataError: The file is broken or has no rows, or its text column cannot be told.
        UsageError: There is no such file or column.
    """
    seen = reference.empty()
    file = open_batches(source, encoding=settings.encoding, task=predictor.task.name)
    with (listener or Silent()).work("drift", None) as progress:
        for part in answer_batches(predictor, file, settings=settings, source=str(source)):
            seen.add(facts_of(part.rows, part.answers, task=predictor.task, tokenizer=predictor.tokens.tokenizer))
            progress.advance(len(part.answers))
    return compare(reference, seen)
