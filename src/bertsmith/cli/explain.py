"""bertsmith explain RUN TEXT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from bertsmith.cli.console import print_json
from bertsmith.cli.loading import load_model

if TYPE_CHECKING:
    from bertsmith.explaining.explanation import Explanation
    from bertsmith.tasks import Answer


def explain(  # noqa: PLR0913 - one parameter a flag
    run: Annotated[Path, Parameter(help="A run, or its model folder.")],
    text: Annotated[str, Parameter(help="The text whose answer is explained.", allow_leading_hyphen=True)],
    /,
    *,
    text_pair: Annotated[str | None, Parameter(help="Its second text, for a model of pairs.")] = None,
    label: Annotated[
        str | None, Parameter(help="The label to explain; left out, the most probable one.", allow_leading_hyphen=True)
    ] = None,
    method: Annotated[
        str,
        Parameter(help="gradients, or occlusion, which leaves out one word after the other."),
    ] = "gradients",
    html: Annotated[Path | None, Parameter(help="Write a page with the marked text to this file, too.")] = None,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    threads: Annotated[str, Parameter(help="CPU threads; auto takes what this process may use.")] = "auto",
    rung: Annotated[
        str,
        Parameter(
            help="Explain a cheap model of the ladder: majority, tfidf, frozen. Needs --method occlusion.",
            show_default=False,
        ),
    ] = "",
    json: Annotated[bool, Parameter(negative=(), help="Print one JSON object.")] = False,
) -> int:
    """Mark the words of a text that speak for its label and against it."""
    from bertsmith.explaining.explain import explain as explain_text
    from bertsmith.recipe import Recipe

    settings = Recipe().changed({"device": device, "threads": threads}, shown=lambda name: f"--{name}")
    # Gradients are torch's; an export answers within its gate, but it has none.
    predictor = load_model(run, settings, rung=rung, engine="torch")
    explanation = explain_text(predictor, text, pair=text_pair, label=label, method=method)
    answer = predictor.predict(*([each] for each in explanation.texts))[0]
    if html is not None:
        from bertsmith.atomic import write_text
        from bertsmith.explaining.marked import marked_page

        write_text(html, marked_page(explanation))
    if json:
        names = ("text", "text_pair")[: len(explanation.texts)]
        texts = dict(zip(names, explanation.texts, strict=True))
        print_json({**texts, **answer.as_json(), **explanation.as_json()})
    else:
        _show(explanation, answer)
    return 0


def _show(explanation: Explanation, answer: Answer) -> None:
    from bertsmith.explaining.marked import TERMINAL_LEGENDS, marked_text, weight_lines

    console = Console(file=sys.stdout, highlight=False, markup=False, soft_wrap=True)
    colour = console.color_system is not None and not console.no_color
    explained = f"{explanation.label}  {explanation.score:.3f}"
    console.print(answer.line)
    if answer.line != explained:
        console.print(f"explained: {explained}")
    console.print()
    for part in range(len(explanation.texts)):
        console.print(marked_text(explanation, part=part, colour=colour))
    console.print()
    for line in weight_lines(explanation):
        console.print(f"  {line}")
    console.print()
    if explanation.ranked():
        console.print(TERMINAL_LEGENDS[colour])
    console.print(explanation.sentence)
