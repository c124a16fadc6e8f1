"""adapt: an encoder goes on learning from raw texts of a domain, before it is fine-tuned on labelled ones.

Continued masked-language-model training as in Gururangan et al. 2020, "Don't Stop Pretraining", with BERT's
whole-word masking.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith import encoders, threads
from bertsmith.atomic import sha256
from bertsmith.clock import Clock, in_words
from bertsmith.encoders import Encoder
from bertsmith.errors import EncoderError, UsageError
from bertsmith.listener import Listener, Silent
from bertsmith.masked import folders
from bertsmith.masked.masking import Masking
from bertsmith.masked.texts import Sides, Texts, hold_out, read_texts
from bertsmith.masked.windows import Windows, count_special, make_windows

if TYPE_CHECKING:
    from bertsmith.masked.learning import Material, Worked
    from bertsmith.masked.model import MaskedModel

HEAD_LEARNING_RATE = 1e-3
"""For the first stage, in which a fresh head learns alone."""
_PACKAGES = ("bertsmith", "torch", "transformers", "tokenizers", "numpy")


@dataclass(frozen=True)
class Settings:
    """Everything that decides what comes out.

    Attributes:
        encoder: The encoder to begin with.
        epochs: Times that each text is read.
        max_length: Tokens of a window; longer texts become several.
        learning_rate: The highest.
        batch_size: Windows of a step.
        mask_share: Share of the words that is left out.
        held_out: Share of the distinct texts that is measured on and not learned from; at most 2,000 texts.
        head_epochs: Epochs in which a head that the encoder came without learns alone, first.
        seed: Seed of everything that is drawn.
    """

    encoder: str = encoders.EMBEDDED
    epochs: int = 3
    max_length: int = 128
    learning_rate: float = 1e-4
    batch_size: int = 32
    mask_share: float = 0.15
    held_out: float = 0.05
    head_epochs: int = 1
    seed: int = 42

    def check(self) -> None:
        """Refuse settings that are out of range.

        Raises:
            UsageError: Some are; all are named at once.
        """
        must = {
            "encoder": (bool(self.encoder), "a name or a folder"),
            "epochs": (self.epochs >= 1, "a whole number from 1"),
            "max_length": (self.max_length >= 8, "a whole number from 8"),
            "learning_rate": (0 < self.learning_rate < 1, "a number in (0, 1)"),
            "batch_size": (self.batch_size >= 1, "a whole number from 1"),
            "mask_share": (0 < self.mask_share < 1, "a number in (0, 1)"),
            "held_out": (0 < self.held_out <= 0.5, "a number in (0, 0.5]"),
            "head_epochs": (self.head_epochs >= 0, "a whole number from 0"),
            "seed": (self.seed >= 0, "a whole number from 0"),
        }
        wrong = [
            f"'--{name.replace('_', '-')}' must be {what}. Got {getattr(self, name)!r} instead."
            for name, (is_right, what) in must.items()
            if not is_right
        ]
        if wrong:
            raise UsageError("\n".join(wrong))


@dataclass(frozen=True)
class Adapted:
    """What came of it.

    Attributes:
        folder: The adapted encoder.
        texts: Texts that were learned from.
        held_out: Texts that were measured on.
        windows: Windows that were learned from.
        tokens: Their tokens, special ones included.
        fresh_head: True where the encoder came without a masked-word head.
        before: Perplexity on the held-out texts at the start. With a fresh head that of a table of word
            frequencies, which says nothing about the encoder.
        head: Perplexity once the fresh head had learned alone: what the encoder knew before; else None.
        after: Perplexity at the end.
        precision: bf16 where this machine is faster with it (weights stay fp32), else fp32.
        tokens_per_second: Tokens a second while the whole encoder learned.
        seconds: Seconds in all.
    """

    folder: Path
    texts: int
    held_out: int
    windows: int
    tokens: int
    fresh_head: bool
    before: float
    head: float | None
    after: float
    precision: str
    tokens_per_second: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures as `adapt.json` and `adapt --json` have them."""
        return {
            "folder": self.folder.name,
            "texts": self.texts,
            "held_out": self.held_out,
            "windows": self.windows,
            "tokens": self.tokens,
            "fresh_head": self.fresh_head,
            "perplexity": {"before": _short(self.before), "head": _short(self.head), "after": _short(self.after)},
            "precision": self.precision,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "seconds": round(self.seconds, 1),
        }


