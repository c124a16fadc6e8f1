"""The pictures of the report. Each takes a part of scores.json and gives SVG text; "" where there is nothing to see."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bertsmith.clock import in_words
from bertsmith.report import figures
from bertsmith.report.svg import (
    WIDTH,
    Plot,
    Scale,
    around,
    box,
    circle,
    fit,
    key,
    line,
    picture,
    text,
    tick_texts,
    width_of,
)

_ROW = 21
_MOST_LABELS = 20
_MOST_POINTS = 300
Line = Mapping[str, Any]


def ladder(rungs: Sequence[tuple[str, Mapping[str, Any]]], *, metric: str) -> str:
    """Draw each rung's score with its interval, one below the other; the last one stands out.

    Args:
        rungs: Name and `value`, `low`, `high` of each.
        metric: The metric in words.
    """
    if len(rungs) < 2:
        return ""
    known = [float(score[part]) for _, score in rungs for part in ("value", "low", "high") if score[part] is not None]
    x = Scale(*around(known), 8, WIDTH - 16)
    parts, bottom = [], 44 * len(rungs) + 6
    for told, place in ((told, x(value)) for value, told in tick_texts(x.low, x.high)):
        parts += [line(place, 0, place, bottom, cls="grid"), text(place, bottom + 16, told, cls="tick middle")]
    for number, (name, score) in enumerate(rungs):
        parts += _rung(name, score, x, y=44 * number, cls="ours" if number == len(rungs) - 1 else "theirs")
    parts.append(text(WIDTH / 2, bottom + 34, metric, cls="soft middle"))
    told = "; ".join(f"{name} {_with_interval(score)}" for name, score in rungs)
    return picture("ladder", parts, title=f"{metric} of each rung with its 95 % interval: {told}", height=bottom + 40)


def _rung(name: str, score: Mapping[str, Any], x: Scale, *, y: float, cls: str) -> list[str]:
    parts = [
        text(0, y + 16, fit(name, 150), cls=f"halo {'strong' if cls == 'ours' else ''}"),
        text(WIDTH, y + 16, _with_interval(score), cls=f"halo end {'strong' if cls == 'ours' else ''}"),
    ]
    if score["low"] is not None:
        ends = (x(score["low"]), x(score["high"]))
        parts.append(line(ends[0], y + 30, ends[1], y + 30, cls=f"whisker {cls}"))
        parts += [line(end, y + 25, end, y + 35, cls=f"whisker {cls}") for end in ends]
    return [*parts, circle(x(score["value"]), y + 30, 3.5, cls=cls)]


def label_scores(reports: Sequence[Mapping[str, Any]]) -> str:
    """Draw the F1 of each label, the worst on top; of many labels, the worst twenty."""
    if len(reports) < 2:
        return ""
    worst = sorted(reports, key=lambda each: (each["f1"], str(each["label"])))[:_MOST_LABELS]
    x, bottom = Scale(0, 1, 178, WIDTH - 52), _ROW * len(worst) + 6
    parts = []
    for value, told in tick_texts(0, 1):
        parts += [line(x(value), 0, x(value), bottom, cls="grid"), text(x(value), bottom + 16, told, cls="tick middle")]
    for number, each in enumerate(worst):
        y = _ROW * number + 14
        parts += [
            text(170, y + 4, fit(str(each["label"]), 170), cls="end"),
            line(x(0), y, x(each["f1"]), y, cls="stem"),
            circle(x(each["f1"]), y, 4.5, cls="ours"),
            text(WIDTH, y + 4, figures.metric(each["f1"], 0, 0.01), cls="end"),
        ]
    parts.append(text((x.start + x.end) / 2, bottom + 34, "F1", cls="soft middle"))
    told = ", ".join(f"{each['label']} {each['f1']:.2f}" for each in worst[:5])
    title = f"F1 of {'the worst' if len(worst) < len(reports) else 'all'} labels, worst first: {told}"
    return picture("labels", parts, title=title + ("…" if len(worst) > 5 else ""), height=bottom + 40)


def losses(history: Sequence[Line]) -> str:
    """Draw the loss of training batches, and the log loss of validation rows where the task has one."""
    trained = thinned([(each["epoch"], each["loss"]) for each in history if "loss" in each])
    held = [(each["epoch"], each["eval_log_loss"]) for each in history if "eval_log_loss" in each]
    if len(trained) < 2:
        return ""
    high = max(loss for _, loss in trained + held)
    plot = _plot((0.0, max(epoch for epoch, _ in trained + held)), (0.0, high * 1.05), x_title="epoch", y_title="loss")
    parts = [*plot.axes(), plot.curve(trained, cls="theirs")]
    entries = [("theirs", "training batches")]
    if held:
        parts += _dotted(plot, held)
        entries.append(("ours", "log loss, validation rows"))
    title = f"Loss by epoch: training batches from {trained[0][1]:.3g} to {trained[-1][1]:.3g}"
    told = f"; log loss of validation rows from {held[0][1]:.3g} to {held[-1][1]:.3g}" if held else ""
    return picture("losses", [*parts, *key(entries, y=14)], title=title + told, height=_HEIGHT)


def learning(history: Sequence[Line], *, name: str, shown: str, best: Any) -> str:
    """Draw a metric of the validation rows after each epoch; the epoch whose weights were kept stands out.

    Args:
        history: Lines of history.jsonl.
        name: The metric as the lines call it, without `eval_`.
        shown: The metric in words.
        best: The epoch that was kept, or None.
    """
    held = [(each["epoch"], each[f"eval_{name}"]) for each in history if f"eval_{name}" in each]
    if len(held) < 2:
        return ""
    plot = _plot((0.0, held[-1][0]), around([value for _, value in held], room=0.15), x_title="epoch", y_title=shown)
    parts = [*plot.axes(), *_dotted(plot, held), *key([("ours", f"{fit(shown, 150)}, validation rows")], y=14)]
    kept = next(((epoch, value) for epoch, value in held if epoch == best), None)
    told = ""
    if kept:
        parts += _named_point(plot, kept, f"kept: {figures.metric(kept[1])}", held)
        told = f"; epoch {figures.plain(best)} was kept with {figures.metric(kept[1])}"
    title = f"{shown} of validation rows by epoch, from {figures.metric(held[0][1])} to {figures.metric(held[-1][1])}"
    return picture("learning", parts, title=title + told, height=_HEIGHT)


def reliability(calibration: Mapping[str, Any]) -> str:
    """Draw how often answers of each confidence are right, before and after calibration, against the diagonal."""
    bins = calibration.get("reliability") or {}
    before, after = bins.get("before") or [], bins.get("after") or []
    if not after:
        return ""
    shown = [each[part] for each in (*before, *after) for part in ("confidence", "right")]
    low = max(0.0, int(min(shown) * 10) / 10)
    plot = _plot(
        (low, 1.0), (low, 1.0), x_title="probability that the model gives", y_title="right", percent=(True, True)
    )
    parts = [*plot.axes(), plot.curve([(low, low), (1.0, 1.0)], cls="ideal")]
    for each in after:
        if each.get("right_low") is not None:
            place = plot.x(each["confidence"])
            ends = (plot.y(max(low, each["right_low"])), plot.y(each["right_high"]))
            parts.append(line(place, ends[0], place, ends[1], cls="whisker thin ours"))
    for each, cls in [*((each, "hollow") for each in before), *((each, "ours") for each in after)]:
        parts.append(circle(plot.x(each["confidence"]), plot.y(each["right"]), _size(each, (before, after)), cls=cls))
    entries = [*([("hollow", "before")] if before else []), ("ours", "after calibration")]
    told = ", ".join(
        f"{figures.share(each['confidence'])} sure, {figures.share(each['right'])} right" for each in after
    )
    title = f"Reliability on test rows, after calibration: {told}"
    return picture("reliability", [*parts, *key(entries, y=14)], title=title, height=_HEIGHT)


def _size(one: Mapping[str, Any], bins: Iterable[Sequence[Mapping[str, Any]]]) -> float:
    """Return the radius of a bin's dot: its area grows with the rows of the bin."""
    most = max(each["rows"] for part in bins for each in part)
    return 1.8 + 3.2 * math.sqrt(one["rows"] / max(1, most))


