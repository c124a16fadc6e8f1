"""tune: try settings on train and validation rows, and write the best as a recipe.

    read → check → split → encode, once; then trial after trial: choose → fit → score on validation rows

The test rows are not encoded and not answered: their score is for the one model that is trained in the end.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith import encoders, prepare
from bertsmith.atomic import write_text
from bertsmith.clock import in_words
from bertsmith.errors import BertsmithError, DataError, StoppedError, UsageError
from bertsmith.listener import Listener, Progress, Silent
from bertsmith.recipe import Recipe
from bertsmith.record import data_fingerprint
from bertsmith.run_folder import RunFolder
from bertsmith.tuning.material import Material, gather, with_encoder
from bertsmith.tuning.space import Space
from bertsmith.tuning.study import Study, TrialRecord, opened

if TYPE_CHECKING:
    import optuna

_MACHINE = frozenset({"device", "threads", "checkpoint_minutes", "track", "data", "validation", "test"})
"""Settings that may change while a study goes on; the data themselves are told by their fingerprint."""


@dataclass(frozen=True)
class Budget:
    """When a search ends.

    Attributes:
        trials: Trials of the study, those of earlier calls included.
        timeout: Seconds of this call; None is no limit. A trial under way ends after its epoch, but not before one
            trial of the study has come to its end.
    """

    trials: int = 20
    timeout: float | None = None

    def check(self) -> None:
        """Refuse a budget that allows nothing.

        Raises:
            UsageError: It does; all that is wrong is named at once.
        """
        wrong = []
        if self.trials < 1:
            wrong.append(f"'--trials' must be a whole number of at least 1. Got {self.trials} instead.")
        if self.timeout is not None and not self.timeout > 0:
            wrong.append(f"'--timeout' must be a number of seconds above 0. Got {self.timeout:g} instead.")
        if wrong:
            raise UsageError("\n".join(wrong))


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Attributes:
        folder: Where it lies.
        metric: The validation metric by which trials are compared.
        greater_is_better: Whether it is no loss.
        best: The best trial.
        trials: All of them, in their order.
        recipe: The resolved recipe of the best one.
    """

    folder: Path
    metric: str
    greater_is_better: bool
    best: TrialRecord
    trials: tuple[TrialRecord, ...]
    recipe: Recipe

    def as_json(self) -> dict[str, Any]:
        """Return what `tune --json` prints."""
        return {
            "folder": str(self.folder),
            "recipe": str(self.folder / "recipe.toml"),
            "metric": self.metric,
            "best": self.best.as_json(),
            "trials": [each.as_json() for each in self.trials],
        }


def tune(  # noqa: PLR0913 - a verb: data, place, settings, budget
    data: Any,
    *,
    out: Path,
    recipe: Recipe,
    fixed: Collection[str] = (),
    among: Sequence[str] = (),
    budget: Budget | None = None,
    force: bool = False,
    listener: Listener | None = None,
) -> Tuned:
    """Search settings; the same call goes on with a study that is already at `out`.

    Args:
        data: A path, a table or a list; None where `recipe.read.dataset` names one on the Hub.
        out: Folder of the study.
        recipe: What holds for every trial.
        fixed: Names of settings that are not searched, though tune would.
        among: Encoders to choose from; () takes that of the recipe.
        budget: When to end.
        force: Begin anew where there is a study already.
        listener: Told a line a trial.

    Raises:
        UsageError: The place is taken, or the study was begun with other data or settings.
        DataError: The data cannot be learned from, or leave no validation rows.
        StoppedError: Ctrl-C or SIGTERM; the same call goes on.
        BertsmithError: No trial came to its end.
    """
    budget, listener = budget or Budget(), listener or Silent()
    budget.check()
    encoders.require("optuna", what="tune", extra="tune")
    prepare.require_training()
    _check_place(out)
    began = time.monotonic()
    search = _prepare(data, out=out, recipe=recipe, fixed=fixed, among=among, listener=listener)
    _make_place(out, force=force)
    try:
        with opened(out / "study.db", greater_is_better=search.greater_is_better, seed=recipe.run.seed) as study:
            study.require(search.made_from(recipe))
            study.begin(search.space.first_parameters())
            search.run(study, budget, began=began)
            return search.tuned(study)
    finally:
        for each in sorted((out / "material").glob("*/checkpoints")):
            shutil.rmtree(each, ignore_errors=True)


