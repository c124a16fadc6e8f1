"""How verbs load a model: as many threads as they may use, and clear words for what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertsmith.inference.predictor import Predictor
    from bertsmith.recipe import Recipe


def bundle_of(run: Path) -> Path:
    """Find the model folder of a run, or take one that is named itself.

    Raises:
        UsageError: There is no run, or it is unfinished.
    """
    from bertsmith.run_folder import open_run

    return run if (run / "bertsmith.json").is_file() else open_run(run).model


def load_model(
    run: Path, settings: Recipe | None, *, rung: str = "", engine: str = "auto", json_output: bool = False
) -> Predictor:
    """Load the model of a run, or of a model folder.

    Args:
        run: The run, or its model folder.
        settings: Its `device` and `threads` are used; None for `auto` both, without reading what a recipe is.
        rung: A cheap model of the run's ladder, to be taken instead.
        engine: `auto` takes the newest accepted export, else torch.
        json_output: True where stdout is for JSON alone.

    Raises:
        BertsmithError: There is no such run, rung or export, or it is incomplete, or a package is missing.
    """
    from bertsmith import threads
    from bertsmith.api import load
    from bertsmith.cli.console import listener

    bundle_of(run)
    number = threads.resolve(settings.run.threads if settings else "auto")
    threads.limit_libraries(number)
    return load(
        run,
        device=settings.run.device if settings else "auto",
        engine=engine,
        threads=number,
        rung=rung,
        listener=listener(json_output=json_output),
    )