def adapt(  # noqa: PLR0913 - a verb: texts, place, settings, and where it runs
    texts: str | Path | Iterable[str],
    *,
    out: str | Path,
    settings: Settings | None = None,
    text: str = "",
    encoding: str = "",
    device: str = "auto",
    threads_wanted: int | str = "auto",
    force: bool = False,
    listener: Listener | None = None,
) -> Adapted:
    """Let an encoder go on learning from raw texts; `train --encoder OUT` takes what comes out.

    Args:
        texts: A file of texts (see `read_texts`), or the texts themselves.
        out: Folder of the adapted encoder; it is whole or not there.
        settings: How; None takes the defaults.
        text: Column of texts; "" finds it.
        encoding: Encoding of the file; "" is UTF-8.
        device: auto, cpu, cuda, cuda:1, mps.
        threads_wanted: CPU threads.
        force: Replace an adapted encoder that is already at `out`; nothing else is ever deleted.
        listener: Told of progress.

    Raises:
        UsageError: A setting is out of range, a path or column is not there, or `out` is taken.
        DataError: The file is broken, or has no two different texts.
        EncoderError: The encoder is not there or cannot learn masked words.
    """
    settings, listener, clock = settings or Settings(), listener or Silent(), Clock()
    settings.check()
    folders.check_free(Path(out), force=force)
    encoders.require("torch", what="adapting", extra="train")
    number = threads.resolve(threads_wanted)
    threads.limit_libraries(number)
    encoder = encoders.find(settings.encoder)
    _check_length(encoder, settings)
    found = read_texts(texts, text=text, encoding=encoding)
    sides = hold_out(found.values, share=settings.held_out, seed=settings.seed)
    listener.tell("read", f"{len(found):,} texts{found.note}; {len(sides.held_out):,} held out", aside=found.source)
    learned = _Learned(encoder, settings, device=device, threads=number, listener=listener)
    learned.run(sides)
    adapted = learned.adapted(Path(out), sides, seconds=clock.total)
    with folders.placing(Path(out)) as folder:
        learned.save(folder)
        folders.write_record(folder, _record(adapted, settings, found, encoder))
    listener.tell("adapt", f"done in {in_words(clock.total)}", aside=str(out))
    return adapted


