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

if TYPE_CHECKING:
    from bertsmith.drift.compare import Drift


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
    from bertsmith.data.files import open_batches
    from bertsmith.drift.new_rows import drift as compare_rows
    from bertsmith.drift.reference import Reference

    # What is not there is said before a model is loaded.
    folder = bundle_of(run)
    open_batches(data, encoding=settings.read.encoding, task="token-labels")
    reference = Reference.load(folder)
    predictor = load_model(run, settings, what="looking for drift")
    found = compare_rows(predictor, reference, data, settings=settings.read, listener=listener(json_output=as_json))
    if as_json:
        print_json({"source": str(data), **found.as_json()})
    else:
        _print(found, f"{found.rows:,} rows of {data} against those of {run}")
    return 0


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
