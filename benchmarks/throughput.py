"""Training throughput on BANKING77: bertsmith's trainer against the plain Hugging Face Trainer, in one run.

The peer is the HF Trainer with dynamic padding (DataCollatorWithPadding), fp32, the same encoder, the same batch
size, the same rows. Both sides train from the same encoder for a number of steps, in turns; the median over the
rounds counts. With --accuracy both then train the same rows and epochs at the same learning rate, each from its own
kind of head (random there, a probe here), and answer the official test rows.

    python benchmarks/throughput.py [--rounds 3] [--steps 60] [--batch 16 32] [--accuracy]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers

from bertsmith import encoders, threads
from bertsmith.data.encode import Encoded, TokenEncoder
from bertsmith.examples import LabelSet
from bertsmith.inference.torch_engine import logits
from bertsmith.listener import Silent
from bertsmith.quiet import quiet_transformers
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from bertsmith.tasks import SingleLabel
from bertsmith.training.fit import fit
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.head_start import ProbeRows, start_head
from bertsmith.training.model import build
from bertsmith.training.trainer import TrainingRows
from measuring import machine, rows_of, say

TASK = SingleLabel()


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The rows as the plain Trainer wants them."""

    def __init__(self, encoded: Encoded, targets: np.ndarray[Any, Any], picked: np.ndarray[Any, Any]) -> None:
        """Keep some rows."""
        ids = encoded.table.column("input_ids").to_pylist()
        self.rows = [{"input_ids": ids[row], "labels": int(targets[row])} for row in picked]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.rows[row]


def peer(
    encoder: encoders.Encoder, labels: LabelSet, rows: Rows, *, batch: int, rate: float, epochs: int
) -> tuple[Any, float]:
    """Train with the plain Trainer; return the model and rows a second."""
    transformers.set_seed(0)
    model = build(TASK, encoder, labels, dropout=None)
    tokenizer = encoder.transformers_tokenizer()
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            num_train_epochs=epochs,
            learning_rate=rate,
            warmup_steps=0.1,
            weight_decay=0.01,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=0,
        )
        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        begin = time.perf_counter()
        trainer.train()
        return model, len(rows) * epochs / (time.perf_counter() - begin)


def ours(  # noqa: PLR0913 - the two sides take the same settings
    encoder: encoders.Encoder,
    labels: LabelSet,
    encoded: Encoded,
    targets: np.ndarray[Any, Any],
    *,
    batch: int,
    rate: float,
    epochs: int,
) -> tuple[Any, float]:
    """Train with bertsmith's trainer at its defaults; return the model and rows a second (head start left out)."""
    recipe = Recipe.of(batch_size=batch, learning_rate=rate, epochs=epochs, precision="bf16", device="cpu", seed=0)
    transformers.set_seed(0)
    model = build(TASK, encoder, labels, dropout=None)
    weights = np.ones(len(targets))
    features = frozen_features(model, encoded, outputs=len(labels)).head
    nobody = ProbeRows(features[:0], targets[:0], weights[:0])
    start_head(model, TASK, ProbeRows(features, targets, weights), nobody, recipe)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(
            model,
            TrainingRows(encoded, targets, weights),
            None,
            task=TASK,
            recipe=recipe,
            run=RunFolder(Path(folder)),
            listener=Silent(),
        )
    return model, fitted.examples_per_second


def accuracy(model: Any, encoded: Encoded, targets: np.ndarray[Any, Any]) -> float:
    """Answer the test rows."""
    return float((logits(model, encoded).argmax(1) == targets).mean())


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--accuracy-rows", type=int, default=3000, help="training rows for --accuracy")
    parser.add_argument("--rate", type=float, default=2e-4)
    options = parser.parse_args()
    torch.set_num_threads(threads.allowed())
    train, test = rows_of("banking77", "train"), rows_of("banking77", "test")
    labels = LabelSet.of(label for _, label in train)
    encoder = encoders.find("minilm")
    tokens = TokenEncoder(encoder.tokenizer(), 64, encoder.pad_id)
    encoded, targets = tokens.encode([text for text, _ in train]), labels.ids([label for _, label in train])
    held, gold = tokens.encode([text for text, _ in test]), labels.ids([label for _, label in test])
    results = []
    for batch in options.batch:
        speeds: dict[str, list[float]] = {"peer": [], "ours": []}
        for number in range(options.rounds):
            picked = np.random.default_rng(number).permutation(len(train))[: batch * options.steps]
            part = tokens.encode([train[row][0] for row in picked])
            speeds["peer"].append(
                peer(encoder, labels, Rows(encoded, targets, picked), batch=batch, rate=options.rate, epochs=1)[1]
            )
            speeds["ours"].append(
                ours(encoder, labels, part, targets[picked], batch=batch, rate=options.rate, epochs=1)[1]
            )
        result: dict[str, Any] = {
            "batch": batch,
            "peer_rows_per_second": round(statistics.median(speeds["peer"]), 1),
            "ours_rows_per_second": round(statistics.median(speeds["ours"]), 1),
            "ratio": round(statistics.median(b / a for a, b in zip(speeds["peer"], speeds["ours"], strict=True)), 2),
        }
        if options.accuracy:
            picked = np.random.default_rng(99).permutation(len(train))[: options.accuracy_rows]
            part = tokens.encode([train[row][0] for row in picked])
            rate, epochs = options.rate, options.epochs
            model, speed = peer(encoder, labels, Rows(encoded, targets, picked), batch=batch, rate=rate, epochs=epochs)
            result |= {"peer_accuracy": accuracy(model, held, gold), "peer_full": round(speed, 1)}
            model, speed = ours(encoder, labels, part, targets[picked], batch=batch, rate=rate, epochs=epochs)
            result |= {"ours_accuracy": accuracy(model, held, gold), "ours_full": round(speed, 1)}
        results.append(result)
        say(result)
    print(json.dumps({"benchmark": "throughput", "machine": machine(), "epochs": options.epochs, "results": results}))


if __name__ == "__main__":
    main()
