"""The ONNX engine: an exported graph on ONNX Runtime, in fp32 or with INT8 products, without torch and transformers.

Its memory stays flat: ONNX Runtime's arena, which grows with every new shape and never shrinks (onnxruntime#11627),
is off, and widths are rounded up so that there are few shapes. Its threads are those that this process may use, where
it would take the host's by itself (onnxruntime#29510). A session does not outlive a fork: a new process makes its own.

Several batches run at a time, each on one thread: the hundreds of operators of a pass are small, and to share each of
them out among threads costs up to a third of the time (docs/lab-notes.md). So calls from several threads take one
thread each. A process that is asked for one batch after the other, as a server of few texts is, gets a second session
that shares the operators out, for the sake of its latency.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bertsmith import threads as cpu
from bertsmith.encoded import Encoded
from bertsmith.encoders import require
from bertsmith.errors import BundleError
from bertsmith.inference.engine import Done, HeadPass, Kept
from bertsmith.inference.exported import PROBES, Export, Probes
from bertsmith.inference.shaped_batches import shaped_batches
from bertsmith.kept_memory import keep_memory
from bertsmith.quiet import onnx_runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = np.ndarray[Any, Any]
_Pass: TypeAlias = tuple[Array, dict[str, Array], list[Array]]
"""The windows of a batch, what went in, what came out."""
BUDGET = 1024
"""Padded tokens of a batch: what a layer makes of more does not stay in the caches (docs/lab-notes.md)."""
_LEAST_SHARE = 256
"""Padded tokens from which on a batch is worth a thread of its own."""
_ALONE = 20
"""Batches that came by themselves, after which a session with all threads is worth its making and its memory."""
_LONG = 64
"""Padded tokens from which on a batch by itself gets all threads: with fewer they wait for each other, the more so on
a busy machine (docs/lab-notes.md)."""
_SLOWER = ["SkipLayerNormFusion"]
"""What ONNX Runtime would do to a graph and should not: on the CPU its SkipLayerNormalization takes 5 ns a value, a sum
and LayerNormalization by themselves 0.6 (docs/lab-notes.md)."""
LOGITS, HEAD_INPUTS = "logits", "head_inputs"
"""Names of the graph's outputs; the second only where the model has a scope."""


