"""Speed, latency and fidelity of scoring on the CPU: bertsmith's engines beside what people use, in turns.

On the test texts of BANKING77, SST-2 and IMDB (cut at 256 tokens), with a model that was trained on each (one that is
given, or a `bertsmith train` at the default recipe). Every side runs in a process of its own, from the text to the
label and its score, tokenization included, with the same max length; `scoring_sides.py` has the sides. Measured:

* docs a second over the same texts, the sides in turns; the ratio is the median of the rounds' ratios;
* the time of one text of 16 tokens alone;
* the share of ONNX Runtime's INT8 peak on this machine that texts of 128 tokens reach (IMDB), with tokenization and
  without; counted are the products of a standard encoder, without those that a graph leaves out in its last layer;
* the share of labels that are those of torch in fp32, and the change of accuracy with its paired 95 % interval;
* whether a text's logits depend on what else is in its batch;
* the size of the files with the weights.

    python benchmarks/scoring.py [--sets banking77 sst2 imdb] [--run imdb=RUN ...] [--sides ...] [--rows imdb=200 ...]
        [--answered imdb=2000 ...] [--rounds 5] [--threads N] [--keep FOLDER]

An export that a run does not have yet is made with `bertsmith export`, so a run that is given gets one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

import scoring_sides
from accuracy import files_of
from bertsmith import threads
from bertsmith.evaluation.intervals import bootstrap_mean
from bertsmith.flops import forward_flops
from measuring import machine, rows_of, say
from scoring_sides import GRAPHS, NAMES, OURS, PIPELINES, Setting

Array = np.ndarray[Any, Any]
ROWS = {"banking77": 1000, "sst2": 1000, "imdb": 200}
"""Texts of a round."""
ANSWERED = {"banking77": 3080, "sst2": 1821, "imdb": 2000}
"""Test rows whose labels are compared; the pipelines, which are torch as well, answer those of a round only."""
BATCH = {"banking77": 16, "sst2": 16, "imdb": 4}
"""Rows of a batch of the peers on ONNX Runtime: what was fastest for them among 4 to 128 (with 64, a fifth slower)."""
EXPORTS = {"onnx": "fp32", "onnx-int8": "int8"}
TOGETHER, ALONE, WIDE = 128, 40, 256
"""Texts of the test of batches; texts a round, of 16 tokens and alone; texts a round of 128 tokens."""
SEED = 2026
LEAST = {"pipeline": (12.0, 5.0), "pipeline-64": (7.0, 4.0), "ort-fp32": (2.3, 2.3), "ort-int8": (1.0, 1.0)}
"""How many times as fast as a peer INT8 is to be: on short texts, on IMDB."""
LEAST_ALONE = {"pipeline": 5.0}
"""The same for one text of 16 tokens."""


@dataclass(frozen=True)
class Texts:
    """The texts of a data set.

    Attributes:
        timed: Those of a round.
        answered: The (text, label) rows whose labels are compared; they begin with the texts of a round.
        short: Texts of 16 tokens.
        wide: Texts of 128 tokens; empty where the model takes fewer.
    """

    timed: list[str]
    answered: list[tuple[str, str]]
    short: list[str]
    wide: list[str]


class Child:
    """A side in a process of its own."""

    def __init__(self, name: str, setting: Setting) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._name = name
        self._process = context.Process(target=scoring_sides.serve, args=(other, name, setting), daemon=True)
        self._process.start()
        other.close()
        self._receive()

    def ask(self, question: str, texts: Sequence[str] = ()) -> Any:
        """Ask one of `scoring_sides.QUESTIONS`."""
        self._connection.send((question, list(texts)))
        return self._receive()

    def close(self) -> None:
        """Let the process end."""
        if self._process.is_alive():
            self._connection.send(None)
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise SystemExit(f"the side {self._name} ended; its error stands above.") from None


@contextmanager
def opened(names: Sequence[str], setting: Setting) -> Iterator[dict[str, Child]]:
    """Open sides, and close them in the end."""
    children: dict[str, Child] = {}
    try:
        for name in names:
            children[name] = Child(name, setting)
        yield children
    finally:
        for child in children.values():
            child.close()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Call bertsmith."""
    return subprocess.run([sys.executable, "-m", "bertsmith", *words], capture_output=True, text=True, check=False)


