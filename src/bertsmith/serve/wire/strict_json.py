"""JSON as RFC 8259 has it, and nothing beyond: no NaN, no key twice, no endless depth."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn

from bertsmith.serve.asked import Refused

_SHOWN = 60


def read_json(body: bytes, *, most_depth: int) -> Any:
    """Read a JSON value.

    Args:
        body: UTF-8, without a byte order mark.
        most_depth: Arrays and objects within one another.

    Raises:
        Refused: 400; it says what is wrong, and at which byte or character.

    >>> read_json(b'{"inputs": "good"}', most_depth=4)
    {'inputs': 'good'}
    """
    if not body:
        raise _refused("The body is empty. A JSON object was expected.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"The body is not UTF-8: byte {error.start + 1:,} is 0x{body[error.start]:02x}.") from None
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _refused(f"The body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise _too_deep(most_depth) from None
    except ValueError:
        # Python refuses to read whole numbers of thousands of digits.
        raise _refused("The body has a whole number with too many digits.") from None
    # Brackets may stand in texts too; only where there are many is it worth a look at the value itself.
    if body.count(b"[") + body.count(b"{") > most_depth and is_deeper(value, most_depth):
        raise _too_deep(most_depth)
    return value


def is_deeper(value: Any, most: int) -> bool:
    """Say whether arrays and objects stand within one another more often than `most` times.

    >>> is_deeper([[1]], 1), is_deeper([[1]], 2)
    (True, False)
    """
    level: list[Any] = [value]
    for _ in range(most + 1):
        level = [inner for each in level if isinstance(each, list | dict) for inner in _inside(each)]
        if not level:
            return False
    return True


def _inside(value: list[Any] | dict[str, Any]) -> Iterable[Any]:
    # An empty array is a level as well.
    inner = value.values() if isinstance(value, dict) else value
    return inner or (None,)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        again = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _refused(f"The key {again[:_SHOWN]!r} stands twice in one object.")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _refused(f"The body has {name}, which is no JSON.")


def _too_deep(most: int) -> Refused:
    return _refused(f"The body has arrays or objects more than {most} deep.")


def _refused(detail: str) -> Refused:
    return Refused(400, "Not readable", detail)
