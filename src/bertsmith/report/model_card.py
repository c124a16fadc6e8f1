"""The model card: README.md of the bundle, in the Hub's format. Pure: everything it says is handed in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from bertsmith.bundle import BundleInfo
from bertsmith.encoders import EMBEDDED, EMBEDDED_HUB_NAME, KNOWN
from bertsmith.evaluation.wording import in_prose
from bertsmith.report import calibrated
from bertsmith.tasks import Task

_SHOWN_LABELS = 200
_SHOWN_SLICES = 5
_HUB_METRICS = {
    **{name: "f1" for name in ("macro_f1", "micro_f1", "weighted_f1", "samples_f1", "span_f1")},
    "mcc": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}
"""Names that the Hub has for our metrics, where they differ."""
_MARKUP = re.compile(r'("(?:[^"\\]|\\.)*")|[\\`*_\[\]<>#&|~]')
"""A name in quotes, as JSON writes it, or a character that means something in Markdown."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def model_card(info: BundleInfo, task: Task, scores: Mapping[str, Any]) -> str:
    """Write the card.

    Args:
        info: What the bundle knows about itself.
        task: What the model answers.
        scores: What `scores.json` holds; any part of it but `test`, `verdict` and `data` may be missing or None.
    """
    return "\n".join(
        [
            "---",
            *_front(info, task, scores),
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
            *_trust(scores),
            *_weak(scores),
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


def _front(info: BundleInfo, task: Task, scores: Mapping[str, Any]) -> list[str]:
    """Write the metadata that the Hub reads; JSON strings are YAML strings."""
    tag, base = task.pipeline_tag, _base_model(info.encoder)
    return [
        "library_name: transformers",
        *([f"pipeline_tag: {tag}"] if tag else []),
        *([f"base_model: {base}"] if base else []),
        f"tags: [bertsmith, {tag or task.name}]",
        *_results(info, task, scores),
    ]


def _base_model(encoder: str) -> str:
    """Name the encoder as the Hub knows it; "" for a folder, whose path says nothing to others."""
    if encoder == EMBEDDED:
        return EMBEDDED_HUB_NAME
    return encoder if encoder in KNOWN or _HUB_NAME.fullmatch(encoder) else ""


def _results(info: BundleInfo, task: Task, scores: Mapping[str, Any]) -> list[str]:
    """Write the scores as the Hub's `model-index`; nothing without test rows."""
    measured = {name: each for name, each in (scores["test"] or {}).items() if _is_metric(each)}
    if not measured:
        return []
    lines = [
        "model-index:",
        f"- name: {json.dumps(f'{info.task} model of bertsmith')}",
        "  results:",
        f"  - task: {{type: {task.pipeline_tag or task.name}}}",
        f"    dataset: {{name: the test rows of this model's own data, type: sha256-{info.fingerprint[:16]}}}",
        "    metrics:",
    ]
    for name, each in measured.items():
        known = _HUB_METRICS.get(name, name)
        lines.append(f"    - {{type: {known}, name: {name.replace('_', ' ')}, value: {each['value']:.6g}}}")
    return lines


def _trust(scores: Mapping[str, Any]) -> list[str]:
    """Say when its answers may be believed; nothing where that was not measured."""
    calibration, decide = scores.get("calibration") or {}, scores.get("decide") or {}
    foreign = scores.get("out_of_scope") or {}
    told = []
    if decide.get("sentence"):
        told.append(f"- {_plain(decide['sentence'][:1].upper() + decide['sentence'][1:].rstrip('.'))}.")
    if calibration:
        told.append(
            f"- Its probabilities are calibrated (temperature {calibration['temperature']:.3g}, in the weights): their "
            f"expected error on {calibration['rows']:,} test rows is {calibration['ece_after']:.3f}; it was "
            f"{calibration['ece_before']:.3f} before." + _not_helped(calibration)
        )
    if foreign.get("threshold") is not None:
        told.append(
            f"- Texts whose {foreign['score']} score is above {foreign['threshold']:.4g} are called foreign to what it "
            "learned."
        )
    return ["## When it may be believed", "", *told, ""] if told else []


def _not_helped(calibration: Mapping[str, Any]) -> str:
    """Say so where the temperature did not help."""
    found = calibrated.told(calibration)
    return "" if calibrated.effect(calibration) == "helped" else f" {found[0].upper()}{found[1:]}."


def _weak(scores: Mapping[str, Any]) -> list[str]:
    """Name the slices of the test rows that it fails on more than on the rest; the user's own words stand in code."""
    slices = (scores.get("slices") or [])[:_SHOWN_SLICES]
    told = [
        f"- {_code(each['name'])}: {each['right']['value']:.1%} of {each['rows']:,} rows are right, of the rest "
        f"{each['rest']:.1%}."
        for each in slices
    ]
    return ["## Where it is weak", "", *told, ""] if told else []


def _is_metric(value: Any) -> bool:
    return isinstance(value, Mapping) and "low" in value and "value" in value


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
        if _is_metric(value):
            figures = " | ".join(_figure(value[part]) for part in ("value", "low", "high"))
            lines.append(f"| {in_prose(name)} | {figures} |")
    verdict = scores["verdict"]
    return [*lines, "", f"{verdict[0].upper()}{verdict[1:].rstrip('.')}."] if verdict else lines


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _labels(info: BundleInfo) -> list[str]:
    shown = [f"- {_code(name)}" for name in info.labels[:_SHOWN_LABELS]]
    more = len(info.labels) - _SHOWN_LABELS
    return [*shown, f"- and {more} more"] if more > 0 else shown


def _plain(sentence: str) -> str:
    r"""Write a sentence so that nothing in it is Markdown or HTML: the names in quotes stand in code marks.

    >>> _plain('always refused: "a*b", x*y')
    'always refused: `"a*b"`, x\\*y'
    """
    return _MARKUP.sub(lambda found: _in_marks(found[1]) if found[1] else f"\\{found[0]}", " ".join(sentence.split()))


def _code(text: str) -> str:
    """Write the user's own string as a JSON string in code marks, for it may hold anything."""
    return _in_marks(json.dumps(text, ensure_ascii=False))


def _in_marks(quoted: str) -> str:
    return f"`{quoted.replace('`', chr(39))}`"
