"""Wrong labels, planted and found again: how many of the first that are flagged are really wrong.

A tenth of the labels of each set is replaced by another one, drawn evenly; suspects are then looked for as `train`
does it, with the frozen features of the embedded encoder. Precision counts the first 5 % of the rows as they are
ranked; flagged, precision and recall of all that cleanlab flags. Labels that were wrong before count as false alarms.

    python benchmarks/trust_noise.py [--sets banking77 sst2 ...] [--draws 5] [--rows 12000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow as pa

from bertsmith import encoders
from bertsmith.data.encode import TokenEncoder
from bertsmith.evaluation.suspects import find_suspects
from bertsmith.examples import Columns, Examples, LabelSet
from bertsmith.tasks import task_named
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.model import build
from measuring import machine, rows_of, say

SETS = ("banking77", "sst2", "clinc150", "emotion")
NOISE = 0.1
FIRST = 0.05
MAX_LENGTH = 128
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Featured:
    """Rows of a set with the mean view of the frozen features, and the seconds that these took."""

    examples: Examples
    labels: LabelSet
    targets: Array
    features: Array
    seconds: float


def featured(name: str, *, rows: int) -> Featured:
    """Read the train rows of a set, a seeded sample of them where there are more, and compute frozen features."""
    known = rows_of(name, "train")
    drawn = np.sort(np.random.default_rng(0).permutation(len(known))[:rows])
    texts, names = ([known[place][part] for place in drawn] for part in (0, 1))
    table = pa.table({"text": texts, "label": names, "file": [f"{name}.csv"] * len(drawn), "row": drawn + 1})
    labels = LabelSet.of(names)
    encoder = encoders.find("minilm")
    model = build(task_named("single-label"), encoder, labels, dropout=None, max_length=MAX_LENGTH)
    began = time.perf_counter()
    encoded = TokenEncoder(encoder.tokenizer(), MAX_LENGTH, encoder.pad_id).encode(texts)
    found = frozen_features(model, encoded, outputs=len(labels)).views()["mean"]
    return Featured(
        Examples(table, Columns("text", "label"), name), labels, labels.ids(names), found, time.perf_counter() - began
    )


def plant(targets: Array, *, labels: int, seed: int, share: float = NOISE) -> tuple[Array, Array]:
    """Replace a share of the labels by another one each; return them, and which were replaced, bool `(rows,)`."""
    generator = np.random.default_rng(seed)
    rows = generator.choice(len(targets), round(share * len(targets)), replace=False)
    noisy = targets.copy()
    noisy[rows] = (targets[rows] + generator.integers(1, labels, len(rows))) % labels
    wrong = np.zeros(len(targets), bool)
    wrong[rows] = True
    return noisy, wrong


def noise_figures(given: Featured, *, seed: int) -> dict[str, float]:
    """Plant noise once, and measure what is found of it."""
    noisy, wrong = plant(given.targets, labels=len(given.labels), seed=seed)
    began = time.process_time()
    found = find_suspects(given.features, noisy, given.labels, given.examples, seed=seed)
    seconds = time.process_time() - began
    assert found is not None
    first = found.rows[: round(FIRST * len(wrong))]
    return {
        "precision": float(wrong[first].mean()),
        "flagged": len(found) / len(wrong),
        "flagged_precision": float(wrong[found.rows].mean()),
        "flagged_recall": float(wrong[found.rows].sum() / wrong.sum()),
        "suggested_right": float(
            np.mean([given.labels.names[given.targets[row]] == name for row, name in _mendable(found, wrong)])
        ),
        "cpu_seconds": seconds,
    }


def _mendable(found: Any, wrong: Array) -> list[tuple[int, str]]:
    pairs = zip(found.rows.tolist(), found.suggested, strict=True)
    return [(row, name) for row, name in pairs if wrong[row]]


def noise_precision(name: str, *, draws: int = 5, rows: int = 12_000) -> dict[str, Any]:
    """Measure a set: means over draws of the noise, and the least precision of any draw."""
    given = featured(name, rows=rows)
    each = [noise_figures(given, seed=seed) for seed in range(draws)]
    means = {key: round(statistics.fmean(figures[key] for figures in each), 3) for key in each[0]}
    least = round(min(figures["precision"] for figures in each), 3)
    return {
        "set": name, "rows": len(given.targets), "labels": len(given.labels), "draws": draws,
        **means, "least_precision": least, "feature_seconds": round(given.seconds, 1),
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line a set, and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--rows", type=int, default=12_000)
    chosen = parser.parse_args(arguments)
    found = []
    for name in chosen.sets:
        found.append(noise_precision(name, draws=chosen.draws, rows=chosen.rows))
        say(found[-1])
    print(json.dumps({"benchmark": "trust_noise", "noise": NOISE, "sets": found, "machine": machine()}))


if __name__ == "__main__":
    main()
