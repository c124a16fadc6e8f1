"""The sides of `benchmarks/scoring.py`, each in a process of its own that is asked by a pipe.

A side answers texts from the text on, tokenization included:

* `pipeline`: transformers' text-classification pipeline with a list of texts, as tutorials call it: one by one;
* `pipeline-64`: the same with batch_size=64;
* `ort-fp32`: the graph of transformers.exporters on ONNX Runtime, texts sorted by length, in batches;
* `ort-fp32-fused`: the same with the exporters' own fusions for the CPU;
* `ort-int8`: the same, quantized as transformers.exporters does: dynamic, activations per tensor, weights per channel;
* `torch`, `onnx`, `onnx-int8`: what `bertsmith.load(RUN, engine=...)` gives;
* `peak`: answers nothing; probes the peak of ONNX Runtime's INT8 matrix product.
"""

from __future__ import annotations

import logging
import os
import resource
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]
OURS = ("torch", "onnx", "onnx-int8")
PIPELINES = {"pipeline": 1, "pipeline-64": 64}
"""Name → texts a batch."""
GRAPHS = ("ort-fp32", "ort-fp32-fused", "ort-int8")
NAMES = (*PIPELINES, *GRAPHS, *OURS)
PEAK_SHAPES = ((1024, 768, 3072), (2048, 384, 1536), (2048, 1536, 384), (1024, 1024, 1024))
"""Rows, width and outputs of the products that are tried for the peak: those of usual encoders, and a square one."""


@dataclass(frozen=True)
class Setting:
    """What every side is told.

    Attributes:
        run: The trained run.
        graphs: Folder of the peers' graphs, `NAME.onnx`.
        labels: Names of the labels in the order of the logits.
        max_length: Tokens a text may have, the same on all sides.
        batch: Rows of a batch of the peers on ONNX Runtime.
        threads: CPU threads.
    """

    run: Path
    graphs: Path
    labels: tuple[str, ...]
    max_length: int
    batch: int
    threads: int


class Side(Protocol):
    """Something that answers texts."""

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Answer each text as a user would have it: the label and its score; return the labels."""

    def logits(self, texts: Sequence[str]) -> Array:
        """Give the logits, `(texts, labels)`."""


class Pipeline:
    """transformers' pipeline."""

    def __init__(self, setting: Setting, *, batch: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(setting.threads)
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        model = str(setting.run / "model")
        self._pipe = transformers.pipeline("text-classification", model=model, tokenizer=model, device="cpu")
        self._given = {"truncation": True, "max_length": setting.max_length, "batch_size": batch}
        self._places = {name: place for place, name in enumerate(setting.labels)}

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Answer each text; see `Side`."""
        # One text is given as such: a list goes through a DataLoader, which takes its time.
        given = texts[0] if len(texts) == 1 else list(texts)
        return [answer["label"] for answer in self._pipe(given, **self._given)]

    def logits(self, texts: Sequence[str]) -> Array:
        """Give the logits; see `Side`."""
        found = np.zeros((len(texts), len(self._places)), np.float32)
        every = self._pipe(list(texts), top_k=None, function_to_apply="none", **self._given)
        for row, answers in enumerate(every):
            for answer in answers:
                found[row, self._places[answer["label"]]] = answer["score"]
        return found


class Graph:
    """A peer's graph on ONNX Runtime: texts sorted by length, batches padded to their longest text."""

    def __init__(self, setting: Setting, file: Path) -> None:
        import onnxruntime
        import transformers

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(str(setting.run / "model"))
        self._setting = setting

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Answer each text; see `Side`."""
        logits = self.logits(texts)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = (powers / powers.sum(axis=1, keepdims=True)).max(axis=1).tolist()
        names = [self._setting.labels[place] for place in logits.argmax(axis=1).tolist()]
        return [name for name, _ in zip(names, scores, strict=True)]

    def logits(self, texts: Sequence[str]) -> Array:
        """Give the logits; see `Side`."""
        rows = self._tokenizer(list(texts), truncation=True, max_length=self._setting.max_length)
        found = np.zeros((len(texts), len(self._setting.labels)), np.float32)
        for batch in sorted_batches([len(ids) for ids in rows["input_ids"]], self._setting.batch):
            padded = {name: padded_rows([rows[name][row] for row in batch]) for name in self._inputs}
            found[batch] = self._session.run(["logits"], padded)[0]
        return found


class Ours:
    """bertsmith, by the engine of that name."""

    def __init__(self, setting: Setting, engine: str) -> None:
        from bertsmith.inference.loading import load

        self.predictor = load(setting.run, engine=engine, device="cpu", threads=setting.threads)

    def labels(self, texts: Sequence[str]) -> list[str]:
        """Answer each text; see `Side`."""
        return [answer.guess for answer in self.predictor.predict(list(texts))]

    def logits(self, texts: Sequence[str]) -> Array:
        """Give the logits; see `Side`."""
        return self.predictor.logits(list(texts))


def sorted_batches(lengths: Sequence[int], size: int) -> Iterator[Array]:
    """Cut rows, longest first, into batches of so many rows.

    >>> [batch.tolist() for batch in sorted_batches([3, 9, 4], 2)]
    [[1, 2], [0]]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]


