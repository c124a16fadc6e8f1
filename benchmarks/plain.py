"""The plain Hugging Face recipes: what a user of transformers' example scripts gets with the embedded encoder.

These are run_classification, run_glue, run_ner and run_qa of transformers' examples (Trainer, AdamW, a linear decay
without warm-up, a random head, seed 42, a fixed number of epochs and no choice among them), without checkpoints. Of
bertsmith they take the folder of the encoder and nothing else, so that they are a peer of its own standing.

Each prints one JSON line: the metrics on the rows that the data set keeps for testing, and the time it took.

* goemotions: micro- and macro-F1 at 0.5 (test). mrpc, rte: accuracy (validation). sick: accuracy (test).
* wnut17: entity F1, strict IOB2 and as conlleval counts (test). pos: accuracy of UD English tags (test). Labels stand
  on the first sub-word of each word; words lost to truncation count as answered O (as wrong in pos).
* squad: the first 8,000 training questions of SQuAD 1.1, exact match and F1 on the first 2,000 of validation.

    python benchmarks/plain.py goemotions|wnut17|pos|squad|mrpc|rte|sick [--epochs 3] [--batch 16]
        [--learning-rate 5e-5] [--precision fp32|bf16] [--padding longest|max-length] [--steps N] [--threads N]

With --steps only as many steps are trained and timed, and nothing is evaluated.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import re
import string
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers

from bertsmith import encoders
from measuring import first_questions, machine, records

Rows = list[dict[str, Any]]
SEED = 42
IGNORED = -100  # PyTorch's cross-entropy leaves these positions out


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train: the example scripts' own defaults, unless a command line says otherwise.

    Attributes:
        epochs: Passes over the training rows.
        batch: Rows of a step.
        learning_rate: Highest rate, at the first step.
        max_length: Tokens of a row; None for the tokenizer's own limit (as run_ner has it).
        padding: `max-length` (run_classification, run_glue and run_qa) or `longest` of the batch (run_ner).
        precision: `fp32`, or `bf16` for autocast.
        steps: Train only so many steps, for timing; 0 for the whole recipe.
        parts: Gradients of a batch are summed over so many equal parts: the same step in less memory and padding.
        folder: Folder of the encoder; empty for the embedded one.
    """

    epochs: float = 3
    batch: int = 16
    learning_rate: float = 5e-5
    max_length: int | None = 128
    padding: str = "max-length"
    precision: str = "fp32"
    steps: int = 0
    parts: int = 1
    folder: str = ""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trainer after its work."""

    trainer: Any
    seconds: float
    rows: int

    def timing(self) -> dict[str, Any]:
        """Return what training took."""
        return {
            "steps": self.trainer.state.global_step,
            "train_seconds": round(self.seconds, 1),
            "steps_per_second": round(self.trainer.state.global_step / self.seconds, 3),
            "rows_per_second": round(self.rows / self.seconds, 2),
        }


class Progress(transformers.TrainerCallback):  # type: ignore[misc]
    """Says on standard error how training goes."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.begin = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say one line."""
        each = (time.perf_counter() - self.begin) / max(state.global_step, 1)
        loss = (kwargs.get("logs") or {}).get("loss", "-")
        line = f"step {state.global_step}/{state.max_steps} loss {loss} {each:.3f} s a step"
        print(f"{line}, {each * (state.max_steps - state.global_step) / 60:.1f} min left", file=sys.stderr, flush=True)


def trained(model: Any, tokenizer: Any, rows: Rows, settings: Settings, *, token_labels: bool = False) -> Trained:
    """Train as the example scripts do."""
    pad: Any = transformers.default_data_collator
    if token_labels:
        pad = transformers.DataCollatorForTokenClassification(tokenizer)
    elif settings.padding == "longest":
        pad = transformers.DataCollatorWithPadding(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch // settings.parts,
            gradient_accumulation_steps=settings.parts,
            per_device_eval_batch_size=32,
            num_train_epochs=settings.epochs,
            max_steps=settings.steps or -1,
            learning_rate=settings.learning_rate,
            bf16=settings.precision == "bf16",
            seed=SEED,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            report_to=[],
            save_strategy="no",
            logging_steps=50,
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=rows, data_collator=pad)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.add_callback(Progress())
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
    seen = trainer.state.global_step * settings.batch if settings.steps else round(len(rows) * settings.epochs)
    return Trained(trainer, seconds, seen)


