"""Cheap dropout: the same dropout, with masks that cost a fraction on a CPU.

torch draws one random number for each element. Here a random word of 64 bits serves four elements, 16 bits each, and
the mask is made by integer operations that the processor does many at a time: six times as fast for one thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

STEPS = 2**16
"""The probability to keep an element is a whole number of these."""
_FROM = -(2**63)


def keep_mask(like: torch.Tensor, probability: float) -> torch.Tensor:
    """Draw a dropout mask from torch's default generator: zeros, and one over the probability to keep.

    The probability to keep is rounded to a whole number of 1/65536 and the scale is made of the rounded one, so the
    mean of the mask is 1 without bias.

    Args:
        like: Gives shape and dtype; on the CPU.
        probability: That of a zero, above 0 and below 1.

    Returns:
        A tensor of that shape and dtype.
    """
    kept = min(max(round((1 - probability) * STEPS), 1), STEPS)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(_FROM, None)
    # In-place comparison of integers is vectorised in torch; one that makes booleans is not, nor is their conversion.
    drawn = words.view(torch.int16)[: like.numel()].ge_(STEPS // 2 - kept)
    return drawn.to(like.dtype).mul_(STEPS / kept).view(like.shape)


class CheapDropout(nn.Dropout):
    """`nn.Dropout` with cheap masks on the CPU; elsewhere, and in evaluation mode, it is the plain one."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Drop elements: floats of any shape → the same shape."""
        if self.training and 0 < self.p < 1 and input.device.type == "cpu" and input.is_floating_point():
            return input * keep_mask(input, self.p)
        return functional.dropout(input, self.p, self.training)


@contextmanager
def cheap_dropout(model: nn.Module) -> Iterator[None]:
    """Swap a model's `nn.Dropout` modules for cheap ones, for a while.

    The same seed gives the same masks again, though not those that torch would have drawn. Subclasses of `nn.Dropout`
    and those that work in place are left as they are.
    """
    swapped = [
        (parent, name, child, _cheap(child))
        for parent in model.modules()
        for name, child in parent._modules.items()
        if type(child) is nn.Dropout and not child.inplace
    ]
    for parent, name, _, cheap in swapped:
        setattr(parent, name, cheap)
    try:
        yield
    finally:
        for parent, name, plain, cheap in swapped:
            plain.train(cheap.training)
            setattr(parent, name, plain)


def _cheap(plain: nn.Dropout) -> CheapDropout:
    cheap = CheapDropout(plain.p)
    return cheap.train(plain.training)
