"""What a run says: one line a stage, in words. Nothing is computed here but sums and shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertsmith.clock import in_words

# Named again, for cli takes it from here.
from bertsmith.evaluation.wording import in_prose
from bertsmith.examples import SIDES, Examples
from bertsmith.findings import Findings
from bertsmith.listener import Listener
from bertsmith.report.calibrated import effect
from bertsmith.report.calibrated import told as calibrated

if TYPE_CHECKING:
    from bertsmith.baselines import Rung
    from bertsmith.data.split import Splits
    from bertsmith.encoded import Encoded
    from bertsmith.long_texts import LongTexts
    from bertsmith.recipe import Recipe
    from bertsmith.run_folder import RunFolder
    from bertsmith.tasks import Task
    from bertsmith.training.fit import Fitted
    from bertsmith.training.model import Parameters

_SHOWN_WARNINGS = 5
_SHOWN_SLICES = 3
SHOWN_SECONDS = 0.05
"""Stages that take less are not named at the end."""


def read(listener: Listener, examples: Examples, told: str, *, task: str) -> None:
    """Say what was read, what is to be learned from it, and which columns were taken."""
    listener.tell("read", f"{len(examples):,} rows, {told}", aside=examples.source)
    for note in examples.notes:
        listener.tell("", note)
    listener.tell("task", task)


def set_apart(listener: Listener, foreign: Examples, label: str) -> None:
    """Say how many rows are from elsewhere."""
    rows = f"{len(foreign):,} more rows of the label {label!r} are"
    listener.tell("", f"{rows} set apart as text from elsewhere: they are no class")


def relabelled(listener: Listener) -> None:
    """Say what mended labels do to scores."""
    listener.tell("", "mended labels may stand in test and calibration rows: scores are a little too good for them")


def check(listener: Listener, findings: Findings) -> None:
    """Say how many findings there are, and the errors and warnings themselves."""
    counts = {name: len(findings.with_severity(name)) for name in ("error", "warning", "note")}
    told = ", ".join(f"{count} {name}{'s' if count != 1 else ''}" for name, count in counts.items() if count)
    listener.tell(
        "check", told or "nothing to find fault with", aside="bertsmith check DATA lists them" if told else ""
    )
    grave = [*findings.with_severity("error"), *findings.with_severity("warning")]
    for finding in grave[:_SHOWN_WARNINGS]:
        listener.warn(f"{finding.message} {finding.remedy}")
    if len(grave) > _SHOWN_WARNINGS:
        listener.warn(f"and {len(grave) - _SHOWN_WARNINGS} more: bertsmith check DATA lists all")
    for finding in findings.with_severity("note"):
        if finding.kind == "cost":
            listener.tell("", finding.message)


def split(listener: Listener, splits: Splits, *, seed: int) -> None:
    """Say how many rows each side has."""
    sizes = splits.sizes()
    listener.tell("split", " · ".join(f"{sizes[side]:,} {side}" for side in SIDES), aside=f"seed {seed}")
    for note in splits.notes:
        listener.tell("", note)


def long_texts(listener: Listener, long: LongTexts) -> None:
    """Say how texts above the max length are read, where that was a choice."""
    if not long.choices:
        return
    scored = " · ".join(
        f"{each.way} {each.score:.3f} (work x{each.work:.1f}{'' if each.allowed else ', above the budget'})"
        for each in long.choices
    )
    listener.tell("long", f"{long.way}: {long.metric} on validation, encoder frozen: {scored}")


def encode(listener: Listener, encoded: Encoded, max_length: int) -> None:
    """Say how long a text may be, and what the training rows lose by it."""
    cut = int((encoded.tokens_cut > 0).sum())
    lost = int(encoded.tokens_cut.sum())
    every = lost + int(encoded.lengths.sum())
    windows = len(encoded.window_lengths)
    loss = (
        f"{cut:,} training rows are cut, {lost / max(1, every):.2%} of their tokens lost"
        if cut
        else "no training row is cut"
    )
    if windows > len(encoded):
        loss += f", {windows:,} windows"
    mean = encoded.lengths.mean() if len(encoded) else 0
    listener.tell("encode", f"max length {max_length} tokens: {loss}; {mean:.0f} tokens on average")


def baselines(listener: Listener, rungs: Sequence[Rung], judged: Sequence[Mapping[str, Any] | None]) -> None:
    """Say how far the cheap rungs of the ladder come."""
    told = []
    for rung, scores in zip(rungs, judged, strict=True):
        value = "" if scores is None else f" {scores[rung.model.task.compared[0]]['value']:.3f}"
        told.append(f"{rung.name}{value} ({in_words(rung.seconds)})")
    if rungs:
        named = in_prose(rungs[0].model.task.compared[0])
        listener.tell("baselines", f"{named} on test rows: " + " · ".join(told))


def model(listener: Listener, parameters: Parameters, recipe: Recipe) -> None:
    """Say what is trained, and how."""
    settings = recipe.fit
    listener.tell(
        "model",
        f"{settings.encoder}: {parameters.total / 1e6:.1f} M parameters; "
        f"head {parameters.head}"
        + ("" if settings.few_shot else f", started from {settings.head_start.replace('-', ' ')}"),
    )
    chosen = {
        "strategy": settings.strategy if settings.strategy != "full" else "",
        "freeze": settings.freeze,
        "layer decay": f"{settings.layer_decay:g}" if settings.layer_decay < 1 else "",
        "class weights": settings.class_weights if settings.class_weights != "none" else "",
        "label smoothing": f"{settings.label_smoothing:g}" if settings.label_smoothing else "",
    }
    if any(chosen.values()):
        listener.tell("", " · ".join(f"{name} {value}" for name, value in chosen.items() if value))
    if settings.few_shot:
        listener.tell(
            "", f"few-shot, {settings.precision} on {recipe.run.device}, {_some(recipe.run.threads, 'thread')}"
        )
        return
    batch = settings.batch_size * settings.accumulate
    listener.tell(
        "",
        f"up to {_some(settings.epochs, 'epoch')}, batch {batch}, learning rate {settings.learning_rate:g}, "
        f"{settings.precision} on {recipe.run.device}, {_some(recipe.run.threads, 'thread')}",
    )


def few_rows(listener: Listener, middle: float) -> None:
    """Offer few-shot training where labels have few rows."""
    listener.tell("", f"few rows a label ({middle:.0f} in the middle): --few-shot is made for that")


def fit(listener: Listener, fitted: Fitted, recipe: Recipe) -> None:
    """Say how training went."""
    best = (
        ""
        if fitted.best_metric is None
        else f", best at {fitted.best_epoch} ({in_prose(recipe.fit.metric)} {fitted.best_metric:.4f} on validation)"
    )
    listener.tell(
        "fit",
        f"{_some(fitted.epochs, 'epoch')}{best}; {_millions(fitted.trained_parameters)} parameters trained; "
        f"{fitted.examples_per_second:.0f} examples/s, "
        f"{fitted.tokens_per_second:,.0f} tokens/s, {fitted.padding_waste:.0%} padding, "
        f"{fitted.utilisation:.0%} of the machine's peak",
        aside=in_words(fitted.seconds),
    )


def evaluate(
    listener: Listener,
    task: Task,
    scores: Mapping[str, Any] | None,
    rungs: Sequence[Mapping[str, Any] | None],
) -> None:
    """Say how good the model is on rows that it has not seen; `rungs` are the scores of the ladder."""
    if scores is None:
        listener.tell("evaluate", "no test rows, so nothing honest can be said about how good it is")
        return
    figures = ", ".join(shown(name, scores) for name in task.compared)
    listener.tell("evaluate", f"{figures} on {scores['rows']:,} unseen rows")
    cheapest = rungs[0] if rungs else None
    if cheapest is None or "log_loss" not in scores or "log_loss" not in cheapest:
        return
    loss, prior = scores["log_loss"]["value"], cheapest["log_loss"]["value"]
    if loss > prior:
        listener.warn(
            f"its probabilities are far too sure of themselves: their log loss is {loss:.2f}, that of the mere label "
            f"shares {prior:.2f}. Go by the labels, not by the scores; more rows help most."
        )


def trust(listener: Listener, assessed: Mapping[str, Any]) -> None:
    """Say when the model may be believed, where it fails, and which labels to look at."""
    if (found := assessed["calibration"]) is not None:
        helped = "" if effect(found) == "helped" else f"; {calibrated(found)}"
        after = f"{found['ece_after']:.1%} [{found['ece_after_low']:.1%}, {found['ece_after_high']:.1%}]"
        listener.tell(
            "calibrate",
            f"temperature {found['temperature']:.2f}: on test rows probabilities are off by {after}, before by "
            f"{found['ece_before']:.1%}{helped}",
        )
    if (found := assessed["decide"]) is not None:
        listener.tell("decide", found["sentence"])
    if (found := assessed["out_of_scope"]) is not None and found["sentence"]:
        listener.tell("scope", found["sentence"].removesuffix("."))
    for each in assessed["slices"][:_SHOWN_SLICES]:
        listener.tell("fails", each["sentence"])
    if (found := assessed["suspects"]) is not None and found["flagged"]:
        listener.tell(
            "suspects",
            f"{_some(found['flagged'], 'label')} of {found['rows']:,} are in doubt, the worst first in "
            f"{found['file']}: fill in its column relabel, train with --relabel",
        )


def shown(name: str, scores: Mapping[str, Any]) -> str:
    """Show one score with its interval.

    >>> shown("macro_f1", {"macro_f1": {"value": 0.861, "low": 0.812, "high": 0.903}})
    'macro-F1 0.861 [0.812, 0.903]'
    """
    each = scores[name]
    interval = "" if each["low"] is None else f" [{each['low']:.3f}, {each['high']:.3f}]"
    return f"{in_prose(name)} {each['value']:.3f}{interval}"


def done(listener: Listener, run: RunFolder, scores: Mapping[str, Any]) -> None:
    """Say what it all comes to and where it lies."""
    if scores.get("verdict"):
        listener.tell("verdict", scores["verdict"])
    stages = {name: taken for name, taken in scores["seconds"].items() if name != "total" and taken >= SHOWN_SECONDS}
    listener.tell("seconds", " · ".join(f"{name} {taken:.1f}" for name, taken in stages.items()))
    listener.tell("run", f"{run.path}", aside=in_words(scores["seconds"]["total"]))
    listener.tell("", f"report in {run.report}, model in {run.model}, scores in {run.scores}")
    listener.tell("", f'try it: bertsmith predict {run.path} "your text"')


def _millions(count: int) -> str:
    """Say a large number.

    >>> _millions(22_713_216), _millions(29_568)
    ('22.7 M', '29,568')
    """
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count:,}"


def _some(count: int | str, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
