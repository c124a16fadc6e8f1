"""bertsmith train DATA --out RUN."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.flags import recipe_of, with_settings
from bertsmith.errors import UsageError

if TYPE_CHECKING:
    from bertsmith.pipeline import Trained


@with_settings("read", "split", "text", "fit", "decide", "run")
def train(  # noqa: PLR0913 - one parameter a flag
    data: Annotated[str | None, Parameter(help="CSV, TSV, JSONL, Parquet (gzip too), or a folder per label.")] = None,
    /,
    *,
    flags: Mapping[str, Any],
    out: Annotated[str | None, Parameter(help="Folder of the run; it is made.")] = None,
    recipe: Annotated[Path | None, Parameter(help="TOML file with settings; RUN/recipe.toml repeats a run.")] = None,
    resume: Annotated[
        Path | None, Parameter(help="Go on with a run that was stopped or killed; takes no other settings.")
    ] = None,
    force: Annotated[bool, Parameter(negative=(), help="Replace a run that is already at --out.")] = False,
    json: Annotated[bool, Parameter(negative=(), help="Print the scores as JSON.")] = False,
) -> int:
    """Learn from DATA and write everything to RUN."""
    if resume is not None:
        given = data is not None or out is not None or recipe is not None or force
        return _resume(resume, alone=not given and not any(value is not None for value in flags.values()), json=json)
    settings = recipe_of(flags, file=recipe)
    if out is None:
        raise UsageError("--out is missing: it says where the run is written.", tip="bertsmith train DATA --out RUN")
    source = data or settings.read.data
    if not source and not settings.read.dataset:
        raise UsageError("DATA is missing: a file or folder to learn from.", tip="bertsmith train DATA --out RUN")
    from bertsmith.pipeline import train as train_pipeline

    trained = train_pipeline(
        source or None, out=Path(out), recipe=settings, force=force, listener=listener(json_output=json)
    )
    return _shown(trained, json=json)


def _resume(run: Path, *, alone: bool, json: bool) -> int:
    if not alone:
        raise UsageError(
            "--resume goes on with a run as it was begun, so it takes no data and no settings beside it.",
            tip=f"bertsmith train --resume {run}",
        )
    from bertsmith.pipeline import resume

    return _shown(resume(run, listener=listener(json_output=json)), json=json)


def _shown(trained: Trained, *, json: bool) -> int:
    if json and trained.scores:
        print_json(trained.run.read_json(trained.run.scores))
    return 0
