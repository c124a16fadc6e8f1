"""From a torch model to a plain fp32 ONNX graph: any batch, any length, one node for what is one operation.

Torch's exporter traces the model; here its graph is put into a form that can be rewritten with ease: weights are
initializers named as the model's parameters, products with them are MatMul nodes with weights of `(in, out)`.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bertsmith.errors import ExportError
from bertsmith.export.wrapping import ORDER, PART, wrapped

if TYPE_CHECKING:
    import onnx
    import torch
    from transformers import PreTrainedModel

Array = np.ndarray[Any, Any]
OPSET = 20
"""The first with Gelu as one operation."""
LOGITS, HEAD_INPUTS = "logits", "head_inputs"
_BATCH, _TOKENS = 3, 9


def build(model: PreTrainedModel, *, inputs: frozenset[str], head_inputs: bool) -> onnx.ModelProto:
    """Export a model in fp32.

    Args:
        model: An encoder with a head, on the CPU; it is left as it was. Where `leave_out_other_tokens` was applied to
            it, so it is exported.
        inputs: Names of the arrays that it takes, as `known_inputs` gives them.
        head_inputs: Also give what goes into the head's last linear layer.

    Returns:
        A graph with inputs `input_ids`, `attention_mask` and perhaps `token_type_ids`, int64 `(batch, tokens)`;
        outputs `logits`, `(batch, outputs)` or `(batch, tokens, outputs)`, and perhaps `head_inputs`,
        `(batch, width)`; fp32. Initializers are named as the parameters they come from.

    Raises:
        ExportError: Torch's exporter cannot trace the model.
    """
    names = [name for name in ORDER if name in inputs]
    with wrapped(model, inputs=names, head_inputs=head_inputs) as module, _quiet():
        proto = _traced(module, names, [LOGITS, HEAD_INPUTS][: 1 + head_inputs], type(model).__name__)
    _strip(proto)
    _as_products(proto)
    _name_weights(proto, model)
    return proto


def _traced(module: torch.nn.Module, inputs: list[str], outputs: list[str], name: str) -> onnx.ModelProto:
    import torch

    ids = torch.arange(_BATCH * _TOKENS).view(_BATCH, _TOKENS) % 7 + 3
    example = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        program = torch.onnx.export(
            module,
            tuple(example[each] for each in inputs),
            dynamo=True,
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            dynamic_shapes=(tuple(free for _ in inputs),),
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        # The exporter's own text is advice on how to change the model's code; what it ran into is the cause.
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise ExportError(
            f"{name}: torch {torch.__version__} cannot trace it: {cause}", tip="Use --engine torch."
        ) from error
    assert program is not None
    return program.model_proto


def _strip(proto: onnx.ModelProto) -> None:
    """Name the dimensions, and take off what the exporter only notes."""
    graph = proto.graph
    del graph.value_info[:], graph.metadata_props[:], proto.metadata_props[:]
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for each in (*graph.input, *graph.output):
        shape = each.type.tensor_type.shape.dim
        shape[0].dim_param = "batch"
        if len(shape) == 3 or each.name not in {LOGITS, HEAD_INPUTS}:
            shape[1].dim_param = "tokens"
        del each.metadata_props[:]


def _as_products(proto: onnx.ModelProto) -> None:
    """Turn every Gemm with a weight into a MatMul with the weight turned round, and an Add."""
    weights = {each.name: each for each in proto.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        nodes.extend(_product(node, weights) if _is_product(node) and node.input[1] in weights else [node])
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(each for name, each in weights.items() if name in used)


def _is_product(node: onnx.NodeProto) -> bool:
    settings = _settings(node)
    factors = settings.get("alpha", 1.0), settings.get("beta", 1.0), settings.get("transA", 0)
    return node.op_type == "Gemm" and factors == (1.0, 1.0, 0)


def _product(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> list[onnx.NodeProto]:
    from onnx import helper, numpy_helper

    name, result = node.input[1], node.output[0]
    if _settings(node).get("transB", 0):
        turned = np.ascontiguousarray(numpy_helper.to_array(weights[name]).T)
        name = f"{name}_turned"
        weights[name] = numpy_helper.from_array(turned, name)
    if len(node.input) < 3:
        return [helper.make_node("MatMul", [node.input[0], name], [result])]
    product = helper.make_node("MatMul", [node.input[0], name], [f"{result}_product"])
    return [product, helper.make_node("Add", [*product.output, node.input[2]], [result])]


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _name_weights(proto: onnx.ModelProto, model: PreTrainedModel) -> None:
    """Name initializers as the parameters they come from, turned round or not; of equal ones keep one."""
    from onnx import numpy_helper

    turned = {_key(value.T): name for name, value in _parameters(model) if value.ndim == 2}
    straight = {_key(value): name for name, value in _parameters(model)}
    names: dict[str, str] = {}
    kept: dict[str, onnx.TensorProto] = {}
    for each in proto.graph.initializer:
        values = numpy_helper.to_array(each)
        key = _key(values)
        plain = each.name.removeprefix(f"{PART}.") if each.name.startswith(f"{PART}.") else each.name
        known = values.dtype == np.float32 and values.ndim > 0
        names[each.name] = (turned | straight).get(key, plain) if known else plain
        each.name = names[each.name]
        kept.setdefault(each.name, each)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept.values())
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _parameters(model: PreTrainedModel) -> Iterator[tuple[str, Array]]:
    for name, value in model.named_parameters():
        yield name, value.detach().float().cpu().numpy()


def _key(values: Array) -> tuple[tuple[int, ...], bytes]:
    import hashlib

    return values.shape, hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes off the user's screen."""
    loggers = {name: logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(levels[name])