def loaded(kind: Any, settings: Settings, **head: Any) -> tuple[Any, Any]:
    """Load tokenizer and model, the head random."""
    transformers.set_seed(SEED)
    folder = settings.folder or str(encoders.find("minilm").folder)
    return transformers.AutoTokenizer.from_pretrained(folder), kind.from_pretrained(folder, **head)


def dicts(columns: Mapping[str, Sequence[Any]], keys: Iterable[str] = ()) -> Rows:
    """Turn columns into rows."""
    names = list(keys) or list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*(columns[name] for name in names), strict=True)]


def classification(name: str, test: str, settings: Settings) -> dict[str, Any]:
    """Do as run_classification (texts with several labels) or run_glue (pairs with one label)."""
    train, held = records(name, "train"), records(name, test)
    several = "labels" in train[0]
    names = sorted({label for row in train for label in (row["labels"] if several else [row["label"]])})
    place = {label: number for number, label in enumerate(names)}
    problem = {"problem_type": "multi_label_classification"} if several else {}
    kind = transformers.AutoModelForSequenceClassification
    tokenizer, model = loaded(kind, settings, num_labels=len(names), **problem)

    def gold(row: Mapping[str, Any]) -> Any:
        return [float(label in row["labels"]) for label in names] if several else place[row["label"]]

    def encoded(rows: Rows) -> Rows:
        texts = [[row[key] for row in rows] for key in ("text", "text_a", "text_b") if key in rows[0]]
        padding = "max_length" if settings.padding == "max-length" else False
        ids = tokenizer(*texts, padding=padding, truncation=True, max_length=settings.max_length)
        return dicts({**ids, "labels": [gold(row) for row in rows]})

    fitted = trained(model, tokenizer, encoded(train), settings)
    if settings.steps:
        return fitted.timing()
    logits, truth = fitted.trainer.predict(encoded(held)).predictions, np.asarray([gold(row) for row in held])
    score = label_scores if several else accuracy
    return {**score(logits, truth), **fitted.timing()}


def label_scores(logits: Any, truth: Any) -> dict[str, float]:
    """Score several labels at a threshold of 0.5 (logit 0)."""
    from sklearn.metrics import f1_score

    found = (logits > 0).astype(int)
    return {
        "micro_f1": float(f1_score(truth, found, average="micro", zero_division=0)),
        "macro_f1": float(f1_score(truth, found, average="macro", zero_division=0)),
        "subset_accuracy": float((found == truth).all(axis=1).mean()),
    }


def accuracy(logits: Any, truth: Any) -> dict[str, float]:
    """Score one label."""
    return {"accuracy": float((logits.argmax(axis=1) == truth).mean())}


def tags(name: str, test: str, settings: Settings) -> dict[str, Any]:
    """Do as run_ner: one tag a word."""
    train, held = records(name, "train"), records(name, test)
    names = sorted({tag for row in train for tag in row["tags"]})
    place = {tag: number for number, tag in enumerate(names)}
    kind = transformers.AutoModelForTokenClassification
    tokenizer, model = loaded(kind, settings, num_labels=len(names))

    def encoded(rows: Rows) -> tuple[Rows, list[list[int | None]]]:
        words, padding = [row["tokens"] for row in rows], "max_length" if settings.padding == "max-length" else False
        limit = settings.max_length
        ids = tokenizer(words, is_split_into_words=True, padding=padding, truncation=True, max_length=limit)
        owners = [ids.word_ids(row) for row in range(len(rows))]
        targets = [[place.get(tag, IGNORED) for tag in row["tags"]] for row in rows]
        labels = [first_of_each(*each) for each in zip(targets, owners, strict=True)]
        return dicts({**ids, "labels": labels}), owners

    fitted = trained(model, tokenizer, encoded(train)[0], settings, token_labels=True)
    if settings.steps:
        return fitted.timing()
    rows, owners = encoded(held)
    best = fitted.trainer.predict(rows).predictions.argmax(axis=2)
    truth = [row["tags"] for row in held]
    found = [word_tags(len(gold), words, [names[tag] for tag in row]) for gold, words, row in zip(truth, owners, best)]  # noqa: B905 - predictions are padded
    scores = entity_scores(truth, found) if "O" in place else {}
    right = [a == b for gold, answer in zip(truth, found, strict=True) for a, b in zip(gold, answer, strict=True)]
    return {**scores, "token_accuracy": float(np.mean(right)), **fitted.timing()}


