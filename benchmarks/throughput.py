"""Training throughput and memory: bertsmith's `fit` against the Hugging Face Trainer, in turns, a process each.

Both sides train the embedded encoder on the same rows of BANKING77 (64 tokens at most) and IMDB (256 at most; `imdb128`
cuts it at 128) for a number of steps. The peers are the Trainer's

* fp32: dynamic padding (DataCollatorWithPadding), fp32, the same batch size;
* bf16-grouped: the same with bf16 and `train_sampling_strategy="group_by_length"`;
* tutorial: what most tutorials show: padded to 256 tokens, batch 8, fp32 (fewer steps of it).

Rows a second are those of the training steps, without loading, validation and checkpoints. The ratio is the median of
the rounds' ratios; memory is the highest resident size of a side's process, libraries included.

    python benchmarks/throughput.py [--sets banking77 imdb imdb128] [--peers fp32 bf16-grouped tutorial] [--batch 16 32]
        [--rounds 3] [--steps 60] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from bertsmith import encoders, threads
from measuring import machine, rows_of, say

LONGEST = {"banking77": 64, "imdb": 256, "imdb128": 128}
FEWER = {"banking77": 1, "imdb": 6, "imdb128": 3}
"""Steps are divided by this, since one takes so much longer."""
PEERS = ("fp32", "bf16-grouped", "tutorial")
TUTORIAL_BATCH, TUTORIAL_TOKENS = 8, 256
RATE = 2e-4


def ours(pairs: list[tuple[str, str]], names: list[str], *, tokens: int, batch: int) -> dict[str, float]:
    """Train with bertsmith at its defaults, but for a random head; return rows a second and what else `fit` says."""
    import transformers

    from bertsmith.data.encode import TokenEncoder
    from bertsmith.data.read import read
    from bertsmith.examples import LabelSet
    from bertsmith.listener import Silent
    from bertsmith.recipe import Read, Recipe
    from bertsmith.run_folder import RunFolder
    from bertsmith.tasks import Rows
    from bertsmith.tasks.single_label import SingleLabel
    from bertsmith.training.fit import fit
    from bertsmith.training.model import build

    task, encoder, labels = SingleLabel(), encoders.find("minilm"), LabelSet(tuple(names))
    settings = {"batch_size": batch, "learning_rate": RATE, "epochs": 1, "precision": "bf16", "device": "cpu"}
    recipe = Recipe.of(**settings, metric="accuracy", seed=0)
    examples = read(pairs, Read(task=task.name))
    encoded = TokenEncoder(encoder.tokenizer(), tokens, encoder.pad_id).encode(examples.column("text"))
    rows = Rows(examples, encoded, task.targets(examples, encoded, labels), np.ones(len(examples)), labels)
    transformers.set_seed(0)
    model = build(task, encoder, labels, dropout=None, max_length=tokens)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(model, rows, None, task=task, recipe=recipe, run=RunFolder(Path(folder)), listener=Silent())
    return {"rows_per_second": fitted.examples_per_second, "utilisation": fitted.utilisation}


def theirs(kind: str, pairs: list[tuple[str, str]], names: list[str], *, tokens: int, batch: int) -> dict[str, float]:
    """Train with the Trainer as a peer does; return rows a second."""
    import transformers

    folder = str(encoders.find("minilm").folder)
    tutorial = kind == "tutorial"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts, padding = [text for text, _ in pairs], "max_length" if tutorial else False
    ids = tokenizer(texts, padding=padding, truncation=True, max_length=TUTORIAL_TOKENS if tutorial else tokens)
    place = {name: number for number, name in enumerate(names)}
    rows = [{**{key: ids[key][row] for key in ids}, "labels": place[label]} for row, (_, label) in enumerate(pairs)]
    transformers.set_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names))
    grouped = {"bf16": True, "train_sampling_strategy": "group_by_length"} if kind == "bf16-grouped" else {}
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch, per_device_train_batch_size=batch, num_train_epochs=1, learning_rate=RATE,
            weight_decay=0.01, use_cpu=True, dataloader_pin_memory=False, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, seed=0, **grouped,
        )  # fmt: skip
        pad = transformers.DataCollatorWithPadding(tokenizer)
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, data_collator=pad)
        begin = time.perf_counter()
        trainer.train()
        return {"rows_per_second": len(rows) / (time.perf_counter() - begin)}


def side(options: argparse.Namespace) -> dict[str, float]:
    """Be one side, in this process: train, and say how fast and in how much memory."""
    import torch
    import transformers

    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    every = rows_of(options.sets[0].removesuffix("128"), "train")
    names = sorted({label for _, label in every})
    picked = np.random.default_rng(options.rounds).permutation(len(every))[: options.batch[0] * options.steps]
    pairs, tokens = [every[row] for row in picked], LONGEST[options.sets[0]]
    if options.side == "ours":
        found = ours(pairs, names, tokens=tokens, batch=options.batch[0])
    else:
        found = theirs(options.side, pairs, names, tokens=tokens, batch=options.batch[0])
    return {**found, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def child(who: str, name: str, *, batch: int, steps: int, number: int, cores: int) -> dict[str, float]:
    """Let one side train in a process of its own."""
    asked = {"--side": who, "--sets": name, "--batch": batch, "--steps": steps, "--rounds": number, "--threads": cores}
    command = [sys.executable, __file__, *(str(word) for pair in asked.items() for word in pair)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def race(name: str, batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let our side and every peer train in turns; return a line for each peer."""
    steps = max(4, options.steps // FEWER[name])
    runs: dict[str, list[dict[str, float]]] = {who: [] for who in ("ours", *options.peers)}
    for number in range(options.rounds):
        for who, found in runs.items():
            tutorial = who == "tutorial"
            size, count = (TUTORIAL_BATCH, max(4, steps // 6)) if tutorial else (batch, steps)
            found.append(child(who, name, batch=size, steps=count, number=number, cores=options.threads))
    return [line(name, batch, who, runs) for who in options.peers]


def line(name: str, batch: int, peer: str, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Compare our side with one peer."""

    def middle(who: str, figure: str) -> float:
        return statistics.median(run[figure] for run in runs[who])

    ratios = [
        one["rows_per_second"] / other["rows_per_second"] for one, other in zip(runs["ours"], runs[peer], strict=True)
    ]
    return {
        "set": name,
        "batch": batch,
        "peer": peer,
        "peer_rows_per_second": round(middle(peer, "rows_per_second"), 1),
        "ours_rows_per_second": round(middle("ours", "rows_per_second"), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(each, 2) for each in ratios],
        "utilisation": round(middle("ours", "utilisation"), 3),
        "peer_peak_mib": round(middle(peer, "peak_mib")),
        "ours_peak_mib": round(middle("ours", "peak_mib")),
    }


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", nargs="+", choices=list(LONGEST), default=["banking77", "imdb"])
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="steps of a round; a third on imdb128, a sixth on imdb")
    parser.add_argument("--threads", type=int, default=threads.allowed())
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options)))
        return
    results = []
    for name in options.sets:
        for batch in options.batch:
            for found in race(name, batch, options):
                results.append(found)
                say(found)
    print(json.dumps({"benchmark": "throughput", "machine": machine(), "results": results}))


if __name__ == "__main__":
    main()
