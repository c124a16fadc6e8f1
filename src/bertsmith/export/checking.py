"""Whether a graph answers as the model it was made of does, for texts of any number and length."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.errors import ExportError
from bertsmith.export.graph import HEAD_INPUTS, LOGITS
from bertsmith.inference.head import catching_inputs, one_a_window
from bertsmith.inference.onnx_engine import open_session
from bertsmith.inference.outputs import head_outputs
from bertsmith.inference.torch_engine import evaluating

if TYPE_CHECKING:
    import onnx
    from onnxruntime import InferenceSession
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
CLOSE = 1e-4
"""How far a value may be from torch's, as a share of the largest (of 1 at least)."""
THREADS = (1, 2)
"""Numbers of threads at which a text's answer must be the same to the last bit, alone and in a batch."""


def usual_shapes(longest: int) -> list[tuple[int, ...]]:
    """Give batches to check a graph on: the tokens of each of their texts.

    >>> usual_shapes(64)
    [(1,), (64,), (2, 2), (9, 4, 1), (64, 33, 2, 7, 16), (17,)]
    """
    some = [(1,), (longest,), (2, 2), (9, 4, 1), (longest, longest // 2 + 1, 2, 7, 16), (17,)]
    return [tuple(min(tokens, longest) for tokens in texts) for texts in some]


def check(
    proto: onnx.ModelProto, model: PreTrainedModel, shapes: Iterable[Sequence[int]], *, close: float | None = CLOSE
) -> float:
    """Compare a graph with the model it was made of, on made-up texts.

    Every value must be close to torch's, and a text's answer must be the same to the last bit alone and in a padded
    batch, at one thread and at two.

    Args:
        proto: The graph.
        model: The model, on the CPU.
        shapes: Batches: the tokens of each of their texts, as `usual_shapes` gives them.
        close: How far a value may be from torch's, as a share of the largest (of 1 at least); None does not ask.

    Returns:
        The largest difference from torch, as such a share; 0 where it is not asked.

    Raises:
        ExportError: A value is too far from torch's, or depends on what else is in the batch.
    """
    graph, where = proto.SerializeToString(), f"the export of {type(model).__name__}"
    sessions = {threads: open_session(graph, threads) for threads in THREADS}
    farthest = 0.0
    for place, lengths in enumerate(shapes):
        batch = made_up(model, lengths, seed=place)
        for threads, session in sessions.items():
            found = _answers(session, batch)
            at = f"{where}, a batch of texts of {_listed(lengths)} tokens, {threads} threads".replace(
                "1 threads", "1 thread"
            )
            if close is not None:
                farthest = max(farthest, _near(found, _wanted(model, batch, found), batch, close=close, where=at))
            for other in sessions.values():
                _same_alone(other, batch, found, where=at)
    return farthest


def made_up(model: PreTrainedModel, lengths: Sequence[int], *, seed: int) -> Arrays:
    """Make up a batch of texts of random tokens, with padding behind the shorter ones.

    Returns:
        int64 `(texts, longest)` of `input_ids`, `attention_mask` and `token_type_ids`.
    """
    random = np.random.default_rng(seed)
    pad = model.config.pad_token_id or 0
    mask = (np.arange(max(lengths)) < np.asarray(lengths)[:, None]).astype(np.int64)
    ids = random.integers(0, model.config.vocab_size - 1, mask.shape)
    # No text holds the padding token: models of RoBERTa's kin do not count its place.
    ids = np.where(mask == 1, ids + (ids >= pad), pad)
    second = np.arange(max(lengths)) >= (np.asarray(lengths)[:, None] + 1) // 2
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": mask * second}


def _near(found: Arrays, wanted: Arrays, batch: Arrays, *, close: float, where: str) -> float:
    """Give the largest difference, as a share."""
    farthest = 0.0
    for name, values in found.items():
        counted = batch["attention_mask"].astype(bool) if values.ndim == 3 else slice(None)
        share = float(np.abs(values - wanted[name])[counted].max()) / max(1.0, float(np.abs(wanted[name]).max()))
        # A number that is none is not near.
        if not share <= close:
            raise ExportError(
                f"{where}: '{name}' is {share:.3g} of its largest value away from torch's; at most {close:.3g} was "
                "expected.",
                tip="Use --engine torch, and tell us: this is a fault of bertsmith or of torch's exporter.",
            )
        farthest = max(farthest, share)
    return farthest


def _same_alone(session: InferenceSession, batch: Arrays, found: Arrays, *, where: str) -> None:
    lengths = batch["attention_mask"].sum(axis=1)
    for row, tokens in enumerate(lengths):
        alone = _answers(session, {name: each[row : row + 1, :tokens] for name, each in batch.items()})
        for name, values in alone.items():
            together = found[name][row : row + 1]
            together = together[:, :tokens] if values.ndim == 3 else together
            if not np.array_equal(values, together):
                raise ExportError(
                    f"{where}: '{name}' of text {row + 1} is {np.abs(values - together).max():.3g} off from what it is "
                    "alone; the same to the last bit was expected.",
                    tip="Use --engine torch, and tell us: this is a fault of bertsmith or of ONNX Runtime.",
                )


def _wanted(model: PreTrainedModel, batch: Arrays, found: Arrays) -> Arrays:
    """Compute what torch gives for a batch, of the same arrays as were found."""
    import torch

    from bertsmith.inference.torch_engine import to_inputs

    inputs = to_inputs(model, batch, torch.device("cpu"))
    catching: Any = catching_inputs(model) if HEAD_INPUTS in found else contextlib.nullcontext([])
    with evaluating(model), catching as caught:
        wanted = {LOGITS: head_outputs(model(**inputs)).numpy()}
        if HEAD_INPUTS in found:
            wanted[HEAD_INPUTS] = one_a_window(caught[0], inputs["attention_mask"]).numpy()
    return wanted


def _answers(session: InferenceSession, batch: Arrays) -> Arrays:
    names = [each.name for each in session.get_outputs()]
    values = session.run(names, {each.name: batch[each.name] for each in session.get_inputs()})
    return dict(zip(names, values, strict=True))


def _listed(lengths: Sequence[int]) -> str:
    *most, last = (str(each) for each in lengths)
    return f"{', '.join(most)} and {last}" if most else last
