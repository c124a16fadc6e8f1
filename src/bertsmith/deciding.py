"""decide: when a model answers and when it declines.

Its scope is drawn around the rows that it learned from, with a threshold from validation rows (or from rows that are
labelled as belonging nowhere); the score from which on answers are given is planned on validation rows and tested on
calibration rows. What is tuned for other kinds of tasks (thresholds of labels) is tuned on calibration rows too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertsmith.evaluation.accept_rule import parse
from bertsmith.evaluation.acceptance import Accepted, Confidence, choose
from bertsmith.evaluation.intervals import wilson
from bertsmith.evaluation.out_of_scope import ScopeFigures, measure_scope, named
from bertsmith.inference.engine import Done
from bertsmith.inference.predictor import Given, Predictor
from bertsmith.inference.scope import Scope, draw_rows
from bertsmith.recipe import Decide
from bertsmith.tasks import Answer, Rows

Array = np.ndarray[Any, Any]
MEASURED = 1000
"""Validation rows from which the units of the scope's score are taken."""


@dataclass(frozen=True)
class Foreign:
    """Rows that belong to none of the labels, shared out as the others are (`data.foreign.Shares`)."""

    sets: Rows
    calibration: Rows
    test: Rows


@dataclass(frozen=True)
class _Far:
    """What the model gave for rows that belong to none of the labels."""

    sets: Given
    calibration: Given
    test: Given


@dataclass(frozen=True)
class Decided:
    """A model that knows when to decline.

    Attributes:
        predictor: With its scope and what was tuned.
        given: Side → what the model gave for its rows.
        accepted: From which score on answers are given; None where answers are not single labels.
        scope: How far the scope tells text from elsewhere; None without one.
        foreign: The answers that would be given to test rows with none of the labels; None without such rows.
    """

    predictor: Predictor
    given: Mapping[str, Given]
    accepted: Accepted | None
    scope: ScopeFigures | None
    foreign: Confidence | None = None

    def answers(self, sides: Mapping[str, Rows]) -> dict[str, list[Answer]]:
        """Give the answers to every side that was asked."""
        return {side: list(self.predictor.decode(sides[side], given)) for side, given in self.given.items()}

    def acceptance(self, test: Rows) -> dict[str, Any] | None:
        """Return `decide` of scores.json, measured on test rows."""
        if self.accepted is None:
            return None
        found = _confidence(self.predictor, test, self.given["test"])
        return self.accepted.as_json(found if self.foreign is None else found.beside(self.foreign))

    def out_of_scope(self) -> dict[str, Any] | None:
        """Return `out_of_scope` of scores.json; of foreign test rows also how many get an answer after all."""
        if self.scope is None:
            return None
        found = self.scope.as_json()
        if found["foreign"] is not None and self.foreign is not None and self.accepted is not None:
            answered = wilson(int(self.accepted.given(self.foreign).sum()), self.foreign.total)
            found["foreign"] |= named("answered", answered)
        return found


def decide(  # noqa: PLR0913 - a stage: model, rows, what is known of them, settings
    predictor: Predictor,
    sides: Mapping[str, Rows],
    foreign: Foreign | None,
    *,
    together: Mapping[str, Array],
    settings: Decide,
    seed: int,
    done: Done | None = None,
) -> Decided:
    """Choose when a model declines, from rows that it did not learn from.

    Args:
        predictor: A trained model without scope and thresholds.
        sides: `train`, `validation`, `calibration` and `test`; others than train may be empty, and test rows
            decide nothing.
        foreign: Rows that belong to none of the labels, where the user has some.
        together: Side → number of the group that each row belongs to, `(rows,)`: rows of one group (near copies,
            equal values of the `group` column) are no independent rows, so one of each counts for the promise.
        settings: `[decide]` of the recipe.
        seed: Draws training rows for the scope where there are very many.
        done: Told how many windows each batch had, of all sides but `train`.
    """
    confident = predictor.task.confident
    if confident and settings.scope != "off" and len(sides["train"]):
        predictor = predictor.within(_surround(predictor, sides, seed=seed))
    asked = {side: rows for side, rows in sides.items() if side != "train"}
    return _thresholds(predictor, asked, foreign, together=together, settings=settings, seed=seed, done=done)


