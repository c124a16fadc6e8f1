"""Logits become probabilities: softmax and sigmoid without scipy, whose import takes longer than answering a text."""

from __future__ import annotations

import numpy as np

from bertsmith.tasks.protocol import Array


def softmax(logits: Array) -> Array:
    """Give shares over the last axis that add up to 1; a row's shares are the same to the last bit in any batch.

    >>> softmax(np.array([[0.0, 0.0], [0.0, -np.inf]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def sigmoid(logits: Array) -> Array:
    """Give 1 / (1 + exp(-x)) of each, without overflow.

    >>> sigmoid(np.array([0.0, -1e9, 1e9])).tolist()
    [0.5, 0.0, 1.0]
    """
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1.0, small) / (1.0 + small))
