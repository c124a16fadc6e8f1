"""bertsmith fill ENCODER TEXT..."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bertsmith.cli.console import print_json

if TYPE_CHECKING:
    from bertsmith.masked.fill import Filled


def fill(
    encoder: Annotated[str, Parameter(help="What `adapt` made, or another encoder with a masked-word head.")],
    /,
    *given: Annotated[str, Parameter(name="TEXTS", help="Texts with [MASK] for each word to fill in.")],
    top: Annotated[int, Parameter(help="Words for each place.")] = 5,
    device: Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    threads: Annotated[str, Parameter(help="CPU threads; auto takes what this process may use.")] = "auto",
    json: Annotated[bool, Parameter(negative=(), help="Print one JSON object a line.")] = False,
) -> int:
    """Name the most probable words for each [MASK] of a text.

    Only whole words are listed, so their probabilities need not add up to one.
    """
    from bertsmith.masked.fill import fill as fill_texts
    from bertsmith.recipe import Recipe

    run = Recipe().changed({"device": device, "threads": threads}, shown=lambda name: f"--{name}").run
    for filled in fill_texts(encoder, given, top=top, device=run.device, threads_wanted=run.threads):
        if json:
            print_json(filled.as_json())
        else:
            _print(filled, alone=len(given) == 1)
    return 0


def _print(filled: Filled, *, alone: bool) -> None:
    write = sys.stdout.write
    if not alone:
        write(f"{' '.join(filled.text.split())}\n")
    for place, words in enumerate(filled.places, 1):
        if len(filled.places) > 1:
            write(f"[MASK] {place}\n")
        for each in words:
            write(f"  {each.probability:.3f}  {each.word}\n")