def redecide(  # noqa: PLR0913 - as decide
    predictor: Predictor,
    sides: Mapping[str, Rows],
    foreign: Foreign | None,
    *,
    together: Mapping[str, Array],
    settings: Decide,
    seed: int,
    done: Done | None = None,
) -> Decided:
    """Choose all thresholds again for a finished model that another engine runs.

    Its scope stays as it was drawn around the training rows, in the units of then; from which score on text is foreign,
    and from which score on answers are given, is chosen on what this engine gives.

    Args:
        predictor: A finished model; its thresholds are left out of account.
        sides: `validation`, `calibration` and `test`; test rows decide nothing.
        foreign: As for `decide`.
        together: As for `decide`.
        settings: As for `decide`.
        seed: As for `decide`.
        done: As for `decide`.
    """
    scope = predictor.scope
    if scope is not None:
        scope = replace(scope, threshold=float("inf"), chosen_from="")
    blank = predictor.deciding({}).within(scope)
    return _thresholds(blank, sides, foreign, together=together, settings=settings, seed=seed, done=done)


def _thresholds(  # noqa: PLR0913 - as decide
    predictor: Predictor,
    sides: Mapping[str, Rows],
    foreign: Foreign | None,
    *,
    together: Mapping[str, Array],
    settings: Decide,
    seed: int,
    done: Done | None,
) -> Decided:
    """Choose thresholds for a model whose scope is drawn; `sides` are those that it did not learn from."""
    given = {side: predictor.ask(rows, done=done) for side, rows in sides.items()}
    if not predictor.task.confident:
        tuned = _tuned(predictor, sides["calibration"], given["calibration"])
        return Decided(predictor.deciding(tuned), given, None, None)
    far = None
    if foreign is not None:
        far = _Far(*(predictor.ask(rows) for rows in (foreign.sets, foreign.calibration, foreign.test)))
    kept = {side: one_a_group(together[side], seed=seed) for side in ("validation", "calibration")}
    predictor, scope = _with_threshold(predictor, given, far, kept["validation"], settings=settings)
    sure = {side: _confidence(predictor, sides[side], given[side], kept=kept[side]) for side in kept}
    strange = None
    if foreign is not None and far is not None:
        calibration = _confidence(predictor, foreign.calibration, far.calibration)
        # As many of those that set the threshold as calibration has in proportion: they only plan.
        share = calibration.total / max(1, sure["calibration"].total) * sure["validation"].total
        some = np.random.default_rng(seed).permutation(len(foreign.sets))[: round(share)]
        sure["validation"] = sure["validation"].beside(_confidence(predictor, foreign.sets, far.sets, kept=some))
        sure["calibration"] = sure["calibration"].beside(calibration)
        strange = _confidence(predictor, foreign.test, far.test)
    accepted = choose(
        parse(settings.accept),
        delta=settings.delta,
        validation=sure["validation"],
        calibration=sure["calibration"],
        by_label=settings.by_label,
    )
    decision = {**predictor.info.decision, **accepted.as_decision()}
    return Decided(predictor.deciding(decision), given, accepted, scope, strange)


