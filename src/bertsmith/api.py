"""The Python face: train, check, load. The verbs of the command line, as functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith.run_folder import RunFolder

if TYPE_CHECKING:
    from bertsmith.findings import Findings
    from bertsmith.inference.predictor import Predictor
    from bertsmith.listener import Listener
    from bertsmith.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: Its folder.
        scores: What its scores.json holds.
    """

    path: Path
    scores: Mapping[str, Any]

    @property
    def folder(self) -> RunFolder:
        """What lies where in it."""
        return RunFolder(self.path)

    def predictor(self, *, device: str = "auto", engine: str = "auto") -> Predictor:
        """Load its model; arguments as for `load`."""
        return load(self.path, device=device, engine=engine)


def train(
    data: Any = None, *, out: str | Path, recipe: Recipe | None = None, force: bool = False, **settings: Any
) -> Run:
    """Learn from labelled text and write everything to a folder.

    Args:
        data: A path, a list of (text, label), a list of dicts, a dict of lists, an Arrow, pandas or polars
            table, a `datasets.Dataset` or `DatasetDict`; None with the setting `dataset`, or with a recipe
            that says where its data lies (RUN/recipe.toml does).
        out: Folder of the run.
        recipe: Every setting; left out, the defaults.
        force: Replace a run that is already there.
        settings: Settings by name, such as `epochs=3`; they win over `recipe`. The names are those of the
            command line's flags, with `_` for `-`.

    Raises:
        BertsmithError: The data, the settings or the place will not do.
    """
    from bertsmith.pipeline import train as train_pipeline
    from bertsmith.recipe import Recipe

    chosen = (recipe or Recipe()).changed(settings)
    trained = train_pipeline(_data(data, chosen), out=Path(out), recipe=chosen, force=force)
    return Run(trained.run.path, trained.scores)


def check(data: Any = None, *, recipe: Recipe | None = None, **settings: Any) -> Findings:
    """Say what is wrong with labelled text, errors first; arguments as for `train`.

    Raises:
        BertsmithError: The data cannot be read, or a setting is wrong.
    """
    from bertsmith.prepare import prepare
    from bertsmith.recipe import Recipe

    chosen = (recipe or Recipe()).changed(settings)
    return prepare(_data(data, chosen), recipe=chosen).findings


def _data(data: Any, recipe: Recipe) -> Any:
    """Take the data of the recipe where none is given."""
    return (recipe.read.data or None) if data is None else data


def load(
    run: str | Path,
    *,
    device: str = "auto",
    engine: str = "auto",
    threads: int | None = None,
    rung: str = "",
    listener: Listener | None = None,
) -> Predictor:
    """Load the model of a run (or a model folder), verified.

    Args:
        run: A run, or the model folder of one.
        device: auto, cpu, cuda, cuda:1 or mps; exports run on the CPU.
        engine: torch, onnx or onnx-int8; auto takes the newest accepted export, else torch.
        threads: CPU threads; None takes as many as this process may use for an export, and leaves torch as it is.
        rung: `majority`, `tfidf` or `frozen`: take this cheap model of the run's ladder instead.
        listener: Warned where `auto` passes over an export.

    Raises:
        UsageError: There is no such run or rung.
        BundleError: It is incomplete, was changed, or is none.
        MissingExtraError: torch or transformers is not installed.
    """
    if rung:
        from bertsmith.rungs import load_rung

        return load_rung(Path(run), rung, device=device, threads=threads)
    from bertsmith.inference.loading import load as load_bundle

    return load_bundle(Path(run), device=device, engine=engine, threads=threads, listener=listener)
