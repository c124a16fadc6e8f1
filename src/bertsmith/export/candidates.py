"""Candidates: graphs that may become an export, each judged on the run's own rows by what it gives for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.export.agreement import distance
from bertsmith.export.gate import Gate, Rule, measure
from bertsmith.export.repair import Attempt, Form, attempts, fp32_share
from bertsmith.export.write import save_graph
from bertsmith.inference.exported import GRAPH, KINDS
from bertsmith.inference.onnx_engine import OnnxEngine
from bertsmith.inference.predictor import Predictor
from bertsmith.listener import Listener
from bertsmith.tasks import Rows

if TYPE_CHECKING:
    import onnx

Array = np.ndarray[Any, Any]
SAMPLE = 256
"""Rows on which it is measured how sensitive each part of a model is."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A graph, and the engine that runs it."""

    graph: onnx.ModelProto
    engine: OnnxEngine


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges candidates for one export.

    Attributes:
        model: The bundle, as torch answers with it.
        rows: Validation and calibration rows.
        logits: What torch gives for them.
        rule: What is asked of a candidate.
        kind: `fp32` or `int8`.
        folder: Where the candidate under judgement lies, as `model.onnx`.
        threads: CPU threads.
        seed: Of intervals and samples.
    """

    model: Predictor
    rows: Rows
    logits: Array
    rule: Rule
    kind: str
    folder: Path
    threads: int
    seed: int

    def attempts(self, proto: onnx.ModelProto, listener: Listener) -> Iterator[Attempt]:
        """Judge a graph as it is, or its INT8 forms until one passes or there are no more.

        The graph of the attempt that was yielded last lies in `folder`; what was `made` is a `Candidate`.
        """
        if self.kind == "fp32":
            yield self.judged(Form((), 1.0, proto), listener)
            return
        from bertsmith.export.int8 import parts, quantized

        every = parts(proto)

        def form(fp32_parts: tuple[str, ...]) -> Form:
            graph = quantized(proto, fp32_parts=frozenset(fp32_parts))
            return Form(fp32_parts, fp32_share(graph, proto), graph)

        def harm(part: str) -> float:
            return self.harm(quantized(proto, fp32_parts=frozenset(every) - {part}))

        yield from attempts(every, form=form, attempt=lambda made: self.judged(made, listener), harm=harm)

    def judged(self, form: Form, listener: Listener) -> Attempt:
        """Answer all rows with a candidate, and measure how its answers differ."""
        engine = self._opened(form.graph)
        with listener.work("gate", len(self.rows.encoded.window_lengths)) as progress:
            found = engine.logits(self.rows.encoded, done=progress.advance)
        gate = self._measured(found)
        return Attempt(form.fp32_parts, form.fp32_share, gate, Candidate(form.graph, engine))

    def harm(self, made: onnx.ModelProto) -> float:
        """Say how far answers move on some of the rows, on average."""
        drawn = np.sort(np.random.default_rng(self.seed).permutation(len(self.rows))[:SAMPLE])
        some, task = self.rows.take(drawn), self.model.task
        before = task.probabilities(self.logits[self.rows.encoded.flat(drawn)])
        after = task.probabilities(np.nan_to_num(self._opened(made).logits(some.encoded)))
        return float(distance(task, some, before, after, decision=self.model.info.decision).mean())

    def answering(self, engine: OnnxEngine) -> Predictor:
        """Give the model as it answers with a candidate."""
        return replace(self.model, engine=engine)

    def _measured(self, found: Array) -> Gate:
        decision = self.model.info.decision
        return measure(
            self.model.task, self.rows, self.logits, found, decision=decision, rule=self.rule, seed=self.seed
        )

    def _opened(self, made: onnx.ModelProto) -> OnnxEngine:
        file = self.folder / GRAPH
        save_graph(made, file)
        return OnnxEngine(file, name=KINDS[self.kind], threads=self.threads)
