"""fill: the most probable words for the places that are left out of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith import encoders, threads
from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError, UsageError
from bertsmith.masked.adapt import mask_token

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from bertsmith.masked.model import MaskedModel

MASK = "[MASK]"
"""What stands for a word that is left out, whatever the encoder itself calls it."""


@dataclass(frozen=True)
class Word:
    """A word for a place, and its probability among all tokens that the encoder knows."""

    word: str
    probability: float


@dataclass(frozen=True)
class Filled:
    """A text and, for each place that is left out, the most probable words, best first."""

    text: str
    places: tuple[tuple[Word, ...], ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as `fill --json` prints it."""
        return {
            "text": self.text,
            "places": [
                [{"word": each.word, "probability": each.probability} for each in words] for words in self.places
            ],
        }


def fill(
    source: str | Path, texts: Sequence[str], *, top: int = 5, device: str = "auto", threads_wanted: int | str = "auto"
) -> list[Filled]:
    """Fill in what is left out of texts.

    Only whole words are listed: special tokens and pieces that continue a word are passed over, so that the
    probabilities need not add up to one.

    Args:
        source: An adapted encoder, any other encoder with a masked-word head, or a run.
        texts: Each with `[MASK]`, or the encoder's own mask, once or several times.
        top: Words for each place.
        device: auto, cpu, cuda, cuda:1, mps.
        threads_wanted: CPU threads.

    Raises:
        UsageError: A text has no mask or is too long, or `top` is out of range.
        EncoderError: The model has no masked-word head, or is not there.
    """
    if top < 1:
        raise UsageError(f"'--top' must be a whole number from 1. Got {top} instead.")
    if not texts:
        raise UsageError("no text to fill in.", tip=f'bertsmith fill ENCODER "The film was {MASK}."')
    encoders.require("torch", what="filling in", extra="train")
    encoder = _found(source)
    number = threads.resolve(threads_wanted)
    threads.limit_libraries(number)
    mask_id, mask = mask_token(encoder)
    ids = [_ids(encoder, text, mask_id, mask) for text in texts]
    masked = _loaded(encoder, device, number)
    words = _words(encoder.tokenizer(), int(masked.model.config.vocab_size))
    return [Filled(text, _places(masked, each, mask_id, words, top)) for text, each in zip(texts, ids, strict=True)]


def _found(source: str | Path) -> Encoder:
    """Take a run's model folder for the run."""
    model = Path(source) / "model"
    if (model / "bertsmith.json").is_file():
        return Encoder(str(source), encoders.find(str(model)).folder)
    return encoders.find(str(source))


def _ids(encoder: Encoder, text: str, mask_id: int, mask: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Tokenize a text.

    Raises:
        UsageError: It has no mask, or is too long.
    """
    ids = np.asarray(encoder.tokenizer().encode(text.replace(MASK, mask)).ids, np.int64)
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    if mask_id not in ids:
        own = "" if mask == MASK else f" (or {mask})"
        raise UsageError(
            f"{shown!r} leaves nothing out.", tip=f'Write {MASK}{own} for each word to fill in: "The film was {MASK}."'
        )
    if len(ids) > encoder.max_tokens:
        raise UsageError(
            f"{shown!r} has {len(ids):,} tokens; {encoder.name} takes {encoder.max_tokens:,}.", tip="Shorten the text."
        )
    return ids


def _loaded(encoder: Encoder, device: str, number: int) -> MaskedModel:
    """Load the model.

    Raises:
        EncoderError: Its head has learned nothing.
    """
    import torch

    from bertsmith.inference.torch_engine import pick_device
    from bertsmith.masked.model import load

    torch.set_num_threads(number)
    masked = load(encoder)
    if masked.fresh_head:
        is_run = (encoder.folder / "bertsmith.json").is_file()
        raise EncoderError(
            f"{encoder.name}: {'its model is a classifier, which' if is_run else 'it'} has no masked-word head, "
            "so it cannot name words.",
            tip="Let an encoder learn them from your texts: bertsmith adapt TEXTS --out ENCODER; then fill ENCODER.",
        )
    masked.model.to(pick_device(device)).eval()
    return masked


def _words(tokenizer: Tokenizer, size: int) -> dict[int, str]:
    """Return the tokens that are words of their own, by id."""
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    piece = getattr(tokenizer.model, "continuing_subword_prefix", None) or "\0"
    found = {}
    for token, number in tokenizer.get_vocab().items():
        if number < size and number not in special and not token.startswith((piece, "[unused")):
            word = tokenizer.decode([number]).strip()
            if word:
                found[number] = word
    return found


def _places(
    masked: MaskedModel, ids: np.ndarray[Any, np.dtype[np.int64]], mask_id: int, words: dict[int, str], top: int
) -> tuple[tuple[Word, ...], ...]:
    import torch

    from bertsmith.masked.model import masked_logits

    device = next(masked.model.parameters()).device
    given = torch.from_numpy(ids[None]).to(device)
    places = torch.from_numpy(np.flatnonzero(ids == mask_id)).to(device)
    with torch.inference_mode():
        inputs = {"input_ids": given, "attention_mask": torch.ones_like(given)}
        shares = masked_logits(masked.model, inputs, places).float().softmax(-1).cpu().numpy()
    return tuple(_best(row, words, top) for row in shares)


def _best(shares: np.ndarray[Any, np.dtype[np.float32]], words: dict[int, str], top: int) -> tuple[Word, ...]:
    """Take the most probable words; of tokens that read alike the first counts."""
    best: dict[str, Word] = {}
    for number in np.argsort(-shares, kind="stable").tolist():
        if number in words:
            best.setdefault(words[number], Word(words[number], float(shares[number])))
        if len(best) == top:
            break
    return tuple(best.values())


__all__ = ["MASK", "Filled", "Word", "fill"]
