"""The nouns of an explanation: words with weights, and how exact those are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bertsmith.explaining.attribution import Attribution

Method = Literal["gradients", "occlusion"]


@dataclass(frozen=True)
class Word:
    """A word of the explained text.

    Attributes:
        part: 0 for the text, 1 for the second text of a pair.
        start: Its first character.
        end: The character after its last.
        weight: What it adds to the label's log odds; below 0 where it speaks against the label.
        read: False where the model never sees it, because the text is too long.
    """

    part: int
    start: int
    end: int
    weight: float
    read: bool = True


@dataclass(frozen=True)
class Completeness:
    """How exact the weights of integrated gradients are.

    Attributes:
        value: The label's log odds for the text.
        base: The same for a text of blanks; the weights add up to the difference of the two, but for the error.
        error: How far they miss it.
        relative: The error as a share of that difference.
        steps: Points at which gradients were computed.
    """

    value: float
    base: float
    error: float
    relative: float
    steps: int

    @classmethod
    def of(cls, found: Attribution) -> Completeness:
        """Keep what is said of an attribution."""
        return cls(found.value, found.base, found.error, found.relative_error, found.steps)

    def as_json(self) -> dict[str, float | int]:
        """Return what `explain --json` prints."""
        return {
            "value": self.value, "base": self.base, "error": self.error, "relative_error": self.relative,
            "steps": self.steps,
        }  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """Why a text is given a label.

    Attributes:
        texts: The text; the two texts of a pair.
        label: The label that is explained.
        score: Its probability.
        method: gradients or occlusion.
        words: The words of the text, then those of the second.
        completeness: How exact the weights are; None for occlusion, whose weights add up to nothing in particular.
    """

    texts: tuple[str, ...]
    label: str
    score: float
    method: Method
    words: tuple[Word, ...]
    completeness: Completeness | None = None

    def of(self, word: Word) -> str:
        """Return a word's characters."""
        return self.texts[word.part][word.start : word.end]

    def ranked(self) -> list[Word]:
        """Return the words that say anything, the weightiest first, whichever way they speak."""
        return sorted((word for word in self.words if word.weight), key=lambda word: -abs(word.weight))

    def spans(self, part: int = 0) -> list[list[float]]:
        """Return `[start, end, weight]` of each word of a text that is read: what reports keep."""
        return [[each.start, each.end, each.weight] for each in self.words if each.part == part and each.read]

    @property
    def sentence(self) -> str:
        """What the weights are, and how exact."""
        if self.completeness is None:
            return f"A weight is how far the log odds of {self.label!r} fall without the word."
        found = self.completeness
        return (
            f"A weight is what the word adds to the log odds of {self.label!r}, which are {found.base:+.2f} for a "
            f"blank text and {found.value:+.2f} for this one; the sum misses that by {found.error:.2g} "
            f"({found.relative:.2%}, {found.steps} steps)."
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `explain --json` prints beside the answer."""
        words = [
            {"part": each.part, "start": each.start, "end": each.end, "word": self.of(each), "weight": each.weight,
             "read": each.read}
            for each in self.words
        ]  # fmt: skip
        return {
            "explained": self.label, "probability": self.score, "method": self.method, "words": words,
            "completeness": None if self.completeness is None else self.completeness.as_json(),
        }  # fmt: skip
