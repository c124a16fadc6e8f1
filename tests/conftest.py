"""Shared fixtures: a tiny random encoder, toy data that can be learned, no network."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import csv
import random
from pathlib import Path

import pytest

WORDS = [
    "the",
    "a",
    "was",
    "is",
    "it",
    "we",
    "i",
    "they",
    "very",
    "quite",
    "film",
    "food",
    "room",
    "staff",
    "app",
    "shop",
    "plot",
    "soup",
    "bed",
    "update",
    "price",
    "good",
    "great",
    "lovely",
    "fresh",
    "kind",
    "bad",
    "awful",
    "stale",
    "rude",
    "broken",
    "slow",
    "okay",
    "average",
    "plain",
    "usual",
    "fine",
    "not",
    "and",
    "but",
    "at",
    "for",
    "of",
    "to",
    "in",
    "on",
    "no",
    "yes",
]
GOOD = ("good", "great", "lovely", "fresh", "kind")
BAD = ("bad", "awful", "stale", "rude", "broken")
PLAIN = ("okay", "average", "plain", "usual", "fine")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers and 32 units with random weights and a word-piece tokenizer, saved as a folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [
        *special,
        *WORDS,
        *(each for each in letters if each not in WORDS),
        *(f"##{each}" for each in letters),
        ".",
        ",",
        "!",
        "?",
        "-",
    ]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )  # fmt: skip
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=64, max_position_embeddings=64, pad_token_id=0,
        )
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    model.save_pretrained(folder)
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=64).save_pretrained(folder)
    return folder


def toy_rows(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Texts whose label is told by one word of three families, all different."""
    generator = random.Random(seed)
    families = {"positive": GOOD, "negative": BAD, "neutral": PLAIN}
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = generator.choice(list(families))
        words = [generator.choice(WORDS[:22]) for _ in range(generator.randint(4, 12))]
        words.insert(generator.randrange(len(words)), generator.choice(families[label]))
        rows[" ".join(words)] = label
    return list(rows.items())


@pytest.fixture(scope="session")
def toy_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 400 toy reviews with columns text and label."""
    path = tmp_path_factory.mktemp("toy") / "toy.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(toy_rows(400))
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BERTSMITH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real data sets are not here (BERTSMITH_DATA)")
    return folder


@pytest.fixture
def one_thread():
    """One thread of torch's: for models that are so small that a second one only waits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
