"""bertsmith check DATA."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from bertsmith.cli.console import listener, print_json
from bertsmith.cli.flags import recipe_of, with_settings
from bertsmith.errors import UsageError
from bertsmith.findings import Finding, Findings, Severity
from bertsmith.listener import Listener, Progress
from bertsmith.recipe import Recipe

_MARKS: dict[Severity, str] = {"error": "✗", "warning": "!", "note": "·"}


@with_settings("read", "split", "text", "fit", "run")
def check(
    data: Annotated[str | None, Parameter(help="CSV, TSV, JSONL, Parquet (gzip too), or a folder per label.")] = None,
    /,
    *,
    flags: Mapping[str, Any],
    recipe: Annotated[Path | None, Parameter(help="TOML file with settings.")] = None,
    show_tokens: Annotated[
        str | None, Parameter(help="Show this text as the model sees it.", allow_leading_hyphen=True)
    ] = None,
    json: Annotated[bool, Parameter(negative=(), help="Print the findings as JSON.")] = False,
) -> int:
    """Say whether DATA is fit to learn from; exit 1 when it is not."""
    settings = recipe_of(flags, file=recipe)
    source = data or settings.read.data
    if show_tokens is not None:
        _show_tokens(show_tokens, settings, as_json=json)
    if not source and not settings.read.dataset:
        if show_tokens is not None:
            return 0
        raise UsageError("DATA is missing: a file or folder to check.", tip="bertsmith check DATA")
    from bertsmith.prepare import prepare

    prepared = prepare(source or None, recipe=settings, listener=_NoFindings(listener(json_output=json)))
    if json:
        print_json(
            {
                "source": prepared.examples.source,
                "rows": len(prepared.examples),
                "labels": list(prepared.labels.names),
                "split": prepared.splits.sizes(),
                "max_length": prepared.max_length,
                "passed": prepared.findings.passed,
                "findings": [finding.as_json() for finding in prepared.findings.items],
            }
        )
    else:
        _print_findings(prepared.findings)
    return 0 if prepared.findings.passed else 1


class _NoFindings:
    """Passes on what a listener is told, but for the findings: they are printed in full afterwards."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._in_check = False

    def tell(self, stage: str, text: str, *, aside: str = "") -> None:
        """Pass on what is not about findings."""
        self._in_check = stage == "check" or (self._in_check and not stage)
        if not self._in_check:
            self._listener.tell(stage, text, aside=aside)

    def warn(self, text: str) -> None:
        """Hear no warning."""

    def work(self, stage: str, total: int | None) -> AbstractContextManager[Progress]:
        """Pass it on."""
        return self._listener.work(stage, total)


def _print_findings(findings: Findings) -> None:
    write = sys.stdout.write
    for finding in findings.items:
        write(f"\n{_MARKS[finding.severity]} {finding.severity:<8}{finding.kind}\n  {finding.message}\n")
        if finding.rows:
            write(f"  rows: {', '.join(finding.rows[:6])}{_more(finding)}\n")
        write(f"  → {finding.remedy}\n")
    counts = {severity: len(findings.with_severity(severity)) for severity in _MARKS}
    told = ", ".join(f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())
    write(f"\n{'Fit' if findings.passed else 'Not fit'} to learn from: {told}.\n")


def _more(finding: Finding) -> str:
    return f" … {finding.count:,} in all" if finding.count > 6 else ""


def _show_tokens(text: str, settings: Recipe, *, as_json: bool) -> None:
    from dataclasses import asdict

    from bertsmith import encoders
    from bertsmith.data.encode import show_tokens

    shown = show_tokens(encoders.find(settings.fit.encoder).tokenizer(), text)
    if as_json:
        print_json({"text": text, **asdict(shown)})
        return
    width = max(len(piece) for piece in shown.pieces)
    sys.stdout.write(f"{text!r} as {settings.fit.encoder} sees it: {len(shown.pieces)} tokens\n")
    sys.stdout.write(f"  {'piece':<{width}}  {'id':>6}  special  mask  characters\n")
    for piece, number, special, mask, (begin, end) in zip(
        shown.pieces, shown.ids, shown.special, shown.mask, shown.offsets, strict=True
    ):
        place = "" if special else f"{begin}-{end}"
        sys.stdout.write(f"  {piece:<{width}}  {number:>6}  {'yes' if special else 'no':<7}  {mask:<4}  {place}\n")
