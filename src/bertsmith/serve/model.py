"""A trained model as a server has it: loaded, verified, with a name and a version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bertsmith.bundle import BundleInfo, locate
from bertsmith.inference import exported
from bertsmith.inference.loading import load
from bertsmith.inference.predictor import Predictor
from bertsmith.listener import Listener


@dataclass(frozen=True, eq=False)
class Model:
    """A model that answers.

    Attributes:
        name: Name of the run's folder; what clients call it.
        version: The first 12 digits of a sha256 of its manifests: equal files and engine, equal version.
        folder: The run or the bundle, as it was given.
        predictor: What answers.
        loaded_at: When, UTC.
    """

    name: str
    version: str
    folder: Path
    predictor: Predictor
    loaded_at: datetime

    @property
    def info(self) -> BundleInfo:
        """What its bundle says about it."""
        return self.predictor.info

    @property
    def engine(self) -> str:
        """`torch`, `onnx` or `onnx-int8`."""
        return str(self.predictor.engine.name)

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels in the order of the logits."""
        return self.info.labels

    @property
    def task(self) -> str:
        """Name of its task."""
        return self.info.task

    @property
    def has_scores(self) -> bool:
        """True where an answer has a score for every label."""
        return self.predictor.has_scores


@dataclass(frozen=True)
class LoadSettings:
    """How models are loaded.

    Attributes:
        engine: `auto`, `torch`, `onnx` or `onnx-int8`.
        threads: CPU threads; None takes as many as the process may use.
    """

    engine: str = "auto"
    threads: int | None = None


def load_model(folder: Path, settings: LoadSettings | None = None, *, listener: Listener | None = None) -> Model:
    """Load a run (or its bundle), verified against its manifest.

    Raises:
        BundleError: It is incomplete, was changed, or is none.
        UsageError: The engine is unknown.
        MissingExtraError: What the engine needs is not installed.
    """
    how = settings or LoadSettings()
    predictor = load(folder, engine=how.engine, threads=how.threads, device="cpu", listener=listener)
    return Model(name_of(folder), _version(folder, predictor), folder, predictor, datetime.now(UTC))


def name_of(folder: Path) -> str:
    """Name a model after its run's folder.

    >>> name_of(Path("runs/reviews")), name_of(Path("runs/reviews/model"))
    ('reviews', 'reviews')
    """
    whole = folder.resolve()
    return whole.parent.name if whole.name == "model" else whole.name


def _version(folder: Path, predictor: Predictor) -> str:
    """Number the files that answer: those of the bundle, of the export that runs, and which engine that is."""
    engine, bundle = str(predictor.engine.name), locate(folder)
    kinds = [kind for kind, name in exported.KINDS.items() if name == engine]
    files = [bundle / "manifest.json", *(bundle / exported.FOLDER / kind / "manifest.json" for kind in kinds)]
    said = b"".join(file.read_bytes() for file in files if file.is_file())
    return hashlib.sha256(said + engine.encode()).hexdigest()[:12]
