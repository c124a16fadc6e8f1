"""The model card: README.md of the bundle, in the Hub's format. Pure: everything it says is handed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bertsmith.bundle import BundleInfo

_SHOWN_LABELS = 200


def model_card(info: BundleInfo, scores: Mapping[str, Any]) -> str:
    """Write the card.

    Args:
        info: What the bundle knows about itself.
        scores: What `scores.json` holds.
    """
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: text-classification",
            "tags: [bertsmith, text-classification]",
            "---",
            "",
            f"# A {info.task} text classifier",
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
            "from transformers import pipeline",
            "",
            'classify = pipeline("text-classification", model="PATH/OF/THIS/FOLDER")',
            'print(classify("your text", truncation=True))',
            "```",
            "",
            f"Texts longer than {info.max_length} tokens are cut, as in training.",
            "",
            "## Where it comes from",
            "",
            f"- training data: {scores['data']['rows']:,} rows, sha256 `{info.fingerprint}`",
            *(f"- {package} {version}" for package, version in info.versions.items()),
            "",
        ]
    )


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
            lines.append(
                f"| {name.replace('_', ' ')} | {value['value']:.4f} | {value['low']:.4f} | {value['high']:.4f} |"
            )
    return [*lines, "", scores["verdict"]] if scores["verdict"] else lines


def _labels(info: BundleInfo) -> list[str]:
    # JSON strings in code marks: a label is the user's string and may hold anything.
    shown = [
        f"- `{json.dumps(name, ensure_ascii=False).replace('`', chr(39))}`" for name in info.labels[:_SHOWN_LABELS]
    ]
    more = len(info.labels) - _SHOWN_LABELS
    return [*shown, f"- and {more} more"] if more > 0 else shown