def trained(name: str, given: Mapping[str, str], folder: Path) -> Path:
    """Find the run of a data set, or train one."""
    run = Path(given.get(name, folder / name))
    if not (run / "model" / "bertsmith.json").is_file():
        done = command("train", *files_of(name, folder), "--long", "head", "--out", str(run), "--json")
        if done.returncode:
            raise SystemExit(done.stderr)
    return run


def exported(run: Path, sides: Sequence[str]) -> list[str]:
    """Make the exports that are not there yet; leave out the sides of those that the gate refuses, and say why."""
    refused = {side: why for side in sides if side in EXPORTS and (why := refusal(run, EXPORTS[side]))}
    for side, why in refused.items():
        say({"side": side, "left out": why})
    return [side for side in sides if side not in refused]


def refusal(run: Path, kind: str) -> str:
    """Say why a run has no accepted export of this kind, having made one where there is none; empty where it has."""
    figures = run / "model" / "onnx" / kind / "export.json"
    done = None if figures.is_file() else command("export", str(run), *(["--int8"] if kind == "int8" else []))
    if figures.is_file():
        return str(json.loads(figures.read_text(encoding="utf-8"))["reason"])
    return done.stderr.strip() if done is not None else ""


def graphs(model: Path, sides: Sequence[str], folder: Path) -> Path:
    """Export the peers' graphs, each in a process of its own; return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in (side for side in sides if side in GRAPHS and not (folder / f"{side}.onnx").is_file()):
        given = (model, side, folder / f"{side}.onnx")
        process = multiprocessing.get_context("spawn").Process(target=scoring_sides.export_graph, args=given)
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"the graph of {side} could not be exported; the error stands above.")
    return folder


def cut(tokenizer: Any, texts: Sequence[str], tokens: int) -> list[str]:
    """Cut texts so that they have exactly so many tokens, special ones included; leave out those that cannot be.

    Args:
        tokenizer: One of transformers, fast.
        texts: Texts of any length.
        tokens: How many tokens each is to have.
    """
    first = tokenizer(list(texts), truncation=True, max_length=tokens, return_offsets_mapping=True)
    parts = [text[: max(end for _, end in ends)] for text, ends in zip(texts, first["offset_mapping"], strict=True)]
    again = tokenizer(parts)["input_ids"]
    return [part for part, ids in zip(parts, again, strict=True) if len(ids) == tokens]


def texts_of(name: str, run: Path, *, rows: int, answered: int) -> Texts:
    """Draw the texts of a data set: so many for a round, and so many rows whose labels are compared."""
    import transformers

    every = rows_of(name, "test")
    drawn = random.Random(SEED).sample(every, min(len(every), max(rows, answered)))
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(run / "model"))
    texts = [text for text, _ in drawn]
    takes = json.loads((run / "model" / "bertsmith.json").read_text(encoding="utf-8"))["max_length"]
    wide = cut(tokenizer, texts, 128)[:WIDE] if takes >= 128 else []
    return Texts(texts[:rows], drawn, cut(tokenizer, texts, 16), wide)


def race(children: Mapping[str, Child], texts: Texts, rounds: int) -> dict[str, dict[str, list[Any]]]:
    """Let the sides answer in turns; return each side's rounds of every question.

    Each round begins with another side, so that none always follows the same one.
    """
    found: dict[str, dict[str, list[Any]]] = {name: {} for name in children}
    for child in (child for name, child in children.items() if name != "peak"):
        child.ask("rate", texts.timed[:64])
    names = list(children)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            for question, given in asked(name, texts, number).items():
                reply = children[name].ask(question.removesuffix("_wide"), given)
                found[name].setdefault(question, []).append(reply)
    return found


def asked(name: str, texts: Texts, number: int) -> dict[str, list[str]]:
    """Say what a side is asked in a round: questions of `scoring_sides`, those of 128 tokens with `_wide`."""
    if name == "peak":
        return {"peak": []}
    begin = number * ALONE % max(1, len(texts.short))
    questions = {"rate": texts.timed}
    if name != "pipeline-64":
        questions["each_alone"] = (texts.short[begin:] + texts.short)[:ALONE]
    if texts.wide and name in {"ort-int8", *OURS}:
        questions["rate_wide"] = texts.wide
    if texts.wide and name in OURS:
        questions["engine_rate_wide"] = texts.wide
    return questions


def fidelity(children: Mapping[str, Child], texts: Texts) -> dict[str, dict[str, Any]]:
    """Compare the labels of every side with those of torch, and a text alone with the same among others."""
    every = {
        name: child.ask("labels", texts.timed if name in PIPELINES else [text for text, _ in texts.answered])
        for name, child in children.items()
        if name != "peak"
    }
    gold = [label for _, label in texts.answered]
    return {
        name: {**compared(labels, every["torch"], gold), **children[name].ask("batch_effect", texts.timed[:TOGETHER])}
        for name, labels in every.items()
    }


def compared(labels: Sequence[str], torch: Sequence[str], gold: Sequence[str]) -> dict[str, Any]:
    """Compare labels with those of torch in fp32, over the rows that the side answered.

    >>> compared(["a", "b"], ["a", "a", "a"], ["a", "a", "a"])["agreement"]
    0.5
    """
    rows = len(labels)
    ours, theirs, right = (np.array(each[:rows]) for each in (labels, torch, gold))
    change = (ours == right).astype(float) - (theirs == right)
    drawn = bootstrap_mean(change, np.unique(right, return_inverse=True)[1], seed=SEED)
    return {
        "rows": rows,
        "agreement": float((ours == theirs).mean()),
        "accuracy": float((ours == right).mean()),
        "change": [round(each, 5) for each in (drawn.value, drawn.low, drawn.high)],
    }


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide the seconds of theirs by those of ours, round by round: how many times as fast ours is.

    >>> ratios([1.0, 2.0], [3.0, 8.0])
    [3.0, 4.0]
    """
    return [round(other / one, 2) for one, other in zip(ours, theirs, strict=True)]


