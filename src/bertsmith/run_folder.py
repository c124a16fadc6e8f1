"""What lies where in a run on disk, and how a run begins and ends there."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertsmith.atomic import write_manifest
from bertsmith.errors import UsageError

FORMAT = 1


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run.

    A run is whole when its `manifest.json` is there: it is written last.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """Every setting, resolved (TOML)."""
        return self.path / "recipe.toml"

    @property
    def data(self) -> Path:
        """What was read: fingerprint, columns, labels, sizes of the sides (JSON)."""
        return self.path / "data.json"

    @property
    def split(self) -> Path:
        """The side of every row: file, row, side (Parquet)."""
        return self.path / "split.parquet"

    @property
    def findings(self) -> Path:
        """What check found (JSON)."""
        return self.path / "findings.json"

    @property
    def baselines(self) -> Path:
        """The cheap rungs of the ladder, usable (a folder of skops files)."""
        return self.path / "baselines"

    @property
    def history(self) -> Path:
        """A line for each logged step and each validation (JSON lines)."""
        return self.path / "history.jsonl"

    @property
    def scores(self) -> Path:
        """How good the model is (JSON); the contract for scripts."""
        return self.path / "scores.json"

    @property
    def predictions(self) -> Path:
        """Answers to the validation, calibration and test rows (Parquet)."""
        return self.path / "predictions.parquet"

    @property
    def suspects(self) -> Path:
        """Rows whose label may be wrong, to be looked at (CSV); not there where none was looked for."""
        return self.path / "suspects.csv"

    @property
    def report(self) -> Path:
        """Everything about the run on one page that opens offline (HTML)."""
        return self.path / "report.html"

    @property
    def trackers(self) -> Path:
        """What TensorBoard is told, where `--track` asks for it."""
        return self.path / "trackers"

    @property
    def scratch(self) -> Path:
        """Checkpoints and token ids while the run goes on; gone at the end."""
        return self.path / "checkpoints"

    @property
    def encoder(self) -> Path:
        """The encoder that learned from raw texts first (`--adapt`); otherwise not there."""
        return self.path / "encoder"

    @property
    def model(self) -> Path:
        """The bundle."""
        return self.path / "model"

    @property
    def manifest(self) -> Path:
        """Every file with its size and sha256 (JSON)."""
        return self.path / "manifest.json"

    @property
    def is_whole(self) -> bool:
        """True when the run came to its end."""
        return self.manifest.is_file()

    def clear(self) -> None:
        """Remove what a run wrote, and nothing else that lies in the folder."""
        self.clear_results()
        for path in (self.recipe, self.data, self.split, self.findings, self.history):
            path.unlink(missing_ok=True)
        for folder in (self.encoder, self.trackers, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)

    def clear_results(self) -> None:
        """Remove what follows from data, recipe and checkpoints: the ladder, the bundle, answers, scores, report."""
        for path in (self.manifest, self.scores, self.predictions, self.suspects, self.report):
            path.unlink(missing_ok=True)
        for folder in (self.model, self.baselines):
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self) -> None:
        """Clear the scratch folder and seal the run with its manifest."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        write_manifest(self.path)

    def read_json(self, path: Path) -> Any:
        """Read one of the run's JSON files."""
        return json.loads(path.read_text(encoding="utf-8"))


def check_free(path: Path, *, force: bool) -> None:
    """Refuse a place that cannot become a run, before any work is done.

    Raises:
        UsageError: The place is taken.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        _check_replaceable(RunFolder(path), force=force)


def create(path: Path, *, force: bool) -> RunFolder:
    """Make an empty run folder.

    Args:
        path: Where.
        force: Replace a run that is already there. Nothing that is no run is ever deleted.

    Raises:
        UsageError: The place is taken, or cannot be written to.
    """
    run = RunFolder(path)
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            _check_replaceable(run, force=force)
            run.clear()
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written to: {error.strerror or error}.", tip="Choose another --out."
        ) from error
    return run


def open_run(path: Path) -> RunFolder:
    """Open a run that came to its end.

    Raises:
        UsageError: There is no run, or it is unfinished.
    """
    run = RunFolder(path)
    if not path.is_dir():
        raise UsageError(f"{path}: no such run folder.", tip="A run is what `bertsmith train DATA --out RUN` makes.")
    if not run.is_whole:
        begun = run.recipe.is_file()
        state = "the run did not come to its end" if begun else "this is no run of bertsmith"
        raise UsageError(
            f"{path}: {state} (no manifest.json).",
            tip=f"Go on with it: bertsmith train --resume {path}" if begun else "Is it the right folder?",
        )
    return run


def open_unfinished(path: Path) -> RunFolder:
    """Open a run that began, whether it came to its end or not.

    Raises:
        UsageError: There is no run, or it stopped before there was anything to go on with.
    """
    run = RunFolder(path)
    if not path.is_dir():
        raise UsageError(f"{path}: no such run folder.", tip="A run is what `bertsmith train DATA --out RUN` makes.")
    if not (run.recipe.is_file() and run.data.is_file()):
        raise UsageError(
            f"{path}: there is no run that could go on (no recipe.toml and data.json).",
            tip="Begin it: bertsmith train DATA --out RUN",
        )
    if not run.is_whole and not _has_source(run):
        raise UsageError(
            f"{path}: the run learned from a table in memory, which is gone.",
            tip="Train again; with a file as data, a run can go on.",
        )
    return run


def _has_source(run: RunFolder) -> bool:
    read = tomllib.loads(run.recipe.read_text(encoding="utf-8")).get("read", {})
    return bool(read.get("data") or read.get("dataset"))


def _check_replaceable(run: RunFolder, *, force: bool) -> None:
    is_run = run.path.is_dir() and (run.recipe.is_file() or run.scratch.is_dir())
    if not is_run:
        raise UsageError(
            f"{run.path}: exists and is no run of bertsmith, so nothing is written there.",
            tip="Choose another --out, or an empty folder.",
        )
    if not force:
        if run.is_whole:
            raise UsageError(
                f"{run.path}: holds a finished run.", tip="Choose another --out, or replace it with --force."
            )
        raise UsageError(
            f"{run.path}: holds an unfinished run.",
            tip=f"Go on with it: bertsmith train --resume {run.path}. Or replace it with --force.",
        )
