"""What is counted of a row, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Feature:
    """Something that each row has one of.

    Attributes:
        title: What people read.
        step: Distance between two values that are told apart; 0 to choose it by the values, None for names.
        before: Words before a value: "a score of 0.9".
        units: Words after it, for one and for several.
    """

    title: str
    step: float | None
    before: str = ""
    units: tuple[str, str] = ("", "")

    def shown(self, low: float | None, high: float | None) -> str:
        """Say a range of values; None is no bound.

        >>> FEATURES["length"].shown(31, None), FEATURES["confidence"].shown(None, 0.62)
        ('31 tokens or more', 'a score of at most 0.62')
        >>> FEATURES["unknown_tokens"].shown(1, 1), FEATURES["length"].shown(2, 9)
        ('1 unknown token', '2 to 9 tokens')
        """
        unit = self.units[0] if {low, high} <= {None, 1} else self.units[1]
        if low is None:
            return f"{self.before}at most {high:.6g}{unit}"
        if high is None:
            return f"{self.before}{low:.6g}{unit} or more"
        between = f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"
        return f"{self.before}{between}{unit}"


FEATURES = {
    "length": Feature("lengths", 1, units=(" token", " tokens")),
    "unknown_tokens": Feature("unknown tokens", 1, units=(" unknown token", " unknown tokens")),
    "characters_per_token": Feature("characters a token", 0.01, units=(" characters a token",) * 2),
    "confidence": Feature("confidence", 0.001, before="a score of "),
    "label": Feature("labels", None),
    "answered": Feature("refusals", None),
    "out_of_scope": Feature("distance from the scope", 0, before="an out-of-scope score of "),
    "labels_per_row": Feature("labels a row", 1, units=(" label", " labels")),
    "spans_per_row": Feature("spans a row", 1, units=(" span", " spans")),
    "value": Feature("numbers", 0, before="the answer "),
}
"""Key in `reference.json` and in `drift --json` → what it is; in the order in which they are shown."""
