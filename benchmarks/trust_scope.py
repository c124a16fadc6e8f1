"""Text from elsewhere: which score tells it best from a user's own rows, after fine-tuning.

A model is trained on each set as `bertsmith train` does it (embedded encoder); foreign texts are those of other sets,
for CLINC150 its own out-of-scope queries, of which training has seen none. All scores are computed from one pass:

    ours           mahalanobis + energy, each standardised on the validation rows (bertsmith.inference.scope)
    mahalanobis    distance to the nearest label's cloud, rows of length one (Müller and Hein 2025)
    raw            the same, squared, without bringing rows to length one (Lee et al. 2018)
    relative       raw, less the distance to one cloud of all rows (Ren et al. 2021)
    knn            1 less the cosine to the fifth-nearest training row (Sun et al. 2022)
    energy         less the log of the summed exponentials of the logits (Liu et al. 2020)
    softmax        1 less the greatest probability (Hendrycks and Gimpel 2017)
    energy+...     the sum of two, likewise

The threshold is the user's own validation rows' at each of --alarms. `kept right` is the share of the test rows that
are answered right and not called foreign; `found` the share of the foreign rows that are called so.

Trained runs are kept in --runs, and taken from there when it is done again.

    python benchmarks/trust_scope.py [--sets clinc150 banking77 ...] [--runs FOLDER] [--alarms 0.01 0.02] [--all]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet as pq
from scipy.special import logsumexp, softmax
from sklearn.covariance import ledoit_wolf

import bertsmith
from bertsmith.evaluation.out_of_scope import auroc, measure_scope
from bertsmith.inference.engine import HeadPass
from bertsmith.inference.loading import load
from bertsmith.inference.predictor import Predictor
from bertsmith.inference.scope import Scope, draw_rows
from measuring import data_folder, machine, rows_of, say

Array = np.ndarray[Any, Any]
Row = tuple[str, str]
FOREIGN = {
    "clinc150": ("clinc150 oos",),
    "banking77": ("clinc150 oos", "ag_news"),
    "sst2": ("banking77", "ag_news"),
    "emotion": ("banking77", "ag_news"),
}
MOST, TEST, SEED = 6000, 2000, 17
"""Training rows of the sets other than CLINC150 and BANKING77, test rows and foreign texts of each, and the seed."""
WHOLE = ("clinc150", "banking77")
RUNS = Path(tempfile.gettempdir()) / "bertsmith-trust-scope"


@dataclass(frozen=True)
class Passed:
    """What the model gave of each side, and the label of each row."""

    train: HeadPass
    targets: Array
    validation: HeadPass
    test: HeadPass
    right: Array
    foreign: Mapping[str, HeadPass]


def sides_of(name: str) -> dict[str, list[Row]]:
    """Give train, validation and test rows of a set, none of them out of scope."""
    rows = {side: [row for row in rows_of(name, side) if row[1] != "oos"] for side in ("train", "test")}
    drawn = random.Random(SEED)
    if (data_folder() / name / "validation.jsonl.gz").is_file():
        rows["validation"] = [row for row in rows_of(name, "validation") if row[1] != "oos"]
    else:
        drawn.shuffle(rows["train"])
        share = len(rows["train"]) // 10
        rows["train"], rows["validation"] = rows["train"][share:], rows["train"][:share]
    if name not in WHOLE:
        rows = {"train": _some(rows["train"], MOST), "validation": _some(rows["validation"], TEST),
                "test": _some(rows["test"], TEST)}  # fmt: skip
    return rows


def foreign_texts(name: str) -> list[str]:
    """Give texts of another set, or CLINC150's queries that belong to none of its labels."""
    name, _, part = name.partition(" ")
    return [text for text, label in _some([row for row in rows_of(name, "test") if not part or row[1] == part], TEST)]


def trained(name: str, folder: Path) -> tuple[Predictor, dict[str, list[Row]]]:
    """Train on a set, or take the run that is there; return it with the rows of its sides, those that it learned from.

    Rows that the run put aside for calibration are left out.
    """
    files = {side: folder / f"{name}-{side}.jsonl" for side in ("train", "validation", "test")}
    rows = sides_of(name)
    for side, file in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"text": text, "label": label}) for text, label in rows[side])
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    run = folder / name
    if not (run / "scores.json").is_file():
        bertsmith.train(files["train"], out=run, validation=str(files["validation"]), test=str(files["test"]),
                        seed=SEED, force=True)  # fmt: skip
    split = pq.read_table(run / "split.parquet").to_pylist()
    learned = [each["row"] - 1 for each in split if each["side"] == "train" and each["file"].endswith("train.jsonl")]
    return load(run), {**rows, "train": [rows["train"][place] for place in learned]}


def passed(predictor: Predictor, rows: Mapping[str, Sequence[Row]], foreign: Mapping[str, Sequence[str]]) -> Passed:
    """Run the model over all texts, the training rows as a training would draw them."""
    names = list(predictor.labels.names)
    targets = np.array([names.index(label) for _, label in rows["train"]])
    drawn = draw_rows(targets, seed=SEED)

    def through(texts: Sequence[str]) -> HeadPass:
        return predictor.engine.logits_and_inputs(predictor.encode(list(texts)))

    test = through([text for text, _ in rows["test"]])
    gold = np.array([names.index(label) for _, label in rows["test"]])
    return Passed(
        train=through([rows["train"][place][0] for place in drawn]),
        targets=targets[drawn],
        validation=through([text for text, _ in rows["validation"]]),
        test=test,
        right=test.logits.argmax(axis=1) == gold,
        foreign={name: through(texts) for name, texts in foreign.items()},
    )


