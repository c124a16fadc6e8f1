"""bertsmith review DB."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bertsmith.cli.console import listener
from bertsmith.errors import DataError, UsageError

if TYPE_CHECKING:
    from bertsmith.feedback.store import Store, Wanted


def review(
    store: Annotated[str, Parameter(help="Feedback store: an SQLite file, or a URL of PostgreSQL.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="CSV file to write; without it the rows are printed.")] = None,
    least_certain: Annotated[
        int | None, Parameter(help="Only so many entries, those with the lowest scores first.")
    ] = None,
    corrected: Annotated[bool, Parameter(negative=(), help="Only entries that say what is right.")] = False,
    model: Annotated[str, Parameter(help="Only entries about this model.", show_default=False)] = "",
    delete: Annotated[
        list[str] | None,
        Parameter(help="Delete the entries with these ids instead.", consume_multiple=True, negative=()),
    ] = None,
) -> int:
    """List what people said of answers as CSV, oldest first; `train --add` takes the list back."""
    if least_certain is not None and least_certain < 1:
        raise UsageError(f"'--least-certain' must be at least 1. Got {least_certain} instead.")
    from bertsmith.feedback.opening import open_store

    with open_store(store) as opened:
        if delete:
            return _delete(opened, delete)
        from bertsmith.feedback.store import Wanted

        return _list(opened, Wanted(corrected, model, least_certain=least_certain), out)


def _list(store: Store, wanted: Wanted, out: Path | None) -> int:
    from bertsmith.atomic import replacing
    from bertsmith.feedback.review import write_csv

    if out is None:
        write_csv(store.entries(wanted), sys.stdout)
        return 0
    # A mark of the encoding in front, or Excel takes UTF-8 for something else.
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8-sig", newline="") as file:
        count = write_csv(store.entries(wanted), file)
    said = f"{count:,} {'entry' if count == 1 else 'entries'} of {store.shown}"
    listener(json_output=False).tell("review", said, aside=str(out))
    return 0


def _delete(store: Store, ids: list[str]) -> int:
    missing = [each for each in ids if not store.delete(each)]
    if missing:
        raise DataError(f"{store.shown}: there is no entry {missing[0]!r}.", tip="bertsmith review lists the ids.")
    listener(json_output=False).tell("review", f"{len(ids):,} deleted", aside=store.shown)
    return 0
