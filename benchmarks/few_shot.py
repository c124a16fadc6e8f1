"""Few labels: 8, 16 and 64 rows a class on eight data sets, ten draws each, ours beside SetFit and others.

A draw takes that many rows of each class (all of a class that has fewer) from a pool of training rows; the pool, the
draws and up to 1,000 test rows are the same for all methods, on all machines. All start from the embedded encoder
(all-MiniLM-L6-v2) at 256 tokens.

* ours: `bertsmith.training.few_shot.learn_few` as it is by default; frozen: the same with its layers left alone.
* cls: the frozen first token (BERT's pooler) and a logistic regression, as a head start without few labels has it.
* tfidf: words and pairs of words, logistic regression.
* plain: AutoModelForSequenceClassification, AdamW at 5e-5 with linear decay, 10 epochs, batch 8, fp32.
* setfit: SetFit's defaults, in its own environment, with two limits, as its pairs grow with the square of the rows:
  where the defaults would make more than 2 x 20 pairs a row, num_iterations=20 (the paper's number); 400 steps.

Times are those of building and training, without the test rows; CPU seconds beside wall seconds, which mean little on
a machine that does other work. Finished draws are kept in a log, and a run that is repeated goes on from there,
cheapest first.

    python benchmarks/few_shot.py --setfit /tmp/setfit/bin/python [--sets sst2 emotion] [--per-class 8 16 64]
        [--draws 10] [--methods ours setfit] [--log few_shot.jsonl] [--threads 1] [--precision bf16]

SetFit's environment: python -m venv /tmp/setfit; /tmp/setfit/bin/pip install torch==2.13.0 setfit==1.2.0
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from measuring import machine, rows_of, say

SETS = ("sst2", "sms_spam", "amazon_counterfactual_en", "financial_phrasebank", "ag_news", "emotion", "banking77",
        "clinc150")  # fmt: skip
METHODS = ("ours", "frozen", "cls", "tfidf", "plain", "setfit")
POOL, TEST, SEED, TOKENS = 4000, 1000, 2026, 256
ITERATIONS, STEPS, PAIRS = 20, 400, 16

Row = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Job:
    """One training: what it learns from and is tested on."""

    method: str
    name: str
    per_class: int
    draw: int
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    test: tuple[Row, ...]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What it is called in the log."""
        return self.method, self.name, self.per_class, self.draw

    def numbered(self, rows: tuple[Row, ...]) -> list[tuple[str, int]]:
        """Put the number of the label in its place."""
        return [(text, self.labels.index(label)) for text, label in rows]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all jobs."""

    threads: int
    precision: str
    setfit: str | None


@functools.cache
def sides(name: str) -> tuple[tuple[Row, ...], tuple[Row, ...], tuple[str, ...]]:
    """Give a data set's pool, its test rows (none of which is in the pool), and its labels."""
    train, test = ({text: (text, label) for text, label in rows_of(name, side)}.values() for side in ("train", "test"))
    labels = tuple(sorted({label for _, label in train}))
    pool = random.Random(SEED).sample(list(train), min(max(POOL, 100 * len(labels)), len(train)))
    seen = {text for text, _ in pool}
    rest = [row for row in test if row[0] not in seen and row[1] in labels]
    return tuple(pool), tuple(random.Random(SEED).sample(rest, min(TEST, len(rest)))), labels


def drawn(pool: tuple[Row, ...], per_class: int, number: int) -> tuple[Row, ...]:
    """Draw so many rows of each class."""
    by_label: dict[str, list[Row]] = defaultdict(list)
    for row in pool:
        by_label[row[1]].append(row)
    generator = random.Random(f"{per_class}/{number}")
    return tuple(
        row for label in sorted(by_label)
        for row in generator.sample(by_label[label], min(per_class, len(by_label[label])))
    )  # fmt: skip


