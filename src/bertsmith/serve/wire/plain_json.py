"""JSON as it goes out: UTF-8, no NaN, no blanks."""

from __future__ import annotations

import json
from typing import Any

import orjson

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def as_bytes(value: Any) -> bytes:
    r"""Write a JSON value.

    Half a character, which UTF-8 cannot say, becomes a question mark.

    >>> as_bytes({"label": "gut", "score": 0.5})
    b'{"label":"gut","score":0.5}'
    """
    try:
        return orjson.dumps(value)
    except TypeError:  # half a character, or a whole number beyond 64 bits
        return _ENCODER.encode(value).encode("utf-8", "replace")
