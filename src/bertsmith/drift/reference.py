"""Reference: what rows and answers were like when the model was made; `reference.json` in the bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from bertsmith.atomic import write_json
from bertsmith.drift.bins import Bins, NameBins, NumberBins, bins_from
from bertsmith.drift.facts import ANSWERED, Facts, answer_facts, text_facts
from bertsmith.drift.features import FEATURES
from bertsmith.drift.observed import Observed
from bertsmith.errors import BundleError
from bertsmith.tasks import Answer, Rows, Task

FORMAT = 1
NAME = "reference.json"


@dataclass(frozen=True)
class Reference:
    """Counts of the rows that a model was made of; no texts.

    Attributes:
        observed: Texts of all rows; answers of those that the model did not learn from (it is surer of the others).
    """

    observed: Observed

    @classmethod
    def of(
        cls, sides: Mapping[str, Rows], answers: Mapping[str, Sequence[Answer]], *, task: Task, tokenizer: Tokenizer
    ) -> Reference:
        """Count the rows of a run.

        Args:
            sides: All rows, by side.
            answers: The answers to those that were not learned from, by side.
            task: Gave the answers.
            tokenizer: The bundle's.

        >>> Reference.of(sides, answers, task=task, tokenizer=tokenizer).save(run.model)  # doctest: +SKIP
        """
        texts = [text_facts(rows, tokenizer) for rows in sides.values() if len(rows)]
        found = [answer_facts(each, task) for each in answers.values() if len(each)]
        labels = next((rows.labels.names for rows in sides.values()), ())
        return cls.of_facts({**_together(texts), **_together(found)}, labels=labels)

    @classmethod
    def of_facts(cls, facts: Facts, *, labels: tuple[str, ...] = ()) -> Reference:
        """Choose bins for facts, and count them; `labels` are all that the model knows."""
        names = {"label": labels, "answered": ANSWERED}
        chosen = {key: _bins(key, facts[key], names.get(key, ())) for key in FEATURES if key in facts}
        observed = Observed({key: bins for key, bins in chosen.items() if bins is not None})
        observed.add(facts)
        return cls(observed)

    def empty(self) -> Observed:
        """Return counts of nothing in the same bins, for new rows."""
        return Observed(self.observed.bins)

    def as_json(self) -> dict[str, Any]:
        """Return what `reference.json` holds."""
        return {"format": FORMAT, **self.observed.as_json()}

    def save(self, folder: Path) -> None:
        """Write `reference.json` into a bundle, whose manifest has to be written after it."""
        write_json(folder / NAME, self.as_json())

    @classmethod
    def load(cls, folder: Path) -> Reference:
        """Read `reference.json` of a bundle.

        Raises:
            BundleError: There is none, or it cannot be read.
        """
        path = folder / NAME
        if not path.is_file():
            raise BundleError(
                f"{path}: missing, so there is nothing that new rows could be compared with.",
                tip="The model was made before bertsmith kept it; train again.",
            )
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] > FORMAT:
                raise BundleError(
                    f"{path}: has format {stored['format']}; this bertsmith reads up to {FORMAT}.",
                    tip="Upgrade: pip install --upgrade bertsmith",
                )
            return cls(_stored(stored))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{path}: not readable: {error}.", tip="Copy the whole model folder again.") from error


def _bins(key: str, values: Any, names: tuple[str, ...]) -> Bins | None:
    """Choose the bins of a feature; None where it has no values."""
    step = FEATURES[key].step
    if step is None:
        return NameBins(names)
    numbers = np.asarray(values, np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return NumberBins.of(numbers, step=step) if len(numbers) else None


def _together(parts: Sequence[Facts]) -> Facts:
    """Put the facts of sides one after the other; those that not all of them have are left out."""
    keys = [key for key in FEATURES if parts and all(key in part for part in parts)]
    return {key: np.concatenate([np.asarray(part[key]) for part in parts]) for key in keys}


def _stored(stored: Mapping[str, Any]) -> Observed:
    features = {key: each for key, each in stored["features"].items() if key in FEATURES}
    bins = {key: bins_from(each) for key, each in features.items()}
    counts = {key: np.asarray(each["counts"], np.int64) for key, each in features.items()}
    for key, each in bins.items():
        if counts[key].shape != (len(each),) or counts[key].min() < 0:
            raise ValueError(f"the counts of '{key}' do not fit its bins")
    return Observed(bins, counts, int(stored["rows"]))
