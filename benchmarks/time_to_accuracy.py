"""The time to the tutorials' accuracy on BANKING77: their whole recipe against a whole `bertsmith train`, in turns.

The tutorials' recipe is AutoModelForSequenceClassification of the embedded encoder (a random head) on the Hugging Face
Trainer: padded to 256 tokens, batch 8, fp32, learning rate 2e-5, three epochs. How good it becomes does not depend on
the padding, which is masked: the script first lets both paddings make some steps without dropout and refuses to go on
where their losses differ by more than 1e-4. Then it trains the recipe to its end with each batch padded to its longest
text, for its accuracy on the official test rows (same batches in the same order; only the numbers that dropout draws
are others), and takes as its time the number of its steps times the median seconds of real steps at 256 tokens. These
are measured in a process of their own before and after every run of ours, so that both sides see the same machine.

Ours is the whole command, reading, encoding, baselines, training, scoring and report included.

    python benchmarks/time_to_accuracy.py [--log tutorial.json] [--steps 40] [--rounds 3] [--threads N]

With --log what the tutorials' recipe came to is kept in that file, and read from it the next time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from bertsmith import encoders, threads
from measuring import data_folder, machine, rows_of, say

TOKENS, BATCH, EPOCHS, RATE = 256, 8, 3, 2e-5
SAME = 1e-4
"""Losses of both paddings may differ by this."""
WARM = 3
"""First steps that are not counted: memory is taken there."""
SEED = 17


def recipe(*, padded: bool, steps: int = 0, dropout: bool = True) -> tuple[Any, list[float], list[float]]:
    """Train as the tutorials do; return the Trainer, and the seconds and the loss of every step.

    Args:
        padded: Whether every text is padded to 256 tokens, or each batch to its longest.
        steps: Stop after so many; 0 for all three epochs.
        dropout: Whether there is dropout: without it both paddings must give the same losses.
    """
    import transformers

    train = rows_of("banking77", "train")
    names = sorted({label for _, label in train})
    place = {name: number for number, name in enumerate(names)}
    folder = str(encoders.find("minilm").folder)
    transformers.set_seed(SEED)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    none = {} if dropout else {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(names), **none)
    texts = [text for text, _ in train]
    ids = tokenizer(texts, padding="max_length" if padded else False, truncation=True, max_length=TOKENS)
    rows = [{**{key: ids[key][row] for key in ids}, "labels": place[label]} for row, (_, label) in enumerate(train)]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch, per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS, max_steps=steps or -1,
            learning_rate=RATE, seed=SEED, use_cpu=True, dataloader_pin_memory=False, report_to=[],
            save_strategy="no", logging_strategy="steps", logging_steps=1, disable_tqdm=True,
        )  # fmt: skip
        pad = transformers.DataCollatorWithPadding(tokenizer)
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, data_collator=pad)
        trainer.remove_callback(transformers.PrinterCallback)
        clock = _clock()
        trainer.add_callback(clock)
        trainer.train()
    return trainer, clock.seconds, clock.losses


def _clock() -> Any:
    """Make a callback that notes the seconds and the loss of each step."""
    import transformers

    class Clock(transformers.TrainerCallback):  # type: ignore[misc] # transformers ships no types
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.losses: list[float] = []
            self._since = math.nan

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._since = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.seconds.append(time.perf_counter() - self._since)
            if state.global_step % 250 == 0:
                told = f"step {state.global_step} of {state.max_steps}, {statistics.median(self.seconds):.3f} s a step"
                print(told, file=sys.stderr, flush=True)

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.losses += [kwargs["logs"]["loss"]] if "loss" in kwargs["logs"] else []

    return Clock()


def paddings_differ(steps: int) -> float:
    """Return by how much the losses of both paddings differ at most, without dropout."""
    padded, dynamic = (recipe(padded=which, steps=steps, dropout=False)[2] for which in (True, False))
    return max(abs(one - other) for one, other in zip(padded, dynamic, strict=True))


def tutorial(steps: int) -> dict[str, Any]:
    """Train the tutorials' recipe to its end, and measure it on the test rows.

    Raises:
        SystemExit: The padding changes what is learned.
    """
    differ = paddings_differ(steps)
    if differ > SAME:
        raise SystemExit(f"the losses of both paddings differ by {differ:.1e}, more than {SAME:g}")
    trainer, seconds, _ = recipe(padded=False)
    return {
        "accuracy": round(accuracy(trainer), 4),
        "steps": trainer.state.global_step,
        "paddings_differ": differ,
        "compared_steps": steps,
        "dynamic_seconds": round(sum(seconds), 1),
        "seed": SEED,
    }


def accuracy(trainer: Any) -> float:
    """Measure a trained model on the official test rows, each batch padded to its longest text."""
    import torch

    test = rows_of("banking77", "test")
    names = sorted({label for _, label in test})
    tokenizer, model, right = trainer.data_collator.tokenizer, trainer.model.eval(), 0
    for begin in range(0, len(test), 64):
        part = test[begin : begin + 64]
        texts = [text for text, _ in part]
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
        with torch.inference_mode():
            found = model(**inputs).logits.argmax(1).tolist()
        right += sum(names[answer] == label for answer, (_, label) in zip(found, part, strict=True))
    return right / len(test)


def padded_steps(options: argparse.Namespace) -> float:
    """Return the median seconds of real steps at 256 tokens, measured in a process of their own."""
    command = [sys.executable, __file__, "--timed", "--steps", str(options.steps), "--threads", str(options.threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def ours(number: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run the whole of `bertsmith train` once; return its seconds, accuracy, and those of its stages."""
    source = data_folder() / "banking77"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bertsmith", "train", str(source / "train.jsonl.gz"), "--json"]
        command += ["--test", str(source / "test.jsonl.gz"), "--out", str(Path(folder) / "run")]
        command += ["--seed", str(SEED + number), "--threads", str(options.threads)]
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(done.stderr)
    scores = json.loads(done.stdout)
    return {
        "seconds": round(seconds, 1),
        "accuracy": round(scores["test"]["accuracy"]["value"], 4),
        "stages": scores["seconds"],
        "baselines": {name: round(each["accuracy"]["value"], 4) for name, each in scores["baselines"].items()},
    }


