"""bertsmith tune DATA --out DIR."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.flags import recipe_of, with_settings
from bertsmith.clock import in_words
from bertsmith.errors import UsageError

if TYPE_CHECKING:
    from bertsmith.tuning.study import TrialRecord
    from bertsmith.tuning.tune import Tuned

_SHOWN = 10
_USAGE = "bertsmith tune DATA --out DIR"


@with_settings("read", "split", "text", "fit", "run")
def tune(  # noqa: PLR0913 - one parameter a flag
    data: Annotated[str | None, Parameter(help="As for train.")] = None,
    /,
    *,
    flags: Mapping[str, Any],
    out: Annotated[str | None, Parameter(help="Folder of the study; the same command goes on with it.")] = None,
    trials: Annotated[int, Parameter(help="Trials of the study, those of earlier calls included.")] = 20,
    timeout: Annotated[
        float | None, Parameter(help="Seconds after which no trial begins, and one under way ends with its epoch.")
    ] = None,
    encoders: Annotated[str, Parameter(help="Encoders to choose from, separated by commas.", show_default=False)] = "",
    recipe: Annotated[Path | None, Parameter(help="TOML file with settings that hold for every trial.")] = None,
    force: Annotated[bool, Parameter(negative=(), help="Begin anew where there is a study at --out.")] = False,
    json: Annotated[bool, Parameter(negative=(), help="Print the trials and the best one as JSON.")] = False,
) -> int:
    """Search learning rate, epochs, batch size, freezing and encoder; write the best as a recipe for `train`.

    Trials are scored on validation rows; the test rows are never looked at. What is given as a flag is not searched.
    """
    settings = recipe_of(flags, file=recipe)
    if out is None:
        raise UsageError("--out is missing: it says where the study is written.", tip=_USAGE)
    source = data or settings.read.data
    if not source and not settings.read.dataset:
        raise UsageError("DATA is missing: a file or folder to learn from.", tip=_USAGE)
    from bertsmith.tuning.tune import Budget
    from bertsmith.tuning.tune import tune as tune_settings

    fixed = [name for name, value in flags.items() if value is not None]
    among = [name.strip() for name in encoders.split(",") if name.strip()]
    if among and "encoder" in fixed:
        raise UsageError("--encoder and --encoders exclude each other.", tip="--encoders A,B chooses between A and B.")
    tuned = tune_settings(
        source or None, out=Path(out), recipe=settings, fixed=fixed, among=among,
        budget=Budget(trials, timeout), force=force, listener=listener(json_output=json),
    )  # fmt: skip
    if json:
        print_json(tuned.as_json())
    else:
        _print_trials(tuned)
    return 0


def _print_trials(tuned: Tuned) -> None:
    """Print the best trials, best first, and how to go on."""
    write, sign = sys.stdout.write, -1 if tuned.greater_is_better else 1
    scored = sorted(
        (each for each in tuned.trials if each.value is not None),
        key=lambda each: (each.state != "complete", sign * (each.value or 0.0), each.trial),
    )
    names = list(tuned.best.settings)
    rows = [["trial", tuned.metric, "epoch", "time", *(name.replace("_", " ") for name in names), ""]]
    rows += [_cells(each, names) for each in scored[:_SHOWN]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    write("\n")
    for row in rows:
        write("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    if len(scored) > _SHOWN:
        write(f"... and {len(scored) - _SHOWN} more in {tuned.folder / 'trials.jsonl'}\n")
    write(f"\nTrain with the best: bertsmith train --recipe {tuned.folder / 'recipe.toml'} --out RUN\n")


def _cells(trial: TrialRecord, names: list[str]) -> list[str]:
    chosen = [str(trial.settings.get(name) or "nothing") for name in names]
    state = "" if trial.state == "complete" else trial.state
    return [str(trial.trial), f"{trial.value:.4f}", str(trial.best_epoch), in_words(trial.seconds), *chosen, state]
