"""What export.json holds: every figure of the gate, what was decided, and where the export came from."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertsmith import bundle
from bertsmith.deciding import Decided
from bertsmith.export.repair import Attempt
from bertsmith.inference.exported import FORMAT, GRAPH
from bertsmith.machine import cpu_name
from bertsmith.tasks import Rows

if TYPE_CHECKING:
    import onnx

_PACKAGES = ("bertsmith", "onnxruntime", "onnx", "torch", "transformers")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is known of an export, accepted or refused.

    Attributes:
        kind: `fp32` or `int8`.
        model: The bundle.
        folder: Where the graph lies.
        rows: How many rows of each side judged it.
        tried: What was tried; the last one counts, and has a `Candidate`.
        first_token: Whether the last layer computes the first token only.
        threads: CPU threads.
    """

    kind: str
    model: Path
    folder: Path
    rows: Mapping[str, int]
    tried: Sequence[Attempt]
    first_token: bool
    threads: int

    def figures(self, *, speed: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, Any]:
        """Return what export.json has in both cases."""
        last = self.tried[-1]
        graph = last.made.graph
        gate = {"rows": dict(self.rows), **last.gate.as_json(), **speed, "bytes": self._bytes()}
        return {
            "format": FORMAT,
            "kind": self.kind,
            "accepted": last.gate.accepted,
            "reason": last.gate.reason,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds"),
            "weights": bundle.weights_sha256(self.model),
            "versions": _versions(),
            "machine": {"cpu": cpu_name(), "threads": self.threads},
            "inputs": [each.name for each in graph.graph.input],
            "outputs": [each.name for each in graph.graph.output],
            "graph": graph_figures(graph) | {"first_token": self.first_token},
            "fp32_parts": list(last.fp32_parts),
            "tried": [each.as_json() for each in self.tried],
            "gate": gate,
            "seconds": dict(seconds),
        }

    def _bytes(self) -> dict[str, Any]:
        before = sum(file.stat().st_size for file in self.model.glob("model*.safetensors"))
        after = sum(file.stat().st_size for file in self.folder.glob(f"{GRAPH}*"))
        return {"torch": before, "export": after, "share": after / before}


def decided_figures(decided: Decided, test: Rows, *, probes: dict[str, float]) -> dict[str, Any]:
    """Return what export.json has of an accepted export besides: its thresholds, their bounds, its probes."""
    return {
        "decision": dict(decided.predictor.info.decision),
        "decide": decided.acceptance(test),
        "scope": decided.out_of_scope(),
        "probes": probes,
    }


def graph_figures(proto: onnx.ModelProto) -> dict[str, Any]:
    """Count what a graph is made of."""
    opset = next(each.version for each in proto.opset_import if not each.domain)
    return {"opset": opset, "nodes": len(proto.graph.node)}


def _versions() -> dict[str, str]:
    return {package: importlib.metadata.version(package) for package in _PACKAGES}
