"""bertsmith evaluate RUN [DATA]."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.flags import recipe_of, with_settings
from bertsmith.evaluation.wording import in_prose
from bertsmith.telling import shown

_SHOWN_CLASSES = 200
_SHOWN_CONFUSIONS = 10
_WIDEST_MATRIX = 12
_LONGEST = 400


@with_settings("text", "label", "text_pair", "labels_separator", "annotators", "encoding", "device", "threads")
def evaluate(
    run: Annotated[Path, Parameter(help="A run.")],
    data: Annotated[Path | None, Parameter(help="Labelled rows; left out: the run's own test rows.")] = None,
    /,
    *,
    flags: Mapping[str, Any],
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print the scores as JSON.")] = False,
) -> int:
    """Show how good RUN is: on its test rows, or on your file.

    The run's own test rows were scored once, at its end; those scores are shown again.
    """
    from bertsmith.rescore import evaluate as evaluate_run

    settings = recipe_of(flags, file=None)
    scores = evaluate_run(run, data, recipe=settings, listener=listener(json_output=as_json))
    if as_json:
        print_json(scores)
        return 0
    _print_scores(scores)
    return 0


def _print_scores(scores: Mapping[str, Any]) -> None:
    write = sys.stdout.write
    test = scores["test"]
    if test is None:
        write("The run had no test rows. Give a file: bertsmith evaluate RUN DATA\n")
        return
    write(f"{test['rows']:,} rows, 95 % intervals  ({scores['source']})\n")
    for name, value in test.items():
        if isinstance(value, Mapping) and "low" in value:
            write(f"  {shown(name, test)}\n")
    _print_trust(scores)
    for name, value in test.items():
        if name == "confusion":
            _print_confusion(test, scores["labels"])
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            _print_table(name, value)
        elif name != "rows" and not (isinstance(value, Mapping) and "low" in value):
            words = json.dumps(value, ensure_ascii=False)
            write(f"\n{in_prose(name)}: {words if len(words) <= _LONGEST else 'see --json'}\n")


def _print_trust(scores: Mapping[str, Any]) -> None:
    """Say how many rows are answered, how many of the answers are right, and how many rows are called foreign."""
    decided, scope = (scores["decide"] or {}).get("test"), scores["out_of_scope"]
    if decided is not None:
        sys.stdout.write(f"  {shown('coverage', decided)}: the rows that are answered\n")
        if decided["right"] is not None:
            sys.stdout.write(f"  {shown('right', decided)}: the answers that are right\n")
    if scope is not None and scope.get("sentence"):
        sys.stdout.write(f"  {scope['sentence']}\n")


def _print_table(name: str, rows: list[Mapping[str, Any]]) -> None:
    """Print figures of labels (or of other parts of the rows), one a line."""
    write = sys.stdout.write
    first, *columns = rows[0]
    width = max(len(first), *(len(str(row[first])) for row in rows[:_SHOWN_CLASSES]))
    cell = max(9, *(len(column) for column in columns)) + 2
    write(f"\n{first:<{width}}" + "".join(f"{in_prose(column):>{cell}}" for column in columns) + "\n")
    for row in rows[:_SHOWN_CLASSES]:
        write(f"{row[first]!s:<{width}}" + "".join(f"{_figure(row[column]):>{cell}}" for column in columns) + "\n")
    if len(rows) > _SHOWN_CLASSES:
        write(f"... and {len(rows) - _SHOWN_CLASSES} more of {in_prose(name)}\n")


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _print_confusion(test: Mapping[str, Any], labels: list[str]) -> None:
    """Print the matrix where it fits on a screen, and the most frequent confusions."""
    write = sys.stdout.write
    matrix = test["confusion"]
    width = max(len(label) for label in labels)
    if len(labels) <= _WIDEST_MATRIX:
        cell = max(6, *(min(12, len(label)) + 1 for label in labels))
        write(
            f"\n{'gold / answer':<{max(width, 13)}}"
            + "".join(f"{label[: cell - 1]:>{cell}}" for label in labels)
            + "\n"
        )
        for label, row in zip(labels, matrix, strict=True):
            write(f"{label:<{max(width, 13)}}" + "".join(f"{count:>{cell}}" for count in row) + "\n")
    wrong = sorted(
        (
            (count, labels[gold], labels[answer])
            for gold, row in enumerate(matrix)
            for answer, count in enumerate(row)
            if gold != answer and count
        ),
        reverse=True,
    )
    if wrong:
        write("\nmost frequent confusions\n")
        for count, gold, answer in wrong[:_SHOWN_CONFUSIONS]:
            write(f"  {count:>4} rows of {gold} taken for {answer}\n")
