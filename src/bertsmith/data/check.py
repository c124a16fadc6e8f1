"""check: is this data fit to learn from? Everything that was noticed, errors first.

Nothing is changed. Costly looks at more than 200 000 rows look at a seeded sample, and say so.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from bertsmith.data.leakage import leakage_findings
from bertsmith.data.length_findings import length_findings
from bertsmith.data.length_measure import Lengths, choose_max_length, measure_lengths
from bertsmith.data.near_duplicates import TextGroups
from bertsmith.data.text_classes import classes_of
from bertsmith.data.text_findings import blank_rows, text_findings
from bertsmith.data.text_repeats import repeat_findings
from bertsmith.encoders import Encoder
from bertsmith.examples import Examples
from bertsmith.findings import Finding, Findings
from bertsmith.tasks.protocol import Task

__all__ = ["Lengths", "check", "choose_max_length", "measure_lengths"]


def check(  # noqa: PLR0913 - what every look needs
    examples: Examples,
    *,
    task: Task,
    lengths: Lengths | None,
    max_length: int,
    groups: TextGroups,
    encoder: Encoder | None = None,
    windows: bool = False,
) -> Findings:
    """Look for everything that makes a model learn the wrong thing, or makes its score wrong.

    Args:
        examples: The rows, at least one.
        task: Knows what can be wrong with the labels.
        lengths: Token counts from `measure_lengths`; None when no tokenizer was at hand, which is a finding.
        max_length: Tokens that a row may have, special tokens included.
        groups: Equal and nearly equal texts.
        encoder: The encoder that is to learn; without one, neither scripts nor the cost are looked at.
        windows: True where texts that are too long are read in windows.

    Returns:
        Findings, errors first; `passed` is False when there is one.
    """
    blank = blank_rows(examples)
    classes = classes_of(examples, task)
    return Findings.of(
        [
            *task.check(examples),
            *text_findings(examples, blank=blank, encoder=encoder),
            *repeat_findings(examples, classes, groups, blank=blank),
            *leakage_findings(examples, classes),
            *length_findings(examples, classes, lengths, max_length=max_length, encoder=encoder, windows=windows),
            *_weights(examples),
        ]
    )


def _weights(examples: Examples) -> Iterator[Finding]:
    if "weight" not in examples or len(examples) < 2:
        return
    least, most = pc.min_max(examples.column("weight")).as_py().values()
    if least is not None and np.isclose(least, most):
        yield Finding(
            "equal-weights",
            "note",
            f"The weights of all {len(examples):,} rows are {least:g}.",
            "Equal weights change nothing; is it the right column?",
            count=len(examples),
        )
