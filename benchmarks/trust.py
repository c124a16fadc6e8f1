"""Can it be believed? Promises broken and coverage, calibration before and after, foreign texts, wrong labels.

Promises: on each set a logistic regression on the frozen features of the embedded encoder learns from some of the
train rows; all other rows of the set are split at random, again and again, into validation rows (temperature, plan of
the tests), calibration rows (threshold) and test rows. With --runs the answers are those of trained runs (their
validation, calibration and test rows, which no training has seen).

    broken         share of the splits in which fewer test answers are right than was promised. That is the test rows'
                   luck as well: it would be about one half at a threshold that keeps the promise exactly
    broken truly   the same, judged by all held-out rows, of which validation and calibration rows are drawn with
                   replacement: there the truth is known, and the promise allows 5 %

    python benchmarks/trust.py [--parts promises foreign noise] [--sets sst2 emotion ...] [--splits 100]
        [--accept "95% right"] [--runs RUN ...]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from bertsmith.evaluation.accept_rule import parse
from bertsmith.evaluation.acceptance import Accepted, Confidence, choose
from bertsmith.evaluation.calibration import fit_temperature, measure
from bertsmith.examples import LabelSet
from bertsmith.tasks import task_named
from measuring import data_folder, machine, rows_of, say

Array = np.ndarray[Any, Any]
SETS = ("sst2", "emotion", "banking77", "clinc150", "ag_news", "amazon_counterfactual_en")
LEARNED = 4000
MAX_LENGTH = 128
VALIDATION, CALIBRATION = 0.2, 0.3
TRUE = 2
"""Draws with a known truth for each split."""
DELTA = 0.05
TASK = task_named("single-label")


@dataclass(frozen=True)
class Known:
    """Gold answers of held-out rows, as far as scores need `Rows`; units are rows."""

    targets: Array
    labels: LabelSet

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def encoded(self) -> Known:
        """Stand in for the windows."""
        return self

    def flat(self, rows: Array) -> Array:
        """Give the units of rows: themselves."""
        return rows

    def take(self, rows: Array) -> Known:
        """Return these rows."""
        return Known(self.targets[rows], self.labels)


@dataclass(frozen=True)
class HeldOut:
    """Answers to rows that a model did not learn from: their truth, and the logits, `(rows, labels)`."""

    name: str
    rows: Known
    logits: Array

    def take(self, rows: Array) -> HeldOut:
        """Return these rows."""
        return HeldOut(self.name, self.rows.take(rows), self.logits[rows])

    def confidence(self, temperature: float) -> Confidence:
        """Say how sure the model is at this temperature, and whether it is right."""
        return Confidence.of(TASK, self.rows, TASK.probabilities(self.logits / temperature))  # type: ignore[arg-type]


# --- answers --------------------------------------------------------------------------------------------------------


def of_set(name: str, *, learned: int, most: int = 9_000) -> HeldOut:
    """Learn from some train rows of a set, and answer all its other rows."""
    splits = [
        split for split in ("train", "validation", "test") if (data_folder() / name / f"{split}.jsonl.gz").is_file()
    ]
    rows = [row for split in splits for row in rows_of(name, split) if row[1] != "oos"]
    order = np.random.default_rng(0).permutation(len(rows))[:most]
    texts, names = ([rows[place][part] for place in order] for part in (0, 1))
    labels = LabelSet.of(names)
    targets, features = labels.ids(names), frozen(texts, labels)
    learned = min(learned, len(order) // 2)
    model = TASK.fit_linear(features[:learned], targets[:learned], np.ones(learned), strength=1.0, seed=0)
    probabilities = TASK.linear_probabilities(model, features[learned:], outputs=len(labels))
    return HeldOut(name, Known(targets[learned:], labels), np.log(np.clip(probabilities, 1e-12, 1)))


def frozen(texts: list[str], labels: LabelSet) -> Array:
    """Compute the mean view of the embedded encoder's frozen features, float32 `(rows, width)`."""
    from bertsmith import encoders
    from bertsmith.data.encode import TokenEncoder
    from bertsmith.training.frozen_features import frozen_features
    from bertsmith.training.model import build

    encoder = encoders.find("minilm")
    model = build(TASK, encoder, labels, dropout=None, max_length=MAX_LENGTH)
    encoded = TokenEncoder(encoder.tokenizer(), MAX_LENGTH, encoder.pad_id).encode(texts)
    return frozen_features(model, encoded, outputs=len(labels)).views()["mean"]


def of_run(folder: Path) -> HeldOut:
    """Take the answers of a run from its predictions.parquet; the temperature is in them already."""
    import pyarrow.parquet as pq

    labels = LabelSet(tuple(json.loads((folder / "scores.json").read_text(encoding="utf-8"))["labels"]))
    table = pq.read_table(folder / "predictions.parquet", columns=["gold", "scores"])
    probabilities = np.stack(table.column("scores").to_numpy())
    return HeldOut(
        folder.name, Known(labels.ids(table.column("gold")), labels), np.log(np.clip(probabilities, 1e-12, 1))
    )


# --- promises -------------------------------------------------------------------------------------------------------


