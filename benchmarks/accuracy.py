"""Whole runs of `bertsmith train` at the default recipe on real data, and the tutorials' recipe beside them.

BANKING77 (official test, several seeds), SST-2 sentences, and IMDB (2 000 training and 2 000 test reviews drawn with a
fixed seed, at a max length of 256), each a `bertsmith train` in a process of its own with the embedded encoder. The
tutorials' recipe (pad to 256, batch 8, fp32, random head, 2e-5, 3 epochs, HF Trainer) is timed over a number of steps
on the same rows and its time extrapolated, since all of it takes over an hour; --tutorial-whole trains it to its end
for its accuracy.

    python benchmarks/accuracy.py [--sets banking77 sst2 imdb] [--seeds 17 18 19] [--tutorial-steps 40]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from measuring import data_folder, machine, rows_of, say

IMDB_ROWS = 2000
IMDB_SEED = 2026


def files_of(name: str, folder: Path) -> list[str]:
    """Return the arguments of `bertsmith train` for a data set."""
    source = data_folder() / name
    if name == "imdb":
        files = {}
        for split in ("train", "test"):
            rows = random.Random(IMDB_SEED).sample(rows_of(name, split), IMDB_ROWS)
            files[split] = folder / f"imdb-{split}.jsonl"
            files[split].write_text("".join(json.dumps({"text": a, "label": b}) + "\n" for a, b in rows))
        return [str(files["train"]), "--test", str(files["test"]), "--max-length", "256"]
    given = [str(source / "train.jsonl.gz"), "--test", str(source / "test.jsonl.gz")]
    if (source / "validation.jsonl.gz").is_file():
        given += ["--validation", str(source / "validation.jsonl.gz")]
    return given


def whole_run(name: str, seed: int) -> dict[str, Any]:
    """Train once in a process of its own; return what counts of its scores."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "bertsmith", "train", *files_of(name, Path(folder)), "--out", str(out)]
        begin = time.perf_counter()
        done = subprocess.run([*command, "--seed", str(seed), "--json"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        scores = json.loads(done.stdout)
        return {
            "set": name,
            "seed": seed,
            "accuracy": round(scores["test"]["accuracy"]["value"], 4),
            "macro_f1": round(scores["test"]["macro_f1"]["value"], 4),
            **{rung: round(scores["baselines"][rung]["accuracy"]["value"], 4) for rung in ("tfidf", "frozen")},
            "minutes": round((time.perf_counter() - begin) / 60, 2),
            "rows_per_second": scores["training"]["examples_per_second"],
            "best_epoch": scores["training"]["best_epoch"],
            "seconds": scores["seconds"],
        }


def tutorial(steps: int, *, whole: bool) -> dict[str, Any]:
    """Train as the tutorials do, for some steps or to the end."""
    import torch
    import transformers

    from bertsmith import encoders, threads
    from bertsmith.data.encode import TokenEncoder
    from bertsmith.examples import LabelSet
    from bertsmith.inference.torch_engine import logits
    from bertsmith.quiet import quiet_transformers

    torch.set_num_threads(threads.allowed())
    train, test = rows_of("banking77", "train"), rows_of("banking77", "test")
    labels = LabelSet.of(label for _, label in train)
    encoder = encoders.find("minilm")
    transformers.set_seed(0)
    with quiet_transformers(), tempfile.TemporaryDirectory() as folder:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(encoder.folder))
        model = transformers.AutoModelForSequenceClassification.from_pretrained(str(encoder.folder), num_labels=77)
        padded = tokenizer([text for text, _ in train], padding="max_length", truncation=True, max_length=256)
        rows = [
            {**{key: padded[key][row] for key in padded}, "labels": label}
            for row, label in enumerate(labels.ids([label for _, label in train]).tolist())
        ]
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=8,
            num_train_epochs=3,
            max_steps=-1 if whole else steps,
            learning_rate=2e-5,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows)
        trainer.remove_callback(transformers.PrinterCallback)
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
    done = trainer.state.global_step * 8
    found: dict[str, Any] = {
        "set": "banking77",
        "recipe": "tutorial",
        "steps": trainer.state.global_step,
        "rows_per_second": round(done / seconds, 2),
        "minutes_for_3_epochs": round(3 * len(train) / (done / seconds) / 60, 1),
        "extrapolated": not whole,
    }
    if whole:
        held = TokenEncoder(encoder.tokenizer(), 256, encoder.pad_id).encode([text for text, _ in test])
        gold = labels.ids([label for _, label in test])
        found["accuracy"] = round(float((logits(model, held).argmax(1) == gold).mean()), 4)
    return found


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", nargs="*", default=["banking77", "sst2", "imdb"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[17, 18, 19])
    parser.add_argument("--tutorial-steps", type=int, default=40)
    parser.add_argument("--tutorial-whole", action="store_true")
    options = parser.parse_args()
    results = []
    for name in options.sets:
        seeds = options.seeds if name == "banking77" else options.seeds[:1]
        runs = [whole_run(name, seed) for seed in seeds]
        for run in runs:
            say(run)
        results += runs
        mean = statistics.mean(run["accuracy"] for run in runs)
        say({"set": name, "mean accuracy": round(mean, 4), "longest minutes": max(run["minutes"] for run in runs)})
    if options.tutorial_steps:
        results.append(tutorial(options.tutorial_steps, whole=options.tutorial_whole))
        say(results[-1])
    print(json.dumps({"benchmark": "accuracy", "machine": machine(), "results": results}))


if __name__ == "__main__":
    main()
