"""report.html: one self-contained page about a run. Pure: everything that it says is handed in, nothing is computed.

The page has no script and loads nothing: its content security policy forbids everything but its own style sheet,
which it names by sha256. Every text that comes from outside is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith.clock import in_words
from bertsmith.evaluation.wording import in_prose
from bertsmith.explaining.marked import marked_html
from bertsmith.report import calibrated, figures, plots
from bertsmith.report.confusion import WHOLE, confusion
from bertsmith.report.definitions import METRICS, definitions

if TYPE_CHECKING:
    from jinja2 import Template

_HERE = Path(__file__).parent
_TITLES = {
    "ladder": "Was fine-tuning worth it?",
    "scores": "How good it is",
    "confusion": "What is mistaken for what",
    "learning": "How it learned",
    "calibration": "Can its probabilities be believed?",
    "decide": "When it answers, and when it does not",
    "foreign": "Text from elsewhere",
    "seeds": "Over several seeds",
    "findings": "What check found in the data",
    "errors": "Its worst answers",
    "slices": "Where it fails more",
    "suspects": "Labels that may be wrong",
    "lengths": "Length of the texts",
    "speed": "Time and speed",
    "recipe": "Recipe and environment",
    "meaning": "What the figures mean",
}
_MOST_TEXT = 600
_MOST_NAME = 80


def render(
    scores: Mapping[str, Any],
    *,
    history: Sequence[Mapping[str, Any]] = (),
    findings: Sequence[Mapping[str, Any]] = (),
    recipe: str = "",
    environment: Mapping[str, str] | None = None,
) -> str:
    """Write the report of a run.

    Any part may be missing or None: its section is then left out, or says so in a sentence.

    Args:
        scores: What scores.json holds.
        history: Lines of history.jsonl.
        findings: `findings` of findings.json.
        recipe: The text of recipe.toml.
        environment: Name → version or the like, of what the run ran on.

    Returns:
        An HTML document, the same for the same arguments.
    """
    scores = _without_nulls(scores)
    page: str = _template().render(
        scores=scores,
        test=scores.get("test") or {},
        shown=contents(scores, history=history, findings=findings, recipe=recipe),
        pictures=_pictures(scores, history),
        main=_main_metrics(scores),
        rungs=_rungs(scores),
        history=history,
        findings=findings,
        recipe=recipe,
        environment=environment or {},
        definitions=scores.get("definitions") or definitions(scores),
        policy=f"default-src 'none'; style-src '{_hash(_style())}'; base-uri 'none'; form-action 'none'",
        style=_style(),
    )
    # A lone surrogate cannot be written as UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


def contents(
    scores: Mapping[str, Any],
    *,
    history: Sequence[Mapping[str, Any]] = (),
    findings: Sequence[Mapping[str, Any]] = (),
    recipe: str = "",
) -> dict[str, str]:
    """Say which sections the report of these parts has: id → title, in their order."""
    test = scores.get("test") or {}
    there = {
        "ladder": bool(scores.get("baselines")),
        "scores": True,
        "confusion": bool(test.get("confusion")),
        "learning": bool(history) or bool((scores.get("training") or {}).get("alarms")),
        "calibration": bool(scores.get("calibration")),
        "decide": bool(scores.get("decide")),
        "foreign": bool(scores.get("out_of_scope")),
        "seeds": bool(scores.get("seeds")),
        "findings": True,
        "errors": bool(scores.get("errors")),
        "slices": scores.get("slices") is not None,
        "suspects": bool(scores.get("suspects")),
        "lengths": bool(scores.get("model")),
        "speed": bool(scores.get("training") or scores.get("seconds")),
        "recipe": bool(recipe),
        "meaning": True,
    }
    return {name: title for name, title in _TITLES.items() if there[name]}


def file_name(source: str) -> str:
    """Take the name of a file from its path, or what else data was called.

    >>> file_name("/data/reviews.csv"), file_name("a table")
    ('reviews.csv', 'a table')
    """
    return re.split(r"[/\\]", str(source).rstrip("/\\"))[-1] or str(source)


def _without_nulls(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out parts, and parts of parts, that are None: missing and null mean the same."""
    return {
        name: {key: each for key, each in part.items() if each is not None} if isinstance(part, Mapping) else part
        for name, part in scores.items()
        if part is not None
    }


