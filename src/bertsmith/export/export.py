"""export: a finished model as an ONNX file that answers as the model does, or none at all.

    load → rows → torch → graph → gate (→ repair) → decide → probes → speed → RUN/model/onnx/{fp32,int8}/

Each candidate is judged on the run's own validation and calibration rows before anything is kept. What is refused
leaves its figures and the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith import threads
from bertsmith.clock import Clock
from bertsmith.deciding import redecide
from bertsmith.encoders import require
from bertsmith.errors import DataError, ExportError, RecipeError
from bertsmith.export import probes as made_up
from bertsmith.export import telling
from bertsmith.export.candidates import Judge
from bertsmith.export.checking import check, usual_shapes
from bertsmith.export.figures import Outcome, decided_figures
from bertsmith.export.gate import ALLOW_DROP, Rule
from bertsmith.export.repair import Attempt
from bertsmith.export.rows import Judging, joined, judging_rows
from bertsmith.export.speed import measure_speed
from bertsmith.export.write import commit, commit_refused, staging
from bertsmith.inference.exported import Probes
from bertsmith.inference.loading import load
from bertsmith.inference.onnx_engine import OnnxEngine
from bertsmith.inference.predictor import Predictor
from bertsmith.inference.torch_engine import TorchEngine, known_inputs
from bertsmith.listener import Listener, Silent
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder, open_run
from bertsmith.tasks import Rows

if TYPE_CHECKING:
    import onnx

_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        folder: Where it lies, or where its figures lie if it was refused; None where nothing was written, since an
            accepted export of the same kind is there.
        figures: What export.json holds.
    """

    folder: Path | None
    figures: Mapping[str, Any]

    @property
    def accepted(self) -> bool:
        """True where the model will answer with it."""
        return bool(self.figures["accepted"])

    def require_accepted(self, run: Path) -> None:
        """Say that it was refused, where it was.

        Raises:
            ExportError: It was; the message has the reason.
        """
        if self.accepted:
            return
        kind = self.figures["kind"]
        kept = f" The accepted {kind} export that is there stays." if self.folder is None else ""
        other = "bertsmith export RUN makes one in fp32, which answers the same; " if kind == "int8" else ""
        raise ExportError(
            f"{run}: the {kind} export is refused: {self.figures['reason']}.{kept}",
            tip=f"{other}--allow-drop lets the metric drop by more." if other else "Use --engine torch.",
        )


def export(
    run: Path,
    data: Path | None = None,
    *,
    int8: bool = False,
    allow_drop: float = ALLOW_DROP,
    threads_wanted: int | str = "auto",
    listener: Listener | None = None,
) -> Exported:
    """Export the model of a run, judge it on the run's validation and calibration rows, and keep it if it passes.

    Args:
        run: A finished run.
        data: Where its data lie now; None where they are where the run found them.
        int8: Products of 8-bit integers, the parts that are too sensitive for that left in fp32; False for fp32.
        allow_drop: How much the main metric may drop, in its own unit (0.003 is 0.3 points of accuracy).
        threads_wanted: CPU threads; "auto" takes as many as this process may use.
        listener: Told a line a stage.

    Returns:
        What came of it, accepted or not; `require_accepted` raises where it was refused.

    Raises:
        UsageError: There is no such run, or another export of it is under way.
        DataError: Its rows cannot be read, or it has none to judge by.
        ExportError: Its model cannot be exported at all.
        MissingExtraError: A package is not installed.
    """
    if not 0 <= allow_drop <= 1:
        raise RecipeError(f"'--allow-drop' must be a number from 0 to 1. Got {allow_drop:g} instead.")
    opened, kind = open_run(run), "int8" if int8 else "fp32"
    for package in _PACKAGES:
        require(package, what="exporting", extra="export")
    number = threads.resolve(threads_wanted)
    threads.limit_libraries(number)
    rule = Rule.for_kind(kind, allow_drop=allow_drop)
    with staging(opened.model, kind) as folder:
        return _Work(opened, kind, rule, number, folder, listener or Silent(), Clock()).done(data)