def speed(name: str, side: str, found: Mapping[str, Mapping[str, list[Any]]], rows: int) -> dict[str, Any]:
    """Make the line of a side: docs a second, one text alone, and how many times as fast INT8 is."""
    rounds = found[side]["rate"]
    seconds, processor = [each["seconds"] for each in rounds], [each["processor"] for each in rounds]
    line: dict[str, Any] = {
        "set": name,
        "side": side,
        "docs_per_second": round(rows / statistics.median(seconds), 1),
        "processor_ms_per_doc": round(1000 * statistics.median(processor) / rows, 3),
    }
    alone = found[side].get("each_alone")
    if alone:
        line |= {f"ms_p{share}": round(1000 * float(np.quantile(alone, share / 100)), 2) for share in (50, 95)}
    if "onnx-int8" in found and side != "onnx-int8":
        fastest = found["onnx-int8"]
        each = ratios([one["seconds"] for one in fastest["rate"]], seconds)
        line |= {"int8_times": round(statistics.median(each), 2), "rounds": each}
        line |= {"at_least": LEAST[side][name == "imdb"]} if side in LEAST else {}
        if alone:
            middles = [[statistics.median(some) for some in every] for every in (fastest["each_alone"], alone)]
            line["int8_alone_times"] = round(statistics.median(ratios(*middles)), 2)
            line |= {"alone_at_least": LEAST_ALONE[side]} if side in LEAST_ALONE else {}
    return line


