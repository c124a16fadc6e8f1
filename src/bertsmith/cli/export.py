"""bertsmith export RUN [DATA]."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.flags import recipe_of, with_settings


@with_settings("threads")
def export(
    run: Annotated[Path, Parameter(help="A run.")],
    data: Annotated[
        Path | None, Parameter(help="The run's data, where they lie now; left out: where the run found them.")
    ] = None,
    /,
    *,
    flags: Mapping[str, Any],
    int8: Annotated[
        bool, Parameter(negative=(), help="Compute with 8-bit integers: about a quarter of the size, and faster.")
    ] = False,
    allow_drop: Annotated[
        float, Parameter(help="How much of its main metric the export may lose (0.003 is 0.3 points).")
    ] = 0.003,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print export.json.")] = False,
) -> int:
    """Export the model of RUN to ONNX, if it answers the run's validation and calibration rows as the model does.

    What is refused is not kept, and the exit code is 1. What is accepted answers from then on: `predict` takes the
    newest accepted export.
    """
    from bertsmith.export.export import export as export_run

    settings = recipe_of(flags, file=None)
    found = export_run(
        run,
        data,
        int8=int8,
        allow_drop=allow_drop,
        threads_wanted=settings.run.threads,
        listener=listener(json_output=as_json),
    )
    if as_json:
        print_json(dict(found.figures))
    found.require_accepted(run)
    return 0
