"""explain: the words of a text that speak for a label and against it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, TypeAlias, cast, get_args

import numpy as np

from bertsmith.errors import UsageError
from bertsmith.explaining.attribution import Attribution, Question, integrate
from bertsmith.explaining.explanation import Completeness, Explanation, Method, Word
from bertsmith.explaining.occlusion import Answers, occlude
from bertsmith.explaining.words import Reading, Span, reading, word_spans, word_weights, words_read
from bertsmith.inference.predictor import Predictor
from bertsmith.inference.torch_engine import TorchEngine

Array = np.ndarray[Any, Any]
Place: TypeAlias = tuple[int, Span]
"""Where a word stands: the text (0 or 1) and its characters there."""
METHODS: tuple[Method, ...] = get_args(Method)
_SURROGATE = re.compile("[\ud800-\udfff]")


def explain(
    engine: Answers,
    text: str,
    *,
    pair: str | None = None,
    label: str | None = None,
    method: str = "gradients",
    steps: int | None = None,
) -> Explanation:
    """Say which words of a text speak for a label and against it.

    Args:
        engine: A `Predictor`. Occlusion works with anything that has `labels` and `probabilities(texts)`.
        text: The text.
        pair: The second text, for a model of pairs.
        label: The label to explain; left out, the most probable one.
        method: `gradients`: integrated gradients, for models in torch; or `occlusion`: each word left out in turn.
        steps: Points of the integral; left out, they are doubled until it is exact to a hundredth.

    Returns:
        Words with weights in log odds.

    Raises:
        UsageError: The model does not classify texts, or the label or the method is not known or cannot be used.
        MissingExtraError: captum is not installed.
    """
    texts = tuple(_SURROGATE.sub("\ufffd", each) for each in (text, pair) if each is not None)
    _check(engine, method)
    probabilities = engine.probabilities(*([each] for each in texts))[0]
    target = _target(engine, label, probabilities)
    places = [(part, span) for part, each in enumerate(texts) for span in word_spans(each)]
    read = _reading(engine, texts)
    seen = np.concatenate([_seen(part, each, read) for part, each in enumerate(texts)])
    found = None
    if method == "gradients":
        weights, found = _by_gradients(cast("Predictor", engine), texts, target, steps=steps)
    else:
        weights = np.zeros(len(places))
        shown = [place for place, is_seen in zip(places, seen, strict=True) if is_seen]
        weights[seen] = occlude(engine, texts, shown, target)
    return Explanation(
        texts,
        label=engine.labels.names[target],
        score=float(probabilities[target]),
        method=cast("Method", method),
        words=_words(places, weights, seen),
        completeness=None if found is None else Completeness.of(found),
    )


def _check(engine: Answers, method: str) -> None:
    if method not in METHODS:
        raise UsageError(f"'method' must be one of {', '.join(METHODS)}. Got {method!r} instead.")
    if isinstance(engine, Predictor) and not engine.has_scores:
        raise UsageError(
            f"only the labels of texts can be explained; this is a {engine.task.name} model.",
            tip="It works for models of the tasks single-label, ordered and multi-label.",
        )
    if method == "gradients" and not _has_gradients(engine):
        raise UsageError(
            "explaining by gradients needs the fine-tuned model in torch, and this is another kind of model.",
            tip="Use --method occlusion, which works with every model.",
        )


def _has_gradients(engine: Answers) -> bool:
    """Say whether the answers are those of a torch model, and not of a rung or an engine around or instead of it."""
    return type(engine) is Predictor and engine.engine.name == "torch"


def _target(engine: Answers, label: str | None, probabilities: Array) -> int:
    names = engine.labels.names
    if label is None:
        return int(probabilities.argmax())
    if label not in names:
        near = difflib.get_close_matches(label, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
        raise UsageError(f"unknown label {label!r}. The model's labels are {listed}.{hint}")
    return names.index(label)


def _reading(engine: Answers, texts: tuple[str, ...]) -> Reading | None:
    """Find out which tokens are read; None where all are, or where nothing is known about tokens."""
    if not isinstance(engine, Predictor):
        return None
    encoded = engine.encode(*([each] for each in texts))
    return _read_by(engine, texts, encoded.window_lengths) if encoded.cut.any() else None


def _read_by(predictor: Predictor, texts: tuple[str, ...], lengths: Array) -> Reading:
    return reading(predictor.tokens, texts[0], texts[1] if len(texts) > 1 else None, lengths.tolist())


def _seen(part: int, text: str, read: Reading | None) -> Array:
    words = word_spans(text)
    if read is None:
        return np.ones(len(words), dtype=bool)
    mine = read.offsets[:, 0] == part
    return words_read(words, read.offsets[mine, 1:], read.read[mine], characters=len(text))


def _by_gradients(
    predictor: Predictor, texts: tuple[str, ...], target: int, *, steps: int | None
) -> tuple[Array, Attribution]:
    """Attribute log odds to tokens and add those of each word up, float64 `(words,)`."""
    encoded = predictor.encode(*([each] for each in texts))
    read = _read_by(predictor, texts, encoded.window_lengths)
    batch = encoded.pad([0])
    blank = batch["input_ids"].copy()
    for row, window in zip(blank, read.windows, strict=True):
        row[: len(window)][window >= 0] = encoded.pad_id
    model = cast("TorchEngine", predictor.engine).model
    found = integrate(model, Question(batch, blank, target, encoded.pooling), steps=steps)
    tokens = read.summed(found.weights)
    parts = []
    for part, text in enumerate(texts):
        mine = read.offsets[:, 0] == part
        parts.append(word_weights(word_spans(text), read.offsets[mine, 1:], tokens[mine], characters=len(text)))
    return np.concatenate(parts), found


def _words(places: Sequence[Place], weights: Array, seen: Array) -> tuple[Word, ...]:
    found = zip(places, weights.tolist(), seen.tolist(), strict=True)
    return tuple(Word(part, *span, weight, is_seen) for (part, span), weight, is_seen in found)
