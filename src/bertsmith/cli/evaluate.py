"""bertsmith evaluate RUN [DATA]."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.flags import recipe_of, with_settings
from bertsmith.telling import shown

_SHOWN_CLASSES = 200
_SHOWN_CONFUSIONS = 10
_WIDEST_MATRIX = 12


@with_settings("text", "label", "text_pair", "encoding", "device", "threads")
def evaluate(
    run: Annotated[Path, Parameter(help="A run.")],
    data: Annotated[Path | None, Parameter(help="Labelled rows; left out: the run's own test rows.")] = None,
    /,
    *,
    flags: Mapping[str, Any],
    json: Annotated[bool, Parameter(negative=(), help="Print the scores as JSON.")] = False,
) -> int:
    """Show how good RUN is: on its test rows, or on your file.

    The run's own test rows were scored once, at its end; those scores are shown again.
    """
    from bertsmith.rescore import evaluate as evaluate_run

    settings = recipe_of(flags, file=None)
    scores = evaluate_run(run, data, recipe=settings, listener=listener(json_output=json))
    if json:
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
    width = max(len(str(each["label"])) for each in test["per_class"])
    write(f"\n{'label':<{width}}  precision  recall     F1   rows\n")
    for each in test["per_class"][:_SHOWN_CLASSES]:
        figures = f"{each['precision']:9.3f}  {each['recall']:6.3f}  {each['f1']:5.3f}  {each['support']:5d}"
        write(f"{each['label']:<{width}}  {figures}\n")
    _print_confusion(test, scores["labels"], width)


def _print_confusion(test: Mapping[str, Any], labels: list[str], width: int) -> None:
    """Print the matrix where it fits on a screen, and the most frequent confusions."""
    write = sys.stdout.write
    matrix = test["confusion"]
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
