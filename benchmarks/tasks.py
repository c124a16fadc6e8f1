"""Every task beside the plain Hugging Face recipe with the same encoder, on real data, in one run.

For each set `bertsmith.train` runs on the official files, then the recipe of `plain.py` (--ours-only leaves it out,
--plain-results takes stored JSON lines of it). The table has both sides' metrics, their difference, and the seconds of
training alone and of everything: ours with the baselines, theirs with tokenization and the answers to the test rows.

    python benchmarks/tasks.py [--sets goemotions wnut17 ...] [--ours-only | --plain-results FILE]
        [--settings epochs=3 ...] [--plain-precision bf16] [--plain-padding longest] [--plain-parts 6]

With --timing nothing is scored: both sides train some steps in turns, each at its own defaults (theirs: fp32, padded
to 384 tokens for squad, to 128 for texts, to the longest of the batch for tags); the medians of the rounds count.

    python benchmarks/tasks.py --timing [--rounds 3] [--steps 20]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import bertsmith
from bertsmith import threads
from measuring import data_folder, machine, records, say, squad

QUESTIONS = {"train": 8000, "validation": 2000}
PAIR = {"task": "single-label", "text": "text_a", "text_pair": "text_b", "label": "label"}
BATCH = 32  # our default, to tell steps from rows


@dataclass(frozen=True)
class Goal:
    """What the project promises of a metric: at least so much, or so much above the plain recipe."""

    metric: str
    least: float = 0.0
    above_plain: float | None = None

    def told(self, ours: float, plain: float | None) -> str:
        """Say whether it is kept."""
        bars = {f"{self.least:g}": self.least} if self.least else {}
        if self.above_plain is not None:
            bars[f"plain + {self.above_plain:g}"] = math.nan if plain is None else plain + self.above_plain
        told = {
            bar: "unknown" if math.isnan(least) else ("kept" if ours >= least else "NOT kept")
            for bar, least in bars.items()
        }
        return ", ".join(f"{self.metric} >= {bar}: {kept}" for bar, kept in told.items())


@dataclass(frozen=True)
class DataSet:
    """A data set and how it is trained.

    Attributes:
        folder: Where its files lie.
        metrics: Names in `scores.json`, and in the plain recipe's line.
        goals: What is promised.
        settings: Settings of `bertsmith.train`, besides the files.
        test: The split that is scored.
    """

    folder: str
    metrics: tuple[str, ...]
    goals: tuple[Goal, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    test: str = "test"


SETS = {
    "goemotions": DataSet(
        "goemotions",
        ("micro_f1", "macro_f1", "subset_accuracy"),
        (Goal("micro_f1", 0.5), Goal("macro_f1", above_plain=0.05)),
        {"task": "multi-label"},
    ),
    "wnut17": DataSet(
        "wnut17", ("span_f1", "token_accuracy"), (Goal("span_f1", above_plain=0.0),), {"task": "token-labels"}
    ),
    "pos": DataSet(
        "ud_english_ewt",
        ("token_accuracy",),
        (Goal("token_accuracy", 0.94, above_plain=0.0),),
        {"task": "token-labels", "text": "tokens", "label": "tags"},
    ),
    "squad": DataSet(
        "squad_v1",
        ("exact_match", "f1"),
        (Goal("f1", above_plain=0.0),),
        {"task": "question-answering"},
    ),
    "mrpc": DataSet("mrpc", ("accuracy",), (Goal("accuracy", 0.83),), PAIR, "validation"),
    "rte": DataSet("rte", ("accuracy",), (Goal("accuracy", 0.60),), PAIR, "validation"),
    "sick": DataSet("sick", ("accuracy",), (Goal("accuracy", 0.83),), PAIR),
}


def files_of(each: DataSet, folder: Path) -> tuple[str, dict[str, str]]:
    """Return the training file and the settings that name the others; SQuAD's first questions are written to `folder`.

    A set without test rows is scored on its validation rows, which then choose no epoch.
    """
    if each.folder == "squad_v1":
        for split, questions in QUESTIONS.items():
            (folder / f"{split}.json").write_text(json.dumps(squad(split, questions)), encoding="utf-8")
        return str(folder / "train.json"), {"test": str(folder / "validation.json")}
    source = data_folder() / each.folder
    others = {"test": str(source / f"{each.test}.jsonl.gz")}
    if each.test == "test" and (source / "validation.jsonl.gz").is_file():
        others["validation"] = str(source / "validation.jsonl.gz")
    return str(source / "train.jsonl.gz"), others


def ours(name: str, changes: Mapping[str, str]) -> dict[str, Any]:
    """Train and score with bertsmith."""
    each = SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        data, others = files_of(each, Path(folder))
        settings: dict[str, Any] = {**each.settings, **others, **changes}
        begin = time.perf_counter()
        scores = bertsmith.train(data, out=Path(folder) / "run", **settings).scores
        seconds = time.perf_counter() - begin
    test = scores["test"]
    return {
        **{metric: round(test[metric]["value"], 4) for metric in each.metrics},
        "intervals": {metric: [test[metric]["low"], test[metric]["high"]] for metric in each.metrics},
        "seconds": round(seconds, 1),
        "train_seconds": scores["seconds"]["fit"],
        "rows_per_second": scores["training"]["examples_per_second"],
        "epochs": scores["training"]["epochs"],
        "best_epoch": scores["training"]["best_epoch"],
        "rows": scores["data"]["split"],
        "decision": scores.get("decision", {}),
        "baselines": {
            rung: {metric: _value(found.get(metric)) for metric in each.metrics}
            for rung, found in scores["baselines"].items()
        },
        "stages": scores["seconds"],
    }


def _value(metric: Any) -> float | None:
    return round(metric["value"], 4) if isinstance(metric, Mapping) else None


def compared(name: str, found: Mapping[str, Any], plain: Mapping[str, Any] | None, *, stored: bool) -> dict[str, Any]:
    """Put both sides beside each other; seconds only where both ran here."""
    line: dict[str, Any] = {"benchmark": "tasks", "set": name, "ours": found, "plain": plain}
    if plain is not None:
        line["difference"] = {metric: round(found[metric] - plain[metric], 4) for metric in SETS[name].metrics}
    if plain is not None and not stored:
        line["times_faster"] = {
            part: round(plain[part] / found[part], 2) for part in ("train_seconds", "seconds") if found[part]
        }
    line["goals"] = [
        goal.told(found[goal.metric], None if plain is None else plain[goal.metric]) for goal in SETS[name].goals
    ]
    return line


def tell(line: Mapping[str, Any]) -> None:
    """Print the table's rows of one set."""
    found, plain = line["ours"], line["plain"]
    for metric in SETS[line["set"]].metrics:
        row = {"set": f"{line['set']:<10}", metric: f"{found[metric]:.4f}"}
        if plain is not None:
            row |= {"plain": f"{plain[metric]:.4f}", "difference": f"{line['difference'][metric]:+.4f}"}
        say(row)
    row = {"set": f"{line['set']:<10}", "seconds": found["seconds"], "training": found["train_seconds"]}
    if "times_faster" in line:
        row |= {"plain": plain["seconds"], "plain training": plain["train_seconds"]}
        row |= {f"times faster ({part})": ratio for part, ratio in line["times_faster"].items()}
    say(row)
    for goal in line["goals"]:
        say({"set": f"{line['set']:<10}", "goal": goal})


