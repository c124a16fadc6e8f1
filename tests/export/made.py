"""What the tests of export share: a finished run that may be spoiled, and its graph, made once in a test session."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith.export import graph
from bertsmith.inference.loading import load
from bertsmith.inference.torch_engine import known_inputs
from tests.cli.finished import finished_run

BUILD = graph.build


@functools.cache
def graph_of(model: Path) -> Any:
    """Export a bundle to fp32, once."""
    predictor = load(model, engine="torch", device="cpu")
    network: Any = predictor.engine.model
    return BUILD(network, inputs=known_inputs(network), head_inputs=predictor.task.confident)


def copied_run(encoder: Path, data: Path, folder: Path) -> Path:
    """Copy the finished run of the session, so that exports of one test are not there for the next."""
    copy = folder / "run"
    shutil.copytree(finished_run(encoder, data).path, copy, ignore=shutil.ignore_patterns("onnx"))
    return copy


def as_made_before(model: Path) -> Callable[..., Any]:
    """Stand in for `graph.build`: give the graph that was made already of the same weights."""

    def build(*_: Any, **__: Any) -> Any:
        proto = graph_of(model)
        again = type(proto)()
        again.CopyFrom(proto)
        return again

    return build


def noisy(parts: dict[str, float], seed: int = 0) -> Callable[..., Any]:
    """Stand in for `int8.quantized`: spoil the weights of these parts by so much, where they are not kept fp32."""

    def quantized(proto: Any, *, fp32_parts: Iterable[str] = ()) -> Any:
        from onnx import numpy_helper

        from bertsmith.export.int8 import part_of

        made = type(proto)()
        made.CopyFrom(proto)
        generator = np.random.default_rng(seed)
        for each in made.graph.initializer:
            part, values = part_of(each.name), numpy_helper.to_array(each)
            spoilt = parts.get(part, 0.0) if part not in fp32_parts else 0.0
            if spoilt and values.ndim == 2 and values.dtype == np.float32:
                noise = spoilt * values.std() * generator.normal(size=values.shape)
                each.CopyFrom(numpy_helper.from_array((values + noise).astype(np.float32), each.name))
        return made

    return quantized