def first_of_each(targets: list[int], owners: list[int | None]) -> list[int]:
    """Give a word's target to its first token; the others, and special tokens, have none."""
    first = zip([None, *owners], owners, strict=False)
    return [IGNORED if word is None or word == before else targets[word] for before, word in first]


def word_tags(words: int, owners: list[int | None], tags: list[str]) -> list[str]:
    """Take each word's tag from its first token; a word that was cut off is answered O."""
    found = ["O"] * words
    for token in reversed(range(len(owners))):
        word = owners[token]
        if word is not None:
            found[word] = tags[token]
    return found


def entity_scores(truth: list[list[str]], found: list[list[str]]) -> dict[str, float]:
    """Score entities: strict IOB2, and as conlleval (and run_ner) count them."""
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    return {
        "span_f1": float(f1_score(truth, found, mode="strict", scheme=IOB2)),
        "conlleval_f1": float(f1_score(truth, found)),
    }


# --- extractive question answering: run_qa ----------------------------------------------------------------------

STRIDE, N_BEST, MAX_ANSWER = 128, 20, 30


def questions(settings: Settings) -> dict[str, Any]:
    """Train and test spans of a context."""
    train, held = first_questions("train", TRAINED_QUESTIONS), first_questions("validation", TESTED_QUESTIONS)
    tokenizer, model = loaded(transformers.AutoModelForQuestionAnswering, settings)

    def windows(rows: Rows) -> Any:
        return tokenizer(
            [row["question"].lstrip() for row in rows],
            [row["context"] for row in rows],
            truncation="only_second",
            max_length=settings.max_length,
            stride=STRIDE,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            padding="max_length" if settings.padding == "max-length" else False,
        )

    ids = windows(train)
    spans = [
        span_in(ids, window, train[owner]["answers"]) for window, owner in enumerate(ids["overflow_to_sample_mapping"])
    ]
    inputs = tokenizer.model_input_names
    targets = {"start_positions": [span[0] for span in spans], "end_positions": [span[1] for span in spans]}
    fitted = trained(model, tokenizer, dicts({**{key: ids[key] for key in inputs}, **targets}), settings)
    if settings.steps:
        return {**fitted.timing(), "windows": len(spans)}
    ids = windows(held)
    starts, ends = fitted.trainer.predict(dicts(ids, inputs)).predictions[:2]
    candidates: dict[int, list[tuple[float, str]]] = collections.defaultdict(list)
    for window, owner in enumerate(ids["overflow_to_sample_mapping"]):
        context = held[owner]["context"]
        for score, begin, end in best_spans(ids, window, starts[window], ends[window]):
            candidates[owner].append((score, context[begin:end]))
    answers = [max(candidates[row], default=(0.0, ""), key=lambda each: each[0])[1] for row in range(len(held))]
    return {**squad_scores(held, answers), "windows": len(spans), **fitted.timing()}


def span_in(ids: Any, window: int, answers: list[dict[str, Any]]) -> tuple[int, int]:
    """Find the first answer's tokens in a window; the first token ([CLS]) where it is not wholly in there."""
    if not answers:
        return 0, 0
    offsets, parts = ids["offset_mapping"][window], ids.sequence_ids(window)
    begin = answers[0]["answer_start"]
    end = begin + len(answers[0]["text"])
    inside = [token for token, part in enumerate(parts) if part == 1]
    if not inside or offsets[inside[0]][0] > begin or offsets[inside[-1]][1] < end:
        return 0, 0
    start = max(token for token in inside if offsets[token][0] <= begin)
    last = min(token for token in inside if offsets[token][1] >= end)
    return start, last


