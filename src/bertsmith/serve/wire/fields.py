"""Fields of a JSON object that a client sent: each of its type, or refused by its name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from bertsmith.serve.asked import Refused

_SHOWN = 60
_MOST_TOP_K = 100_000


def wrong(detail: str) -> Refused:
    """Refuse what is JSON but not what was expected: 422."""
    return Refused(422, "wrong input", detail)


def shown(value: Any) -> str:
    """Show a value of a client's in a message, cut short.

    >>> shown({"a": 1}), shown(None), shown("good")
    ('an object', 'null', "the string 'good'")
    """
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return f"the string {value[:_SHOWN]!r}"
    names = {None: "null", True: "true", False: "false"}
    # 1 == True, so that the type must be asked too.
    return names[value] if value is None or isinstance(value, bool) else f"the number {value}"[:_SHOWN]


def json_object(value: Any, what: str = "The body") -> dict[str, Any]:
    """Take a value for a JSON object.

    Raises:
        Refused: 422; it is none.
    """
    if not isinstance(value, dict):
        raise wrong(f"{what} must be a JSON object. Got {shown(value)} instead.")
    return value


def refuse_unknown(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse a field that nothing reads, so that a slip of the pen is not taken for a default.

    Raises:
        Refused: 422; it names the field, and the nearest known one.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name[:_SHOWN], known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" There are {', '.join(known)}."
            raise wrong(f"unknown field {name[:_SHOWN]!r}.{hint}")


def strings(value: Any, name: str) -> tuple[str, ...]:
    """Take a value for a list of strings.

    Raises:
        Refused: 422; it says which entry is wrong.
    """
    if not isinstance(value, list):
        raise wrong(f"'{name}' must be a list of strings. Got {shown(value)} instead.")
    for place, each in enumerate(value):
        if not isinstance(each, str):
            raise wrong(f"'{name}' must be a list of strings. Number {place + 1} is {shown(each)} instead.")
    return tuple(value)


def boolean(given: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Take a field that is true or false; null and nothing are the default.

    Raises:
        Refused: 422; it is neither.
    """
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise wrong(f"'{name}' must be true or false. Got {shown(value)} instead.")
    return value


def top_k(given: Mapping[str, Any]) -> int | None:
    """Take how many labels are wanted; null and nothing are all of them.

    Raises:
        Refused: 422; it is no whole number of at least 1.
    """
    value = given.get("top_k")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise wrong(f"'top_k' must be a whole number of at least 1. Got {shown(value)} instead.")
    return min(value, _MOST_TOP_K)
