"""Marked text: words in the strength of their weights, for a terminal and for HTML.

Three steps of strength, measured by the weightiest word. In HTML blue speaks for the label and orange against it, on a
terminal green and magenta: pairs that colour-blind people tell apart. Without colour brackets say the same:
`[[[for]]]`, `{{against}}`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.text import Text

from bertsmith.explaining.explanation import Explanation, Word

STEPS = 3
FAINT = 0.08
"""Words with less than this share of the greatest weight are not marked."""
LISTED = 10
"""Words in a list of the weightiest."""
LEGEND = (
    "Blue words speak for the label, orange ones against it, the stronger the fuller; what is struck out is not read."
)
TERMINAL_LEGENDS = {
    True: "Green words speak for the label, magenta ones against it, the stronger the fuller.",
    False: "[Words] speak for the label, {words} against it; the more brackets, the stronger.",
}
"""The same for a terminal: with colour, and without."""
_WIDEST_BAR = 20
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COLOURS = {
    1: ("green", "magenta"),
    2: ("black on green", "black on magenta"),
    3: ("bold black on bright_green", "bold black on bright_magenta"),
}
_BRACKETS = (("[", "]"), ("{", "}"))
STYLE = """
.marked { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.7; }
.marked mark { color: inherit; background: none; border-radius: .2em; padding: .1em .15em; }
.marked mark.for-1 { background: #d7e6ff; } .marked mark.against-1 { background: #ffe6cc; }
.marked mark.for-2 { background: #9cc2ff; } .marked mark.against-2 { background: #ffc688; }
.marked mark.for-3 { background: #1f5fd0; color: #fff; } .marked mark.against-3 { background: #a84e00; color: #fff; }
.marked mark[class^=against] { text-decoration: underline dotted; }
.marked .unread { opacity: .6; text-decoration: line-through; }
@media (prefers-color-scheme: dark) {
.marked mark.for-1 { background: #1c3355; } .marked mark.against-1 { background: #4a2c10; }
.marked mark.for-2 { background: #24559c; } .marked mark.against-2 { background: #7d4508; }
.marked mark.for-3 { background: #8fbcff; color: #000; } .marked mark.against-3 { background: #ffb45c; color: #000; }
}
@media print { .marked mark { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
"""CSS of marked text on a page of its own, for light and dark; the report colours the same classes in its page.css."""
_PAGE_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; } td { padding: .1rem 1rem .1rem 0; }
td.weight { text-align: right; font-variant-numeric: tabular-nums; }
"""
Marks = Sequence[Sequence[float]]
"""`[start, end, weight]` of each word, in the order of the text, as `Explanation.spans` gives them."""


class _Piece(NamedTuple):
    """Some of the text: a word and its step (below 0 against the label), what is between words, or what is unread."""

    text: str
    step: int = 0
    weight: float = 0.0
    unread: bool = False


def step_of(weight: float, greatest: float) -> int:
    """Say how strongly a word is marked, 0 for not at all, below 0 where it speaks against the label.

    >>> step_of(2.0, 2.0), step_of(-0.9, 2.0), step_of(0.01, 2.0)
    (3, -2, 0)
    """
    share = abs(weight) / greatest if greatest > 0 else 0.0
    step = min(STEPS, math.ceil(share * STEPS)) if share >= FAINT else 0
    return step if weight > 0 else -step


def marked_html(text: str, words: Marks, *, unread: Sequence[tuple[int, int]] = (), greatest: float = 0.0) -> str:
    """Mark words in HTML that stands between tags: `<mark class="for-3">`, escaped; no style and no script.

    Args:
        text: The text.
        words: `[start, end, weight]` of each word, in order.
        unread: Characters `(start, end)` of the words that the model never saw, in order.
        greatest: The weight that is marked the strongest; 0 takes the greatest of these words.
    """
    return "".join(map(_tagged, _pieces(text, words, unread, greatest)))


def marked_text(explanation: Explanation, *, part: int = 0, colour: bool = True) -> Text:
    """Mark the words of an explanation for a terminal.

    Args:
        explanation: What to show.
        part: 0 for the text, 1 for the second text of a pair.
        colour: False puts brackets in place of colours.
    """
    found = Text()
    for piece in _pieces(
        explanation.texts[part], explanation.spans(part), _unread(explanation, part), _greatest(explanation)
    ):
        shown = _CONTROLS.sub("\ufffd", piece.text)
        if piece.unread:
            found.append(f"(not read: {shown})", style="dim" if colour else "")
        elif colour or not piece.step:
            found.append(shown, style=_COLOURS[abs(piece.step)][piece.step < 0] if piece.step else "")
        else:
            opening, closing = _BRACKETS[piece.step < 0]
            found.append(opening * abs(piece.step) + shown + closing * abs(piece.step))
    return found


def weight_lines(explanation: Explanation, *, most: int = LISTED) -> list[str]:
    """List the weightiest words: weight, bar, word; the bar of a word against the label is hollow.

    >>> weight_lines(Explanation(("no",), "good", 0.2, "occlusion", (Word(0, 0, 2, -1.5),)))
    ['-1.50  ░░░░░░░░░░░░░░░░░░░░  no']
    """
    ranked = explanation.ranked()[:most]
    greatest = _greatest(explanation)
    bars = [max(1, round(_WIDEST_BAR * abs(each.weight) / greatest)) for each in ranked]
    return [
        f"{each.weight:+.2f}  {('█' if each.weight > 0 else '░') * bar:<{max(bars)}}  "
        f"{_CONTROLS.sub(chr(0xFFFD), explanation.of(each))}"
        for each, bar in zip(ranked, bars, strict=True)
    ]


def marked_page(explanation: Explanation) -> str:
    """Make a whole HTML page of an explanation: it needs no other file, and its CSP allows none."""
    style = STYLE + _PAGE_STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    title = html.escape(f"{explanation.label} {explanation.score:.3f}")
    texts = "\n".join(
        f'<p class="marked" dir="auto">{_part_html(explanation, part)}</p>' for part in range(len(explanation.texts))
    )
    rows = "\n".join(
        f'<tr><td class="weight">{each.weight:+.2f}</td><td><bdi>{html.escape(explanation.of(each))}</bdi></td></tr>'
        for each in explanation.ranked()[:LISTED]
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'sha256-{digest}'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Why {title}</title>
<style>{style}</style>
</head>
<body>
<h1>Why <bdi>{title}</bdi></h1>
{texts}
<table>
{rows}
</table>
<p>{html.escape(LEGEND)} {html.escape(explanation.sentence)}</p>
</body>
</html>
"""


def _part_html(explanation: Explanation, part: int) -> str:
    unread = _unread(explanation, part)
    return marked_html(explanation.texts[part], explanation.spans(part), unread=unread, greatest=_greatest(explanation))


def _unread(explanation: Explanation, part: int) -> list[tuple[int, int]]:
    """Join words that are not read and follow each other."""
    runs: list[tuple[int, int]] = []
    before: Word | None = None
    for word in (each for each in explanation.words if each.part == part):
        if not word.read and before is not None and not before.read:
            runs[-1] = (runs[-1][0], word.end)
        elif not word.read:
            runs.append((word.start, word.end))
        before = word
    return runs


def _greatest(explanation: Explanation) -> float:
    return max((abs(each.weight) for each in explanation.words), default=0.0)


def _pieces(text: str, words: Marks, unread: Sequence[tuple[int, int]], greatest: float) -> Iterator[_Piece]:
    most = greatest or max((abs(weight) for _, _, weight in words), default=0.0)
    marks = [(int(start), int(end), weight, False) for start, end, weight in words]
    marks += [(start, end, 0.0, True) for start, end in unread]
    done = 0
    for start, end, weight, is_unread in sorted(marks):
        yield _Piece(text[done:start])
        yield _Piece(text[start:end], step_of(weight, most), weight, is_unread)
        done = end
    yield _Piece(text[done:])


def _tagged(piece: _Piece) -> str:
    escaped = html.escape(piece.text)
    if piece.unread:
        return f'<span class="unread" title="not read">{escaped}</span>'
    if not piece.step:
        return escaped
    side = "for" if piece.step > 0 else "against"
    return f'<mark class="{side}-{abs(piece.step)}" title="{piece.weight:+.2f}">{escaped}</mark>'
