"""Watch: name a training that goes wrong while it runs, and say what helps.

Rules on the run's own history, nothing else: the same history gives the same alarms. They are written out in
docs/explanation/watching.md, with every threshold below.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bertsmith.training.facts import Facts

Line = Mapping[str, float]
Kind = Literal["diverging", "not-learning", "over-fitting", "too-slow"]

RECENT_LINES = 3
"""Last loss lines that are looked at as one."""
DIVERGING_LOSS = 1.5
"""Diverging: recent training losses are all above this many times that of answering without reading."""
DIVERGING_START = 3.0
"""Diverging, where that loss is not known: recent training losses are all above this many times the first one."""
LEARNED_LOSS = 0.7
"""A training loss below this many times that of answering without reading: something was learned."""
LOST_LOSS = 0.95
"""Diverging: after something was learned, recent training losses are all above this many times that loss."""
CHANCE_LOSS = 0.98
"""Not learning: the training loss since the last validation, and all validation losses, are above this many times
that loss."""
PATIENCE = 2
"""Not learning is asked for after this many validations, and"""
SETTLED = 0.3
"""not learning is asked for after this share of the steps;"""
HALF = 0.5
"""not learning is asked for after this share of the steps, however many validations there were."""
MOVED = 0.01
"""Not learning: the validation losses so far lie within this share of each other, and"""
FLAT = 0.02
"""not learning: the training losses of the first and the last epoch do too."""
SINCE_BEST = 2
"""Over-fitting: validations since the best metric."""
RISEN = 1.1
"""Over-fitting: the validation loss is above this many times its lowest."""
FALLEN = 0.9
"""Over-fitting: the training loss is below this many times what it was at the best metric."""
LOST_METRIC = 0.02
"""Over-fitting, where no validation loss is measured: the metric is worse than its best by this share of it."""
FAR_OFF = 2.0
"""Over-fitting, whatever the metric: the validation loss is above this many times that of answering without reading,"""
BY_HEART = 0.5
"""and the training loss is below this many times that loss."""
LONG_MINUTES = 120.0
"""Too slow: minutes that are left."""
IDLE_MINUTES = 10.0
"""Too slow, where the machine could do more: minutes that are left."""
IDLE_SHARE = 0.1
"""Too slow: the speed is below this share of what the machine's matrix products alone would allow."""
PACE_LINES = 10
"""Last loss lines from which the speed is taken, and without which nothing is said of it: a third of them."""
LOW_RATE = 5e-6
"""Learning rates below this are called low."""
HIGH_RATE = 1e-3
"""Learning rates above this are called high."""


@dataclass(frozen=True)
class Alarm:
    """One way in which a training goes wrong.

    Attributes:
        kind: Its stable name.
        message: What is seen, in one sentence, with its numbers.
        remedy: What to do about it, in one sentence.
    """

    kind: Kind
    message: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """Return the alarm as files have it."""
        return {"kind": self.kind, "message": self.message, "remedy": self.remedy}


def look(history: Sequence[Line], facts: Facts, *, said: Collection[str] = ()) -> list[Alarm]:
    """Look at a training that is under way.

    Args:
        history: What `history.jsonl` holds so far: loss lines (`step`, `epoch`, `loss`, `grad_norm`,
            `learning_rate`, `seconds` since the start) and validation lines (`step`, `epoch`, `eval_…`).
        facts: Of the run.
        said: Kinds that were named before and are not looked for.

    Returns:
        Alarms that were not said before: at most one of diverging, not-learning and over-fitting (in this order:
        the first explains the others, and after diverging neither is looked for), and `too-slow`.
    """
    seen = _Seen(history, facts)
    rules = [] if "diverging" in said else [rule for kind, rule in _RULES.items() if kind not in said]
    first = next((alarm for rule in rules if (alarm := rule(seen, facts)) is not None), None)
    slow = None if "too-slow" in said else _too_slow(seen, facts)
    return [alarm for alarm in (first, slow) if alarm is not None]