def promises(held: HeldOut, *, rule: str, splits: int) -> dict[str, Any]:
    """Split the held-out rows again and again; return means and shares over the splits."""
    each = [one_split(held, rule=rule, seed=seed) for seed in range(splits)]
    known = [known_truth(held, rule=rule, seed=seed) for seed in range(TRUE * splits)]
    mean: Callable[[str], float] = lambda key: round(float(np.mean([split[key] for split in each])), 4)  # noqa: E731
    return {
        "set": held.name,
        "held_out": len(held.rows),
        "calibration_rows": round(CALIBRATION * len(held.rows)),
        "accuracy": mean("accuracy"),
        "splits": splits,
        "guaranteed": mean("guaranteed"),
        "coverage": mean("coverage"),
        "right": mean("right"),
        "broken": mean("broken"),
        "broken_truly": round(float(np.mean(known)), 4),
        **{key: mean(key) for key in ("temperature", "ece_before", "ece_after", "log_loss_before", "log_loss_after")},
    }


def one_split(held: HeldOut, *, rule: str, seed: int) -> dict[str, float]:
    """Fit on validation rows, choose on calibration rows, and see what came of it on test rows."""
    order = np.random.default_rng(seed).permutation(len(held.rows))
    borders = (np.cumsum([VALIDATION, CALIBRATION]) * len(order)).astype(int)
    validation, calibration, test = (held.take(rows) for rows in np.split(order, borders))
    temperature = fit_temperature(TASK, validation.rows, validation.logits)  # type: ignore[arg-type]
    accepted = chosen(rule, validation, calibration, temperature)
    answers = test.confidence(temperature)
    given = accepted.given(answers)
    right = float(answers.right[given].mean()) if given.any() else 1.0
    measured = measure(TASK, test.rows, test.logits, temperature=temperature, seed=seed)  # type: ignore[arg-type]
    assert measured is not None
    found = measured.as_json()
    return {
        "accuracy": float(answers.right.mean()),
        "guaranteed": accepted.guaranteed,
        "coverage": float(given.mean()) if accepted.guaranteed else 0.0,
        "right": right,
        "broken": accepted.guaranteed and right < accepted.rule.number,
        **{key: found[key] for key in ("temperature", "ece_before", "ece_after", "log_loss_before", "log_loss_after")},
    }


def known_truth(held: HeldOut, *, rule: str, seed: int) -> bool:
    """Draw validation and calibration rows with replacement; say whether the promise is broken on all rows."""
    generator = np.random.default_rng(seed)
    rows = [
        generator.integers(len(held.rows), size=round(share * len(held.rows))) for share in (VALIDATION, CALIBRATION)
    ]
    validation, calibration = (held.take(each) for each in rows)
    temperature = fit_temperature(TASK, validation.rows, validation.logits)  # type: ignore[arg-type]
    accepted = chosen(rule, validation, calibration, temperature)
    answers = held.confidence(temperature)
    given = accepted.given(answers)
    return bool(accepted.guaranteed and given.any() and answers.right[given].mean() < accepted.rule.number)


def chosen(rule: str, validation: HeldOut, calibration: HeldOut, temperature: float) -> Accepted:
    """Choose the threshold as a run does."""
    sides = (each.confidence(temperature) for each in (validation, calibration))
    return choose(parse(rule), delta=DELTA, validation=next(sides), calibration=next(sides))


# --- the command ----------------------------------------------------------------------------------------------------


def foreign(options: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Measure how well text from elsewhere is told apart (benchmarks/trust_scope.py)."""
    from trust_scope import scope_figures

    return list(scope_figures())


def noise(options: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Measure how many of the suspected labels are wrong (benchmarks/trust_noise.py)."""
    from trust_noise import SETS as NOISY
    from trust_noise import noise_precision

    return [noise_precision(name) for name in NOISY]


def promised(options: argparse.Namespace) -> list[Mapping[str, Any]]:
    """Measure promises and calibration on each set, or on each run."""
    found = []
    answers = (
        map(of_run, map(Path, options.runs))
        if options.runs
        else (of_set(name, learned=options.learned) for name in options.sets)
    )
    for held in answers:
        found.append(promises(held, rule=options.accept, splits=options.splits))
        say(found[-1])
    return found


PARTS: Mapping[str, Callable[[argparse.Namespace], list[Mapping[str, Any]]]] = {
    "promises": promised,
    "foreign": foreign,
    "noise": noise,
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--runs", nargs="+", default=[], metavar="RUN", help="finished runs, in place of the sets")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--learned", type=int, default=LEARNED, help="train rows that each model learns from")
    parser.add_argument("--accept", default="95% right")
    return parser.parse_args()


def main() -> None:
    """Print a line a set and part, and one JSON line of all."""
    options = arguments()
    found = {part: PARTS[part](options) for part in options.parts}
    for part in ("foreign", "noise"):
        for line in found.get(part, []):
            say({"part": part, **line})
    print(json.dumps({"benchmark": "trust", "accept": options.accept, "delta": DELTA, **found, "machine": machine()}))


if __name__ == "__main__":
    main()