class OnnxEngine:
    """An exported model on the CPU; safe to use from many threads, and after a fork.

    Its answer to a text is the same to the last bit, whatever else is in the batch and however many threads there are.
    """

    def __init__(self, graph: Path, *, name: str = "onnx", threads: int | None = None) -> None:
        """Open a graph.

        Args:
            graph: An ONNX file with inputs `input_ids`, `attention_mask` and perhaps `token_type_ids`, int64
                `(batch, tokens)`; outputs `logits` and perhaps `head_inputs`.
            name: `onnx` or `onnx-int8`.
            threads: CPU threads; None takes as many as this process may use.

        Raises:
            MissingExtraError: onnxruntime is not installed.
            BundleError: ONNX Runtime cannot run the graph.
        """
        require("onnxruntime", what="answering with an export", extra="serve")
        self.name = name
        self._graph = graph
        self._threads = threads or cpu.allowed()
        self._opened = _Opened()
        self._alone = 0
        session = self._opened.session(graph, 1)
        self._inputs = tuple(each.name for each in session.get_inputs())
        self._width = int(next(each.shape[-1] for each in session.get_outputs() if each.name == LOGITS))

    @property
    def threads(self) -> int:
        """CPU threads: of one call, or of so many calls at a time."""
        return self._threads

    @property
    def calls(self) -> int:
        """Calls at a time that are answered sooner than one after the other."""
        return self._threads

    def logits(self, encoded: Encoded, *, budget: int = BUDGET, done: Done | None = None) -> Array:
        """Compute logits; see `Engine`."""
        kept = Kept(encoded)
        for windows, padded, (found,) in self._passes(encoded, [LOGITS], budget):
            kept.keep(found, windows, padded)
            if done is not None:
                done(len(windows))
        return kept.units(self._width)

    def logits_and_inputs(self, encoded: Encoded, *, budget: int = BUDGET, done: Done | None = None) -> HeadPass:
        """Compute logits and what the head made them of; see `Engine`."""
        outputs, features = Kept(encoded), Kept(replace(encoded, pooling="mean"))
        for windows, padded, (found, inputs) in self._passes(encoded, [LOGITS, HEAD_INPUTS], budget):
            outputs.keep(found, windows, padded)
            features.keep(inputs, windows, padded)
            if done is not None:
                done(len(windows))
        return HeadPass(outputs.units(self._width), features.units(0))

    def run(self, padded: Mapping[str, Array], outputs: Sequence[str], *, threads: int = 1) -> list[Array]:
        """Run one batch, and give these outputs."""
        session = self._opened.session(self._graph, threads)
        found: list[Array] = session.run(list(outputs), {name: padded[name] for name in self._inputs})
        return found

    def _passes(self, encoded: Encoded, outputs: Sequence[str], budget: int) -> Iterator[_Pass]:
        """Run all batches, in their order; as many at a time as there are threads, one where others ask meanwhile."""
        with self._opened.asking() as others:
            threads = 1 if others else self._threads
            total = int(encoded.window_lengths.sum())
            share = min(budget, max(_LEAST_SHARE, -(-total // threads)))
            batches = shaped_batches(encoded, share)
            if threads == 1:
                yield from ((windows, padded, self.run(padded, outputs)) for windows, padded in batches)
            elif total <= share:
                yield from ((windows, padded, self._run_alone(padded, outputs)) for windows, padded in batches)
            else:
                yield from self._run_all(batches, outputs)

    def _run_alone(self, padded: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Run a batch that came by itself."""
        worth = self._alone >= _ALONE and padded["input_ids"].size >= _LONG
        self._alone += 1
        return self.run(padded, outputs, threads=self._threads if worth else 1)

    def _run_all(self, batches: Iterable[tuple[Array, dict[str, Array]]], outputs: Sequence[str]) -> Iterator[_Pass]:
        with ThreadPoolExecutor(self._threads) as pool:
            under_way: deque[tuple[Array, dict[str, Array], Future[list[Array]]]] = deque()
            for windows, padded in batches:
                under_way.append((windows, padded, pool.submit(self.run, padded, outputs)))
                if len(under_way) > 2 * self._threads:
                    yield _ended(under_way.popleft())
            yield from map(_ended, under_way)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._opened = _Opened()


def _ended(one: tuple[Array, dict[str, Array], Future[list[Array]]]) -> _Pass:
    windows, padded, found = one
    return windows, padded, found.result()


class _Opened:
    """The sessions of one process, by their threads; each opened once, by whichever thread is first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[int, InferenceSession] = {}
        self._calls = 0
        _OPENED.add(self)

    @contextmanager
    def asking(self) -> Iterator[int]:
        """Count a call while it lasts; gives how many others there are as it begins."""
        with self._lock:
            others = self._calls
            self._calls += 1
        try:
            yield others
        finally:
            with self._lock:
                self._calls -= 1

    def session(self, graph: Path, threads: int) -> InferenceSession:
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = open_session(graph, threads)
            return self._sessions[threads]

    def forget(self) -> None:
        """Leave the sessions that this process was forked with: their threads are not here, and closing waits for them.

        So they must not be closed at the end of this process either, and are given references that nobody returns.
        """
        for session in self._sessions.values():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
        self._lock = threading.Lock()
        self._sessions, self._calls = {}, 0


_OPENED: weakref.WeakSet[_Opened] = weakref.WeakSet()


def _forget_all() -> None:
    for each in list(_OPENED):
        each.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def open_export(export: Export, *, threads: int | None = None) -> OnnxEngine:
    """Open an accepted export, and let it answer its probes.

    INT8 products are not the same on every CPU: without VNNI the usual instructions saturate. An export that answers
    a probe further from what it answered when it was accepted than its tolerance says is not used.

    Raises:
        BundleError: It answers differently here, or cannot be run.
    """
    engine = OnnxEngine(export.graph, name=export.engine, threads=threads)
    found = differences(engine, Probes.load(export.folder / PROBES))
    most = export.figures["probes"]
    usual = most.get("usual", most["tolerance"])
    # Not Python's max, which passes over a number that is none; and such a number is beyond every tolerance.
    for off, allowed, what in (
        (np.max(found, initial=0.0), float(most["tolerance"]), "a logit of its probes is off by"),
        (np.mean(found), float(usual), "the farthest logits of its probes are on average off by"),
    ):
        if not off <= allowed:
            made_on = export.figures.get("machine", {}).get("cpu", "another CPU")
            raise BundleError(
                f"{export.folder}: answers differently on this CPU: {what} {off:.3g}, and {allowed:.3g} is the most it "
                f"may be. It was accepted on: {made_on}.",
                tip="Export again on this machine, or use --engine torch.",
            )
    return engine


def differences(engine: OnnxEngine, probes: Probes) -> Array:
    """Give the largest difference of a logit for each probe, float64 `(probes,)`."""
    pairs = zip(probes.inputs(), probes.logits, strict=True)
    return np.array([float(np.abs(engine.run(padded, [LOGITS])[0][0] - wanted).max()) for padded, wanted in pairs])


def open_session(graph: Path | bytes, threads: int) -> InferenceSession:
    """Open a graph with the settings that all answers are given with.

    Raises:
        BundleError: ONNX Runtime cannot run it.
    """
    onnxruntime = onnx_runtime()
    # Without the arena each pass would get its pages anew from the system.
    keep_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
        )
    except Exception as error:
        reason = str(error).splitlines()[0]
        name = "the graph" if isinstance(graph, bytes) else graph
        raise BundleError(
            f"{name}: ONNX Runtime {onnxruntime.__version__} cannot run it: {reason}", tip="Export again."
        ) from error
