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


def load_model(run: Path, settings: Recipe, *, what: str, rung: str = "") -> Predictor:
    """Load the model of a run, or of a model folder.

    Args:
        run: The run, or its model folder.
        settings: Its `device` and `threads` are used.
        what: What needs the model, for the message where a package is missing.
        rung: A cheap model of the run's ladder, to be taken instead.

    Raises:
        BertsmithError: There is no such run or rung, or it is incomplete, or a package is missing.
    """
    from bertsmith import threads
    from bertsmith.encoders import require

    bundle_of(run)
    require("torch", what=what, extra="train")
    number = threads.resolve(settings.run.threads)
    threads.limit_libraries(number)
    import torch

    from bertsmith.api import load

    torch.set_num_threads(number)
    return load(run, device=settings.run.device, rung=rung)
