"""The work of a training in floating point operations, and about how long this machine takes for it.

Counted are the matrix products of a standard encoder and its head, one multiplication and one addition as two
operations; embeddings, norms, softmax and the optimizer are not. `tests/data/test_check.py` holds the count
against torch's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from threadpoolctl import threadpool_limits

from bertsmith.errors import EncoderError

Array = np.ndarray[Any, Any]

BACKWARD = 2
"""A backward pass costs two forward passes: one product for the inputs' gradient, one for the weights'."""
UTILISATION = 0.5
"""Share of the fp32 peak that training reaches: 0.45 to 0.6 measured on 2 cores, up to 0.85 with bf16."""
_GATED = frozenset({"modernbert", "eurobert", "nomic_bert"})
"""Families whose feed-forward has three matrices instead of two."""


@dataclass(frozen=True)
class Sizes:
    """What the work of an encoder depends on.

    Attributes:
        layers: Number of layers.
        hidden: Width of the hidden states.
        inner: Width of the feed-forward part.
        products: Matrices of the feed-forward part.
    """

    layers: int
    hidden: int
    inner: int
    products: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Read the sizes from an encoder's `config.json`.

        Raises:
            EncoderError: A size is not there.
        """
        return cls(
            layers=_size(config, "num_hidden_layers", "n_layers", "n_layer"),
            hidden=_size(config, "hidden_size", "dim", "d_model", "n_embd"),
            inner=_inner(config),
            products=3 if config.get("model_type") in _GATED else 2,
        )


def forward_flops(
    config: Mapping[str, Any], tokens: Array | int, *, outputs: int = 2, first_token: bool = False, skipped: int = 0
) -> Array:
    """Count the operations of one forward pass over each sequence.

    Per layer: the four projections of attention, the feed-forward products, and the two products with the
    attention weights (Kaplan et al. 2020, arXiv 2001.08361, section 2.1, attention written out). Then a head
    of one dense layer and an output layer.

    Args:
        config: The encoder's `config.json`.
        tokens: Real tokens of each sequence, any shape.
        outputs: Outputs of the head.
        first_token: The last layer computes its first token only (keys and values of all).
        skipped: Lower layers that are not run.

    Returns:
        Operations, float64, of the shape of `tokens`.

    Raises:
        EncoderError: The configuration lacks a size.
    """
    sizes = Sizes.of(config)
    length = np.asarray(tokens, dtype=np.float64)
    linear = 2 * length * (4 * sizes.hidden**2 + sizes.products * sizes.hidden * sizes.inner)
    attention = 4 * length**2 * sizes.hidden
    head: Array | int = 2 * sizes.hidden**2 + 2 * sizes.hidden * outputs
    layers = sizes.layers - skipped
    if first_token and layers:
        others = length - 1
        saved = 2 * others * (2 * sizes.hidden**2 + sizes.products * sizes.hidden * sizes.inner)
        head = head - saved - 4 * others * length * sizes.hidden
    return np.asarray(layers * (linear + attention) + head)


def train_flops(
    config: Mapping[str, Any],
    tokens: Array | int,
    *,
    outputs: int = 2,
    first_token: bool = False,
    frozen: int = 0,
    cached: bool = False,
) -> float:
    """Count the operations of a forward and backward pass over all sequences.

    Args:
        config: The encoder's `config.json`.
        tokens: Real tokens of each sequence, any shape.
        outputs: Outputs of the head.
        first_token: The last layer computes its first token only.
        frozen: Lower layers that are not trained: nothing goes backward through them.
        cached: These were run once and are not run again.
    """
    trained = forward_flops(config, tokens, outputs=outputs, first_token=first_token, skipped=frozen)
    whole = forward_flops(config, tokens, outputs=outputs, first_token=first_token)
    return float((trained if cached else whole).sum()) + BACKWARD * float(trained.sum())


def probe_gemm(seconds: float = 0.2, *, size: int = 384) -> float:
    """Measure the fp32 peak of one core with numpy's BLAS, in operations a second.

    One thread and the best of many short products: programs beside this one disturb it little, while products
    on all cores wait for the slowest of them.

    Args:
        seconds: How long to measure.
        size: Rows and columns of the matrices.
    """
    left, right = np.ones((2, size, size), dtype=np.float32)
    result = np.empty((size, size), dtype=np.float32)
    best = float("inf")
    with threadpool_limits(1, user_api="blas"):
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end or best == float("inf"):
            np.matmul(left, right, out=result)
            best = min(best, time.perf_counter() - begin)
    return float(2 * size**3 / best)


def estimate_seconds(
    config: Mapping[str, Any], tokens: Array, *, epochs: int, peak: float, utilisation: float = UTILISATION
) -> float:
    """Estimate how long fine-tuning takes: all layers, no evaluation, no padding.

    An estimate within a factor of two: short texts and small batches reach less of the peak, bf16 more.

    Args:
        config: The encoder's `config.json`.
        tokens: Tokens of each training row, cut ones as they are after cutting, `(rows,)`.
        epochs: Passes over the rows.
        peak: fp32 operations a second of the whole machine: what `probe_gemm` gives, times the cores.
        utilisation: Share of the peak that training reaches.
    """
    return train_flops(config, tokens) * epochs / (peak * utilisation)


def _inner(config: Mapping[str, Any]) -> int:
    """Find the width of the feed-forward part; GPT-2's `n_inner` is null where it is four times the hidden width."""
    if "n_embd" in config:
        return int(config.get("n_inner") or 4 * config["n_embd"])
    return _size(config, "intermediate_size", "hidden_dim")


def _size(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    raise EncoderError(f"the encoder's config.json has no '{names[0]}', so the work of training it cannot be counted.")