def setfit_limits(job: Job) -> tuple[int | None, int | None, int]:
    """Say which num_iterations and max_steps SetFit gets (None: its defaults), and how many steps it will do."""
    counts = list(Counter(label for _, label in job.rows).values())
    rows = sum(counts)
    alike = sum(count * (count + 1) // 2 for count in counts)
    unlike = (rows * rows - sum(count * count for count in counts)) // 2
    pairs, most = 2 * max(alike, unlike), 2 * ITERATIONS * rows
    steps = -(-min(pairs, most) // PAIRS)
    return (ITERATIONS if pairs > most else None), (STEPS if steps > STEPS else None), min(steps, STEPS)


def setfit(job: Job, settings: Settings) -> dict[str, Any]:
    """Train SetFit in its own environment."""
    iterations, most, steps = setfit_limits(job)
    asked = {
        "encoder": str(encoder_folder()), "rows": job.numbered(job.rows), "test": job.numbered(job.test),
        "seed": job.draw, "threads": settings.threads, "num_iterations": iterations, "max_steps": most,
    }  # fmt: skip
    child = _setfit_child(str(settings.setfit))
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(json.dumps(asked) + "\n")
    child.stdin.flush()
    answer = child.stdout.readline()
    if not answer:
        raise SystemExit("SetFit's process ended without an answer; its messages are above.")
    return {**json.loads(answer), "steps": steps, "num_iterations": iterations, "max_steps": most}


@functools.cache
def _setfit_child(python: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("few_shot_setfit.py")
    return subprocess.Popen([python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@functools.cache
def encoder_folder() -> Path:
    """Find the embedded encoder."""
    from bertsmith import encoders

    return encoders.find("minilm").folder


def timed(job: Job, train: Callable[[], Callable[[list[str]], Any]]) -> dict[str, Any]:
    """Time a training, then score what it gave: texts to numbers of labels."""
    begin, cpu = time.perf_counter(), time.process_time()
    answer = train()
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    found = answer([text for text, _ in job.test])
    right = sum(int(guess) == label for guess, (_, label) in zip(found, job.numbered(job.test), strict=True))
    return {"accuracy": right / len(job.test), "seconds": seconds, "cpu_seconds": cpu}


def ours(job: Job, settings: Settings, *, epochs: int | None = None) -> dict[str, Any]:
    """Train as bertsmith does with few labels."""
    import torch

    from bertsmith import encoders
    from bertsmith.data.encode import TokenEncoder
    from bertsmith.data.read import read
    from bertsmith.examples import LabelSet
    from bertsmith.inference.torch_engine import logits
    from bertsmith.recipe import Read
    from bertsmith.tasks import Rows, task_named
    from bertsmith.training.few_shot import EPOCHS, learn_few, name_texts
    from bertsmith.training.model import build

    encoder, task, labels = encoders.find("minilm"), task_named("single-label"), LabelSet(job.labels)
    tokens = TokenEncoder(encoder.tokenizer(), TOKENS, encoder.pad_id)

    def train() -> Callable[[list[str]], Any]:
        examples = read([{"text": text, "label": label} for text, label in job.rows], Read(task="single-label"))
        encoded = tokens.encode(examples.column("text"))
        rows = Rows(examples, encoded, task.targets(examples, encoded, labels), _ones(len(examples)), labels)
        model = build(task, encoder, labels, dropout=None, max_length=TOKENS)
        learn_few(
            model, rows, task=task, seed=job.draw, names=tokens.encode(name_texts(labels.names)),
            precision=settings.precision, epochs=EPOCHS if epochs is None else epochs,
        )  # fmt: skip
        return functools.partial(answers, model)

    def answers(model: Any, texts: list[str]) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            return logits(model, tokens.encode(texts)).argmax(1)

    return timed(job, train)


def frozen(job: Job, settings: Settings) -> dict[str, Any]:
    """Train as bertsmith does with few labels, and leave the layers alone."""
    return ours(job, settings, epochs=0)


def _ones(count: int) -> Any:
    import numpy as np

    return np.ones(count)


def cls(job: Job, settings: Settings) -> dict[str, Any]:
    """Fit a logistic regression on BERT's pooled first token."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(encoder_folder()))
    model = AutoModel.from_pretrained(str(encoder_folder())).eval()

    @torch.no_grad()
    def pooled(texts: list[str]) -> Any:
        parts = [texts[begin : begin + 32] for begin in range(0, len(texts), 32)]
        made = [
            tokenizer(part, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt") for part in parts
        ]
        return torch.cat([model(**inputs)[1] for inputs in made]).numpy()

    def train() -> Callable[[list[str]], Any]:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
        probe.fit(pooled([text for text, _ in job.rows]), [label for _, label in job.numbered(job.rows)])
        return lambda texts: probe.predict(pooled(texts))

    return timed(job, train)


def tfidf(job: Job, settings: Settings) -> dict[str, Any]:
    """Fit a logistic regression on words and pairs of words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    def train() -> Callable[[list[str]], Any]:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        model = make_pipeline(words, LogisticRegression(C=10, max_iter=1000))
        model.fit([text for text, _ in job.rows], [label for _, label in job.numbered(job.rows)])
        return model.predict  # type: ignore[no-any-return] # scikit-learn ships no types

    return timed(job, train)


def plain(job: Job, settings: Settings) -> dict[str, Any]:
    """Fine-tune as tutorials do."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

    tokenizer = AutoTokenizer.from_pretrained(str(encoder_folder()))

    def made(texts: list[str]) -> Any:
        return tokenizer(texts, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")

    def train() -> Callable[[list[str]], Any]:
        torch.manual_seed(job.draw)
        model = AutoModelForSequenceClassification.from_pretrained(str(encoder_folder()), num_labels=len(job.labels))
        rows, generator = job.numbered(job.rows), random.Random(job.draw)
        batches = [part for _ in range(10) for part in _parts(generator.sample(rows, len(rows)), 8)]
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
        schedule = get_linear_schedule_with_warmup(optimizer, 0, len(batches))
        model.train()
        for batch in batches:
            loss = model(**made([text for text, _ in batch]), labels=torch.tensor([label for _, label in batch])).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        return functools.partial(_answers, model.eval())

    def _answers(model: Any, texts: list[str]) -> Any:
        with torch.no_grad():
            return torch.cat([model(**made(part)).logits.argmax(1) for part in _parts(texts, 32)]).tolist()

    return timed(job, train)


def _parts(rows: list[Any], size: int) -> list[list[Any]]:
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


def jobs(options: argparse.Namespace) -> list[Job]:
    """List what is asked for, cheapest first, the first draws of dear ones before the last ones of cheap ones."""
    found: list[tuple[float, Job]] = []
    for name in options.sets:
        pool, test, labels = sides(name)
        tokens = statistics.mean(len(text) for text, _ in test[:200])
        for per_class in options.per_class:
            for draw in range(options.draws):
                rows = drawn(pool, per_class, draw)
                for method in options.methods:
                    job = Job(method, name, per_class, draw, labels, rows, test)
                    work = setfit_limits(job)[2] if method == "setfit" else len(rows) / 100
                    found.append((work * tokens * (draw + 1), job))
    return [job for _, job in sorted(found, key=lambda each: each[0])]


def table(done: dict[tuple[str, str, int, int], dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Give the mean over draws of each method; beside SetFit, over the draws that both have done."""
    lines = []
    for per_class in options.per_class:
        for name in options.sets:
            for method in options.methods:
                runs = {key[3]: found for key, found in done.items() if key[:3] == (method, name, per_class)}
                shared = [draw for draw in runs if ("setfit", name, per_class, draw) in done]
                if runs:
                    lines.append({"per class": per_class, "set": name, "method": method, "draws": len(runs)}
                                 | _means(list(runs.values()))
                                 | ({"draws beside SetFit": len(shared),
                                     "accuracy on those": _mean([runs[draw]["accuracy"] for draw in shared]),
                                     "SetFit's": _mean([done["setfit", name, per_class, draw]["accuracy"]
                                                        for draw in shared])} if shared else {}))  # fmt: skip
    return lines


def _means(runs: list[dict[str, Any]]) -> dict[str, float]:
    spread = statistics.stdev([run["accuracy"] for run in runs]) if len(runs) > 1 else 0.0
    return {
        "accuracy": _mean([run["accuracy"] for run in runs]),
        "spread": round(spread, 4),
        "CPU seconds": round(statistics.mean(run["cpu_seconds"] for run in runs), 2),
        "seconds": round(statistics.mean(run["seconds"] for run in runs), 2),
    }


def _mean(values: list[float]) -> float:
    return round(statistics.mean(values), 4)


def overall(lines: list[dict[str, Any]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Give each method's mean over the sets on which SetFit was run as well, on shared draws."""
    found = []
    for per_class in options.per_class:
        for method in options.methods:
            mine = [line for line in lines if line["per class"] == per_class and line["method"] == method
                    and "SetFit's" in line]  # fmt: skip
            if mine:
                found.append({
                    "per class": per_class, "method": method, "sets": len(mine),
                    "draws": sum(line["draws beside SetFit"] for line in mine),
                    "accuracy": _mean([line["accuracy on those"] for line in mine]),
                    "SetFit's": _mean([line["SetFit's"] for line in mine]),
                    "CPU seconds": round(statistics.mean(line["CPU seconds"] for line in mine), 2),
                })  # fmt: skip
    return found


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--per-class", type=int, nargs="+", default=[8, 16, 64])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--setfit", help="the Python of SetFit's environment; without it SetFit is not run")
    parser.add_argument("--log", type=Path, default=Path("few_shot.jsonl"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    return parser.parse_args()


def main() -> None:
    """Measure what is not in the log yet, print a table and one JSON line."""
    import torch

    options = arguments()
    torch.set_num_threads(options.threads)
    settings = Settings(options.threads, options.precision, options.setfit)
    functions = {"ours": ours, "frozen": frozen, "cls": cls, "tfidf": tfidf, "plain": plain, "setfit": setfit}
    logged = options.log.read_text(encoding="utf-8").splitlines() if options.log.is_file() else []
    done = {(run["method"], run["set"], run["per_class"], run["draw"]): run for run in map(json.loads, logged)}
    for job in jobs(options):
        if job.key in done or (job.method == "setfit" and not settings.setfit):
            continue
        found = functions[job.method](job, settings)
        called = dict(zip(("method", "set", "per_class", "draw"), job.key, strict=True))
        done[job.key] = {**called, "rows": len(job.rows), **found}
        with options.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(done[job.key]) + "\n")
        print(
            f"{job.method} {job.name} {job.per_class}/{job.draw}: {found['accuracy']:.4f}", file=sys.stderr, flush=True
        )
    lines = table(done, options)
    means = overall(lines, options)
    for line in [*lines, *means]:
        say(line)
    print(json.dumps({"benchmark": "few_shot", "machine": machine(), "results": lines, "means": means}))


if __name__ == "__main__":
    main()