def sentence(told: Any) -> str:
    """Make a sentence of words that a terminal shows without a capital and a full stop.

    >>> sentence("every answer is given"), sentence("Yes.")
    ('Every answer is given.', 'Yes.')
    """
    words = str(told or "").strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".") if words else ""


def _marked(text: str, words: Iterable[Sequence[float]] | None) -> str:
    """Mark words in a text that was made safe to show and may have been shortened; HTML."""
    return marked_html(text, [each for each in words or () if each[1] <= len(text)])


def _main_metrics(scores: Mapping[str, Any]) -> list[str]:
    """Name the metrics that a run is judged by: those of its ladder, or the first one."""
    test = scores.get("test") or {}
    for rung in (scores.get("baselines") or {}).values():
        named = [name for name, each in rung.items() if _is_metric(each) and _is_metric(test.get(name))]
        if named:
            return named
    return [name for name, each in test.items() if _is_metric(each)][:1]


def _rungs(scores: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The rungs that have a score, the fine-tuned model last: name and the first metric."""
    main, test = _main_metrics(scores)[:1], scores.get("test") or {}
    if not main:
        return []
    below = [(name, rung[main[0]]) for name, rung in (scores.get("baselines") or {}).items() if rung.get(main[0])]
    return [*below, ("fine-tuned", test[main[0]])]


def _pictures(scores: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    test, main = scores.get("test") or {}, _main_metrics(scores)
    reports: list[Any] = next((test[name] for name in ("per_class", "per_label") if test.get(name)), [])
    labels = list(scores.get("labels") or [])
    best = (scores.get("training") or {}).get("best_epoch")
    metric = _chosen_by(scores, history)
    return {
        "ladder": plots.ladder(_rungs(scores), metric=in_prose(main[0]) if main else ""),
        "labels": plots.label_scores(reports),
        "confusion": confusion(labels, test.get("confusion") or []),
        "losses": plots.losses(history),
        "learning": plots.learning(history, name=metric, shown=in_prose(metric), best=best),
        "reliability": plots.reliability(scores.get("calibration") or {}),
        "risk": plots.risk_coverage(scores.get("decide") or {}),
        "stages": plots.stages(scores.get("seconds") or {}),
        "lengths": plots.lengths((scores.get("lengths") or {}).get("histogram") or []),
    }


def _chosen_by(scores: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """Name the metric whose curve is drawn: the one that chose the epoch, else the first that validation measured."""
    chose = (scores.get("training") or {}).get("metric", "")
    measured = {name.removeprefix("eval_") for line in history for name in line if name.startswith("eval_")}
    known = [chose, *_main_metrics(scores), *METRICS]
    return next((name for name in known if name in measured), "")


def _is_metric(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value


def _cut(text: Any, most: int = _MOST_TEXT) -> str:
    """Shorten what would fill the page."""
    told = str(text)
    return told if len(told) <= most else f"{told[:most].rstrip()}…"


def _cleaned(text: Any) -> str:
    """Make control characters visible, lines and tabs but stay; several labels are joined by commas."""
    told = ", ".join(map(str, text)) if isinstance(text, list | tuple) else str(text)
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in told)


@cache
def _template() -> Template:
    from jinja2 import ChainableUndefined, Environment, FileSystemLoader
    from markupsafe import Markup

    templates = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=ChainableUndefined,
        # Whatever a template says has no control characters; markup was made of what had been cleaned.
        finalize=lambda told: _cleaned(told) if isinstance(told, str) and not isinstance(told, Markup) else told,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in (
        figures.metric,
        figures.interval,
        figures.share,
        figures.share_interval,
        figures.setting,
        figures.points,
        figures.count,
        figures.plain,
        figures.p_value,
        in_prose,
        sentence,
        file_name,
    ):
        templates.filters[each.__name__] = each
    templates.filters |= {
        "calibrated": calibrated.told,
        "cut": _cut,
        "cleaned": _cleaned,
        "in_words": in_words,
        "is_metric": _is_metric,
    }
    # Only these are exempt from escaping: svg.py and marked.py escape what they say.
    templates.filters |= {"picture": Markup, "marked": lambda text, words: Markup(_marked(text, words))}
    templates.globals |= {"metrics": METRICS, "whole_matrix": WHOLE, "most_name": _MOST_NAME}
    return templates.get_template("page.html.j2")


@cache
def _style() -> str:
    return (_HERE / "page.css").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
