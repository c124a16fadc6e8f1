"""bertsmith drift RUN DATA."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.flags import recipe_of, with_settings
from bertsmith.cli.loading import bundle_of, load_model
from bertsmith.errors import DataError

if TYPE_CHECKING:
    from bertsmith.drift.compare import Drift
    from bertsmith.listener import Listener
    from bertsmith.recipe import Read


@with_settings("text", "text_pair", "encoding", "device", "threads")
def drift(
    run: Annotated[Path, Parameter(help="A run, or its model folder.")],
    data: Annotated[Path, Parameter(help="New rows: CSV, TSV, JSONL, Parquet. They need no labels.")],
    /,
    *,
    flags: Mapping[str, Any],
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print the comparison as JSON.")] = False,
) -> int:
    """Say whether new rows are still like those that RUN learned from and was tested on.

    Drift is no error: the exit code is 0 either way, and `drifted` in the JSON says which.
    """
    settings = recipe_of(flags, file=None)
    from bertsmith.drift.new_rows import drift as compare_rows
    from bertsmith.drift.reference import Reference

    speaker = listener(json_output=as_json)
    # What is not there, or holds no texts, is said before a model is loaded.
    folder = bundle_of(run)
    reference = Reference.load(folder)
    _require_texts(data, folder, settings.read)
    _warn_of_own_rows(run, data, speaker)
    predictor = load_model(run, settings)
    found = compare_rows(predictor, reference, data, settings=settings.read, listener=speaker)
    if as_json:
        print_json({"source": str(data), **found.as_json()})
    else:
        _print(found, f"{found.rows:,} rows of {data} against those of {run}")
    return 0


def _require_texts(data: Path, folder: Path, settings: Read) -> None:
    """Look at the first rows: can they be read, and are there texts?

    Raises:
        DataError: The file is broken or has no rows, or its text column cannot be told.
        UsageError: There is no such file or column.
    """
    import pyarrow as pa

    from bertsmith.bundle import load_info
    from bertsmith.data.columns import find_columns
    from bertsmith.data.files import open_batches
    from bertsmith.data.roles import as_settings

    info = load_info(folder, weights=False)
    batch = next(iter(open_batches(data, encoding=settings.encoding, task=info.task)), None)
    if batch is None:
        raise DataError(f"{data}: no rows, only column names.", tip="Is it the right file?")
    same = as_settings({part: name for part, name in info.columns.items() if name in batch.schema.names})
    named = {part: name for part, name in same.items() if not getattr(settings, part)}
    wanted = settings.model_copy(update={**named, "task": info.task})
    find_columns(pa.Table.from_batches([batch]), wanted, source=str(data), labelled=False)


def _warn_of_own_rows(run: Path, data: Path, speaker: Listener) -> None:
    from bertsmith.recipe import Recipe

    recipe = run / "recipe.toml"
    if recipe.is_file() and Recipe.load(recipe).read.data == str(data.resolve()):
        speaker.warn("these are the rows that the run learned from: it is surer of them than of new ones.")


def _print(found: Drift, title: str) -> None:
    """Print a line for each feature, and the verdict."""
    from bertsmith.drift.features import FEATURES

    write = sys.stdout.write
    width = max((len(FEATURES[each.feature].title) for each in found.shifts), default=0)
    write(f"{title}\n\n{'':<{width}}    PSI       p\n")
    for each in found.shifts:
        write(f"{FEATURES[each.feature].title:<{width}}  {each.psi:5.3f}  {_p(each.p):>6}  {each.sentence}\n")
    write(f"\n{found.sentence[0].upper()}{found.sentence[1:]}\n")


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
