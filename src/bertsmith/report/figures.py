"""How the report writes numbers: as many digits as the interval around them lets one believe."""

from __future__ import annotations

import math
from typing import Any

NOTHING = "\u2013"
_MINUS = "\u2212"
_MOST_DECIMALS = 4


def metric(value: Any, low: Any = None, high: Any = None) -> str:
    """Write a score; with an interval, no digit that the interval makes meaningless.

    >>> metric(0.92954, 0.91996, 0.93806), metric(0.2667, 0.1418, 0.4445), metric(648.82, 644.06, 653.8)
    ('0.930', '0.27', '649')
    """
    return _fixed(value, decimals(value, low, high)) if _is_number(value) else NOTHING


def interval(value: Any, low: Any, high: Any) -> str:
    """Write an interval with the digits of its score; "" where there is none.

    >>> interval(0.92954, 0.91996, 0.93806), interval(0.5, None, None)
    ('[0.920, 0.938]', '')
    """
    if not (_is_number(low) and _is_number(high)):
        return ""
    digits = decimals(value, low, high)
    return f"[{_fixed(low, digits)}, {_fixed(high, digits)}]"


def share(value: Any, low: Any = None, high: Any = None) -> str:
    """Write a share as percent.

    >>> share(0.8731), share(0.8731, 0.852, 0.89), share(1), share(0.00042)
    ('87.3 %', '87.3 %', '100 %', '<0.1 %')
    """
    if not _is_number(value):
        return NOTHING
    if 0 < abs(value) < 0.0005 and low is None:
        return f"{'<' if value > 0 else '>' + _MINUS}0.1 %"
    return f"{_percent(value, _share_decimals(value, low, high))} %"


def share_interval(value: Any, low: Any, high: Any) -> str:
    """Write the interval of a share, in percent; "" where there is none.

    >>> share_interval(0.8731, 0.852, 0.89)
    '[85.2, 89.0]'
    """
    if not (_is_number(low) and _is_number(high)):
        return ""
    digits = _share_decimals(value, low, high)
    return f"[{_percent(low, digits)}, {_percent(high, digits)}]"


def setting(value: Any) -> str:
    """Write a share that somebody chose, with no more digits than it has.

    >>> setting(0.95), setting(0.05), setting(0.985)
    ('95 %', '5 %', '98.5 %')
    """
    return f"{100 * value:.6g} %" if _is_number(value) else NOTHING


def points(value: Any, low: Any = None, high: Any = None) -> str:
    """Write a difference of shares in points, with its sign and, where there is one, its interval.

    >>> points(0.1234, 0.02, 0.25), points(0.031)
    ('+12 [2, 25]', '+3.1')
    """
    if not _is_number(value):
        return NOTHING
    digits = _share_decimals(value, low, high)
    sign = "+" if value > 0 else ""
    return f"{sign}{_percent(value, digits)} {share_interval(value, low, high)}".strip()


def count(value: Any) -> str:
    """Write a number of things.

    >>> count(13083), count(11.0)
    ('13,083', '11')
    """
    return f"{value:,.0f}".replace("-", _MINUS) if _is_number(value) else NOTHING


def plain(value: Any) -> str:
    """Write any number with three digits that count, and anything else as it is.

    >>> plain(0.0123456), plain(1234.5), plain(17), plain("IOB2"), plain(0.99996)
    ('0.0123', '1,234', '17', 'IOB2', '1')
    """
    if not _is_number(value):
        return NOTHING if value is None else str(value)
    if float(value).is_integer() or abs(value) >= 100:
        return count(value)
    return f"{value:.3g}".replace("-", _MINUS)


def p_value(value: Any) -> str:
    """Write a p-value.

    >>> p_value(0.0312), p_value(1e-9), p_value(0.6)
    ('0.031', '<0.001', '0.60')
    """
    if not _is_number(value):
        return NOTHING
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def decimals(value: Any, low: Any, high: Any) -> int:
    """Say how many decimals a score deserves.

    What is below 10 has three; two where half its interval is above 0.1, four where it is below 0.002. Larger numbers
    have what a third of half the interval begins with.
    """
    small = not _is_number(value) or abs(value) < 10
    if not (_is_number(low) and _is_number(high)) or high <= low:
        return 3 if small else 1
    half = (high - low) / 2
    if small:
        return 2 if half > 0.1 else 3 if half > 0.002 else _MOST_DECIMALS
    return min(max(-math.floor(math.log10(half / 3)), 0), 1)


def _share_decimals(value: Any, low: Any, high: Any) -> int:
    if _is_number(low) and _is_number(high) and high > low:
        return 0 if high - low > 0.2 else 1 if high - low > 0.004 else 2
    return 0 if float(value).is_integer() else 1


def _percent(value: float, digits: int) -> str:
    return _fixed(100 * value, digits)


def _fixed(value: float, digits: int) -> str:
    told = f"{value:,.{digits}f}"
    return told.lstrip("-") if not float(told.replace(",", "")) else told.replace("-", _MINUS)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
