"""Whole-word masking: which words are left out, and what stands in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bertsmith.masked.windows import Windows

Array = np.ndarray[Any, Any]
REPLACED, SHUFFLED = 0.8, 0.1
"""Shares of the chosen words that become the mask, and that become random tokens; the rest stays as it is."""


@dataclass(frozen=True)
class Masking:
    """How words are masked.

    Attributes:
        share: Share of the words that is chosen.
        mask_id: Id of the mask.
        ordinary: Ids that random tokens are drawn from, int32.
        seed: Seed of the run.
    """

    share: float
    mask_id: int
    ordinary: Array
    seed: int


@dataclass(frozen=True)
class Masked:
    """A batch of masked windows.

    Attributes:
        inputs: `input_ids` and `attention_mask`, int64 `(windows, tokens)`.
        places: int64 `(masked,)`: places of the chosen tokens in the flattened `input_ids`.
        gold: int64 `(masked,)`: what stood there.
    """

    inputs: dict[str, Array]
    places: Array
    gold: Array


def mask_window(ids: Array, words: Array, masking: Masking, *, epoch: int, row: int) -> tuple[Array, Array]:
    """Mask one window: a pure function of its tokens, the seed, the epoch and the row.

    The number of words is the share of them, rounded up or down by chance so that it holds on average, and at
    least one. Of the chosen words 80 % become masks, 10 % random tokens, and 10 % stay (Devlin et al. 2019,
    section 3.1); all tokens of a word are treated alike, as in BERT's whole-word masking.

    Args:
        ids: int32 `(tokens,)`.
        words: int32 `(tokens,)`, as in `Windows`.
        masking: How.
        epoch: Number of the epoch; -1 is the fixed masking of held-out windows.
        row: Number of the window.

    Returns:
        The masked ids, int32 `(tokens,)`, and the places of the chosen tokens, int64, ascending.
    """
    count = int(words.max(initial=-1)) + 1
    if not count:
        return ids, np.zeros(0, np.int64)
    generator = np.random.Generator(np.random.PCG64([masking.seed, epoch + 1, row]))
    wanted = min(count, max(1, int(masking.share * count + generator.random())))
    fate = np.full(count + 1, -1.0)  # the last place is that of word -1
    fate[generator.permutation(count)[:wanted]] = generator.random(wanted)
    of_token = fate[words]
    changed = ids.copy()
    changed[(of_token >= 0) & (of_token < REPLACED)] = masking.mask_id
    shuffled = (of_token >= REPLACED) & (of_token < REPLACED + SHUFFLED)
    changed[shuffled] = generator.choice(masking.ordinary, int(shuffled.sum()))
    return changed, np.flatnonzero(of_token >= 0)


def mask_batch(windows: Windows, rows: Array, masking: Masking, *, epoch: int, pad_id: int) -> Masked:
    """Mask some windows and pad them to the longest."""
    width = int(windows.lengths[rows].max())
    inputs = np.full((len(rows), width), pad_id, np.int64)
    attention = np.zeros((len(rows), width), np.int64)
    places, gold = [], []
    for line, row in enumerate(rows.tolist()):
        ids = windows.ids_of(row)
        changed, chosen = mask_window(ids, windows.words_of(row), masking, epoch=epoch, row=row)
        inputs[line, : len(ids)] = changed
        attention[line, : len(ids)] = 1
        places.append(chosen + line * width)
        gold.append(ids[chosen])
    return Masked(
        {"input_ids": inputs, "attention_mask": attention},
        np.concatenate(places),
        np.concatenate(gold).astype(np.int64),
    )


__all__ = ["Masked", "Masking", "mask_batch", "mask_window"]
