"""Refusing rows that cannot be scored: their answers are missing, or the model does not know them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertsmith.errors import DataError
from bertsmith.examples import Examples, LabelSet
from bertsmith.tasks.label_wording import has_rows
from bertsmith.tasks.protocol import Array


def require_column(examples: Examples, column: str) -> None:
    """Refuse data without gold answers.

    Args:
        examples: The rows.
        column: The canonical column of the gold answers.

    Raises:
        DataError: There is no such column.
    """
    if column not in examples:
        raise DataError(f"{examples.source}: no {column} column was found.", tip="Name it with --label COLUMN.")


def require_filled(examples: Examples, missing: Array, *, what: str) -> None:
    """Refuse rows without an answer.

    Args:
        examples: The rows.
        missing: True where a row has none, bool `(rows,)`.
        what: What an answer is called, such as `label`.

    Raises:
        DataError: There are such rows.
    """
    rows = np.flatnonzero(missing)
    if len(rows):
        raise DataError(
            f"{examples.source}: {has_rows(len(rows))} no {what}: {', '.join(examples.where(rows, 5))}. "
            "Every row needs one to be scored.",
            tip="Fill them in, or take the rows out.",
        )


def require_known(examples: Examples, strange: Array, names: Sequence[str], labels: LabelSet) -> None:
    """Refuse rows with labels that the model does not know.

    Args:
        examples: The rows.
        strange: Positions of such rows, `(rows,)`.
        names: The strange label of the first of them.
        labels: The labels of the model.

    Raises:
        DataError: There are such rows.
    """
    if len(strange):
        raise DataError(
            f"{examples.source}: {has_rows(len(strange))} a label that the model does not know, such as {names[0]!r}: "
            f"{', '.join(examples.where(strange, 5))}. "
            f"It knows {', '.join(labels.names[:20])}{' …' if len(labels) > 20 else ''}.",
            tip="Rows to be scored need the labels that the model was trained with.",
        )