def candidates(found: Passed) -> dict[str, Callable[[HeadPass], Array]]:
    """Make all scores; each gives `(rows,)`, higher for what is more foreign."""
    raw, relative = _raw_distances(found.train.inputs.astype(np.float64), found.targets)
    nearest = _unit(found.train.inputs)
    scope = Scope.fit(found.train, found.targets, found.validation)
    scores: dict[str, Callable[[HeadPass], Array]] = {
        "ours": scope.scores,
        "mahalanobis": lambda given: scope.distance(given.inputs),
        "raw": lambda given: raw(given.inputs),
        "relative": lambda given: relative(given.inputs),
        "knn": lambda given: 1 - np.partition(_unit(given.inputs) @ nearest.T, -5, axis=1)[:, -5],
        "energy": lambda given: np.asarray(-logsumexp(given.logits.astype(np.float64), axis=1)),
        "softmax": lambda given: 1 - softmax(given.logits.astype(np.float64), axis=1).max(axis=1),
    }
    for other in ("raw", "relative", "knn"):
        scores[f"energy+{other}"] = _sum(scores["energy"], scores[other], found.validation)
    return scores


def measured(found: Passed, alarms: Sequence[float], *, every: bool) -> Iterator[dict[str, Any]]:
    """Measure the scores on each kind of foreign texts, at each share of alarms."""
    scope = Scope.fit(found.train, found.targets, found.validation)
    for name, score in candidates(found).items():
        if not every and name != "ours":
            continue
        own, test = score(found.validation), score(found.test)
        for kind, given in found.foreign.items():
            others = score(given)
            for share in alarms:
                chosen = scope.allowing(own, alarms=share)
                figures = measure_scope(chosen, validation=own, test=test, foreign=others, alarms=share)
                yield {
                    "foreign": kind,
                    "score": name,
                    "auroc": round(auroc(test, others).value, 4),
                    "alarms": share,
                    "on test": _rounded(figures.test.share),
                    "right": round(float(found.right.mean()), 4),
                    "kept right": round(float((found.right & ~chosen.is_foreign(test)).mean()), 4),
                    "found": _rounded(figures.recall.share),
                }


def scope_figures(
    sets: Sequence[str] = tuple(FOREIGN),
    *,
    runs: Path = RUNS,
    alarms: Sequence[float] = (0.01,),
    every: bool = False,
) -> Iterator[dict[str, Any]]:
    """Train on each set and measure; a mapping of figures for each set, kind of foreign text, score and alarms."""
    for name in sets:
        predictor, rows = trained(name, runs)
        found = passed(predictor, rows, {kind: foreign_texts(kind) for kind in FOREIGN[name]})
        for figures in measured(found, alarms, every=every):
            yield {"set": name, **figures}


def main() -> None:
    """Print a table, and all of it as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=FOREIGN, default=list(FOREIGN))
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the trained runs")
    parser.add_argument("--alarms", nargs="+", type=float, default=[0.01])
    parser.add_argument("--all", action="store_true", help="every score, not only bertsmith's")
    options = parser.parse_args()
    found = []
    for figures in scope_figures(options.sets, runs=options.runs, alarms=options.alarms, every=options.all):
        say(figures)
        found.append(figures)
    print(json.dumps({"benchmark": "trust_scope", "machine": machine(), "figures": found}))


def _some(rows: list[Row], most: int) -> list[Row]:
    return rows if len(rows) <= most else random.Random(SEED).sample(rows, most)


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _rounded(estimate: Any) -> float:
    return round(float(estimate.value), 4)


def _sum(
    one: Callable[[HeadPass], Array], other: Callable[[HeadPass], Array], validation: HeadPass
) -> Callable[[HeadPass], Array]:
    """Add two scores up, each in standard deviations of the validation rows' scores."""
    spreads = [(score, float(score(validation).std())) for score in (one, other)]
    return lambda given: np.asarray(sum(score(given) / spread for score, spread in spreads))


def _raw_distances(rows: Array, targets: Array) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Make Mahalanobis distances to the nearest label, and these less the distance to the middle of all rows."""
    labels, places = np.unique(targets, return_inverse=True)
    centres = np.stack([rows[targets == label].mean(axis=0) for label in labels])
    near = np.linalg.cholesky(np.linalg.inv(ledoit_wolf(rows - centres[places], assume_centered=True)[0]))
    middle = rows.mean(axis=0)
    wide = np.linalg.cholesky(np.linalg.inv(ledoit_wolf(rows)[0]))

    def raw(given: Array) -> Array:
        moved, ends = given @ near, centres @ near
        return ((moved**2).sum(1)[:, None] - 2 * moved @ ends.T + (ends**2).sum(1)).min(axis=1)  # type: ignore[no-any-return]

    return raw, lambda given: np.asarray(raw(given) - (((given - middle) @ wide) ** 2).sum(axis=1))


if __name__ == "__main__":
    main()