@dataclass(frozen=True)
class _Search:
    """One search: where, what may be chosen, and what each encoder's trials learn from."""

    out: Path
    listener: Listener
    space: Space
    gathered: dict[str, Material]
    gathering: dict[str, Callable[[], Material]]
    fingerprint: str
    metric: str
    greater_is_better: bool

    def made_from(self, recipe: Recipe) -> dict[str, str]:
        """Say what a study's trials have in common, part by part."""
        chosen = dict.fromkeys(self.space.searched, None)
        settings = [
            (name, str(value))
            for stage in recipe.model_dump().values()
            for name, value in stage.items()
            if name not in _MACHINE and name not in chosen
        ]
        searched = {"choices": self.space.searched, "encoders": self.space.encoders, "batches": self.space.batch_sizes}
        return {"data": self.fingerprint, "settings": json.dumps(settings), "choices": json.dumps(searched)}

    def run(self, study: Study, budget: Budget, *, began: float) -> None:
        """Try until the budget is spent."""
        until = None if budget.timeout is None else began + budget.timeout
        while study.ended < budget.trials and not (_is_over(until) and study.best() is not None):
            trial = study.next()
            run = RunFolder(self.out / "trials" / study.name_of(trial))
            run.path.mkdir(parents=True, exist_ok=True)
            record = self._try(study, trial, run, until=until)
            self._tell(record, place=study.ended, of=budget.trials)
            self._write_trials(study)

    def tuned(self, study: Study) -> Tuned:
        """Write the best trial's recipe.

        Raises:
            BertsmithError: There is none.
        """
        best, records = study.best(), tuple(study.records())
        if best is None:
            why = next((each.why for each in reversed(records) if each.why), "there was none")
            raise BertsmithError(
                f"{self.out}: none of {len(records)} trials came to its end. The last one: {why}",
                tip="Does `bertsmith train` with the same settings?",
            )
        file = self.out / "recipe.toml"
        write_text(file, study.recipe_of(best))
        return Tuned(self.out, self.metric, self.greater_is_better, best, records, Recipe.load(file))

    def _try(self, study: Study, trial: optuna.Trial, run: RunFolder, *, until: float | None) -> TrialRecord:
        """Train once; a training that fails is a trial that failed, and the search goes on."""
        import optuna

        begin = time.monotonic()
        choice = self.space.choose(trial)
        material = self._material(choice.encoder)
        settings = choice.settings(material.recipe, material.config, self.space.searched)
        recipe = material.recipe.changed(settings)
        study.note(trial, settings=settings, recipe=recipe.dumps())
        state, value, why = "complete", None, ""
        try:
            value = self._fit(study, trial, material, recipe.changed({"track": ""}), run, until)
        except optuna.TrialPruned as error:
            state, why = "pruned", str(error)
        except StoppedError as error:
            raise StoppedError(
                f"interrupted in trial {trial.number + 1}.", tip="The same command goes on where it stopped."
            ) from error
        except (BertsmithError, MemoryError) as error:
            state, why = "failed", str(error) or "out of memory"
        shutil.rmtree(run.scratch, ignore_errors=True)
        return study.end(trial, state, value, why=why, seconds=round(time.monotonic() - begin, 3))

    def _fit(
        self, study: Study, trial: optuna.Trial, material: Material, recipe: Recipe, run: RunFolder, until: float | None
    ) -> float:
        """Fine-tune, and return the metric of the best epoch."""
        import optuna

        from bertsmith.training.fit import fit

        known = study.reported(trial)

        def report(epoch: int, value: float) -> None:
            if epoch not in known:
                trial.report(value, epoch)
            if _is_over(until) and study.best() is not None:
                raise optuna.TrialPruned("the time is up")
            if trial.should_prune() and epoch < int(recipe.fit.epochs):
                raise optuna.TrialPruned("below the median")

        model = material.model(recipe)
        fitted = fit(
            model,
            material.train,
            material.validation,
            task=material.prepared.task,
            recipe=recipe,
            run=run,
            listener=_OfTrial(self.listener),
            report=report,
        )
        assert fitted.best_metric is not None
        return float(fitted.best_metric)

    def _material(self, encoder: str) -> Material:
        """Encode for an encoder when it is first chosen."""
        if encoder not in self.gathered:
            self.gathered[encoder] = self.gathering[encoder]()
        return self.gathered[encoder]

    def _tell(self, record: TrialRecord, *, place: int, of: int) -> None:
        value = "" if record.value is None else f"{self.metric} {record.value:.4f} at epoch {record.best_epoch}"
        state = {"complete": "", "pruned": f"cut short, {record.why}", "failed": "failed"}[record.state]
        told = ", ".join(part for part in (value, state, in_settings(record)) if part)
        self.listener.tell("trial", f"{place} of {of}: {told}", aside=in_words(record.seconds))
        if record.state == "failed":
            self.listener.warn(record.why)

    def _write_trials(self, study: Study) -> None:
        lines = (json.dumps(each.as_json(), ensure_ascii=False) + "\n" for each in study.records())
        write_text(self.out / "trials.jsonl", "".join(lines))


