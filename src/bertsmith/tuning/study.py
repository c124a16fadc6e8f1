"""The study on disk: which trials there were, which comes next, and what each came to.

A study is an SQLite file of optuna. What the next trial tries is a function of the seed and of the trials that
came to an end, so that a study that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.errors import UsageError

if TYPE_CHECKING:
    import optuna
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

_NAME = "bertsmith"
_UNPRUNED = 4
"""Trials that come to their end before any is cut short."""
_FIRST_CUT = 2
"""The first epoch after which a trial may be cut short."""
_RETRIED = "retried"
_SECOND = "second attempt at"


@dataclass(frozen=True)
class TrialRecord:
    """What a trial came to.

    Attributes:
        trial: Its number, from 1.
        state: `complete`, `pruned` (cut short: no better than the median), `failed` or `killed`.
        value: The best validation metric; None where there was none.
        best_epoch: The epoch that had it.
        settings: The settings that it chose.
        epochs: The metric after each epoch.
        seconds: What it took.
        why: What went wrong; "" where nothing did.
    """

    trial: int
    state: str
    value: float | None
    best_epoch: int | None
    settings: Mapping[str, Any]
    epochs: tuple[float, ...]
    seconds: float
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the trial as `trials.jsonl` has it."""
        return {
            "trial": self.trial,
            "state": self.state,
            "value": self.value,
            "best_epoch": self.best_epoch,
            "settings": dict(self.settings),
            "epochs": list(self.epochs),
            "seconds": self.seconds,
            "why": self.why,
        }


class Study:
    """Trials that were, and the next one."""

    def __init__(self, study: optuna.Study, storage: RDBStorage, *, seed: int) -> None:
        """Go on with an open study in its storage."""
        self._study = study
        self._storage = storage
        self._seed = seed

    @property
    def ended(self) -> int:
        """Trials that count: that came to an end, or were killed twice."""
        return sum(each.state.is_finished() and not each.user_attrs.get(_RETRIED) for each in self._trials())

    @property
    def greater_is_better(self) -> bool:
        """Whether the metric is no loss."""
        return bool(self._study.direction.name == "MAXIMIZE")

    def begin(self, first: Sequence[Mapping[str, Any]]) -> None:
        """Queue the first choices of a new study; in an old one, have killed trials tried once more."""
        if not self._trials():
            for choice in first:
                self._study.enqueue_trial(dict(choice))
        for each in self._trials():
            if each.state.name == "RUNNING":
                self._bury(each)

    def next(self) -> optuna.Trial:
        """Begin the next trial; of a killed one it knows the epochs that it had already reported."""
        import optuna

        state = int(np.random.SeedSequence((self._seed, self.ended)).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(seed=state)
        trial = self._study.ask()
        killed = trial.user_attrs.get(_SECOND)
        if killed is not None:
            before = next(each for each in self._trials() if each.number == killed)
            for epoch, value in sorted(before.intermediate_values.items()):
                trial.report(value, epoch)
        return trial

    def name_of(self, trial: optuna.Trial) -> str:
        """Name a trial's folder; a second attempt finds what the first one left."""
        return f"{trial.user_attrs.get(_SECOND, trial.number) + 1:04d}"

    def reported(self, trial: optuna.Trial) -> set[int]:
        """Epochs that a trial has reported."""
        return set(self._trials()[trial.number].intermediate_values)

    def note(self, trial: optuna.Trial, **facts: Any) -> None:
        """Write down something about a trial; killed or not, it stays."""
        for name, fact in facts.items():
            trial.set_user_attr(name, fact)

    def recipe_of(self, record: TrialRecord) -> str:
        """Return the recipe that a trial noted, as TOML."""
        return str(self._trials()[record.trial - 1].user_attrs["recipe"])

    def end(self, trial: optuna.Trial, state: str, value: float | None = None, **facts: Any) -> TrialRecord:
        """Write down what a trial came to: `complete` with its value, `pruned` or `failed`."""
        import optuna

        self.note(trial, **facts)
        states = {
            "complete": optuna.trial.TrialState.COMPLETE,
            "pruned": optuna.trial.TrialState.PRUNED,
            "failed": optuna.trial.TrialState.FAIL,
        }
        self._study.tell(trial, value if state == "complete" else None, state=states[state])
        return self._record(self._trials()[trial.number])

    def records(self) -> list[TrialRecord]:
        """Every trial that is over, in their order."""
        return [self._record(each) for each in self._trials() if each.state.is_finished()]

    def best(self) -> TrialRecord | None:
        """The best trial that came to its end, the first of equal ones."""
        done = [each for each in self.records() if each.state == "complete" and each.value is not None]
        sign = 1 if self.greater_is_better else -1
        return max(done, key=lambda each: sign * (each.value or 0.0), default=None)

    def require(self, made_from: Mapping[str, str]) -> None:
        """Refuse to go on with other data or settings than the study began with.

        Raises:
            UsageError: They differ; it says in what.
        """
        began = self._study.user_attrs.get("made_from")
        if began is None:
            self._study.set_user_attr("made_from", dict(made_from))
            return
        changed = [name for name in made_from if began.get(name) != made_from[name]]
        if changed:
            raise UsageError(
                f"the study was begun with other {' and '.join(changed)}: its trials cannot be compared with new ones.",
                tip="Choose another --out, or begin anew with --force.",
            )

    def _trials(self) -> list[FrozenTrial]:
        found: list[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return found

    def _bury(self, trial: FrozenTrial) -> None:
        """Mark a trial failed whose process was killed; the same choice is tried once more, not twice."""
        import optuna

        is_second = _SECOND in trial.user_attrs
        self._storage.set_trial_user_attr(trial._trial_id, "why", "killed")
        self._storage.set_trial_user_attr(trial._trial_id, _RETRIED, not is_second)
        self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        if not is_second:
            self._study.enqueue_trial(trial.params, user_attrs={_SECOND: trial.number})

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        found, why = trial.user_attrs, str(trial.user_attrs.get("why", ""))
        epochs = [value for _, value in sorted(trial.intermediate_values.items())]
        sign = 1 if self.greater_is_better else -1
        best = int(np.argmax([sign * each for each in epochs])) if epochs else None
        names = {"COMPLETE": "complete", "PRUNED": "pruned"}
        state = "killed" if why == "killed" else names.get(trial.state.name, "failed")
        return TrialRecord(
            trial=trial.number + 1,
            state=state,
            value=trial.value if state == "complete" else None if best is None else epochs[best],
            best_epoch=None if best is None else best + 1,
            settings=found.get("settings", {}),
            epochs=tuple(epochs),
            seconds=float(found.get("seconds", 0.0)),
            why=why,
        )


@contextlib.contextmanager
def opened(file: Path, *, greater_is_better: bool, seed: int) -> Iterator[Study]:
    """Open the study of a file, which is made where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage: RDBStorage = optuna.storages.RDBStorage(f"sqlite:///{file.resolve()}")
    try:
        study = optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction="maximize" if greater_is_better else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED, n_warmup_steps=_FIRST_CUT),
            load_if_exists=True,
        )
        yield Study(study, storage, seed=seed)
    finally:
        storage.remove_session()
        storage.engine.dispose()