def compared(reached: dict[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Let both sides work in turns: steps of theirs, a run of ours, steps of theirs again."""
    found = []
    before = padded_steps(options)
    for number in range(options.rounds):
        run = ours(number, options)
        after = padded_steps(options)
        step = (before + after) / 2
        whole = step * reached["steps"]
        found.append({
            "seed": SEED + number,
            "tutorial_accuracy": reached["accuracy"],
            "ours_accuracy": run["accuracy"],
            "tutorial_minutes": round(whole / 60, 1),
            "ours_minutes": round(run["seconds"] / 60, 2),
            "sooner": round(whole / run["seconds"], 1) if run["accuracy"] >= reached["accuracy"] else None,
            "tutorial_step_seconds": [round(before, 3), round(after, 3)],
            "stages": run["stages"],
            "baselines": run["baselines"],
        })  # fmt: skip
        say({name: value for name, value in found[-1].items() if name not in {"stages", "baselines"}})
        before = after
    return found


def kept(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the tutorials' recipe comes to: from the log where it is there, else by training it."""
    if options.log and options.log.is_file():
        found: dict[str, Any] = json.loads(options.log.read_text(encoding="utf-8"))
        return found
    found = tutorial(options.compared)
    if options.log:
        options.log.write_text(json.dumps({**found, "machine": machine()}) + "\n", encoding="utf-8")
    return found


def main() -> None:
    """Measure, print a table and one JSON line."""
    import torch
    import transformers

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=40, help="timed steps of the tutorials' recipe, each time")
    parser.add_argument("--compared", type=int, default=5, help="steps over which both paddings must learn the same")
    parser.add_argument("--rounds", type=int, default=3, help="runs of ours; 0 for the tutorials' accuracy alone")
    parser.add_argument("--log", type=Path, help="keeps what the tutorials' recipe came to, or has it already")
    parser.add_argument("--threads", type=int, default=threads.allowed())
    parser.add_argument("--timed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    if options.timed:
        print(json.dumps({"seconds": statistics.median(recipe(padded=True, steps=options.steps)[1][WARM:])}))
        return
    reached = kept(options)
    say({"tutorial": "whole", **reached})
    results = compared(reached, options) if options.rounds else []
    ratios = [each["sooner"] for each in results if each["sooner"] is not None]
    middle = statistics.median(ratios) if ratios else None
    figures = {"tutorial": reached, "sooner": middle, "results": results}
    print(json.dumps({"benchmark": "time_to_accuracy", "machine": machine(), **figures}))


if __name__ == "__main__":
    main()
