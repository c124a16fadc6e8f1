"""What happens beside the steps of a training: its history, alarms, early stopping, checkpoints inside an epoch.

All of it follows from the history and the clock, so that a resumed training does what the undisturbed one would.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from bertsmith import ranks
from bertsmith.errors import StoppedError
from bertsmith.listener import Listener, Progress
from bertsmith.training.compact_embeddings import Compact
from bertsmith.training.facts import Facts
from bertsmith.training.interrupts import Interrupts
from bertsmith.training.strategies import Strategy
from bertsmith.training.watch import look, look_back

LOG_EVERY = 10
"""Optimizer steps between two lines of the history."""

Report = Callable[[int, float], None]
"""Told the number of an epoch, from 1, and the chosen metric after it."""


class History:
    """The lines of `history.jsonl`: one for each logged step and each validation."""

    def __init__(self, path: Path, *, upto: int = 0) -> None:
        """Keep the lines up to a step, and drop what came after it; all are dropped at step 0."""
        self._path = path
        self.lines = [line for line in _read(path) if upto and line["step"] <= upto]
        self._begin = time.perf_counter() - (self.lines[-1]["seconds"] if self.lines else 0.0)
        if ranks.is_first():
            path.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")

    def add(self, line: Mapping[str, float]) -> None:
        """Add a line, with the seconds since training began."""
        timed = {**line, "seconds": round(time.perf_counter() - self._begin, 3)}
        self.lines.append(timed)
        if ranks.is_first():
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(timed) + "\n")


def _read(path: Path) -> list[dict[str, float]]:
    """Read what is whole of a history; a killed run may have left half a line."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


class Following(TrainerCallback):  # type: ignore[misc] # transformers ships no types for it
    """Writes the history, moves the progress bar, says each validation, and names what goes wrong."""

    def __init__(
        self,
        history: History,
        facts: Facts,
        *,
        listener: Listener,
        progress: Progress,
        report: Report | None = None,
        said: dict[str, dict[str, str]] | None = None,
    ) -> None:
        """Follow a training.

        Args:
            history: Gets the lines.
            facts: What alarms depend on.
            listener: Told of validations and alarms.
            progress: Moved a step at a time.
            report: Hears of each epoch's metric, and may stop the training by raising.
            said: The alarms so far by their kind, each of which is raised once; new ones are added.
        """
        self._history = history
        self._facts = facts
        self._listener = listener
        self._progress = progress
        self._report = report
        self._note = ""
        self.alarms = {} if said is None else said
        self.alarms |= {each.kind: each.as_json() for each in look_back(history.lines, facts)}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar."""
        self._progress.advance(1, self._note)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Write a line, and look for what goes wrong."""
        logs = logs or {}
        line: dict[str, float] = {"step": state.global_step, "epoch": round(float(state.epoch or 0), 4)}
        if "loss" in logs:
            line |= {name: logs[name] for name in ("loss", "grad_norm", "learning_rate") if name in logs}
            self._note = f"epoch {math.ceil(line['epoch'])} · loss {logs['loss']:.3f}"
        elif any(name.startswith("eval_") for name in logs):
            line |= {name: value for name, value in logs.items() if name.startswith("eval_")}
            self._say(line)
        else:
            return
        self._history.add(line)
        for alarm in look(self._history.lines, self._facts, said=self.alarms):
            self.alarms[alarm.kind] = alarm.as_json()
            self._listener.warn(f"{alarm.kind}: {alarm.message} {alarm.remedy}")

    def _say(self, line: Mapping[str, float]) -> None:
        value, epoch = line[f"eval_{self._facts.metric}"], round(line["epoch"])
        self._listener.tell("fit", f"epoch {epoch}: {self._facts.metric} {value:.4f} on validation")
        if self._report is not None:
            self._report(epoch, value)


class EarlyStop(TrainerCallback):  # type: ignore[misc] # transformers ships no types for it
    """Stops when as many epochs as `patience` were no better than the best before them.

    It looks at the history and has no memory of its own, which a resumed run would lack (transformers'
    EarlyStoppingCallback forgets its patience there).
    """

    def __init__(self, metric: str, *, patience: int, greater_is_better: bool) -> None:
        """Stop by the validation metric `metric`."""
        self._name = f"eval_{metric}"
        self._patience = patience
        self._sign = 1 if greater_is_better else -1

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop where patience is at its end."""
        values = [line[self._name] * self._sign for line in state.log_history if self._name in line]
        if len(values) - 1 - int(np.argmax(values)) >= self._patience:
            control.should_training_stop = True


class Timely(TrainerCallback):  # type: ignore[misc] # transformers ships no types for it
    """Asks for a checkpoint every few minutes and when somebody interrupts; leaves after the latter."""

    def __init__(self, interrupts: Interrupts, *, minutes: float, steps_an_epoch: int, run: Path) -> None:
        """Ask every `minutes`, never at the last step of an epoch: what is saved there comes after its validation."""
        self._interrupts = interrupts
        self._seconds = minutes * 60
        self._steps = steps_an_epoch
        self._run = run
        self._saved = time.monotonic()
        self._leave = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint where one is due."""
        if state.global_step % self._steps == 0:
            self._leave = ranks.any_of(self._interrupts.heard)
            return
        if ranks.count() > 1 and state.global_step % LOG_EVERY:
            return
        self._leave = ranks.any_of(self._interrupts.heard)
        if self._leave or ranks.agree(time.monotonic() - self._saved >= self._seconds):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave after the checkpoint that an interruption asked for."""
        self._saved = time.monotonic()
        if self._leave and not control.should_training_stop:
            raise StoppedError(
                f"interrupted at step {state.global_step:,} of {state.max_steps:,}; everything up to there is saved.",
                tip=f"Go on with: bertsmith train --resume {self._run}",
            )


class Stages(TrainerCallback):  # type: ignore[misc] # transformers ships no types for it
    """Tells the strategy which epoch begins, so that it trains what is due in it."""

    def __init__(self, strategy: Strategy) -> None:
        """Tell `strategy`."""
        self._strategy = strategy

    def on_epoch_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Mark what the epoch trains."""
        self._strategy.begin_epoch(model, int(state.epoch or 0))


class Decay(TrainerCallback):  # type: ignore[misc] # transformers ships no types for it
    """Tells the compact embeddings how far each step's weight decay would have moved the rows that are left out."""

    def __init__(self, compact: Compact) -> None:
        """Tell `compact`."""
        self._compact = compact

    def on_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        """Account for the step."""
        for group in optimizer.param_groups:
            if any(each is self._compact.weight for each in group["params"]):
                self._compact.step(1 - group["lr"] * group["weight_decay"])