def utilisation(side: str, found: Mapping[str, Any], flops: float, peak: float) -> dict[str, Any]:
    """Say what share of the INT8 peak a side reaches on texts of 128 tokens.

    Args:
        side: `onnx-int8` or `ort-int8`.
        found: Its rounds.
        flops: Operations of all texts of a round.
        peak: The best rate of the product itself, in operations a second.
    """
    shares = {
        name: round(flops / statistics.median(each["seconds"] for each in found[question]) / peak, 3)
        for name, question in {"utilisation": "rate_wide", "without_tokenization": "engine_rate_wide"}.items()
        if question in found
    }
    return {"side": side, "tokens": 128, "peak_gflops": round(peak / 1e9), **shares}


def work(run: Path, side: str, texts: int) -> float:
    """Count the operations that a side needs for so many texts of 128 tokens."""
    config = json.loads((run / "model" / "config.json").read_text(encoding="utf-8"))
    first = False
    if side in EXPORTS:
        figures = (run / "model" / "onnx" / EXPORTS[side] / "export.json").read_text(encoding="utf-8")
        first = json.loads(figures)["graph"]["first_token"]
    outputs = len(config["id2label"])
    return texts * float(forward_flops(config, 128, outputs=outputs, first_token=first))


def weights(run: Path, side: str, folder: Path) -> int:
    """Say how many bytes the file with a side's weights has."""
    if side in GRAPHS:
        return (folder / f"{side}.onnx").stat().st_size
    model = run / "model"
    file = model / "onnx" / EXPORTS[side] / "model.onnx" if side in EXPORTS else model / "model.safetensors"
    return file.stat().st_size


def measure(name: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure a data set; return and print a line for each side, and one for each utilisation."""
    run = trained(name, options.run, folder)
    sides = exported(run, options.sides)
    info = json.loads((run / "model" / "bertsmith.json").read_text(encoding="utf-8"))
    held = graphs(run / "model", sides, folder / f"{name}-graphs")
    answered = int(options.answered.get(name, ANSWERED[name]))
    texts = texts_of(name, run, rows=int(options.rows.get(name, ROWS[name])), answered=answered)
    setting = Setting(run, held, tuple(info["labels"]), info["max_length"], BATCH[name], options.threads)
    with opened([*sides, "peak"] if texts.wide else sides, setting) as children:
        found, same = race(children, texts, options.rounds), fidelity(children, texts)
        memory = {side: round(children[side].ask("memory")) for side in sides}
    lines = []
    for side in sides:
        size = weights(run, side, held)
        more = {"share_of_bytes": round(size / weights(run, "torch", held), 3), "peak_mib": memory[side]}
        lines.append(speed(name, side, found, len(texts.timed)) | same[side] | more)
    if texts.wide:
        peak = max(found["peak"]["peak"])
        for side in (side for side in sides if side in {"ort-int8", "onnx-int8"}):
            lines.append({"set": name, **utilisation(side, found[side], work(run, side, len(texts.wide)), peak)})
    for line in lines:
        say(line)
    return lines


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Read `SET=VALUE` words.

    >>> pairs(["imdb=200"])
    {'imdb': '200'}
    """
    return dict(word.split("=", 1) for word in words)


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--run", nargs="+", default=[], metavar="SET=RUN", help="trained runs; others are trained")
    parser.add_argument("--sides", nargs="+", choices=NAMES, default=list(NAMES), help="torch is always one of them")
    parser.add_argument("--rows", nargs="+", default=[], metavar="SET=N", help="texts of a round")
    parser.add_argument("--answered", nargs="+", default=[], metavar="SET=N", help="rows whose labels are compared")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=threads.allowed())
    parser.add_argument("--keep", type=Path, help="folder that keeps the runs trained and the peers' graphs")
    options = parser.parse_args()
    options.run, options.rows, options.answered = map(pairs, (options.run, options.rows, options.answered))
    options.sides = [side for side in NAMES if side in options.sides or side == "torch"]
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        results = [line for each in options.sets for line in measure(each, options, folder)]
    print(json.dumps({"benchmark": "scoring", "machine": machine(), "threads": options.threads, "results": results}))


if __name__ == "__main__":
    main()