def padded_rows(rows: Sequence[Sequence[int]]) -> Array:
    """Make an int64 array of rows, padded with zeros: the padding's id in BERT's vocabulary, and masked in any other.

    >>> padded_rows([[7, 8], [9]]).tolist()
    [[7, 8], [9, 0]]
    """
    found = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for place, row in enumerate(rows):
        found[place, : len(row)] = row
    return found


def open_side(name: str, setting: Setting) -> Side:
    """Open a side by its name."""
    if name in PIPELINES:
        return Pipeline(setting, batch=PIPELINES[name])
    if name in OURS:
        return Ours(setting, name)
    return Graph(setting, setting.graphs / f"{name}.onnx")


def export_graph(model: Path, name: str, file: Path) -> None:
    """Export a peer's graph with transformers.exporters, dynamic in rows and tokens."""
    import onnx_ir
    import transformers
    from onnxruntime.quantization import QuantType
    from transformers.exporters import OnnxConfig, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer
    from transformers.exporters.exporter_onnx import OnnxExporter

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    dynamic = OnnxRuntimeDynamicConfig(per_channel=True, weight_type=QuantType.QInt8)
    config = {
        "ort-fp32": OnnxConfig(dynamic=True),
        "ort-fp32-fused": OnnxConfig(dynamic=True, ort_fusions="cpu"),
        "ort-int8": OnnxConfig(dynamic=True, quantizer=OnnxRuntimeQuantizer(dynamic)),
    }[name]
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(model))
    inputs = dict(tokenizer(["a text of some words", "another"], padding=True, return_tensors="pt"))
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(str(model)).eval()
    onnx_ir.save(OnnxExporter().export(loaded, inputs, config=config).program, str(file))


def int8_peak(threads: int, *, seconds: float = 1.0) -> float:
    """Measure the best rate of ONNX Runtime's INT8 matrix product (uint8 by int8 to int32), in operations a second.

    The best of many products of each shape counts, so that a busy moment does not spoil it.
    """
    return max(_product_rate(shape, threads, seconds / len(PEAK_SHAPES)) for shape in PEAK_SHAPES)


def _product_rate(shape: tuple[int, int, int], threads: int, seconds: float) -> float:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rows, width, wide = shape
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (width, wide), dtype=np.int8)
    given = helper.make_tensor_value_info("x", TensorProto.UINT8, [rows, width])
    result = helper.make_tensor_value_info("y", TensorProto.INT32, [rows, wide])
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array(128, np.uint8), "zero")]
    product = helper.make_node("MatMulInteger", ["x", "w", "zero"], ["y"])
    graph = helper.make_graph([product], "product", [given], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {"x": generator.integers(0, 256, (rows, width), dtype=np.uint8)}
    session.run(None, inputs)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        begin = time.perf_counter()
        session.run(None, inputs)
        best = min(best, time.perf_counter() - begin)
    return 2 * rows * width * wide / best


def rate(side: Side, texts: Sequence[str]) -> dict[str, float]:
    """Answer the texts once; return wall-clock seconds and those of the processor."""
    begin, processor = time.perf_counter(), time.process_time()
    side.labels(texts)
    return {"seconds": time.perf_counter() - begin, "processor": time.process_time() - processor}


def each_alone(side: Side, texts: Sequence[str]) -> list[float]:
    """Answer each text by itself; return the seconds of each."""
    found = []
    for text in texts:
        begin = time.perf_counter()
        side.labels([text])
        found.append(time.perf_counter() - begin)
    return found


def engine_rate(side: Side, texts: Sequence[str]) -> dict[str, float]:
    """Answer texts of which the token ids are there already, as `rate` says; ours only."""
    assert isinstance(side, Ours)
    encoded = side.predictor.encode(list(texts))
    begin, processor = time.perf_counter(), time.process_time()
    side.predictor.logits_of(encoded)
    return {"seconds": time.perf_counter() - begin, "processor": time.process_time() - processor}


def batch_effect(side: Side, texts: Sequence[str]) -> dict[str, float]:
    """Compare the logits of texts alone with those of the same texts together."""
    alone, together = np.concatenate([side.logits([text]) for text in texts]), side.logits(texts)
    return {
        "same_bits": float((alone == together).all(axis=1).mean()),
        "largest_difference": float(np.abs(alone - together).max()),
    }


QUESTIONS = {
    "rate": rate,
    "each_alone": each_alone,
    "engine_rate": engine_rate,
    "batch_effect": batch_effect,
    "labels": lambda side, texts: side.labels(texts),
    "memory": lambda side, texts: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}


def serve(connection: Connection, name: str, setting: Setting) -> None:
    """Be one side, in this process: answer questions until None comes."""
    os.environ.update(RAYON_NUM_THREADS=str(setting.threads), TOKENIZERS_PARALLELISM="true")
    side = None if name == "peak" else open_side(name, setting)
    connection.send("ready")
    for question, texts in iter(connection.recv, None):
        connection.send(int8_peak(setting.threads) if side is None else QUESTIONS[question](side, texts))