# --- speed ------------------------------------------------------------------------------------------------------


def timing(name: str, *, rounds: int, steps: int, changes: Mapping[str, str]) -> dict[str, Any]:
    """Train some steps on each side, in turns; medians of rows (for squad: questions) a second."""
    import plain

    speeds: dict[str, list[float]] = {"plain": [], "ours": []}
    for number in range(rounds):
        found = plain.run(name, steps=steps)
        windows = QUESTIONS["train"] / found["windows"] if "windows" in found else 1.0
        speeds["plain"].append(found["rows_per_second"] * windows)
        speeds["ours"].append(our_speed(name, rows=steps * BATCH, seed=number, changes=changes))
    medians = {side: round(statistics.median(each), 2) for side, each in speeds.items()}
    ratio = statistics.median(b / a for a, b in zip(speeds["plain"], speeds["ours"], strict=True))
    return {
        "benchmark": "tasks-timing",
        "set": name,
        "plain_rows_per_second": medians["plain"],
        "ours_rows_per_second": medians["ours"],
        "ratio": round(ratio, 2),
        "rounds": {side: [round(speed, 2) for speed in each] for side, each in speeds.items()},
        "plain_settings": found["settings"],
    }


def our_speed(name: str, *, rows: int, seed: int, changes: Mapping[str, str]) -> float:
    """Train one epoch on some rows, all of them training rows; return rows a second of training."""
    each = SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / ("train.json" if name == "squad" else "train.jsonl")
        data.write_text(drawn(each, rows, seed), encoding="utf-8")
        settings: dict[str, Any] = {**each.settings, "epochs": 1, "shares": "100/0/0/0", **changes}
        scores = bertsmith.train(data, out=Path(folder) / "run", **settings).scores
    speed: float = scores["training"]["examples_per_second"]
    return speed


