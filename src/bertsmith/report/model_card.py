"""The model card: README.md of the bundle, in the Hub's format. Pure: everything it says is handed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bertsmith.bundle import BundleInfo
from bertsmith.tasks import Task

_SHOWN_LABELS = 200


def model_card(info: BundleInfo, task: Task, scores: Mapping[str, Any]) -> str:
    """Write the card.

    Args:
        info: What the bundle knows about itself.
        task: What the model answers.
        scores: What `scores.json` holds.
    """
    tag = task.pipeline_tag
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            *([f"pipeline_tag: {tag}"] if tag else []),
            f"tags: [bertsmith, {tag or task.name}]",
            "---",
            "",
            f"# A {info.task} text model",
            "",
            f"Fine-tuned by bertsmith {info.versions.get('bertsmith', '')} from the encoder `{info.encoder}`.",
            "",
            "## How good it is",
            "",
            *_scores(scores),
            "",
            "## What it answers",
            "",
            *_labels(info),
            "",
            "## How to use it",
            "",
            "```python",
            *_usage(task),
            "```",
            "",
            *_length(info, task),
            "",
            "## Where it comes from",
            "",
            f"- training data: {scores['data']['rows']:,} rows, sha256 `{info.fingerprint}`",
            *(f"- {package} {version}" for package, version in info.versions.items()),
            "",
        ]
    )


def _usage(task: Task) -> list[str]:
    if task.pipeline_tag != "text-classification":
        return [
            "import bertsmith",
            "",
            'model = bertsmith.load("PATH/OF/THIS/FOLDER")',
            'print(model.predict(["your text"]))',
        ]
    return [
        "from transformers import pipeline",
        "",
        'classify = pipeline("text-classification", model="PATH/OF/THIS/FOLDER")',
        'print(classify("your text", truncation=True))',
    ]


def _length(info: BundleInfo, task: Task) -> list[str]:
    if task.unit != "row":
        return [f"Texts longer than {info.max_length} tokens are read in windows; nothing is lost."]
    if info.long == "windows":
        return [
            f"Texts longer than {info.max_length} tokens are read in windows that share {info.stride} tokens, whose "
            f"logits are pooled ({info.pooling}); bertsmith does so, transformers' pipeline cuts them."
        ]
    kept = "cut, as in training" if info.long == "head" else "cut in their middle, as in training"
    return [f"Texts longer than {info.max_length} tokens are {kept}."]


def _scores(scores: Mapping[str, Any]) -> list[str]:
    test = scores["test"]
    if test is None:
        return ["There were no test rows: nothing honest can be said about how good it is."]
    lines = [
        f"On {test['rows']:,} test rows that were used for nothing else (95 % intervals):",
        "",
        "| score | value | from | to |",
        "|---|---|---|---|",
    ]
    for name, value in test.items():
        if isinstance(value, Mapping) and "low" in value:
            figures = " | ".join(_figure(value[part]) for part in ("value", "low", "high"))
            lines.append(f"| {name.replace('_', ' ')} | {figures} |")
    return [*lines, "", scores["verdict"]] if scores["verdict"] else lines


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _labels(info: BundleInfo) -> list[str]:
    # JSON strings in code marks: a label is the user's string and may hold anything.
    shown = [
        f"- `{json.dumps(name, ensure_ascii=False).replace('`', chr(39))}`" for name in info.labels[:_SHOWN_LABELS]
    ]
    more = len(info.labels) - _SHOWN_LABELS
    return [*shown, f"- and {more} more"] if more > 0 else shown
