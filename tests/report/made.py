"""Made-up scores of every kind of task, with every part that scores.json can have; the same seed, the same scores."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

TASKS = ("single-label", "multi-label", "ordered", "regression", "token-labels", "question-answering")
_METRICS = {
    "single-label": ("accuracy", "macro_f1", "weighted_f1", "balanced_accuracy", "mcc", "log_loss"),
    "ordered": ("accuracy", "macro_f1", "log_loss", "mae", "quadratic_kappa"),
    "multi-label": ("micro_f1", "macro_f1", "samples_f1", "subset_accuracy", "mean_average_precision", "log_loss"),
    "regression": ("mse", "mae", "pearson", "spearman", "r2"),
    "token-labels": ("span_f1", "span_precision", "span_recall", "token_accuracy", "macro_f1", "log_loss"),
    "question-answering": ("exact_match", "f1"),
}
_COMPARED = {"multi-label": "micro_f1", "regression": "mse", "token-labels": "span_f1", "question-answering": "f1"}
_CONFIDENT = ("single-label", "ordered")


def scores_of(task: str = "single-label", *, classes: int = 3, seed: int = 0) -> dict[str, Any]:
    """Make the scores.json of a run with all its parts."""
    draw = np.random.default_rng(seed)
    long = [
        f"{number}_wrong_MWM_amount_of_card_payments" if number % 3 else f"topic_{number}" for number in range(classes)
    ]
    labels = long if classes > 9 else [f"label {number}" for number in range(classes)]
    test = _test(task, labels, draw)
    main = _COMPARED.get(task, "accuracy")
    scores = {
        "format": 1,
        "task": task,
        "labels": labels,
        "model": {
            "encoder": "minilm",
            "parameters": 22742861,
            "trainable_parameters": 22742861,
            "head": "pooled [CLS] → linear",
            "max_length": 53,
            "long": "head",
        },
        "data": {
            "source": "examples/tickets.csv",
            "rows": 13083,
            "split": {"train": 8003, "validation": 1000, "calibration": 1000, "test": 3080},
        },
        "test": test,
        "decision": {},
        "baselines": {name: _rung(name, main, test, draw) for name in ("majority", "tfidf", "frozen")},
        "verdict": "fine-tuning is better than frozen by 1.3 points of accuracy [0.4, 2.1]",
        "long": {
            "chosen": "head",
            "metric": "macro_f1",
            "choices": {
                "head": {"score": 0.81, "work": 1.0, "allowed": True},
                "windows": {"score": 0.815, "work": 2.41, "allowed": False},
            },
        },
        "training": {
            "examples_per_second": 271.3, "tokens_per_second": 4382.0, "padding_waste": 0.0274, "utilisation": 0.3171,
            "epochs": 5, "best_epoch": 4, "rate_scale": 1.0, "alarms": [{"kind": "over-fitting", "message": "The loss of validation rows has risen since epoch 3.", "remedy": "Fewer epochs may do."}],
        },
        "seconds": {"total": 226.4, "read": 0.165, "check": 2.2, "split": 0.007, "features": 31.5, "baselines": 40.98, "fit": 162.2, "bundle": 0.32, "evaluate": 12.2},
        "lengths": {
            "rows": 8003, "mean": 16.2, "median": 14, "p95": 37, "p99": 53, "longest": 98, "cut": 0.0095, "lost": 0.0061,
            "histogram": [{"low": 4 + 5 * place, "high": 8 + 5 * place, "rows": rows} for place, rows in enumerate((900, 2600, 2100, 1200, 600, 300, 140, 80, 40, 43))],
        },
        "seeds": {"seeds": [17, 18, 19], "metrics": {main: {"values": [0.921, 0.93, 0.925], "mean": 0.9253, "sd": 0.0045, "low": 0.9141, "high": 0.9365}}, "sentence": "over 3 seeds accuracy is 0.925 on average, standard deviation 0.0045"},
        "calibration": None, "decide": None, "out_of_scope": None, "errors": None, "slices": None, "suspects": None,
    }  # fmt: skip
    if task in _CONFIDENT:
        scores |= _trust(labels, test["confusion"], draw)
    return scores


def history_of(task: str = "single-label", *, epochs: int = 5, seed: int = 1) -> list[dict[str, Any]]:
    """Make the lines of history.jsonl."""
    draw, lines = np.random.default_rng(seed), []
    for step in range(10, 250 * epochs + 1, 10):
        epoch = step / 250
        lines.append({"step": step, "epoch": epoch, "loss": float(0.05 + np.exp(-epoch) + 0.05 * draw.random()), "grad_norm": 1.0, "learning_rate": 1e-4, "seconds": float(step)})  # fmt: skip
        if step % 250 == 0:
            held = {f"eval_{name}": float(0.95 - 0.3 * np.exp(-epoch)) for name in _METRICS[task]}
            lines.append({"step": step, "epoch": epoch, **held, "eval_log_loss": float(0.3 + 0.2 * np.exp(-epoch)), "seconds": float(step)})  # fmt: skip
    return lines


def findings_of() -> list[dict[str, Any]]:
    """Make the findings of findings.json."""
    return [
        {"kind": "conflicting-labels", "severity": "error", "count": 2, "rows": ["tickets.csv:4", "tickets.csv:90"], "message": "Equal texts with different labels: 2 of 13,083 rows.", "remedy": "Decide on one label each."},
        {"kind": "text-on-two-sides", "severity": "warning", "count": 95, "rows": ["tickets.csv:4"], "message": "Texts of the test rows that stand in the training rows too: 95 of 3,080 rows (3.1%).", "remedy": "Remove them from one of the files: they make the test score too good."},
        {"kind": "cost", "severity": "note", "count": 489, "rows": [], "message": "Training takes about 9 seconds an epoch.", "remedy": "A smaller --max-length makes it shorter."},
    ]  # fmt: skip


def _test(task: str, labels: list[str], draw: np.random.Generator) -> dict[str, Any]:
    names = _METRICS[task]
    test: dict[str, Any] = {"rows": 3080}
    test |= {name: _estimate(0.93 - 0.004 * place) for place, name in enumerate(names)}
    if task == "regression":
        return test | {
            "mse": {"value": 648.8, "low": 644.1, "high": 653.8},
            "errors": {"0.025": -2.5921, "0.25": -0.6682, "0.5": 0.0134, "0.75": 0.6755, "0.975": 2.0743},
            "range": {"gold": [0.08, 9.7], "given": [0.31, 9.22]},
        }
    if task == "question-answering":
        kinds = {"answerable": {"rows": 24, "exact_match": 0.583, "f1": 0.6667}, "unanswerable": {"rows": 12, "exact_match": 0.8333, "f1": 0.8333}}  # fmt: skip
        return test | {"by_answer": kinds, "by_answer_length": {"1 word": kinds["answerable"]}, "by_question_word": {"who": kinds["answerable"]}, "no_answer_accuracy": 0.7778, "no_answer": 4.6526}  # fmt: skip
    matrix = _confusion(len(labels), draw)
    reports = _reports(labels, matrix)
    if task == "multi-label":
        more = {"threshold": 0.4141, "average_precision": 0.7256}
        return test | {"per_label": [each | more for each in reports], "labels_per_row": {"gold": 1.0333, "given": 1.1}}
    test |= {"per_class": reports, "confusion": matrix.tolist()}
    if task == "ordered":
        test["values"] = [float(each) for each in range(len(labels))]
    if task == "token-labels":
        view = {"correct": 373, "incorrect": 174, "partial": 5, "missed": 532, "spurious": 125, "precision": 0.5551, "recall": 0.3457, "f1": 0.426, "actual": 672, "possible": 1079}  # fmt: skip
        views = {name: view for name in ("strict", "exact", "partial", "type")}
        test |= {"scheme": "IOB2", "words": 23394, "per_tag": reports, "views": {"all": views, "by_label": {"person": views}}}  # fmt: skip
    else:
        test["soft"] = {"rows": 30, "mean_entropy": 0.2603, "agreement": {"rows": 30, "votes": 2.7667, "pairwise": 0.7, "fleiss_kappa": 0.3957, "krippendorff_alpha": 0.4246}}  # fmt: skip
    return test


def _estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.0091, "high": value + 0.0087}


def _confusion(classes: int, draw: np.random.Generator) -> np.ndarray[Any, Any]:
    """Most rows right; some neighbours confused a good deal, some others a little."""
    matrix = np.diag(draw.integers(15, 60, classes))
    for _ in range(2 * classes):
        gold = int(draw.integers(classes))
        matrix[gold, (gold + int(draw.integers(1, 4))) % classes] += int(draw.integers(0, 4)) if classes > 2 else 1
    return matrix


def _reports(labels: list[str], matrix: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    right, gold, given = np.diagonal(matrix), matrix.sum(1), matrix.sum(0)
    return [
        {"label": label, "precision": float(right[place] / given[place]), "recall": float(right[place] / gold[place]), "f1": float(2 * right[place] / (gold[place] + given[place])), "support": int(gold[place])}
        for place, label in enumerate(labels)
    ]  # fmt: skip


def _rung(name: str, main: str, test: Mapping[str, Any], draw: np.random.Generator) -> dict[str, Any]:
    worse = {"majority": 0.6, "tfidf": 0.1, "frozen": 0.013}[name]
    minus = {"value": worse, "low": worse - 0.009, "high": worse + 0.008}
    compared = {"name": name, "rows": test["rows"], main: minus, "only_ours_right": 83, "only_theirs_right": 43, "mcnemar_p": 0.000412, "verdict": "better", "sentence": f"fine-tuning is better than {name} by {100 * worse:.1f} points"}  # fmt: skip
    value = test[main]["value"] - worse
    return {main: _estimate(value), "seconds": float(draw.uniform(0.5, 40)), "detail": "1-2-grams, 20,910 features, C=10", "decision": {}, "fine_tuning_minus_rung": compared}  # fmt: skip


def _bins(draw: np.random.Generator, sure: float) -> list[dict[str, Any]]:
    edges = np.linspace(0.35, 1.0, 16)
    return [
        {"low": float(low), "high": float(high), "rows": 205, "confidence": float((low + high) / 2), "right": float(right), "right_low": float(max(0, right - 0.06)), "right_high": float(min(1, right + 0.05))}
        for low, high in itertools.pairwise(edges)
        for right in [min(1.0, ((low + high) / 2) ** sure + draw.normal(0, 0.02))]
    ]  # fmt: skip


def _trust(labels: list[str], matrix: list[list[int]], draw: np.random.Generator) -> dict[str, Any]:
    coverage = np.linspace(1, 0.02, 150)
    text = "My transfer has not arrived although it was booked three days ago, and nobody answers."
    confused = [
        {"gold": labels[gold], "guess": labels[guess], "rows": matrix[gold][guess], "share": matrix[gold][guess] / sum(matrix[gold]), "examples": [{"file": "tickets.csv", "row": 17, "text": text, "score": 0.71}]}
        for gold in range(len(labels)) for guess in range(len(labels)) if gold != guess and matrix[gold][guess]
    ]  # fmt: skip
    return {
        "calibration": {"temperature": 1.634, "fitted_on": "validation", "rows": 3080, "ece_before": 0.0512, "ece_after": 0.0093, "ece_after_low": 0.0041, "ece_after_high": 0.0149, "brier_before": 0.1123, "brier_after": 0.1041, "log_loss_before": 0.4815, "log_loss_after": 0.2711, "reliability": {"before": _bins(draw, 1.9), "after": _bins(draw, 1.0)}},
        "decide": {
            "accept": "95% right", "target": 0.95, "delta": 0.05, "threshold": 0.6123, "by_label": {labels[0]: 0.6123}, "coverage": 0.913, "guaranteed": True, "rows": 1000, "rows_needed": None,
            "sentence": "at least 95 % of the answers given are right (a promise that is broken with a chance of at most 5 %); 91.3 % of calibration rows get an answer",
            "test": {"rows": 3080, "coverage": {"value": 0.9075, "low": 0.897, "high": 0.917}, "right": {"value": 0.9621, "low": 0.954, "high": 0.969}},
            "risk_coverage": [{"threshold": float(1 - c), "coverage": float(c), "right": float(1 - 0.05 * c**2.5)} for c in coverage],
        },
        "out_of_scope": {"score": "energy", "threshold": -3.412, "chosen_from": "validation rows", "alarms_wanted": 0.05, "validation": {"rows": 1000, "alarms": 0.05}, "test": {"rows": 3080, "alarms": 0.0471}, "foreign": {"rows": 1000, "auroc": 0.9712, "recall": 0.7812}},
        "errors": {
            "worst": [{"file": "tickets.csv", "row": 4 + place, "text": text, "gold": labels[0], "guess": labels[1], "score": 0.991 - 0.01 * place, "loss": 5.91 - 0.3 * place, "words": [[3, 11, 0.4], [16, 19, -0.21], [20, 27, 0.1]]} for place in range(4)],
            "confused": sorted(confused, key=lambda each: -each["rows"])[:12],
        },
        "slices": [{"name": "texts of 41 to 98 tokens", "column": "length", "value": "41 to 98 tokens", "rows": 308, "right": {"value": 0.851, "low": 0.807, "high": 0.886}, "rest": 0.9383, "difference": -0.0873, "low": -0.128, "high": -0.051, "p": 0.00003, "sentence": "Of 308 texts of 41 to 98 tokens 85.1% are right, of the others 93.8%: 8.7 points less [5.1, 12.8]."}],
        "suspects": {"rows": 8003, "flagged": 112, "file": "suspects.csv", "worst": [{"file": "tickets.csv", "row": 612, "text": text, "label": labels[0], "suggested": labels[1], "quality": 0.0123}]},
    }  # fmt: skip