def drawn(each: DataSet, rows: int, seed: int) -> str:
    """Draw training rows with a seed; return the text of a file of them."""
    pick: Callable[[list[Any]], list[Any]] = lambda given: random.Random(seed).sample(given, min(rows, len(given)))  # noqa: E731
    if each.folder != "squad_v1":
        return "".join(json.dumps(row) + "\n" for row in pick(records(each.folder, "train")))
    asked = [
        {"context": paragraph["context"], "qas": [one]}
        for article in squad("train", QUESTIONS["train"])["data"]
        for paragraph in article["paragraphs"]
        for one in paragraph["qas"]
    ]
    return json.dumps({"version": "1.1", "data": [{"title": "drawn", "paragraphs": pick(asked)}]})


# --- the command ------------------------------------------------------------------------------------------------


def stored_lines(path: str) -> dict[str, dict[str, Any]]:
    """Read the plain recipes' JSON lines; the last of a set counts."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return {line["set"]: line for line in map(json.loads, filter(None, lines))}


def pairs(given: Iterable[str]) -> dict[str, str]:
    """Read NAME=VALUE."""
    return dict(each.split("=", 1) for each in given)


def whole(name: str, options: argparse.Namespace, stored: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Run one set on both sides."""
    found, beside = ours(name, pairs(options.settings)), stored.get(name)
    if beside is None and not options.ours_only and not options.plain_results:
        import plain

        how = {part: getattr(options, f"plain_{part}") for part in ("precision", "padding", "parts")}
        beside = plain.run(name, **how)
    return compared(name, found, beside, stored=name in stored)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="names, with blanks or commas between them")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--plain-results", default="", help="file of JSON lines that plain.py printed")
    parser.add_argument("--settings", nargs="*", default=[], metavar="NAME=VALUE", help="settings of bertsmith.train")
    parser.add_argument("--plain-precision", choices=["fp32", "bf16"])
    parser.add_argument("--plain-padding", choices=["longest", "max-length"])
    parser.add_argument("--plain-parts", type=int)
    parser.add_argument("--timing", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    options.sets = [name for given in options.sets for name in given.split(",") if name]
    if unknown := [name for name in options.sets if name not in SETS]:
        parser.error(f"unknown sets: {', '.join(unknown)}. Known are {', '.join(SETS)}.")
    return options


def main() -> None:
    """Measure; print the table's rows and one JSON line a set."""
    import torch

    options = arguments()
    torch.set_num_threads(threads.allowed())
    stored = stored_lines(options.plain_results) if options.plain_results else {}
    for name in options.sets:
        if options.timing:
            line = timing(name, rounds=options.rounds, steps=options.steps, changes=pairs(options.settings))
            say({key: line[key] for key in ("set", "plain_rows_per_second", "ours_rows_per_second", "ratio")})
        else:
            line = whole(name, options, stored)
            tell(line)
        print(json.dumps({**line, "machine": machine()}), flush=True)


if __name__ == "__main__":
    main()
