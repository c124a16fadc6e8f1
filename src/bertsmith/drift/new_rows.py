"""drift: the rows of a file are answered as by `predict --in`, counted, and compared with the run's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bertsmith import threads
from bertsmith.data.files import open_batches
from bertsmith.drift.compare import Drift, compare
from bertsmith.drift.facts import facts_of
from bertsmith.drift.reference import Reference
from bertsmith.inference.predictor import Done, Predictor, load
from bertsmith.listener import Listener, Silent
from bertsmith.recipe import Recipe
from bertsmith.run_folder import open_run
from bertsmith.scoring.files import answer_batches
from bertsmith.tasks import Answer, Rows

Heard = Callable[[Rows, Sequence[Answer]], object]


def drift(run: Path, source: Path, *, recipe: Recipe, listener: Listener | None = None) -> Drift:
    """Say whether the rows of a file are like those of a run.

    Args:
        run: The run, or its model folder.
        source: CSV, TSV, JSONL or Parquet (gzip too), with or without answers: they are not looked at.
        recipe: Its `[read]` names columns where they are not those of the training data; its `device` and `threads`
            are used.
        listener: Told of progress.

    Raises:
        BundleError: The model has no `reference.json`, or is incomplete.
        DataError: The file is broken or has no rows, or its text column cannot be told.
        UsageError: There is no run, or no such file or column.
    """
    folder = run if (run / "bertsmith.json").is_file() else open_run(run).model
    # What is not there is said before a model is loaded.
    open_batches(source, encoding=recipe.read.encoding, task="token-labels")
    reference = Reference.load(folder)
    predictor = _loaded(folder, recipe)
    seen = reference.empty()

    def count(rows: Rows, answers: Sequence[Answer]) -> None:
        seen.add(facts_of(rows, answers, task=predictor.task, tokenizer=predictor.tokens.tokenizer))

    file = open_batches(source, encoding=recipe.read.encoding, task=predictor.task.name)
    heard = _Overheard.of(predictor, count)
    with (listener or Silent()).work("drift", None) as progress:
        for part in answer_batches(heard, file, settings=recipe.read, source=str(source)):
            progress.advance(len(part.answers))
    return compare(reference, seen)


@dataclass(frozen=True)
class _Overheard(Predictor):
    """A predictor that tells someone of all rows that it answers, with their token ids."""

    heard: Heard

    @classmethod
    def of(cls, predictor: Predictor, heard: Heard) -> _Overheard:
        """Listen to a predictor."""
        own: dict[str, Any] = {field.name: getattr(predictor, field.name) for field in fields(predictor)}
        return cls(**own, heard=heard)

    def answer(self, rows: Rows, *, done: Done | None = None) -> Sequence[Answer]:
        """Answer rows, and tell of them."""
        answers = super().answer(rows, done=done)
        self.heard(rows, answers)
        return answers


def _loaded(folder: Path, recipe: Recipe) -> Predictor:
    number = threads.resolve(recipe.run.threads)
    threads.limit_libraries(number)
    predictor = load(folder, device=recipe.run.device)
    import torch

    torch.set_num_threads(number)
    return predictor
