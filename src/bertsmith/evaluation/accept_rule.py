"""The rule by which answers are given or refused, as the user writes it: "95% right", "score >= 0.7" and so on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from bertsmith.errors import RecipeError

Kind = Literal["right", "score", "refuse", "costs", "all"]
FORMS = '"95% right", "score >= 0.7", "refuse at most 10%", "error costs 10, refusal costs 1" or "all"'

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_PATTERNS: tuple[tuple[Kind, str], ...] = (
    ("right", rf"(?:at least )?{_NUMBER} ?% right"),
    ("score", rf"score ?>= ?{_NUMBER}"),
    ("refuse", rf"refuse at most {_NUMBER} ?%"),
    ("costs", rf"(?:an )?error costs {_NUMBER} ?,? (?:a )?refusal costs {_NUMBER}"),
    ("all", "all"),
)


@dataclass(frozen=True)
class Rule:
    """What is asked of answers before they are given.

    Attributes:
        kind: right: this share of the given answers is right; score: this score is reached; refuse: at most this
            share is refused; costs: the errors and refusals cost least; all: every answer is given.
        number: The share (0 to 1), the score, or the cost of an error; 0 for all.
        refusal: The cost of a refusal; 0 but for costs.
        given: The rule as it was written.
    """

    kind: Kind
    number: float = 0.0
    refusal: float = 0.0
    given: str = "all"

    @property
    def target(self) -> float | None:
        """The share of answers that is promised to be right; None where the rule promises none."""
        return self.number if self.kind == "right" else None


def parse(rule: str) -> Rule:
    """Read a rule; capitals and blanks do not matter.

    >>> parse("at least 99.5 % right").number
    0.995

    Raises:
        RecipeError: It is none of the five, or a number is out of its range.
    """
    spoken = " ".join(rule.split())
    for kind, pattern in _PATTERNS:
        found = re.fullmatch(pattern, spoken, re.IGNORECASE | re.ASCII)
        if found:
            return _rule(kind, [float(number) for number in found.groups()], rule)
    raise RecipeError(f"'accept' must be {FORMS}, with numbers of your own. Got {rule!r} instead.")


def _rule(kind: Kind, numbers: list[float], given: str) -> Rule:
    if kind in {"right", "refuse"}:
        if not 0 < numbers[0] < 100:
            raise RecipeError(f"the percentage in 'accept' must be above 0 and below 100. Got {given!r} instead.")
        return Rule(kind, numbers[0] / 100, given=given)
    if kind == "score" and numbers[0] > 1:
        raise RecipeError(f"the score in 'accept' must be from 0 to 1. Got {given!r} instead.")
    if kind == "costs" and min(numbers) <= 0:
        raise RecipeError(f"the costs in 'accept' must be above 0. Got {given!r} instead.")
    error, refusal = [*numbers, 0.0, 0.0][:2]
    return Rule(kind, error, refusal, given)