@dataclass(frozen=True)
class _Work:
    """One export under way: what was asked, and where it is made."""

    run: RunFolder
    kind: str
    rule: Rule
    threads: int
    folder: Path
    listener: Listener
    clock: Clock

    def done(self, data: Path | None) -> Exported:
        """Go through the stages in their order."""
        with self.clock.stage("load"):
            recipe = Recipe.load(self.run.recipe)
            model = load(self.run.model, device="cpu", engine="torch", threads=self.threads)
        with self.clock.stage("rows"):
            judging = judging_rows(self.run, model, recipe=recipe, data=data, listener=self.listener)
            self._require_rows(judging)
            rows = joined(judging, model)
        with self.clock.stage("torch"):
            judge = self._judge(model, rows, seed=recipe.run.seed)
        with self.clock.stage("graph"):
            proto = self._graph(model)
        with self.clock.stage("gate"):
            tried = self._tried(judge, proto)
        with self.clock.stage("speed"):
            engines = {"torch": model.engine, "export": tried[-1].made.engine}
            speed = measure_speed(engines, rows.encoded)
            telling.speed(self.listener, speed)
        judged_by = {side: judging.sizes()[side] for side in ("validation", "calibration")}
        first_token = _torch(model).first_token
        outcome = Outcome(self.kind, self.run.model, self.folder, judged_by, tried, first_token, self.threads)
        if not tried[-1].gate.accepted:
            return self._refused(outcome, speed)
        return self._accepted(outcome, judge, judging, recipe, speed)

    def _require_rows(self, judging: Judging) -> None:
        sizes = judging.sizes()
        if not sizes["validation"] + sizes["calibration"]:
            raise DataError(
                f"{self.run.path}: there are no validation and no calibration rows that an export could be judged by.",
                tip="Train again with such rows: --shares leaves some.",
            )
        telling.rows(self.listener, judging)

    def _judge(self, model: Predictor, rows: Rows, *, seed: int) -> Judge:
        """Answer the rows with torch: that is what candidates are compared with."""
        with self.listener.work("torch", len(rows.encoded.window_lengths)) as progress:
            logits = model.engine.logits(rows.encoded, done=progress.advance)
        return Judge(model, rows, logits, self.rule, self.kind, self.folder, self.threads, seed)

    def _graph(self, model: Predictor) -> onnx.ModelProto:
        from bertsmith.export.graph import build

        network = _torch(model).model
        proto = build(network, inputs=known_inputs(network), head_inputs=model.task.confident)
        check(proto, network, usual_shapes(model.tokens.max_length))
        return proto

    def _tried(self, judge: Judge, proto: onnx.ModelProto) -> list[Attempt]:
        """Try candidates until one passes; only of the last one more than the figures is kept."""
        tried: list[Attempt] = []
        for each in judge.attempts(proto, self.listener):
            telling.gate(self.listener, each)
            tried = [*(replace(one, made=None) for one in tried), each]
        return tried

    def _refused(self, outcome: Outcome, speed: Mapping[str, Any]) -> Exported:
        found = outcome.figures(speed=speed, seconds=self.clock.as_json())
        return Exported(commit_refused(self.folder, self.run.model, self.kind, figures=found), found)

    def _accepted(
        self, outcome: Outcome, judge: Judge, judging: Judging, recipe: Recipe, speed: Mapping[str, Any]
    ) -> Exported:
        """Choose the thresholds of the export, keep its probes, and put it in its place."""
        engine = outcome.tried[-1].made.engine
        with self.clock.stage("check"):
            self._check_alone(outcome, judge.model)
        with self.clock.stage("decide"):
            decided = redecide(
                judge.answering(engine),
                judging.sides,
                judging.foreign,
                together=judging.together,
                settings=recipe.decide,
                seed=recipe.run.seed,
            )
        with self.clock.stage("probes"):
            probes, tolerances = _probes(judge.model, engine)
        test = judging.sides["test"]
        found = outcome.figures(speed=speed, seconds=self.clock.as_json())
        found |= decided_figures(decided, test, probes={"number": len(probes), **tolerances})
        folder = commit(self.folder, self.run.model, self.kind, figures=found, probes=probes)
        telling.done(self.listener, self.run.path, folder, found)
        return Exported(folder, found)

    def _check_alone(self, outcome: Outcome, model: Predictor) -> None:
        """See that an INT8 graph answers a text the same alone and in a batch; that of fp32 was checked when made."""
        if self.kind == "int8":
            shapes = usual_shapes(model.tokens.max_length)
            check(outcome.tried[-1].made.graph, _torch(model).model, shapes, close=None)


def _probes(model: Predictor, engine: OnnxEngine) -> tuple[Probes, dict[str, float]]:
    """Make up inputs, let the export answer them, and say how far it may be off elsewhere."""
    torch = _torch(model)
    asked = made_up.make(model.tokens, segments="token_type_ids" in known_inputs(torch.model))
    answered = made_up.answered_by(engine, asked)
    return answered, made_up.tolerances(answered, made_up.answered_by_torch(torch, asked))


def _torch(model: Predictor) -> TorchEngine:
    assert isinstance(model.engine, TorchEngine)
    return model.engine
