"""Placeholder until the evaluation is in; same contract."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, matthews_corrcoef

from bertsmith.tasks.protocol import Array


def classification_metrics(targets: Array, probabilities: Array) -> dict[str, float]:
    """Accuracy, F1s, balanced accuracy, MCC, log loss."""
    guess = probabilities.argmax(-1)
    return {
        "accuracy": float(accuracy_score(targets, guess)),
        "macro_f1": float(f1_score(targets, guess, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(targets, guess, average="weighted", zero_division=0)),
        "balanced_accuracy": float(balanced_accuracy_score(targets, guess)),
        "mcc": float(matthews_corrcoef(targets, guess)),
        "log_loss": float(log_loss(targets, probabilities, labels=np.arange(probabilities.shape[1]))),
    }