def risk_coverage(decide: Mapping[str, Any]) -> str:
    """Draw how often answers are right against how many are given, with the chosen point and the target."""
    test = decide.get("test") or {}
    curve = decide.get("risk_coverage") or []
    points = sorted((each["coverage"], each["right"]) for each in curve if each["right"] is not None)
    if len(points) < 2:
        return ""
    target = decide.get("target")
    coverage, right = ((test.get(name) or {}).get("value") for name in ("coverage", "right"))
    known = [share for _, share in points] + [value for value in (target, right) if value is not None]
    plot = _plot(
        (0.0, 1.0),
        (max(0.0, around(known, room=0.15)[0]), 1.0),
        x_title="rows that get an answer",
        y_title="right among them",
        percent=(True, True),
        top=32,
    )
    parts = [*plot.axes(), plot.curve(points, cls="ours")]
    if target is not None:
        place = plot.y(target)
        parts += [line(plot.x.start, place, plot.x.end, place, cls="ideal"), *_target(plot, place, target)]
    title = "Share right against share answered, on test rows"
    if coverage is not None and right is not None:
        parts += _named_point(plot, (coverage, right), f"chosen: {figures.share(coverage)} answered", points)
        title += f": at the chosen point {figures.share(coverage)} get an answer, {figures.share(right)} of them right"
    wanted = "" if target is None else f"; wanted are {figures.setting(target)}"
    return picture("risk", parts, title=title + wanted, height=_HEIGHT)


