"""The gate: an export is used only where it answers the user's own rows as the model itself does.

It looks at validation and calibration rows, never at test rows. Both engines' answers are decided by the same
thresholds, those of the bundle, so that what is measured is the graph and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.evaluation.compare import compare_statistics
from bertsmith.evaluation.intervals import Estimate
from bertsmith.evaluation.wording import in_prose
from bertsmith.export.agreement import agreement, distance
from bertsmith.tasks.protocol import Array, Decision, Rows, Statistics, Task

ALLOW_DROP = 0.003
"""How much of its main metric an export may lose, where nothing else was asked for: 0.3 points."""
CLOSE = 0.01
"""Mean difference of a probability up to which a single row may be lost where there are few."""


@dataclass(frozen=True)
class Rule:
    """What is asked of an export.

    Attributes:
        allow_drop: How much the main metric may drop.
        least_agreement: Least share of units with the answer that torch gives.
        logit: How far a logit may be off, times the largest of torch's where that is above 1; None for any distance.
    """

    allow_drop: float = ALLOW_DROP
    least_agreement: float = 0.99
    logit: float | None = None

    @classmethod
    def for_kind(cls, kind: str, *, allow_drop: float = ALLOW_DROP) -> Rule:
        """Give the rule for `fp32` or `int8`; the same numbers must come out of the former, but for rounding."""
        return cls(allow_drop) if kind == "int8" else cls(allow_drop, least_agreement=0.999, logit=1e-4)


@dataclass(frozen=True)
class Spread:
    """The largest and the mean of some differences."""

    largest: float
    mean: float

    @classmethod
    def of(cls, values: Array) -> Spread:
        """Take both; 0 of nothing."""
        return cls(float(values.max()), float(values.mean())) if values.size else cls(0.0, 0.0)

    def as_json(self) -> dict[str, float]:
        """Return both by name."""
        return {"largest": self.largest, "mean": self.mean}


@dataclass(frozen=True)
class Gate:
    """What was measured, and what follows from it.

    Attributes:
        rule: What is asked.
        rows: Rows that both engines answered.
        units: What has an answer of its own: rows, or words.
        agreement: Share of the units with the answer that torch gives.
        probability: How far apart the answers are; see `agreement.distance`.
        logit: How far apart the logits are.
        scale: The largest logit of torch's, 1 at least.
        metric: The metric that may not drop.
        torch: Its value for torch.
        export: Its value for the export.
        difference: The export's minus torch's, with its paired interval.
        broken: Logits of the export that are no numbers; they are taken for 0 in the other figures.
    """

    rule: Rule
    rows: int
    units: int
    agreement: float
    probability: Spread
    logit: Spread
    scale: float
    metric: str
    torch: float
    export: float
    difference: Estimate
    broken: int = 0

    @property
    def accepted(self) -> bool:
        """True where nothing is in its way."""
        return not self.reason

    @property
    def disagreeing(self) -> float:
        """Units with another answer; of several labels, the sum of the shares in which they differ."""
        return round(self.units * (1 - self.agreement), 9)

    @property
    def allowed_drop(self) -> float:
        """How much the metric may drop on these rows: as was asked, or one row where there are few."""
        few = 0 < self.rule.allow_drop < 1 / max(1, self.rows)
        return 1 / self.rows if few and self._is_close else self.rule.allow_drop

    @property
    def reason(self) -> str:
        """What is in the way, in words; "" where nothing is."""
        return "; ".join(filter(None, (self._is_broken(), self._is_off(), self._disagrees(), self._drops())))

    @property
    def _is_close(self) -> bool:
        return self.probability.mean <= CLOSE

    def _is_broken(self) -> str:
        return f"{self.broken:,} of its logits are no numbers" if self.broken else ""

    def _is_off(self) -> str:
        most = None if self.rule.logit is None else self.rule.logit * self.scale
        if most is None or self.logit.largest <= most:
            return ""
        return f"a logit is off by {self.logit.largest:.3g}, and {most:.3g} is the most it may be"

    def _disagrees(self) -> str:
        allowed = max((1 - self.rule.least_agreement) * self.units, 1 if self._is_close else 0)
        if self.disagreeing <= allowed + 1e-9:
            return ""
        return (
            f"{self.agreement:.2%} of {self.units:,} answers are those of torch, and {self.rule.least_agreement:.1%} "
            "have to be"
        )

    def _drops(self) -> str:
        drop = -self.difference.value
        if drop <= self.allowed_drop + 1e-12:
            return ""
        return (
            f"its {in_prose(self.metric)} is {self.export:.4f} where torch has {self.torch:.4f}: {drop:.4f} less, and "
            f"{self.allowed_drop:.4g} is the most it may be (--allow-drop)"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the figures as export.json has them."""
        return {
            "agreement": self.agreement,
            "disagreeing": self.disagreeing,
            "units": self.units,
            "probability": self.probability.as_json(),
            "logit": self.logit.as_json(),
            "metric": {
                "name": self.metric,
                "torch": self.torch,
                "export": self.export,
                "difference": self.difference.value,
                "low": self.difference.low,
                "high": self.difference.high,
            },
            "allow_drop": self.rule.allow_drop,
            "allowed_drop": self.allowed_drop,
            "least_agreement": self.rule.least_agreement,
        }


def main_metric(task: Task) -> str:
    """Name the metric that may not drop: the first by which models are compared that is no loss."""
    return next(name for name in task.compared if name not in task.loss_metrics)


def measure(  # noqa: PLR0913 - two engines' logits, and what is made of them
    task: Task, rows: Rows, torch: Array, export: Array, *, decision: Decision, rule: Rule, seed: int
) -> Gate:
    """Compare what two engines gave for the same rows.

    Args:
        task: The model's.
        rows: At least one row, with targets.
        torch: Logits of torch, float32 `(units, outputs)`.
        export: Those of the export.
        decision: The bundle's thresholds.
        rule: What is asked.
        seed: The same seed gives the same interval.
    """
    known = np.isfinite(export)
    logits = torch, np.where(known, export, 0).astype(np.float32)
    ours, theirs = (task.probabilities(each) for each in logits)
    agreeing = agreement(task, rows, ours, theirs, decision=decision)
    before, after = (task.statistics(rows, given, decision) for given in (ours, theirs))
    metric = main_metric(task)
    compared = compare_statistics(task, after, before, name="torch", ours_name="the export", seed=seed)
    return Gate(
        rule=rule,
        rows=len(rows),
        units=len(agreeing),
        agreement=float(agreeing.mean()) if len(agreeing) else 1.0,
        probability=Spread.of(distance(task, rows, ours, theirs, decision=decision)),
        logit=Spread.of(np.abs(logits[1] - logits[0])),
        scale=max(1.0, float(np.abs(torch).max(initial=0.0))),
        metric=metric,
        torch=_value(task, before, metric),
        export=_value(task, after, metric),
        difference=compared.differences[metric],
        broken=int((~known).sum()),
    )


def _value(task: Task, found: Statistics, metric: str) -> float:
    if metric in found.means:
        return float(np.mean(found.means[metric]))
    return float(task.counted(found.sums)[metric])
