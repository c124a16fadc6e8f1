"""What the client of `serve_load.py` asks: texts in a fixed order, texts of all lengths, and rubbish."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

from serve_load_client import Request
from serve_load_servers import post

SEED = 2026
SHARES = {"short": 0.5, "long": 0.2, "word": 0.2, "endless": 0.1}
"""How the texts of a soak are mixed: BANKING77, IMDB, single words, texts of 2,000 tokens."""
RUBBISH = 0.01
"""Share of a soak's requests that no server can answer."""
MOST_BODY = 1_000_000
"""Bytes of a body that the soak's server takes."""
_ENDLESS = 2_000


def shuffled(texts: Sequence[str]) -> list[str]:
    """Put texts in an order that is the same every time."""
    found = list(texts)
    random.Random(SEED).shuffle(found)
    return found


def varied(short: Sequence[str], long: Sequence[str], count: int) -> list[str]:
    """Draw texts of all lengths.

    Args:
        short: Texts of a line.
        long: Texts of a page; words, and texts of 2,000 tokens and more, are made of them.
        count: How many are drawn.
    """
    draw = random.Random(SEED)
    words = [word for text in long[:200] for word in text.split()]

    def endless() -> str:
        begin = draw.randrange(max(1, len(words) - _ENDLESS))
        # A word is a token at least.
        return " ".join((words[begin:] + words * (_ENDLESS // len(words) + 1))[:_ENDLESS])

    makers: dict[str, Callable[[], str]] = {
        "short": lambda: draw.choice(short),
        "long": lambda: draw.choice(long),
        "word": lambda: draw.choice(words),
        "endless": endless,
    }
    kinds = draw.choices(list(SHARES), list(SHARES.values()), k=count)
    return [makers[kind]() for kind in kinds]


def rubbish(path: str) -> list[Request]:
    """Make requests that no server can answer: broken JSON, wrong types, bodies too large, halves of requests."""
    whole = json.dumps({"inputs": "Where is my card?"}).encode()
    broken = [b"", b"{", b'{"inputs": "a', b"\xff\xfe", b'{"inputs": NaN}', whole + b"}", b"[" * 100_000]
    values: tuple[object, ...] = (
        None,
        7,
        True,
        {},
        [],
        [7],
        [["a"], 7],
        {"text": 7},
        [["a", "b", "c"]],
        {"text": "a", "text_pair": []},
    )
    wrong = [json.dumps({"inputs": value}).encode() for value in values]
    wrong += [b"7", b"null", b'"text"', b"{}", b'{"inputs": "a", "parameters": {"top_k": "many"}}']
    large = [json.dumps({"inputs": "a" * MOST_BODY}).encode(), json.dumps({"inputs": [["a"]] * MOST_BODY}).encode()]
    return [
        post(path, whole[:9], length=len(whole), hang_up=True),
        *(post(path, body) for body in large),
        Request(b"POST /pre", b"", hang_up=True),
        Request(b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: minus one\r\n", b""),
        post(path, whole, hang_up=True),
        Request(b"GET " + b"/a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n", b""),
        post(path, b"", length=len(whole), hang_up=True),
        *(post(path, body) for body in (*broken, *wrong)),
    ]


def with_rubbish(good: Sequence[Request], bad: Sequence[Request], share: float) -> tuple[list[Request], set[int]]:
    """Put requests in a row, some of them bad.

    Args:
        good: Those that are to be answered; each stands in the row once, in this order.
        bad: Those that cannot be; each in turn.
        share: Share of the row that is bad.

    Returns:
        The row, and where in it the bad ones stand.
    """
    count = round(len(good) * share / (1 - share))
    size = len(good) + count
    places = sorted(random.Random(SEED).sample(range(size), count))
    row = list(good)
    for number, place in enumerate(places):
        row.insert(place, bad[number % len(bad)])
    return row, set(places)
