"""Toy rows for every task, that can be learned in seconds: each answer is told by single words."""

from __future__ import annotations

import random
from typing import Any

from tests.conftest import BAD, GOOD, PLAIN, WORDS

FAMILIES = {"good": GOOD, "bad": BAD, "plain": PLAIN}
_FILLING = WORDS[:22]


def filled(generator: random.Random, told: list[str], *, length: int = 8) -> list[str]:
    """Hide words among others."""
    words = [generator.choice(_FILLING) for _ in range(length)]
    for word in told:
        words.insert(generator.randrange(len(words) + 1), word)
    return words


def multi_label(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Each family of words that occurs is a label; a quarter of the rows has none."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        labels = [name for name in FAMILIES if generator.random() < 0.4]
        told = [generator.choice(FAMILIES[name]) for name in labels]
        rows.append({"text": " ".join(filled(generator, told, length=3)), "labels": labels})
    return rows


def stars(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """One star for a bad word, two for a plain one, three for a good one."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        star = generator.randint(1, 3)
        word = generator.choice(FAMILIES[("bad", "plain", "good")[star - 1]])
        rows.append({"text": " ".join(filled(generator, [word])), "label": star})
    return rows


def numbers(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The number is 20 for every good word, less 20 for every bad one, and a bit of noise."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        good, bad = generator.randint(0, 2), generator.randint(0, 2)
        told = [generator.choice(GOOD) for _ in range(good)] + [generator.choice(BAD) for _ in range(bad)]
        value = 50 + 20 * (good - bad) + generator.gauss(0, 1)
        rows.append({"text": " ".join(filled(generator, told)), "value": round(value, 3)})
    return rows


def annotated(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Three annotators, each right nine times of ten."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        name = generator.choice(list(FAMILIES))
        votes = [name if generator.random() < 0.9 else generator.choice(list(FAMILIES)) for _ in range(3)]
        text = " ".join(filled(generator, [generator.choice(FAMILIES[name])]))
        rows.append({"text": text, "ann": votes[0], "bob": votes[1], "cid": votes[2]})
    return rows


def tagged(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """A good word begins a span of type GOOD that a plain word goes on with; a bad word is a span of its own."""
    generator = random.Random(seed)
    rows = []
    for _ in range(count):
        tokens, tags = [], []
        for _ in range(generator.randint(3, 12)):
            draw = generator.random()
            if draw < 0.2:
                tokens += [generator.choice(GOOD), generator.choice(PLAIN)]
                tags += ["B-GOOD", "I-GOOD"]
            elif draw < 0.35:
                tokens.append(generator.choice(BAD))
                tags.append("B-BAD")
            else:
                tokens.append(generator.choice(_FILLING))
                tags.append("O")
        rows.append({"tokens": tokens, "tags": tags})
    return rows


def questions(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The answer to every question is the one good word of its context."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        word = generator.choice(GOOD)
        context = " ".join(filled(generator, [word], length=12))
        start = context.split(" ").index(word)
        begin = len(" ".join(context.split(" ")[:start])) + (1 if start else 0)
        answers = {"text": [word], "answer_start": [begin]}
        rows.append({"id": str(number), "question": "was it good ?", "context": context, "answers": answers})
    return rows
