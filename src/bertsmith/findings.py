"""Findings: what bertsmith noticed in the data, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from bertsmith.errors import DataError

Severity = Literal["error", "warning", "note"]

ROWS_KEPT = 20
"""Row numbers that a finding lists; its `count` counts all."""


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed.

    Attributes:
        kind: A stable name, such as `duplicate-text`.
        severity: `error` (do not train on this), `warning` (look at it), `note` (good to know).
        message: What was found, in one sentence, with its numbers.
        remedy: What to do about it, in one sentence.
        count: How many rows (or labels, columns, tokens) are so.
        rows: Where, as `file:row` (rows count from 1, a header is not counted); the first few only.
    """

    kind: str
    severity: Severity
    message: str
    remedy: str
    count: int = 0
    rows: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the finding as `check --json` gives it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "count": self.count,
            "rows": list(self.rows),
            "message": self.message,
            "remedy": self.remedy,
        }


@dataclass(frozen=True)
class Findings:
    """All findings of one data set, errors first."""

    items: tuple[Finding, ...] = field(default=())

    @classmethod
    def of(cls, items: Iterable[Finding]) -> Findings:
        """Sort findings by severity; equal ones keep their order."""
        order: Sequence[Severity] = ("error", "warning", "note")
        return cls(tuple(sorted(items, key=lambda finding: order.index(finding.severity))))

    def with_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(finding for finding in self.items if finding.severity == severity)

    def refuse_errors(self, source: str) -> None:
        """Refuse to learn from data with errors.

        Raises:
            DataError: A finding is an error; the message lists all of them.
        """
        errors = self.with_severity("error")
        if errors:
            found = "\n".join(f"  - {finding.message} {finding.remedy}" for finding in errors)
            raise DataError(
                f"{source}: not fit to learn from.\n{found}",
                tip="`bertsmith check DATA` lists every finding with its rows.",
            )

    @property
    def passed(self) -> bool:
        """True when no finding is an error."""
        return not self.with_severity("error")
