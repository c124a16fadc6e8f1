"""Pictures as SVG text, drawn with classes instead of colours, so that one picture serves a light and a dark page.

No inline style and no script: the page's content security policy forbids both. Everything that is said is
escaped. Lengths are in units of about a pixel.
"""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH = 360
"""Units that a picture is wide: that of a phone, so that its letters stay readable there."""
_NARROW, _BROAD = frozenset("ijl.,:;|'! ftr()[]-"), frozenset("mwMWGOQ@%")
_BREADTHS = (5.5, 8.2, 9.5, 13.0)
"""Units that narrow, usual, capital and broad letters of the pictures' text take, in a broad font."""


@dataclass(frozen=True)
class Scale:
    """A straight map from values to places; one value alone lies in the middle.

    >>> Scale(0, 10, 100, 200)(5)
    150.0
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        if self.high == self.low:
            return (self.start + self.end) / 2
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


@dataclass(frozen=True)
class Plot:
    """An area with two axes.

    Attributes:
        x: Places of values from left to right.
        y: Places of values; `start` is the bottom.
        x_title: What is told from left to right.
        y_title: What is told from bottom to top; it stands above the area.
        percent: Whether ticks are shares, told in percent.
    """

    x: Scale
    y: Scale
    x_title: str
    y_title: str
    percent: tuple[bool, bool] = (False, False)

    def axes(self) -> list[str]:
        """Draw grid lines, ticks and titles."""
        left, right, bottom, top = self.x.start, self.x.end, self.y.start, self.y.end
        parts = [text(0, top - 12, self.y_title, cls="soft")]
        for value, told in tick_texts(self.y.low, self.y.high, percent=self.percent[1]):
            place = self.y(value)
            parts += [line(left, place, right, place, cls="grid"), text(left - 6, place + 4, told, cls="tick end")]
        for value, told in tick_texts(self.x.low, self.x.high, percent=self.percent[0]):
            place = self.x(value)
            parts += [
                line(place, bottom, place, bottom + 4, cls="axis"),
                text(place, bottom + 18, told, cls="tick middle"),
            ]
        parts.append(line(left, bottom, right, bottom, cls="axis"))
        parts.append(text((left + right) / 2, bottom + 36, self.x_title, cls="soft middle"))
        return parts

    def curve(self, points: Iterable[tuple[float, float]], *, cls: str) -> str:
        """Draw straight lines from point to point."""
        places = " ".join(f"{short(self.x(x))},{short(self.y(y))}" for x, y in points)
        return f'<polyline points="{places}" class="curve {cls}"/>'


def picture(name: str, parts: Iterable[str], *, title: str, height: float, width: float = WIDTH) -> str:
    """Put parts into a picture.

    Args:
        name: Unique in the page; `[a-z-]` only.
        parts: SVG elements.
        title: The alternative text: what is seen, in a sentence or two.
        height: In units.
        width: In units.
    """
    fixed = f' width="{short(width)}" height="{short(height)}"' if width != WIDTH else ""
    return (
        f'<svg role="img" aria-labelledby="{name}-title" viewBox="0 0 {short(width)} {short(height)}"{fixed} '
        f'class="{"wide" if fixed else "chart"}"><title id="{name}-title">{escape(title)}</title>{"".join(parts)}</svg>'
    )


def text(x: float, y: float, told: str, *, cls: str = "", turned: float = 0) -> str:
    """Write a line of text; of `cls`, `middle` and `end` say which of its points is at (x, y)."""
    turn = f' transform="rotate({short(turned)} {short(x)} {short(y)})"' if turned else ""
    return f'<text x="{short(x)}" y="{short(y)}" class="{cls}"{turn}>{escape(told)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, *, cls: str) -> str:
    """Draw a straight line."""
    return f'<line x1="{short(x1)}" y1="{short(y1)}" x2="{short(x2)}" y2="{short(y2)}" class="{cls}"/>'


def circle(x: float, y: float, radius: float, *, cls: str) -> str:
    """Draw a dot."""
    return f'<circle cx="{short(x)}" cy="{short(y)}" r="{short(radius)}" class="{cls}"/>'


def box(x: float, y: float, width: float, height: float, *, cls: str, hint: str = "") -> str:
    """Draw a filled box; a hint is shown to who points at it."""
    shape = f'<rect x="{short(x)}" y="{short(y)}" width="{short(width)}" height="{short(height)}" class="{cls}"'
    return f"{shape}><title>{escape(hint)}</title></rect>" if hint else f"{shape}/>"


def key(entries: Sequence[tuple[str, str]], *, y: float) -> list[str]:
    """Name what is drawn, each in its own look: (class of the dot, name)."""
    parts, x = [], 5.0
    for cls, name in entries:
        parts += [circle(x, y - 4, 4, cls=cls), text(x + 9, y, name)]
        x += 28 + width_of(name)
    return parts


def tick_texts(low: float, high: float, *, most: int = 5, percent: bool = False) -> list[tuple[float, str]]:
    """Choose round values between two, and write them.

    >>> tick_texts(0.72, 1.0, percent=True)
    [(0.8, '80 %'), (0.9, '90 %'), (1.0, '100 %')]
    """
    step = _round_step((high - low) / most) if high > low else 1.0
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [round(place * step, 12) for place in range(first, last + 1)]
    digits = max(0, -math.floor(math.log10(step * (100 if percent else 1)) + 1e-9))
    unit = " %" if percent else ""
    return [(value, f"{value * (100 if percent else 1):,.{digits}f}{unit}".replace("-", "\u2212")) for value in values]


def around(values: Iterable[float], *, room: float = 0.06) -> tuple[float, float]:
    """Return a range that holds values with some room; shares keep between 0 and 1.

    >>> around([2.0, 4.0]), around([0.25, 1.0], room=0.1)
    ((1.88, 4.12), (0.175, 1.0))
    """
    known = list(values)
    low, high = min(known), max(known)
    more = (high - low) * room or abs(high) * room or 1.0
    if low >= 0 and high <= 1:
        return max(low - more, 0.0), min(high + more, 1.0)
    return low - more, high + more


def fit(told: str, width: float) -> str:
    """Shorten text to about so many units.

    >>> fit("a_label_with_a_long_name", 60), fit("short", 60)
    ('a_labe…', 'short')
    """
    if width_of(told) <= width:
        return told
    kept = ""
    for letter in told:
        if width_of(f"{kept}{letter}…") > width:
            break
        kept += letter
    return f"{kept.rstrip()}…"


def width_of(told: str) -> float:
    """Estimate how wide a line of text is, rather too wide than too narrow."""
    return sum(map(_breadth, told))


def _breadth(letter: str) -> float:
    narrow, usual, capital, broad = _BREADTHS
    if letter in _NARROW:
        return narrow
    if letter in _BROAD or letter == "…" or unicodedata.east_asian_width(letter) in "WF":
        return broad
    return capital if letter.isupper() else usual


def escape(told: str) -> str:
    """Make text safe between tags and in attributes; control characters become visible signs."""
    return html.escape("".join(letter if letter.isprintable() else "\ufffd" for letter in told))


def short(value: float) -> str:
    """Write a length with a tenth at most.

    >>> short(12.0), short(3.14159), short(-0.04)
    ('12', '3.1', '0')
    """
    told = f"{value:.1f}".removesuffix(".0")
    return "0" if told == "-0" else told


def _round_step(step: float) -> float:
    """Return the next larger step of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= step - 1e-12)
