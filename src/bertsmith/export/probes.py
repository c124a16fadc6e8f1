"""Probes: made-up inputs whose answers are kept with an export, to see on another machine that it still gives them.

They are drawn from the vocabulary by a seed, so that no row of the user's travels with the model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.data.encode import TokenEncoder
from bertsmith.inference.exported import Probes

if TYPE_CHECKING:
    from bertsmith.inference.onnx_engine import OnnxEngine
    from bertsmith.inference.torch_engine import TorchEngine

Array = np.ndarray[Any, Any]
NUMBER = 64
LONGEST = 64
"""Tokens of the longest probe."""
LEAST_TOLERANCE = 1e-3
"""How far a logit of a usual size may always be off: rounding in another order is below a tenth of it."""
_USUAL_LOGIT = 10
_SEED = 20_240_612


def make(tokens: TokenEncoder, *, segments: bool, number: int = NUMBER) -> Probes:
    """Make up inputs of many lengths, without answers: ordinary tokens between the special ones of the tokenizer.

    Args:
        tokens: The model's encoder of texts.
        segments: Whether the model knows segments; then every second input has two of them.
        number: How many.
    """
    generator = np.random.default_rng(_SEED)
    vocabulary = _ordinary(tokens)
    longest = min(LONGEST, tokens.max_length)
    ids, types = [], []
    for place in range(number):
        frame_ids, frame_types = _frame(tokens, pair=segments and place % 2 == 1)
        room = max(1, longest - len(frame_ids) + _held(frame_ids))
        # Most are short, for every load of the export has to answer them.
        drawn = generator.choice(vocabulary, size=1 + round((room - 1) * (place / max(1, number - 1)) ** 3))
        filled, segment = _filled(frame_ids, frame_types, drawn)
        ids.append(filled[:longest])
        types.append(segment[:longest])
    return Probes(tuple(ids), tuple(types), ())


def answered_by(engine: OnnxEngine, probes: Probes) -> Probes:
    """Let an export answer each alone, and keep its logits."""
    from bertsmith.inference.onnx_engine import LOGITS

    return replace(probes, logits=tuple(engine.run(padded, [LOGITS])[0][0] for padded in probes.inputs()))


def answered_by_torch(engine: TorchEngine, probes: Probes) -> Probes:
    """Let torch answer each alone, and keep its logits."""
    from bertsmith.inference.outputs import head_outputs
    from bertsmith.inference.torch_engine import evaluating, to_inputs

    model = engine.model
    device = next(model.parameters()).device
    with evaluating(model):
        found = [head_outputs(model(**to_inputs(model, padded, device)))[0] for padded in probes.inputs()]
    return replace(probes, logits=tuple(each.float().cpu().numpy() for each in found))


def tolerances(export: Probes, torch: Probes) -> dict[str, float]:
    """Say how far logits of the export may be off on another machine: as far as they are from torch's, at the most.

    The sums of integers are exact on every CPU, but what is fp32 is rounded in another order, and a number that lies
    between two integers may then fall to the other one, which goes on through the layers. What comes of that is of
    the size of INT8's own error at most, which the gate has found small enough; integers that saturate are off by more.

    Returns:
        `tolerance`, for the farthest logit of all probes, and `usual`, for the mean of each probe's farthest logit.
    """
    farthest = [float(np.abs(a - b).max()) for a, b in zip(export.logits, torch.logits, strict=True)]
    scale = max(float(np.abs(each).max()) for each in torch.logits)
    least = max(LEAST_TOLERANCE, LEAST_TOLERANCE * scale / _USUAL_LOGIT)
    return {"tolerance": max(least, *farthest), "usual": max(least, float(np.mean(farthest)))}


def _ordinary(tokens: TokenEncoder) -> Array:
    """List the ids of the vocabulary that are not special."""
    special = {number for number, added in tokens.tokenizer.get_added_tokens_decoder().items() if added.special}
    special.add(tokens.pad_id)
    every = sorted(set(tokens.tokenizer.get_vocab().values()) - special)
    return np.array(every, dtype=np.int64)


def _frame(tokens: TokenEncoder, *, pair: bool) -> tuple[list[int], list[int]]:
    """Give what the tokenizer puts around texts: ids and segments, with -1 where a text stands."""
    text = "a"
    encoding = tokens.tokenizer.encode(text, text if pair else None)
    found: list[tuple[int, int]] = []
    for number, kind, special in zip(encoding.ids, encoding.type_ids, encoding.special_tokens_mask, strict=True):
        entry = (number if special else -1, kind)
        if special or not found or found[-1] != entry:
            found.append(entry)
    return [number for number, _ in found], [kind for _, kind in found]


def _held(frame: list[int]) -> int:
    return sum(number < 0 for number in frame)


def _filled(frame: list[int], kinds: list[int], drawn: Array) -> tuple[Array, Array]:
    """Put drawn tokens where texts stand, shared out over them."""
    places = [place for place, number in enumerate(frame) if number < 0]
    shares = dict(zip(places, np.array_split(drawn, max(1, len(places))), strict=False))
    parts = [shares.get(place, np.array([number])) for place, number in enumerate(frame)]
    types = [np.full(len(part), kind) for part, kind in zip(parts, kinds, strict=True)]
    return np.concatenate(parts).astype(np.int64), np.concatenate(types).astype(np.int64)