def best_spans(ids: Any, window: int, starts: Any, ends: Any) -> Iterable[tuple[float, int, int]]:
    """Give the spans of the best starts and ends of a window: score, first and last character."""
    offsets, parts = ids["offset_mapping"][window], ids.sequence_ids(window)

    def best(logits: Any) -> list[int]:
        # Other windows may be longer: beyond this one's tokens the predictions are filled up.
        order = np.argsort(logits)[::-1][:N_BEST].tolist()
        return [token for token in order if token < len(parts) and parts[token] == 1]

    for start in best(starts):
        for end in best(ends):
            if start <= end < start + MAX_ANSWER:
                yield float(starts[start] + ends[end]), offsets[start][0], offsets[end][1]


def normalised(answer: str) -> str:
    """Normalise an answer as SQuAD's official script does."""
    kept = "".join(letter for letter in answer.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def overlap(truth: str, found: str) -> float:
    """Return the F1 of the words of two answers, as SQuAD's official script does."""
    gold, words = normalised(truth).split(), normalised(found).split()
    same = sum((collections.Counter(gold) & collections.Counter(words)).values())
    return 2 * same / (len(gold) + len(words)) if same else 0.0


def squad_scores(rows: Rows, answers: list[str]) -> dict[str, float]:
    """Score answers, each against the best of its gold answers (shares, not percent)."""
    golds = [[gold["text"] for gold in row["answers"]] for row in rows]
    exact = [any(normalised(a) == normalised(b) for b in gold) for a, gold in zip(answers, golds, strict=True)]
    shares = [max(overlap(b, a) for b in gold) for a, gold in zip(answers, golds, strict=True)]
    return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(shares))}


TRAINED_QUESTIONS, TESTED_QUESTIONS = 8000, 2000
NER = Settings(max_length=None, padding="longest")
RECIPES: dict[str, tuple[Settings, Callable[[Settings], dict[str, Any]]]] = {
    "goemotions": (Settings(), lambda settings: classification("goemotions", "test", settings)),
    "mrpc": (Settings(), lambda settings: classification("mrpc", "validation", settings)),
    "rte": (Settings(), lambda settings: classification("rte", "validation", settings)),
    "sick": (Settings(), lambda settings: classification("sick", "test", settings)),
    "wnut17": (NER, lambda settings: tags("wnut17", "test", settings)),
    "pos": (NER, lambda settings: tags("ud_english_ewt", "test", settings)),
    "squad": (Settings(epochs=2, batch=12, learning_rate=3e-5, max_length=384), questions),
}


def run(name: str, **changes: Any) -> dict[str, Any]:
    """Run a recipe, with some of its settings changed; return what the JSON line says."""
    defaults, recipe = RECIPES[name]
    settings = dataclasses.replace(defaults, **{key: value for key, value in changes.items() if value is not None})
    transformers.logging.set_verbosity_error()
    begin = time.perf_counter()
    found = recipe(settings)
    found["seconds"] = round(time.perf_counter() - begin, 1)
    said = {key: value for key, value in dataclasses.asdict(settings).items() if key != "folder"}
    return {"benchmark": "plain", "set": name, **found, "settings": said, "threads": torch.get_num_threads()}


def main() -> None:
    """Run one recipe and print its JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("set", choices=list(RECIPES))
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--precision", choices=["fp32", "bf16"])
    parser.add_argument("--padding", choices=["longest", "max-length"])
    parser.add_argument("--steps", type=int, help="train and time only so many steps")
    parser.add_argument("--parts", type=int, help="sum the gradients of a batch over so many parts")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--encoder", default="", dest="folder", help="folder of the encoder (default: the embedded one)"
    )
    options = vars(parser.parse_args())
    if threads := options.pop("threads"):
        torch.set_num_threads(threads)
    print(json.dumps({**run(options.pop("set"), **options), "machine": machine()}))


if __name__ == "__main__":
    main()
