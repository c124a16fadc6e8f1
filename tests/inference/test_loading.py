"""Which engine answers: the newest accepted export, else torch; and what is said where one is passed over."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pytest
from tests.conftest import toy_rows
from tests.inference.exports import bundle_with_exports, write_figures

from bertsmith import bundle
from bertsmith.errors import BundleError, UsageError
from bertsmith.inference.loading import load
from bertsmith.listener import Silent

TEXTS = [text for text, _ in toy_rows(8)]


class Heard(Silent):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


@pytest.fixture
def folder(tiny_encoder, tmp_path_factory, tmp_path):
    """A bundle with both exports, INT8 the newer, that may be spoilt."""
    made = bundle_with_exports(tiny_encoder, tmp_path_factory.getbasetemp() / "exported" / "model")
    shutil.copytree(made, tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def without(monkeypatch, *missing):
    """Let packages look as if they were not installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))


def refigure(folder, kind, **figures):
    """Write other figures of an export; what is not given stays."""
    file = folder / "onnx" / kind / "export.json"
    write_figures(file.parent, **{**json.loads(file.read_text()), **figures})


def test_a_bundle_is_found_in_its_run_and_by_itself(tmp_path):
    """A run leads to its model; a bundle, or what is neither, is taken as it is, also where it holds a `model`."""
    assert bundle.locate(tmp_path) == tmp_path
    model = tmp_path / "model"
    model.mkdir()
    assert bundle.locate(tmp_path) == tmp_path
    (model / "bertsmith.json").write_text("{}", encoding="utf-8")
    assert bundle.locate(tmp_path) == model
    assert bundle.locate(model) == model


def test_torch_says_whether_its_last_layer_computes_the_first_token_only(folder, monkeypatch):
    """That of a BERT does, as exports record it; where it cannot be done, the engine says so."""
    assert load(folder, engine="torch").engine.first_token
    monkeypatch.setattr("bertsmith.inference.first_token.leave_out_other_tokens", lambda _: False)
    assert not load(folder, engine="torch").engine.first_token


def test_auto_takes_the_newest_export_else_torch(folder):
    """INT8 while it is the newest, fp32 once that is, torch where there is none; a run leads to its model."""
    assert load(folder.parent).engine.name == "onnx-int8"
    refigure(folder, "fp32", created="2026-11-22T00:00:00.000000+00:00")
    assert load(folder).engine.name == "onnx"
    shutil.rmtree(folder / "onnx")
    assert load(folder).engine.name == "torch"


@pytest.mark.parametrize("engine", ["torch", "onnx", "onnx-int8"])
def test_an_engine_is_taken_by_its_name(folder, engine):
    """Whatever is newest; and all three answer alike here."""
    predictor = load(folder, engine=engine, threads=1)
    assert predictor.engine.name == engine
    wanted = load(folder, engine="torch").logits(TEXTS)
    assert np.abs(predictor.logits(TEXTS) - wanted).max() < (0.5 if engine == "onnx-int8" else 1e-5)


def test_thresholds_are_those_of_the_export(folder):
    """What was decided on an export's logits holds for it, and torch keeps its own."""
    torch, onnx = load(folder, engine="torch"), load(folder, engine="onnx")
    assert (torch.info.decision, onnx.info.decision) == ({}, {"threshold": 0.25})
    assert (onnx.scope.threshold, onnx.scope.chosen_from) == (1.5, "validation")
    refigure(folder, "fp32", scope={"threshold": None, "chosen_from": ""})
    assert load(folder, engine="onnx").scope.threshold == float("inf")
    refigure(folder, "fp32", scope=None)
    assert load(folder, engine="onnx").scope.threshold == torch.scope.threshold


def test_an_export_answers_without_the_weights(folder):
    """They may stay behind where only the export is wanted; torch says that they are missing."""
    (folder / "model.safetensors").unlink()
    assert len(load(folder).predict(TEXTS)) == len(TEXTS)
    with pytest.raises(BundleError, match=r"model\.safetensors: missing; the manifest lists it\."):
        load(folder, engine="torch")


def test_an_unknown_engine_is_refused(folder):
    """The message lists those there are."""
    with pytest.raises(UsageError) as caught:
        load(folder, engine="tensorrt")
    assert str(caught.value) == "'engine' must be one of auto, torch, onnx, onnx-int8. Got 'tensorrt' instead."


@pytest.mark.parametrize(("engine", "flag"), [("onnx", ""), ("onnx-int8", " --int8")])
def test_an_export_that_is_not_there_is_said(folder, engine, flag):
    """With the command that makes it."""
    shutil.rmtree(folder / "onnx")
    with pytest.raises(BundleError) as caught:
        load(folder, engine=engine)
    assert str(caught.value) == (
        f"{folder}: there is no accepted export for the engine {engine}.\n  Make one: bertsmith export RUN{flag}"
    )


def test_exports_run_on_the_cpu_only(folder):
    """Another device is refused with an export, and has auto take torch."""
    with pytest.raises(UsageError) as caught:
        load(folder, engine="onnx", device="cuda")
    assert str(caught.value) == "the engine onnx runs on the CPU; the device is 'cuda'.\n  Use --engine torch."
    with pytest.raises(UsageError, match=r"^the device 'cuda:9' is not there: torch "):
        load(folder, device="cuda:9")
    assert load(folder, device="cpu").engine.name == "onnx-int8"


def test_auto_passes_over_an_export_that_cannot_be_used(folder):
    """It warns with the reason and takes the next; with none left, torch."""
    heard = Heard()
    refigure(folder, "int8", weights="0" * 64)
    assert load(folder, listener=heard).engine.name == "onnx"
    assert heard.warnings == [
        f"the export int8 is not used. {folder}/onnx/int8: made of other weights than those of {folder}.\n"
        "  Export again: bertsmith export RUN --int8"
    ]
    refigure(folder, "fp32", weights="0" * 64)
    assert load(folder).engine.name == "torch"
    with pytest.raises(BundleError, match="made of other weights"):
        load(folder, engine="onnx")


def test_auto_without_onnx_runtime_takes_torch(folder, monkeypatch):
    """And says what would make it faster."""
    heard = Heard()
    without(monkeypatch, "onnxruntime")
    assert load(folder, listener=heard).engine.name == "torch"
    assert heard.warnings == ["onnxruntime is not installed, so the export is not used: pip install 'bertsmith[serve]'"]


def test_auto_without_torch_says_why_the_last_export_will_not_do(folder, monkeypatch):
    """Not that torch is missing: whoever serves exports has none."""
    without(monkeypatch, "torch")
    assert load(folder).engine.name == "onnx-int8"
    for kind in ("fp32", "int8"):
        refigure(folder, kind, weights="0" * 64)
    with pytest.raises(BundleError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"{folder}/onnx/fp32: made of other weights than those of {folder}.\n  Export again: bertsmith export RUN"
    )