def look_back(history: Sequence[Line], facts: Facts) -> list[Alarm]:
    """Give the alarms that a run raised so far, as `look` gave them line by line; for a run that is resumed."""
    alarms: list[Alarm] = []
    for end in range(1, len(history) + 1):
        alarms += look(history[:end], facts, said={alarm.kind for alarm in alarms})
    return alarms


class _Seen:
    """A history, sorted into what the rules ask for."""

    def __init__(self, history: Sequence[Line], facts: Facts) -> None:
        name = f"eval_{facts.metric}"
        self.lines = [line for line in history if "loss" in line]
        self.validations = [line for line in history if name in line]
        self.metrics = [float(line[name]) for line in self.validations]
        self.eval_losses = [
            float(line[f"eval_{facts.loss}"]) for line in self.validations if f"eval_{facts.loss}" in line
        ]
        self.losses = [float(line["loss"]) for line in self.lines]
        self.step = int(history[-1]["step"]) if history else 0
        self.at_validation = bool(history) and name in history[-1]

    def best(self, facts: Facts) -> int:
        """Place of the best validation, the first of equal ones."""
        signed = self.metrics if facts.greater_is_better else [-each for each in self.metrics]
        return int(np.argmax(signed))

    def training_loss(self, place: int) -> float:
        """Mean of the loss lines between a validation and the one before it; not a number where there are none."""
        end = self.validations[place]["step"]
        begin = self.validations[place - 1]["step"] if place else 0
        between = [float(line["loss"]) for line in self.lines if begin < line["step"] <= end]
        return float(np.mean(between)) if between else math.nan

    def seconds_a_step(self) -> float | None:
        """Median over the last lines; a run that was resumed may count its seconds anew."""
        pairs = itertools.pairwise(self.lines[-PACE_LINES:])
        paces = [
            (after["seconds"] - before["seconds"]) / (after["step"] - before["step"])
            for before, after in pairs
            if after.get("seconds", 0) > before.get("seconds", 0) and after["step"] > before["step"]
        ]
        return float(np.median(paces)) if len(paces) + 1 >= max(2, PACE_LINES // 3) else None


def _diverging(seen: _Seen, facts: Facts) -> Alarm | None:
    """Recent losses above chance and not falling, or back at chance after something had been learned."""
    if seen.lines and not _finite(seen.lines[-1]):
        return _alarm_diverging(f"at step {seen.step} the loss or the gradient's norm is no finite number", facts)
    recent = seen.losses[-RECENT_LINES:]
    if len(recent) < RECENT_LINES:
        return None
    return _risen(seen, facts, recent) or _lost(seen, facts, recent)


def _risen(seen: _Seen, facts: Facts, recent: Sequence[float]) -> Alarm | None:
    if facts.chance is None:
        bound, named = DIVERGING_START * seen.losses[0], f"at first it was {seen.losses[0]:.3g}"
    else:
        bound, named = DIVERGING_LOSS * facts.chance, f"answering without reading has {facts.chance:.3g}"
    if min(recent) <= bound or recent[-1] < recent[0]:
        return None
    return _alarm_diverging(f"the training loss is {recent[-1]:.3g}; {named}", facts)


def _lost(seen: _Seen, facts: Facts, recent: Sequence[float]) -> Alarm | None:
    lowest = min(_means(seen.losses, RECENT_LINES))
    if facts.chance is None or lowest >= LEARNED_LOSS * facts.chance or min(recent) <= LOST_LOSS * facts.chance:
        return None
    return _alarm_diverging(
        f"the training loss had come down to {lowest:.3g} and is {np.mean(recent):.3g} again; answering without "
        f"reading has {facts.chance:.3g}",
        facts,
    )


def _alarm_diverging(what: str, facts: Facts) -> Alarm:
    rate = facts.learning_rate
    usual = "; 2e-5 is usual for large encoders" if rate > HIGH_RATE else ""
    return Alarm("diverging", f"{what}.", f"Lower --learning-rate, now {rate:g}, by ten times{usual}.")


def _not_learning(seen: _Seen, facts: Facts) -> Alarm | None:
    """At a validation: as good as not reading, or nothing moves."""
    if not seen.validations:
        return _flat(seen, facts)
    if not seen.at_validation:
        return None
    if not seen.losses or not _is_settled(seen, facts):
        return None
    return _at_chance(seen, facts) or _unmoved(seen, facts)


def _at_chance(seen: _Seen, facts: Facts) -> Alarm | None:
    loss, best = seen.training_loss(len(seen.validations) - 1), seen.metrics[seen.best(facts)]
    if facts.chance is not None and seen.eval_losses:
        is_stuck = min(loss, *seen.eval_losses) > CHANCE_LOSS * facts.chance
        told = f"that of answering without reading ({facts.chance:.3g})"
    else:
        is_stuck = loss > CHANCE_LOSS * seen.losses[0] and len(seen.losses) > 1 and not _is_better(best, facts)
        told = f"that of the first steps ({seen.losses[0]:.3g})"
    if not is_stuck:
        return None
    yardstick = "" if facts.baseline is None else f", without reading {facts.baseline:.3f}"
    return _alarm_not_learning(
        f"after {seen.step} steps the training loss is {loss:.3g}, no lower than {told}; {facts.metric} on validation "
        f"is {best:.3f}{yardstick}",
        facts,
    )


def _is_better(metric: float, facts: Facts) -> bool:
    """True as well where there is nothing to hold it against."""
    if facts.baseline is None:
        return True
    return metric > facts.baseline if facts.greater_is_better else metric < facts.baseline


def _is_settled(seen: _Seen, facts: Facts) -> bool:
    """A head that starts at random stays at chance for a while; a low rate does not get that time."""
    done = seen.step / facts.steps
    if done >= HALF:
        return True
    is_stopping = 0 < facts.patience <= len(seen.metrics) - 1 - seen.best(facts)
    return len(seen.validations) >= PATIENCE and (done >= SETTLED or is_stopping or facts.learning_rate < LOW_RATE)


def _unmoved(seen: _Seen, facts: Facts) -> Alarm | None:
    losses = seen.eval_losses
    if len(losses) < PATIENCE:
        return None
    first, last = seen.training_loss(0), seen.training_loss(len(seen.validations) - 1)
    if not (_spread(losses) < MOVED and _spread([first, last]) < FLAT):
        return None
    return _alarm_not_learning(
        f"nothing has moved in {len(losses)} validations: the training loss was {first:.3g} and is {last:.3g}, the "
        f"validation loss was {losses[0]:.3g} and is {losses[-1]:.3g}",
        facts,
    )


def _flat(seen: _Seen, facts: Facts) -> Alarm | None:
    """Without validation rows: the last quarter's losses are no lower than the first quarter's."""
    if seen.step < HALF * facts.steps or len(seen.losses) < 4 * RECENT_LINES:
        return None
    quarter = len(seen.losses) // 4
    first, last = float(np.mean(seen.losses[:quarter])), float(np.mean(seen.losses[-quarter:]))
    if last < CHANCE_LOSS * first:
        return None
    return _alarm_not_learning(f"the training loss does not fall: {first:.3g} at first, {last:.3g} now", facts)


def _alarm_not_learning(what: str, facts: Facts) -> Alarm:
    rate = facts.learning_rate
    if rate < LOW_RATE:
        remedy = f"Raise --learning-rate: {rate:g} is too low to move anything."
    elif rate > HIGH_RATE:
        remedy = f"Lower --learning-rate: {rate:g} throws away what the encoder knows."
    elif facts.strategy == "head":
        remedy = "Take --strategy full: the encoder as it comes does not tell these labels apart any better."
    else:
        remedy = (
            "Look at the labels (bertsmith check DATA); if they are right, try another --learning-rate or --encoder."
        )
    return Alarm("not-learning", f"{what}.", remedy)


def _over_fitting(seen: _Seen, facts: Facts) -> Alarm | None:
    """The training loss falls, while on validation rows metric and loss get worse, or the loss is far off."""
    if not seen.at_validation:
        return None
    best, last = seen.best(facts), len(seen.metrics) - 1
    then, now = seen.training_loss(best), seen.training_loss(last)
    is_past = last - best >= SINCE_BEST and _is_worse(seen, facts, best) and now < FALLEN * then
    if not is_past and not _is_far_off(seen, facts, now):
        return None
    epoch = max(1, round(seen.validations[best]["epoch"]))
    lowest = (
        f", the validation loss is {seen.eval_losses[-1]:.3g} (at its lowest {min(seen.eval_losses):.3g})"
        if facts.loss
        else ""
    )
    return Alarm(
        "over-fitting",
        f"the training loss is down at {now:.3g}{lowest}; {facts.metric} was best at epoch {epoch} "
        f"({seen.metrics[best]:.4f}, now {seen.metrics[last]:.4f}).",
        f"The best epoch is kept. Try --epochs {epoch}, more --dropout (0.2), --freeze embeddings, or a lower "
        "--learning-rate; more rows help most.",
    )


def _is_far_off(seen: _Seen, facts: Facts, now: float) -> bool:
    if facts.chance is None or not seen.eval_losses:
        return False
    return seen.eval_losses[-1] > FAR_OFF * facts.chance and now < BY_HEART * facts.chance


def _is_worse(seen: _Seen, facts: Facts, best: int) -> bool:
    if facts.loss is not None:
        return seen.eval_losses[-1] > RISEN * min(seen.eval_losses)
    lost = abs(seen.metrics[best] - seen.metrics[-1])
    return lost > LOST_METRIC * abs(seen.metrics[best])


def _too_slow(seen: _Seen, facts: Facts) -> Alarm | None:
    """Hours are left, or the machine does far less than it could."""
    pace = seen.seconds_a_step()
    if pace is None:
        return None
    left = (facts.steps - seen.step) * pace / 60
    speed = facts.rows_per_step / pace
    if facts.possible is not None and speed < IDLE_SHARE * facts.possible and left > IDLE_MINUTES:
        return Alarm(
            "too-slow",
            f"{speed:.3g} examples/s; the matrix products of this machine would allow {facts.possible:.3g}. "
            f"Up to {_in_words(left)} are left.",
            "See what else runs on this machine, and whether --threads is its number of cores; a larger --batch-size "
            "and --padding longest help too.",
        )
    if left > LONG_MINUTES:
        return Alarm(
            "too-slow",
            f"at {speed:.3g} examples/s up to {_in_words(left)} are left.",
            "Take a smaller --encoder (minilm), freeze its lower layers (--freeze), train only the head "
            "(--strategy head), or lower --max-length or --epochs.",
        )
    return None


def _in_words(minutes: float) -> str:
    return f"{minutes:.0f} minutes" if minutes < LONG_MINUTES else f"{minutes / 60:.1f} hours"


def _finite(line: Line) -> bool:
    return math.isfinite(line["loss"]) and math.isfinite(line.get("grad_norm", 0.0))


def _spread(values: Sequence[float]) -> float:
    """Say how far values lie apart, as a share of their mean."""
    return float(np.ptp(values) / max(1e-12, abs(np.mean(values))))


def _means(values: Sequence[float], width: int) -> list[float]:
    """Means of every `width` neighbours."""
    return [float(np.mean(values[at : at + width])) for at in range(len(values) - width + 1)]


_RULES: dict[Kind, Callable[[_Seen, Facts], Alarm | None]] = {
    "diverging": _diverging,
    "not-learning": _not_learning,
    "over-fitting": _over_fitting,
}
