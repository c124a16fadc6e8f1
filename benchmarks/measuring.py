"""What the benchmarks share: where the data lies, what machine this is, a line for people."""

from __future__ import annotations

import gzip
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertsmith import threads


def data_folder() -> Path:
    """Find the real data sets: BERTSMITH_DATA, else ../shared/data beside the checkout."""
    folder = Path(os.environ.get("BERTSMITH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        raise SystemExit(f"{folder}: the real data sets are not here. Set BERTSMITH_DATA to their folder.")
    return folder


def rows_of(name: str, split: str) -> list[tuple[str, str]]:
    """Read the (text, label) rows of a data set."""
    with gzip.open(data_folder() / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [(row["text"], row["label"]) for row in map(json.loads, lines)]


def machine() -> dict[str, Any]:
    """Describe the machine and the libraries."""
    import torch
    import transformers

    return {
        "cores": threads.allowed(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def say(values: Mapping[str, Any]) -> None:
    """Print one row of the table."""
    print("  ".join(f"{name} {value}" for name, value in values.items()), flush=True)


def records(name: str, split: str) -> list[dict[str, Any]]:
    """Read the rows of a data set, all their fields."""
    with gzip.open(data_folder() / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def squad(split: str, questions: int) -> dict[str, Any]:
    """Read the first questions of SQuAD 1.1 in its own JSON."""
    with gzip.open(data_folder() / "squad_v1" / f"{split}.json.gz", "rt", encoding="utf-8") as file:
        whole: dict[str, Any] = json.load(file)
    articles = []
    for article in whole["data"]:
        paragraphs = []
        for paragraph in article["paragraphs"]:
            kept = paragraph["qas"][:questions]
            questions -= len(kept)
            paragraphs += [{**paragraph, "qas": kept}] if kept else []
        articles += [{**article, "paragraphs": paragraphs}] if paragraphs else []
    return {**whole, "data": articles}


def first_questions(split: str, questions: int) -> list[dict[str, Any]]:
    """Read the first questions of SQuAD 1.1: question, context, answers."""
    return [
        {**asked, "context": paragraph["context"]}
        for article in squad(split, questions)["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]
