"""UNKNOWN with a guarantee: the score from which answers are given, and what is promised of those that are.

The threshold is chosen on calibration rows, which neither trained the model nor chose its epoch, its temperature or
the thresholds that are tried: those come from validation rows. What holds of the calibration rows then holds, with a
probability of 1 - delta, of all texts that come from where they came from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import bdtr
from scipy.stats import binom

from bertsmith.evaluation.accept_rule import Rule
from bertsmith.evaluation.fixed_sequence import ACCEPT_ALL, Plan, Scored, candidates, plan, rows_needed
from bertsmith.evaluation.intervals import wilson
from bertsmith.tasks.protocol import Array, Rows, Task

NEVER = 2.0
"""A threshold that no score reaches: the label cannot carry the promise, and its answers are all refused."""
OWN = 5
"""A label stands by itself where its p-value is expected to be so many times smaller than it has to be."""
CURVE = 200
"""Points of a risk-coverage curve, at most."""
SHOWN = 5
"""Labels that a sentence names, at most."""


@dataclass(frozen=True)
class Confidence:
    """How sure a model was of some answers, and whether they were right.

    Attributes:
        score: The probability of each guess, float `(rows,)`, of the rows in scope.
        guess: Position of the label that was guessed, int `(rows,)`.
        right: Whether it was right, bool `(rows,)`; of soft labels, whether it has the largest share.
        labels: The names of the labels.
        total: Rows in all: these, and those that were refused already as out of scope.
    """

    score: Array
    guess: Array
    right: Array
    labels: tuple[str, ...]
    total: int

    @classmethod
    def of(cls, task: Task, rows: Rows, probabilities: Array, *, foreign: Array | None = None) -> Confidence:
        """Take it from answers.

        Args:
            task: One whose answers are single labels.
            rows: Rows with gold answers, or without: then none is right. There may be no rows.
            probabilities: float64 `(rows, labels)`.
            foreign: Which rows are out of scope, bool `(rows,)`; None for none.
        """
        right = np.zeros(len(rows), bool)
        if len(rows.targets):
            found = task.statistics(rows, probabilities, {}).right
            assert found is not None, f"the answers of a {task.name} model are not right or wrong"
            right = found
        inside = np.ones(len(rows), bool) if foreign is None else ~foreign
        known = probabilities[inside]
        guess = known.argmax(axis=1) if len(known) else np.zeros(0, np.int64)
        score = known.max(axis=1) if len(known) else np.zeros(0)
        return cls(score, guess, right[inside], rows.labels.names, len(rows))

    def beside(self, foreign: Confidence) -> Confidence:
        """Return these answers and those to rows that have none of the labels: whatever was answered there is wrong."""
        return Confidence(
            np.concatenate([self.score, foreign.score]),
            np.concatenate([self.guess, foreign.guess]),
            np.concatenate([self.right, np.zeros(len(foreign), bool)]),
            self.labels,
            self.total + foreign.total,
        )

    def __len__(self) -> int:
        return len(self.score)

    @property
    def scored(self) -> Scored:
        """The scores, and whether the guesses were right."""
        return Scored(self.score, self.right)


@dataclass(frozen=True)
class Accepted:
    """From which score on answers are given, and what is promised of them.

    Attributes:
        rule: What was asked.
        delta: The chance that a promise may be broken with.
        threshold: An answer is given where its score is at least that; 0 gives all.
        by_label: Label of the guess → its own threshold; None where one serves all.
        alone: The labels that carry the promise by themselves, where labels have thresholds.
        coverage: Share of the calibration rows that are answered; None without such rows.
        guaranteed: True where the promise of the rule stands.
        rows: Calibration rows.
        rows_needed: About how many the rule needs, where these are too few; None where no number would do.
    """

    rule: Rule
    delta: float
    threshold: float = ACCEPT_ALL
    by_label: Mapping[str, float] | None = None
    alone: tuple[str, ...] = ()
    coverage: float | None = None
    guaranteed: bool = False
    rows: int = 0
    rows_needed: int | None = None

    @property
    def sentence(self) -> str:
        """The promise and the coverage in words, for the summary."""
        return _sentence(self)

    def as_decision(self) -> dict[str, Any]:
        """Return what the bundle keeps and `decode` takes; {} where every answer is given."""
        if self.by_label is not None:
            return {"accept": {"by_label": dict(self.by_label)}}
        return {} if self.threshold <= ACCEPT_ALL else {"accept": {"threshold": self.threshold}}

    def given(self, answers: Confidence) -> Array:
        """Say which answers are given, bool `(rows,)`."""
        return np.asarray(answers.score >= self._thresholds(answers))

    def on_test(self, answers: Confidence) -> dict[str, Any]:
        """Measure what came of it: the coverage and the share of right answers, each with Wilson's interval.

        Args:
            answers: Of rows that had no part in the choice, at least one; `right` is null where none is given.
        """
        given = self.given(answers)
        right = wilson(int(answers.right[given].sum()), int(given.sum())).as_json() if given.any() else None
        return {"rows": answers.total, "coverage": wilson(int(given.sum()), answers.total).as_json(), "right": right}

    def risk_coverage(self, answers: Confidence) -> list[dict[str, float]]:
        """Say for thresholds from strict to loose what is answered, and what share of that is right.

        With a threshold for each label, `threshold` is what is added to all of them.
        """
        scored = replace(answers.scored, score=answers.score - self._thresholds(answers) * (self.by_label is not None))
        distinct = np.unique(scored.score)[::-1]
        points = distinct[np.unique(np.linspace(0, len(distinct) - 1, CURVE).round().astype(int))]
        given, wrong = scored.above(points)
        return [
            {"threshold": float(point), "coverage": int(n) / answers.total, "right": 1 - int(e) / int(n)}
            for point, n, e in zip(points, given, wrong, strict=True)
        ]

    def as_json(self, test: Confidence | None = None) -> dict[str, Any]:
        """Return `decide` of scores.json; what concerns test rows is null, or empty, without any."""
        measured = test is not None and test.total > 0
        return {
            "accept": self.rule.given,
            "target": self.rule.target,
            "delta": self.delta,
            "threshold": None if self.by_label is not None else self.threshold,
            "by_label": None if self.by_label is None else dict(self.by_label),
            "alone": None if self.by_label is None else list(self.alone),
            "coverage": self.coverage,
            "guaranteed": self.guaranteed,
            "rows": self.rows,
            "rows_needed": self.rows_needed,
            "sentence": self.sentence,
            "test": self.on_test(test) if test is not None and measured else None,
            "risk_coverage": self.risk_coverage(test) if test is not None and len(test) else [],
        }

    def _thresholds(self, answers: Confidence) -> Array:
        """Return the threshold of each answer, float64 `(rows,)`."""
        if self.by_label is None:
            return np.full(len(answers), self.threshold)
        return np.array([self.by_label.get(name, ACCEPT_ALL) for name in answers.labels])[answers.guess]


def choose(
    rule: Rule, *, delta: float, validation: Confidence, calibration: Confidence, by_label: bool = False
) -> Accepted:
    """Choose from which score on answers are given.

    Where the rows cannot carry a promise nothing is refused, `guaranteed` is False, and it says how many rows would.

    Args:
        rule: As `parse` gives it.
        delta: The chance that the promise may be broken with, over the draw of the calibration rows.
        validation: Plans the tests (for a promise of right answers), and nothing more.
        calibration: Carries the promise.
        by_label: Promise right answers of each label by itself, where its rows suffice for that, and of the other
            labels together; has no effect on other rules.
    """
    blank = Accepted(rule, delta, rows=calibration.total)
    if rule.kind == "right":
        return _right(blank, validation, calibration, by_label=by_label)
    if rule.kind == "refuse":
        return _refuse(blank, calibration)
    found = _cheapest(blank, calibration) if rule.kind == "costs" else replace(blank, threshold=rule.number)
    return _covering(found, calibration)


def _covering(found: Accepted, calibration: Confidence) -> Accepted:
    """Add which share of the calibration rows is answered."""
    if not calibration.total:
        return found
    return replace(found, coverage=int(found.given(calibration).sum()) / calibration.total)


# --- a share of right answers --------------------------------------------------------------------------------------


def _right(blank: Accepted, validation: Confidence, calibration: Confidence, *, by_label: bool) -> Accepted:
    """Test each group of labels by itself; without `by_label` there is one group of all."""
    risk = 1 - blank.rule.number
    scale = len(calibration) / max(1, len(validation))
    groups = _groups(validation, scale, risk=risk, delta=blank.delta) if by_label else [_all_labels(calibration)]
    plans = [plan(_of(validation, group), scale, risk=risk) for group in groups]
    parts = [_of(calibration, group) for group in groups]
    passed = _passed(plans, parts, risk=risk, delta=blank.delta)
    if not any(passed):
        needed = _needed(validation, calibration, risk=risk, delta=blank.delta / len(groups))
        return _covering(replace(blank, rows_needed=needed), calibration)
    thresholds = [float(each.thresholds[n - 1]) if n else NEVER for each, n in zip(plans, passed, strict=True)]
    if not by_label:
        return _covering(replace(blank, guaranteed=True, threshold=thresholds[0]), calibration)
    of_label = np.zeros(len(calibration.labels))
    for group, threshold in zip(groups, thresholds, strict=True):
        of_label[group] = threshold
    named = dict(zip(calibration.labels, of_label.tolist(), strict=True))
    alone = [calibration.labels[group[0]] for group, n in zip(groups, passed, strict=True) if n and len(group) == 1]
    return _covering(replace(blank, guaranteed=True, by_label=named, alone=tuple(alone)), calibration)


def _passed(plans: Sequence[Plan], parts: Sequence[Scored], *, risk: float, delta: float) -> list[int]:
    """Say how many thresholds of each group pass, with a chance of `delta` in all that one of them should not have.

    Each group gets an equal part of delta. One that passes to its end needs its part no more, and leaves it to the
    others in equal parts (Bretz, Maurer, Brannath and Posch 2009, Statistics in Medicine 28).
    """
    sharing = len(plans)
    while True:
        level = delta / max(1, sharing)
        passed = [each.passed(part, risk=risk, level=level) for each, part in zip(plans, parts, strict=True)]
        still = sum(number < len(each.thresholds) for each, number in zip(plans, passed, strict=True))
        if still in {0, sharing}:
            return passed
        sharing = still


def _groups(validation: Confidence, scale: float, *, risk: float, delta: float) -> list[Array]:
    """Put labels whose rows will suffice into groups of their own, and the others together; by validation rows."""
    every = _all_labels(validation)
    enough = delta / len(every) / OWN
    own = [plan(_of(validation, np.array([label])), scale, risk=risk).chance <= enough for label in every]
    rest = [label for label in every if not own[label]]
    groups = [np.array([label]) for label in every if own[label]]
    return [*groups, np.array(rest)] if rest else groups


def _needed(validation: Confidence, calibration: Confidence, *, risk: float, delta: float) -> int | None:
    """Estimate from all rows whose answers are known how many calibration rows would do."""
    known = Scored(
        *(np.concatenate([getattr(side, part) for side in (validation, calibration)]) for part in ("score", "right"))
    )
    total = validation.total + calibration.total
    return rows_needed(known, len(known) / max(1, total), risk=risk, delta=delta)


def _all_labels(answers: Confidence) -> Array:
    return np.arange(len(answers.labels))


def _of(answers: Confidence, labels: Array) -> Scored:
    """Take the answers with these guesses."""
    return answers.scored.take(np.isin(answers.guess, labels))


# --- the other rules -----------------------------------------------------------------------------------------------


def _refuse(blank: Accepted, calibration: Confidence) -> Accepted:
    """Refuse as many as may be refused, the lowest scores first.

    The threshold is an order statistic of the calibration scores, so that the share of texts below it is at most the
    one promised (a distribution-free tolerance limit, Wilks 1941); rows out of scope count as refused.
    """
    share, rows = blank.rule.number, calibration.total
    most = int(binom.ppf(blank.delta, rows, share)) if rows else 0
    most -= int(bdtr(most, rows, share) > blank.delta) if rows else 1
    if most < 0:
        return _covering(replace(blank, rows_needed=_fewest(share, delta=blank.delta)), calibration)
    foreign = rows - len(calibration)
    if foreign > most:
        return _covering(blank, calibration)
    ranked = np.sort(calibration.score)
    place = most - foreign
    below = ranked[place - 1] if place else ranked[place]
    return _covering(replace(blank, guaranteed=True, threshold=float((below + ranked[place]) / 2)), calibration)


def _cheapest(blank: Accepted, calibration: Confidence) -> Accepted:
    """Find the threshold at which errors and refusals cost least on the calibration rows.

    Where several cost the same, and without rows, it is the one that is best if scores are probabilities: an error
    that is likelier than refusal / error is not worth it (Chow 1970, IEEE Transactions on Information Theory 16). Rows
    are too few where errors that are not worth it could be missing among them by chance.
    """
    rule = blank.rule
    by_score = np.array([max(0.0, 1 - rule.refusal / rule.number)])
    tried = np.concatenate([by_score, candidates(calibration.score)]) if len(calibration) else by_score
    given, wrong = calibration.scored.above(tried)
    costs = rule.number * wrong + rule.refusal * (len(calibration) - given)
    needed = _fewest(min(1.0, rule.refusal / rule.number), delta=blank.delta)
    found = replace(blank, threshold=float(tried[np.argmin(costs)]))
    return replace(found, rows_needed=needed) if len(calibration) < needed else found


def _fewest(share: float, *, delta: float) -> int:
    """Say of how many rows at least one is of a kind that has this share, but for a chance of `delta`."""
    return math.ceil(math.log(delta) / math.log1p(-share)) if share < 1 else 0


# --- words ---------------------------------------------------------------------------------------------------------


def _sentence(found: Accepted) -> str:
    rule = found.rule
    if rule.kind in {"right", "refuse"} and not found.guaranteed:
        return _unkept(found)
    told = {
        "right": f"at least {_percent(rule.number)} of the answers given are right{_chance(found)}",
        "refuse": f"at most {_percent(rule.number)} of texts are refused{_chance(found)}",
        "score": f"answers with a score of at least {rule.number:g} are given; nothing is promised of them",
        "costs": _told_costs(found),
        "all": "every answer is given",
    }[rule.kind]
    return told + _told_labels(found) + _told_coverage(found)


def _unkept(found: Accepted) -> str:
    if found.rows_needed is not None:
        more = f"about {found.rows_needed:,} would"
    elif found.rule.kind == "refuse":
        more = "too many rows are out of scope already"
    else:
        more = "how many would cannot be told, for too many of the surest answers are wrong, or too few are known"
    return (
        f"nothing is refused for its score: {found.rows:,} calibration rows cannot carry the promise "
        f"'{found.rule.given}'; {more}"
    )


def _chance(found: Accepted) -> str:
    return f" (a promise that is broken with a chance of at most {_percent(found.delta)})"


def _told_costs(found: Accepted) -> str:
    rule = found.rule
    given = f"answers with a score of at least {found.threshold:.4g} are" if found.threshold else "every answer is"
    costs = f"errors (costs {rule.number:g}) and refusals (costs {rule.refusal:g})"
    few = f"{found.rows:,} calibration rows are too few to choose it by, about {found.rows_needed or 0:,} would do"
    promised = "nothing is promised of them" + (f"; {few}" if found.rows_needed is not None else "")
    return f"{given} given, where {costs} cost least; {promised}"


def _told_labels(found: Accepted) -> str:
    if found.by_label is None:
        return ""
    never = [name for name, threshold in found.by_label.items() if threshold >= NEVER]
    together = [name for name in found.by_label if name not in {*found.alone, *never}]
    count = len(found.alone)
    alone = f"for {'each of ' * (count > 1)}{count:,} label{'s' * (count > 1)} by itself" if count else ""
    shared = f"for {len(together):,} labels only taken together: {_listed(together)}" if together else ""
    told = " and ".join(each for each in (alone, shared) if each)
    refused = f"; always refused, for want of rows or of right answers: {_listed(never)}" if never else ""
    return (f", {told}" if told else "") + refused


def _listed(names: Sequence[str]) -> str:
    # As JSON: a name may hold anything, and the sentence goes to terminals and into the model's card.
    shown = ", ".join(json.dumps(name) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def _told_coverage(found: Accepted) -> str:
    if found.coverage is None or found.rule.kind == "all":
        return ""
    if found.coverage == 1:
        return "; every calibration row is answered"
    return f"; {found.coverage:.1%} of the calibration rows are answered, the others are UNKNOWN"


def _percent(share: float) -> str:
    return f"{100 * share:.10g}%"
