"""bertsmith compare RUN RUN..."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.evaluation.wording import in_prose

if TYPE_CHECKING:
    from bertsmith.evaluation.intervals import Estimate
    from bertsmith.evaluation.run_comparison import RunComparison, RunPair


def compare(
    *runs: Annotated[Path, Parameter(help="Runs: two or more.")],
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print the comparison as JSON.")] = False,
) -> int:
    """Say which of several runs is better on the test rows that all of them answered, or that they do not differ.

    The answers that the runs wrote down are compared; no model is loaded.
    """
    from bertsmith.evaluation.run_comparison import compare_runs

    found = compare_runs(runs)
    speaker = listener(json_output=as_json)
    for note in found.notes:
        speaker.warn(note)
    if as_json:
        print_json(found.as_json())
        return 0
    sys.stdout.write("\n".join(_lines(found)) + "\n")
    return 0


def _lines(found: RunComparison) -> list[str]:
    every = "both" if len(found.runs) == 2 else f"all {len(found.runs)}"
    count = len(found.pairs)
    several = f", those of the {count} differences all at once" if count > 1 else ""
    return [
        f"{found.rows:,} test rows that {every} runs answered, 95 % intervals{several}  ({found.task})",
        "",
        *_table(_run_cells(found)),
        "",
        *_table(_pair_cells(found)),
        "",
        found.sentence,
    ]


def _run_cells(found: RunComparison) -> list[list[str]]:
    names = list(found.runs[0].metrics)
    rows = [[run.name, *(_value(run.metrics[name]) for name in names)] for run in found.runs]
    return [["run", *map(in_prose, names)], *rows]


def _pair_cells(found: RunComparison) -> list[list[str]]:
    names = list(found.runs[0].metrics)
    shown = [f"{in_prose(name)}{', points' if name in found.shares else ''}" for name in names]
    rows = [
        [
            f"{pair.comparison.ours_name} - {pair.comparison.name}",
            *(_difference(pair.comparison.differences[name], share=name in found.shares) for name in names),
            *_who(pair),
        ]
        for pair in found.pairs
    ]
    tested = [] if found.pairs[0].p_value is None else ["right alone", "McNemar's p"]
    return [["difference", *shown, *tested], *rows]


def _who(pair: RunPair) -> list[str]:
    """Rows that only one of the two answered right, and the corrected p-value."""
    who = pair.comparison.disagreement
    if who is None:
        return []
    return [f"{who.only_ours} : {who.only_theirs}", "<0.001" if who.p_value < 0.001 else f"{who.p_value:.3f}"]


def _value(each: Estimate) -> str:
    return f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]"


def _difference(each: Estimate, *, share: bool) -> str:
    """Write a difference, of a share in points."""
    scale, digits = (100, 1) if share else (1, 3)
    value, low, high = (f"{scale * number:+.{digits}f}" for number in (each.value, each.low, each.high))
    return f"{value} [{low}, {high}]"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Put columns below each other.

    >>> _table([["run", "accuracy"], ["first", "0.9"]])
    ['run    accuracy', 'first  0.9']
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
