"""How a bundle becomes a Predictor: with which engine, verified before it answers anything."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertsmith import bundle
from bertsmith.bundle import BundleInfo
from bertsmith.encoders import require
from bertsmith.errors import BertsmithError, BundleError, UsageError
from bertsmith.inference import exported
from bertsmith.inference.engine import NAMES
from bertsmith.inference.exported import Export
from bertsmith.inference.predictor import Predictor, token_encoder
from bertsmith.inference.scope import Scope
from bertsmith.listener import Listener, Silent
from bertsmith.tasks import task_named


def load(
    folder: Path,
    *,
    device: str = "auto",
    engine: str = "auto",
    threads: int | None = None,
    listener: Listener | None = None,
) -> Predictor:
    """Load a bundle (`RUN/model`) or the bundle of a run (`RUN`), verified.

    Args:
        folder: The bundle, or the run.
        device: Where torch runs; exports run on the CPU.
        engine: `torch`, `onnx` or `onnx-int8`; `auto` is the newest accepted export, else torch. An export that this
            machine cannot use is passed over by `auto`, and said.
        threads: CPU threads; None takes as many as this process may use for an export, and leaves torch as it is.
        listener: Told what was passed over.

    Raises:
        BundleError: It is incomplete, was changed, or is none; or there is no such export, or it answers differently
            on this CPU.
        UsageError: The engine is unknown, or cannot run on the device.
        MissingExtraError: What the engine needs is not installed.
    """
    path = bundle.locate(folder)
    if engine not in NAMES:
        raise UsageError(f"'engine' must be one of {', '.join(NAMES)}. Got {engine!r} instead.")
    if engine == "auto":
        return _automatic(path, device=device, threads=threads, listener=listener or Silent())
    if engine == "torch":
        return _on_torch(path, device=device, threads=threads)
    if device not in {"auto", "cpu"}:
        raise UsageError(f"the engine {engine} runs on the CPU; the device is '{device}'.", tip="Use --engine torch.")
    kind = next(kind for kind, name in exported.KINDS.items() if name == engine)
    found = exported.find(path, kind)
    if found is None:
        bundle.load_info(path, weights=False)
        wanted = "bertsmith export RUN" + " --int8" * (kind == "int8")
        raise BundleError(f"{path}: there is no accepted export for the engine {engine}.", tip=f"Make one: {wanted}")
    return _on_onnx(path, found, threads=threads)


def _automatic(path: Path, *, device: str, threads: int | None, listener: Listener) -> Predictor:
    if device not in {"auto", "cpu"}:
        return _on_torch(path, device=device, threads=threads)
    exports = exported.exports_of(path)
    if exports and importlib.util.find_spec("onnxruntime") is None:
        listener.warn("onnxruntime is not installed, so the export is not used: pip install 'bertsmith[serve]'")
        exports = []
    without_torch = importlib.util.find_spec("torch") is None
    for export in exports:
        try:
            return _on_onnx(path, export, threads=threads)
        except BertsmithError as error:
            if without_torch and export is exports[-1]:
                raise
            listener.warn(f"the export {export.kind} is not used. {error}")
    return _on_torch(path, device=device, threads=threads)


def _on_torch(path: Path, *, device: str, threads: int | None) -> Predictor:
    info = bundle.load_info(path)
    require("torch", what="predicting", extra="train")
    require("transformers", what="predicting", extra="train")
    import torch
    import transformers

    from bertsmith.inference.first_token import leave_out_other_tokens
    from bertsmith.inference.torch_engine import TorchEngine, pick_device
    from bertsmith.quiet import quiet_transformers

    if threads is not None:
        torch.set_num_threads(threads)
    task = task_named(info.task)
    with quiet_transformers():
        model = getattr(transformers, task.model_class).from_pretrained(
            str(path), dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
    model.to(pick_device(device)).eval()
    engine = TorchEngine(model, first_token=leave_out_other_tokens(model))
    tokens = token_encoder(info, task, path)
    return Predictor(info=info, task=task, tokens=tokens, engine=engine, scope=Scope.load(path))


def _on_onnx(path: Path, export: Export, *, threads: int | None) -> Predictor:
    from bertsmith.inference.onnx_engine import open_export

    info = bundle.load_info(path, weights=False)
    exported.verify(export, path)
    task = task_named(info.task)
    return Predictor(
        info=deciding_as(info, export),
        task=task,
        tokens=token_encoder(info, task, path),
        engine=open_export(export, threads=threads),
        scope=scope_as(Scope.load(path), export.figures),
    )


def deciding_as(info: BundleInfo, export: Export) -> BundleInfo:
    """Give a bundle's info the thresholds that were computed on an export's logits."""
    decision: dict[str, Any] = export.figures["decision"]
    return replace(info, decision=decision)


def scope_as(scope: Scope | None, figures: dict[str, Any]) -> Scope | None:
    """Give a bundle's scope the threshold that was chosen on what an export gave."""
    chosen = figures.get("scope")
    if scope is None or chosen is None:
        return scope
    threshold = float("inf") if chosen["threshold"] is None else float(chosen["threshold"])
    return replace(scope, threshold=threshold, chosen_from=chosen["chosen_from"])