def _target(plot: Plot, place: float, target: float) -> list[str]:
    return [text(plot.x.start + 4, place - 5, f"wanted: {figures.setting(target)}", cls="halo soft")]


def stages(seconds: Mapping[str, float]) -> str:
    """Draw the seconds of each stage; `features` is a part of the baselines and is left out."""
    shown = [(name, taken) for name, taken in seconds.items() if name not in {"total", "features"} and taken >= 0.05]
    if not shown:
        return ""
    return _bars("stages", shown, title="Time of each stage", told=in_words)


def lengths(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw how many training rows have how many tokens."""
    if len(bins) < 2:
        return ""
    shown = [(f"{figures.count(each['low'])} to {figures.count(each['high'])}", each["rows"]) for each in bins]
    return _bars("lengths", shown, title="Training rows by their number of tokens", told=figures.count)


def _bars(name: str, shown: Sequence[tuple[str, float]], *, title: str, told: Callable[[float], str]) -> str:
    x = Scale(0, max(value for _, value in shown) or 1.0, 100, WIDTH - 78)
    parts = []
    for number, (label, value) in enumerate(shown):
        y = _ROW * number
        parts += [
            text(92, y + 14, fit(label, 92), cls="end"),
            box(100, y + 3, max(1.0, x(value) - 100), _ROW - 8, cls="ours"),
            text(max(101.0, x(value)) + 6, y + 14, f"{told(value)}"),
        ]
    words = ", ".join(f"{label} {told(value)}" for label, value in shown)
    return picture(name, parts, title=f"{title}: {words}", height=_ROW * len(shown) + 4)


_HEIGHT = 290


def _plot(
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    x_title: str,
    y_title: str,
    percent: tuple[bool, bool] = (False, False),
    top: float = 50,
) -> Plot:
    """Lay out an area with room for a key above and axes beside."""
    return Plot(Scale(*x, 48, WIDTH - 20), Scale(*y, _HEIGHT - 42, top), x_title, y_title, percent)


def _dotted(plot: Plot, points: Sequence[tuple[float, float]]) -> list[str]:
    dots = [circle(plot.x(x), plot.y(y), 3.5, cls="ours") for x, y in points]
    return [plot.curve(points, cls="ours"), *(dots if len(dots) <= 40 else [])]


def _named_point(plot: Plot, point: tuple[float, float], name: str, curve: Sequence[tuple[float, float]]) -> list[str]:
    """Ring a point and name it, on the side where its curve and the edges leave most room."""
    x, y = plot.x(point[0]), plot.y(point[1])
    wide = width_of(name)
    track = _along([(plot.x(a), plot.y(b)) for a, b in curve])

    def hits(corner: tuple[str, float]) -> float:
        left = x - 6 - wide if corner[0] == "end" else x + 6
        middle = y + corner[1] - 4
        out = left < plot.x.start or left + wide > plot.x.end or not plot.y.end < middle < plot.y.start - 8
        return sum(left - 4 < a < left + wide + 4 and abs(b - middle) < 12 for a, b in track) + 1000 * out

    anchor, offset = min((("end", -14.0), ("end", 24.0), ("", -14.0), ("", 24.0)), key=hits)
    place = x - 6 if anchor else x + 6
    return [circle(x, y, 7, cls="ring"), text(place, y + offset, name, cls=f"halo strong {anchor}")]


def _along(places: Sequence[tuple[float, float]], steps: int = 12) -> list[tuple[float, float]]:
    """Return places along straight lines from point to point."""
    return [
        (a[0] + (b[0] - a[0]) * step / steps, a[1] + (b[1] - a[1]) * step / steps)
        for a, b in itertools.pairwise(places)
        for step in range(steps + 1)
    ]


def thinned(points: Sequence[tuple[float, float]], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """Average neighbours until no more than `most` points are left."""
    size = -(-len(points) // most) or 1
    groups = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [(sum(x for x, _ in each) / len(each), sum(y for _, y in each) / len(each)) for each in groups]


def _with_interval(score: Mapping[str, Any]) -> str:
    parts = (score["value"], score["low"], score["high"])
    return f"{figures.metric(*parts)} {figures.interval(*parts)}".strip()
