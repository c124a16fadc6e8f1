"""decide: when a model answers and when it declines.

Its scope is drawn around the rows that it learned from, with a threshold from validation rows (or from rows that are
labelled as belonging nowhere); the score from which on answers are given is planned on validation rows and tested on
calibration rows. What is tuned for other kinds of tasks (thresholds of labels) is tuned on calibration rows too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.evaluation.accept_rule import parse
from bertsmith.evaluation.acceptance import Accepted, Confidence, choose
from bertsmith.evaluation.out_of_scope import ScopeFigures, measure_scope
from bertsmith.inference.predictor import Done, Given, Predictor
from bertsmith.inference.scope import Scope, draw_rows
from bertsmith.inference.torch_engine import logits_and_inputs
from bertsmith.recipe import Decide
from bertsmith.tasks import Answer, Rows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Foreign:
    """Rows that belong to none of the labels: those that set the threshold, and those that measure it."""

    sets: Rows
    measures: Rows


@dataclass(frozen=True)
class Decided:
    """A model that knows when to decline.

    Attributes:
        predictor: With its scope and what was tuned.
        given: Side → what the model gave for its rows.
        accepted: From which score on answers are given; None where answers are not single labels.
        scope: How far the scope tells text from elsewhere; None without one.
    """

    predictor: Predictor
    given: Mapping[str, Given]
    accepted: Accepted | None
    scope: ScopeFigures | None

    def answers(self, sides: Mapping[str, Rows]) -> dict[str, list[Answer]]:
        """Give the answers to every side that was asked."""
        return {side: list(self.predictor.decode(sides[side], given)) for side, given in self.given.items()}

    def acceptance(self, test: Rows) -> dict[str, Any] | None:
        """Return `decide` of scores.json, measured on test rows."""
        if self.accepted is None:
            return None
        return self.accepted.as_json(_confidence(self.predictor, test, self.given["test"]))


def decide(
    predictor: Predictor,
    sides: Mapping[str, Rows],
    foreign: Foreign | None,
    *,
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
        settings: `[decide]` of the recipe.
        seed: Draws training rows for the scope where there are very many.
        done: Told how many windows each batch had.
    """
    asked = [side for side in sides if side != "train"]
    if not predictor.task.confident:
        given = {side: predictor.ask(sides[side], done=done) for side in asked}
        tuned = _tuned(predictor, sides["calibration"], given["calibration"])
        return Decided(predictor.deciding(tuned), given, None, None)
    if settings.scope != "off" and len(sides["train"]):
        predictor = predictor.within(_surround(predictor, sides, seed=seed, done=done))
    given = {side: predictor.ask(sides[side], done=done) for side in asked}
    predictor, scope = _with_threshold(predictor, given, foreign, settings=settings)
    accepted = choose(
        parse(settings.accept),
        delta=settings.delta,
        validation=_confidence(predictor, sides["validation"], given["validation"]),
        calibration=_confidence(predictor, sides["calibration"], given["calibration"]),
        by_label=settings.by_label,
    )
    decision = {**predictor.info.decision, **accepted.as_decision()}
    return Decided(predictor.deciding(decision), given, accepted, scope)


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
    own = _or_none(given.foreignness)
    return measure_scope(predictor.scope, validation=np.zeros(0), test=own, foreign=far).as_json()


def _tuned(predictor: Predictor, rows: Rows, given: Given) -> dict[str, Any]:
    return predictor.task.decide(rows, given.probabilities) if len(rows) else {}


def _surround(predictor: Predictor, sides: Mapping[str, Rows], *, seed: int, done: Done | None) -> Scope:
    """Draw the scope around training rows, in the units of validation rows; its threshold is still to be chosen."""
    train, validation = sides["train"], sides["validation"]
    drawn = draw_rows(train.targets, seed=seed)
    rows = train if len(drawn) == len(train) else train.take(drawn)
    learned = logits_and_inputs(predictor.model, rows.encoded, done=done)
    return Scope.fit(learned, rows.targets, logits_and_inputs(predictor.model, validation.encoded))


def _with_threshold(
    predictor: Predictor, given: Mapping[str, Given], foreign: Foreign | None, *, settings: Decide
) -> tuple[Predictor, ScopeFigures | None]:
    """Choose from which score on text is foreign, and measure it."""
    if predictor.scope is None:
        return predictor, None
    far = None
    if foreign is not None:
        far = _foreignness(predictor, foreign.sets), _foreignness(predictor, foreign.measures)
    scope = _bounded(predictor.scope, given["validation"], far, alarms=settings.scope_alarms)
    figures = _figures(scope, given, far, alarms=settings.scope_alarms)
    return predictor.within(scope).deciding({"scope": settings.scope}), figures


def _bounded(scope: Scope, validation: Given, far: tuple[Array, Array] | None, *, alarms: float) -> Scope:
    """Choose the threshold: from rows labelled as foreign where there are some, else from the user's own."""
    own = _or_none(validation.foreignness)
    found = scope if far is None else scope.separating(own, far[0])
    return found if found.chosen_from else scope.allowing(own, alarms=alarms)


def _foreignness(predictor: Predictor, rows: Rows) -> Array:
    return _or_none(predictor.ask(rows).foreignness)


def _confidence(predictor: Predictor, rows: Rows, given: Given) -> Confidence:
    """Say how sure the model is of rows that it does not refuse as foreign."""
    foreign = None
    if (
        predictor.scope is not None
        and given.foreignness is not None
        and predictor.info.decision.get("scope") == "refuse"
    ):
        foreign = predictor.scope.is_foreign(given.foreignness)
    return Confidence.of(predictor.task, rows, given.probabilities, foreign=foreign)


def _figures(
    scope: Scope, given: Mapping[str, Given], far: tuple[Array, Array] | None, *, alarms: float
) -> ScopeFigures:
    """Measure the scope on the user's own rows, and on the foreign ones that had no part in its threshold."""
    validation, test = (_or_none(given[side].foreignness) for side in ("validation", "test"))
    return measure_scope(
        scope, validation=validation, test=test, foreign=None if far is None else far[1], alarms=alarms
    )


def _or_none(scores: Array | None) -> Array:
    return np.zeros(0) if scores is None else scores