def one_a_group(groups: Array, *, seed: int) -> Array:
    """Draw one row of each group, ascending positions.

    The binomial test of a promise counts independent rows: with groups of ten alike rows it would break a 5 %
    promise in a fifth of the trainings.
    """
    order = np.random.default_rng(seed).permutation(len(groups))
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def acceptance_of(predictor: Predictor, rows: Rows, given: Given) -> dict[str, Any] | None:
    """Measure on labelled rows what a finished model's thresholds do: how many are answered, how many are right.

    Args:
        predictor: A finished model whose answers are single labels.
        rows: Rows with gold answers.
        given: What it gave for them.

    Returns:
        `rows`, `coverage` and `right`, as `decide.test` of scores.json; None without rows.
    """
    accept = predictor.info.decision.get("accept", {})
    accepted = Accepted(parse("all"), 0.0, threshold=accept.get("threshold", 0.0), by_label=accept.get("by_label"))
    return accepted.on_test(_confidence(predictor, rows, given)) if len(rows) else None


def scope_of(predictor: Predictor, given: Given, far: Array | None) -> dict[str, Any] | None:
    """Measure on other rows how far a finished model's scope tells text from elsewhere; None without a scope.

    Args:
        predictor: A finished model.
        given: What it gave for rows that are at home.
        far: Scores of rows that are not; None where there are none.
    """
    if predictor.scope is None:
        return None
    own = _or_empty(given.foreignness)
    return measure_scope(predictor.scope, validation=np.zeros(0), test=own, foreign=far).as_json()


def _tuned(predictor: Predictor, rows: Rows, given: Given) -> dict[str, Any]:
    return predictor.task.decide(rows, given.probabilities) if len(rows) else {}


def _surround(predictor: Predictor, sides: Mapping[str, Rows], *, seed: int) -> Scope:
    """Draw the scope around training rows, in the units of validation rows; its threshold is still to be chosen."""
    train, validation = sides["train"], sides["validation"]
    drawn = draw_rows(train.targets, seed=seed)
    rows = train if len(drawn) == len(train) else train.take(drawn)
    learned = predictor.engine.logits_and_inputs(rows.encoded)
    # A thousand rows tell the mean and the spread of a score well enough.
    places = np.linspace(0, len(validation) - 1, min(len(validation), MEASURED)).round().astype(np.int64)
    some = validation.encoded.take(places)
    return Scope.fit(learned, rows.targets, predictor.engine.logits_and_inputs(some))


def _with_threshold(
    predictor: Predictor, given: Mapping[str, Given], far: _Far | None, independent: Array, *, settings: Decide
) -> tuple[Predictor, ScopeFigures | None]:
    """Choose from which score on text is foreign, on independent validation rows, and measure it."""
    if predictor.scope is None:
        return predictor, None
    own = _or_empty(given["validation"].foreignness)
    scope = _bounded(predictor.scope, own[independent], far, alarms=settings.scope_alarms)
    figures = measure_scope(
        scope,
        validation=own,
        test=_or_empty(given["test"].foreignness),
        foreign=None if far is None else _or_empty(far.test.foreignness),
        alarms=settings.scope_alarms,
    )
    return predictor.within(scope).deciding({"scope": settings.scope}), figures


def _bounded(scope: Scope, own: Array, far: _Far | None, *, alarms: float) -> Scope:
    """Choose the threshold: from rows labelled as foreign where there are some, else from the user's own."""
    found = scope if far is None else scope.separating(own, _or_empty(far.sets.foreignness))
    return found if found.chosen_from else scope.allowing(own, alarms=alarms)


def _confidence(predictor: Predictor, rows: Rows, given: Given, *, kept: Array | None = None) -> Confidence:
    """Say how sure the model is of rows (of those in `kept`, where given) that it does not refuse as foreign."""
    probabilities, foreign = given.probabilities, None
    refuse = predictor.info.decision.get("scope") == "refuse"
    if predictor.scope is not None and given.foreignness is not None and refuse:
        foreign = predictor.scope.is_foreign(given.foreignness)
    if kept is not None:
        rows, probabilities = rows.take(kept), probabilities[kept]
        foreign = None if foreign is None else foreign[kept]
    return Confidence.of(predictor.task, rows, probabilities, foreign=foreign)


def _or_empty(scores: Array | None) -> Array:
    """Take no scores for scores of no rows."""
    return np.zeros(0) if scores is None else scores