def in_settings(record: TrialRecord) -> str:
    """Say what a trial chose, in a line.

    >>> chosen = {"encoder": "minilm", "learning_rate": 2e-4, "epochs": 3, "batch_size": 32, "freeze": ""}
    >>> in_settings(TrialRecord(1, "complete", 0.9, 2, chosen, (0.8, 0.9), 12.0))
    'minilm, rate 0.0002, epochs 3, batch 32, nothing frozen'
    """
    words = {"learning_rate": "rate {:g}", "epochs": "epochs {}", "batch_size": "batch {}", "freeze": "{} frozen"}
    return ", ".join(
        words.get(name, "{}").format(value or "nothing" if name == "freeze" else value)
        for name, value in record.settings.items()
    )


def _prepare(
    data: Any,
    *,
    out: Path,
    recipe: Recipe,
    fixed: Collection[str],
    among: Sequence[str],
    listener: Listener,
) -> _Search:
    """Read, check and split; find every encoder; encode for the first.

    Raises:
        DataError: There are no validation rows, or the data are not fit to learn from.
    """
    names = tuple(dict.fromkeys(among)) or (recipe.fit.encoder,)
    recipes = {name: recipe.changed({"encoder": name}) for name in names}
    configs = [encoders.find(name).config for name in names]
    prepared = prepare.prepare(data, recipe=recipes[names[0]], listener=listener, strict=True)
    prepared.findings.refuse_errors(prepared.examples.source)
    if not len(prepared.splits.sides["validation"]):
        raise DataError(
            f"{prepared.examples.source}: the split leaves no validation rows, and trials are scored on them.",
            tip="Use --shares 70/10/10/10, or give a file: --validation FILE.",
        )
    fingerprint = data_fingerprint(prepared.examples)

    def gathering(name: str, place: int) -> Callable[[], Material]:
        def gather_one() -> Material:
            own = prepared if place == 0 else with_encoder(prepared, recipes[name])
            return gather(own, recipes[name], data=data, folder=out / "material" / str(place), listener=listener)

        return gather_one

    late = {name: gathering(name, place) for place, name in enumerate(names)}
    base = prepare.resolved(recipes[names[0]], prepared, data)
    space = Space.of(base, encoders=names, rows=len(prepared.splits.sides["train"]), fixed=fixed, configs=configs)
    task, metric = prepared.task, base.fit.metric
    return _Search(
        out, listener, space, {}, late, fingerprint, metric, greater_is_better=metric not in task.loss_metrics
    )


def _is_over(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until


def _check_place(out: Path) -> None:
    """Refuse a folder that holds anything but a study.

    Raises:
        UsageError: It does.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())) or (out / "study.db").is_file():
        return
    raise UsageError(
        f"{out}: exists and is no study of bertsmith, so nothing is written there.",
        tip="Choose another --out, or an empty folder.",
    )


def _make_place(out: Path, *, force: bool) -> None:
    """Make the folder; with `force`, clear it of an old study, and of nothing else.

    Raises:
        UsageError: It cannot be written to.
    """
    try:
        if force:
            for name in ("study.db", "trials.jsonl", "recipe.toml"):
                (out / name).unlink(missing_ok=True)
            for name in ("trials", "material"):
                shutil.rmtree(out / name, ignore_errors=True)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be written to: {error.strerror or error}.", tip="Choose another --out."
        ) from error


class _OfTrial:
    """Shows a trial's progress, and keeps its lines to itself."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def tell(self, stage: str, text: str, *, aside: str = "") -> None:
        """Hear nothing."""

    def warn(self, text: str) -> None:
        """Hear nothing."""

    def work(self, stage: str, total: int | None) -> AbstractContextManager[Progress]:
        """Pass it on."""
        return self._listener.work(stage, total)
