"""A bundle with a scope and both exports, of an encoder that learned nothing: what is asked is whether engines agree."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tests.conftest import toy_rows

from bertsmith import bundle, encoders
from bertsmith.atomic import write_json, write_manifest
from bertsmith.bundle import BundleInfo
from bertsmith.examples import LabelSet
from bertsmith.inference import exported
from bertsmith.inference.exported import Probes
from bertsmith.inference.loading import load
from bertsmith.inference.onnx_engine import LOGITS, OnnxEngine
from bertsmith.inference.scope import Scope
from bertsmith.inference.torch_engine import known_inputs
from bertsmith.tasks.single_label import SingleLabel

LABELS = LabelSet(("bad, really", 'good "quoted"', "null"))
TOLERANCE = 1e-3


@functools.cache
def bundle_with_exports(encoder: Path, folder: Path) -> Path:
    """Write a bundle of random but decided weights and its two exports, INT8 the newer; made once in a session."""
    import torch

    from bertsmith.export.graph import build
    from bertsmith.export.int8 import quantized
    from bertsmith.training.model import build as build_model

    torch.manual_seed(3)
    found = encoders.find(str(encoder))
    model = build_model(SingleLabel(), found, LABELS, dropout=None)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 2)
    info = BundleInfo(
        task="single-label", labels=LABELS.names, max_length=37, pair=False, encoder="tiny", fingerprint="0"
    )
    bundle.save(folder, model, found.transformers_tokenizer(), info=info)
    predictor = load(folder, device="cpu", engine="torch")
    rows = predictor.encode([text for text, _ in toy_rows(120)])
    given = predictor.engine.logits_and_inputs(rows)
    scope = Scope.fit(given, given.logits.argmax(axis=1), given).allowing(np.arange(100.0), alarms=0.1)
    scope.save(folder)
    bundle.write_info(folder, info)
    proto = build(predictor.engine.model, inputs=known_inputs(predictor.engine.model), head_inputs=True)
    write_export(folder, "fp32", proto, created="2026-11-21T10:00:00.000000+00:00")
    write_export(folder, "int8", quantized(proto), created="2026-11-21T10:00:00.000001+00:00")
    return folder


def write_export(model: Path, kind: str, proto: onnx.ModelProto, *, created: str, **figures: Any) -> Path:
    """Write an accepted export, as `bertsmith export` does, with eight probes of its own answers."""
    folder = model / "onnx" / kind
    folder.mkdir(parents=True)
    onnx.save(proto, folder / exported.GRAPH)
    made_probes(folder / exported.GRAPH).save(folder / exported.PROBES)
    write_figures(folder, kind=kind, created=created, weights=bundle.weights_sha256(model), **figures)
    return folder


def made_probes(graph: Path) -> Probes:
    """Eight inputs of one to eight words, and what the graph answers to each."""
    ids = tuple(np.arange(10, 11 + number, dtype=np.int64) for number in range(8))
    blank = Probes(ids, tuple(np.zeros_like(each) for each in ids), ())
    engine = OnnxEngine(graph, threads=1)
    return replace(blank, logits=tuple(engine.run(each, [LOGITS])[0][0] for each in blank.inputs()))


def write_figures(folder: Path, **figures: Any) -> None:
    """Write export.json and the manifest; what is given wins over what is usual."""
    usual = {
        "format": 1, "kind": folder.name, "accepted": True, "reason": "", "created": "2026-11-21T10:00:00.000000+00:00",
        "weights": "", "machine": {"cpu": "a CPU of ours", "threads": 2}, "decision": {"threshold": 0.25},
        "scope": {"threshold": 1.5, "chosen_from": "validation"}, "probes": {"number": 8, "tolerance": TOLERANCE, "usual": TOLERANCE},
    }  # fmt: skip
    write_json(folder / exported.FIGURES, {**usual, **figures})
    write_manifest(folder)
