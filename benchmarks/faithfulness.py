"""Are the marked words those that the answer rests on? Take them away, and see what becomes of its probability.

Of test texts of at least five words, the fifth of the words with the greatest weights for the guess is left out, and in
a second trial masked; beside it, the mean of five draws of as many words at random. A run of each data set is trained
with the embedded encoder (5,000 rows, two epochs), or given.

    python benchmarks/faithfulness.py [--sets banking77 sst2] [--texts 100] [--run banking77=runs/b77 ...]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from bertsmith import threads
from bertsmith.explaining.explain import METHODS, explain
from bertsmith.explaining.words import Span, word_spans
from bertsmith.inference.loading import load
from bertsmith.inference.predictor import Predictor
from measuring import machine, rows_of, say

TRAINED, SEED = 5000, 2026
SHARE, FEWEST, DRAWS = 0.2, 5, 5
MASK = "[MASK]"


def trained(name: str, folder: Path) -> Path:
    """Train a run on some rows of a data set."""
    rows = rows_of(name, "train")
    rows = random.Random(SEED).sample(rows, min(TRAINED, len(rows)))
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    command = [sys.executable, "-m", "bertsmith", "train", str(file), "--out", str(folder / name), "--epochs", "2"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / name


def replaced(text: str, words: list[Span], with_: str) -> str:
    """Put something in place of some words."""
    for start, end in sorted(words, reverse=True):
        text = text[:start] + with_ + text[end:]
    return text


def falls(predictor: Predictor, text: str, label: str, chosen: list[list[Span]]) -> np.ndarray[Any, Any]:
    """Say how far the label's probability falls for each choice of words, `(choices, 2)`: left out, and masked."""
    versions = [text, *(replaced(text, words, with_) for words in chosen for with_ in ("", MASK))]
    found = predictor.probabilities(versions)[:, predictor.labels.names.index(label)]
    return np.asarray((found[0] - found[1:]).reshape(-1, 2))


def measure(name: str, run: Path, texts: int) -> dict[str, Any]:
    """Compare the words that each method marks with random ones."""
    predictor = load(run)
    rows = [text for text, _ in rows_of(name, "test") if len(word_spans(text)) >= FEWEST]
    kept: dict[str, list[Any]] = defaultdict(list)
    draw = np.random.default_rng(SEED)
    for text in random.Random(SEED).sample(rows, min(texts, len(rows))):
        spans = word_spans(text)
        count = max(1, round(SHARE * len(spans)))
        chosen = []
        for method in METHODS:
            begin = time.process_time()
            found = explain(predictor, text, method=method)
            kept[f"{method} seconds"].append(time.process_time() - begin)
            strongest = sorted((word for word in found.words if word.read), key=lambda word: -word.weight)[:count]
            chosen.append([(word.start, word.end) for word in strongest])
            if found.completeness is not None:
                kept["error"].append(found.completeness.relative)
                kept["steps"].append(found.completeness.steps)
        chosen += [[spans[place] for place in draw.permutation(len(spans))[:count]] for _ in range(DRAWS)]
        fallen = falls(predictor, text, found.label, chosen)
        for place, method in enumerate(METHODS):
            kept[method].append(fallen[place])
        kept["random"].append(fallen[len(METHODS) :].mean(axis=0))
    return {"set": name, "texts": len(kept["random"]), **summary(kept)}


def summary(kept: dict[str, list[Any]]) -> dict[str, Any]:
    """Reduce what was measured to means, with standard errors where words were taken away."""
    arrays = {key: np.array(values) for key, values in kept.items()}
    told: dict[str, Any] = {}
    for key in (*METHODS, "random"):
        for place, way in enumerate(("out", "masked")):
            column = arrays[key][:, place]
            told[f"{key} {way}"] = round(float(column.mean()), 3)
            told[f"{key} {way} se"] = round(float(column.std(ddof=1) / np.sqrt(len(column))), 3)
    for method in METHODS:
        told[f"{method} above random"] = round(float((arrays[method] > arrays["random"]).mean()), 3)
        told[f"{method} cpu seconds"] = round(float(np.median(arrays[f"{method} seconds"])), 2)
    told["median relative error"] = float(f"{np.median(arrays['error']):.2g}")
    told["worst relative error"] = float(f"{arrays['error'].max():.2g}")
    told["median steps"] = int(np.median(arrays["steps"]))
    return told


def main() -> None:
    """Train what is not given, measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=["banking77", "sst2"])
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--run", nargs="*", default=[], metavar="SET=RUN")
    options = parser.parse_args()
    threads.limit_libraries(threads.allowed())
    given = dict(each.split("=", 1) for each in options.run)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.sets:
            run = Path(given[name]) if name in given else trained(name, Path(folder))
            found.append(measure(name, run, options.texts))
            say(found[-1])
    print(json.dumps({"benchmark": "faithfulness", "machine": machine(), "results": found}))


if __name__ == "__main__":
    main()
