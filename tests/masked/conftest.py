"""One adaptation of the tiny encoder, made once."""

from __future__ import annotations

import random

import pytest

from bertsmith.masked.adapt import Adapted, Settings, adapt
from tests.conftest import BAD, GOOD

SETTINGS = {"epochs": 12, "max_length": 32, "learning_rate": 1e-2, "batch_size": 16, "head_epochs": 2}


def toy_texts(count: int, *, seed: int = 0) -> list[str]:
    """Short texts in which words follow from each other."""
    generator = random.Random(seed)
    texts: dict[str, None] = {}
    while len(texts) < count:
        thing = generator.choice(["film", "food", "room", "staff"])
        praise = generator.choice([GOOD, BAD])
        other = generator.choice(["plot", "soup", "bed", "price", "app"])
        texts[f"the {thing} was {praise[0]} and {praise[1]} but the {other} is {generator.choice(praise)} ."] = None
    return list(texts)


@pytest.fixture(scope="session")
def settings(tiny_encoder) -> Settings:
    return Settings(encoder=str(tiny_encoder), **SETTINGS)


@pytest.fixture(scope="session")
def adapted(settings, tmp_path_factory) -> Adapted:
    """The tiny encoder, adapted to 160 toy texts."""
    out = tmp_path_factory.mktemp("adapted") / "ours"
    return adapt(toy_texts(160), out=out, settings=settings, device="cpu", threads_wanted=1)