class _Learned:
    """The steps of an adaptation, and what each came to."""

    def __init__(self, encoder: Encoder, settings: Settings, *, device: str, threads: int, listener: Listener) -> None:
        import torch
        import transformers

        from bertsmith.inference.torch_engine import pick_device
        from bertsmith.masked.model import load

        torch.set_num_threads(threads)
        transformers.set_seed(settings.seed)
        self._device = pick_device(device)
        self._encoder, self._settings, self._listener = encoder, settings, listener
        self._masked: MaskedModel = load(encoder)
        self.head: float | None = None

    def run(self, sides: Sides) -> None:
        """Measure, let a fresh head learn alone, let all of it learn, measure."""
        from bertsmith.masked.learning import Stage, perplexity
        from bertsmith.training.peak import has_fast_bf16

        settings, model, tell = self._settings, self._masked.model, self._listener.tell
        learn_from, measured = self._materials(sides)
        self.windows = learn_from.windows
        tell("tokens", f"{len(self.windows):,} windows, {len(self.windows.ids):,} tokens")
        if self._masked.fresh_head:
            self._begin_head(learn_from)
        model.to(self._device)
        self._bf16 = has_fast_bf16(self._device)
        self.before = perplexity(model, measured)
        tell("before", f"perplexity {_shown(self.before)} on held-out texts")
        if self._masked.fresh_head and settings.head_epochs:
            stage = Stage(
                "head", settings.head_epochs, HEAD_LEARNING_RATE, settings.batch_size, first_epoch=settings.epochs
            )
            self._learn(self._masked.head_parameters(), learn_from, stage)
            self.head = perplexity(model, measured)
            tell("head", f"perplexity {_shown(self.head)} with a trained head on the encoder as it was")
        stage = Stage("adapt", settings.epochs, settings.learning_rate, settings.batch_size)
        self.worked = self._learn(list(model.parameters()), learn_from, stage)
        self.after = perplexity(model, measured)
        tell(
            "after",
            f"perplexity {_shown(self.after)}",
            aside=f"{self.worked.tokens / self.worked.seconds:,.0f} tokens/s",
        )

    def adapted(self, folder: Path, sides: Sides, *, seconds: float) -> Adapted:
        """Gather the figures."""
        return Adapted(
            folder=folder,
            texts=len(sides.learn),
            held_out=len(sides.held_out),
            windows=len(self.windows),
            tokens=len(self.windows.ids),
            fresh_head=self._masked.fresh_head,
            before=self.before,
            head=self.head,
            after=self.after,
            precision="bf16" if self._bf16 else "fp32",
            tokens_per_second=self.worked.tokens / self.worked.seconds,
            seconds=seconds,
        )

    def save(self, folder: Path) -> None:
        """Write the model."""
        from bertsmith.masked.model import save

        self._masked.model.to("cpu")
        save(self._masked, self._encoder, folder)

    def _materials(self, sides: Sides) -> tuple[Material, Material]:
        from bertsmith.masked.learning import Material

        settings, tokenizer = self._settings, self._encoder.tokenizer()
        mask_id, _ = mask_token(self._encoder)
        special = frozenset(number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special)
        size = min(tokenizer.get_vocab_size(), int(self._masked.model.config.vocab_size))
        ordinary = np.setdiff1d(np.arange(size, dtype=np.int32), np.array(sorted(special), np.int32))
        masking = Masking(settings.mask_share, mask_id, ordinary, settings.seed)
        cut = [
            make_windows(tokenizer, each, max_length=settings.max_length, special=special)
            for each in (sides.learn, sides.held_out)
        ]
        _check_words(self._encoder, *cut)
        first, second = (Material(windows, masking, self._encoder.pad_id) for windows in cut)
        return first, second

    def _begin_head(self, learn_from: Material) -> None:
        import torch

        from bertsmith.masked.model import prepare_fresh_head

        self._listener.tell("head", f"{self._encoder.name} has no masked-word head; a fresh one is put on it")
        size = int(self._masked.model.config.vocab_size)
        counts = np.bincount(learn_from.windows.ids[learn_from.windows.words >= 0], minlength=size)
        prepare_fresh_head(self._masked, torch.from_numpy(counts).float())

    def _learn(self, parameters: list[Any], learn_from: Material, stage: Any) -> Worked:
        from bertsmith.masked.learning import learn

        return learn(
            self._masked.model, parameters, learn_from, stage,
            seed=self._settings.seed, bf16=self._bf16, listener=self._listener,
        )  # fmt: skip


def mask_token(encoder: Encoder) -> tuple[int, str]:
    """Return the id and the spelling of an encoder's mask.

    Raises:
        EncoderError: It has none.
    """
    tokenizer = encoder.transformers_tokenizer()
    if tokenizer.mask_token is None or tokenizer.mask_token_id is None:
        raise EncoderError(
            f"{encoder.name}: its tokenizer has no mask token, so it never learned masked words.",
            tip="Take an encoder of the BERT family, such as minilm or bert-base-uncased.",
        )
    return int(tokenizer.mask_token_id), str(tokenizer.mask_token)


def _check_length(encoder: Encoder, settings: Settings) -> None:
    least, most = count_special(encoder.tokenizer()) + 2, encoder.max_tokens
    if not least <= settings.max_length <= most:
        raise UsageError(
            f"'--max-length' must be a whole number from {least} to {most}, which is what {encoder.name} takes. "
            f"Got {settings.max_length} instead."
        )


def _check_words(encoder: Encoder, learn: Windows, held_out: Windows) -> None:
    for windows, what in ((learn, "texts to learn from"), (held_out, "held-out texts")):
        if not (windows.words >= 0).any():
            raise EncoderError(
                f"{encoder.name}: its tokenizer knows no word of the {what}.",
                tip="Is it an encoder for this language and script?",
            )


def _record(adapted: Adapted, settings: Settings, texts: Texts, encoder: Encoder) -> dict[str, Any]:
    weights = {file.name: sha256(file) for file in sorted(encoder.folder.glob("*.safetensors"))}
    return {
        "format": 1,
        **adapted.as_json(),
        "source": texts.source,
        "settings": asdict(settings),
        "encoder_sha256": weights,
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


__all__ = ["Adapted", "Settings", "adapt", "mask_token"]
