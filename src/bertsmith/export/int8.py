"""INT8 that does not depend on batch mates: products of 8-bit integers, with a scale of its own for every row.

The usual dynamic INT8 has one scale for a whole batch of activations, so that one outlier changes the answers to all
texts beside it (onnxruntime#10111). Here each row of each product, that is each token, is scaled by its own largest
value; weights are scaled per output channel; all else (norms, softmax, attention) stays fp32. The integers are summed
exactly, so that a text's answer is the same to the last bit whatever else is in the batch.

A product `x W + b` becomes (stock ONNX Runtime operators; M rows, K inputs, N outputs)

    scale   = max(|x|) / 127                        (M, 1)
    integer = QuantizeLinear(x, scale)              (M, K) uint8, zero at 128
    product = MatMulIntegerToFloat(integer, W)      (M, N) fp32, already times the scales of the channels
    result  = product * scale + b

What comes out of a GELU is never below -0.17, so nearly half of the integers would never be used. Its zero is at 16,
and its scale is max(x) / 239: twice as fine.

What comes out of a norm has a few channels that are many times larger than the others, and they alone would set the
scale. Each channel is divided by a number of its own and the weights are multiplied by it (SmoothQuant, Xiao et al.
2023, arXiv 2211.10438): the root of its size over that of its weights. The size is read from the norm's own gain and
offset, so no texts are needed.

The head stays fp32: it is small, and its errors go straight into the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

Array = np.ndarray[Any, Any]
FEWEST = 32
"""Outputs below which a product stays fp32, and rows below which a table does: what is small is cheap."""
HEAD = "head"
"""The part that always stays fp32."""
_CONTRIB, _FLOAT = "com.microsoft", 1
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_NORMS = frozenset({"LayerNormalization", "RMSNormalization"})
_RESHAPING = frozenset({"Reshape", "Slice", "Squeeze", "Unsqueeze", "Identity"})
_ALONG = _NORMS | {"Gelu", "Relu", "Tanh", "Cast", "Identity"}
_BESIDE = frozenset({"Add", "Sub", "Mul", "Div"})
_DEVIATIONS = 3.0
"""Standard deviations that a normed value is taken to reach."""
_LEAST = 1e-5
_LEAST_GELU = 0.16997121
"""GELU's least value is -0.16997…, at x = -0.7518."""


@dataclass(frozen=True)
class Coding:
    """How a row of floats becomes a row of bytes.

    Attributes:
        zero: The byte that stands for 0.
        steps: Bytes above it.
        floor: Least scale; for one-sided values the one with which the least value there may be is still a byte.
    """

    zero: int
    steps: int
    floor: float

    @property
    def one_sided(self) -> bool:
        """True where only the largest value sets the scale, not the largest magnitude."""
        return self.zero != 128


SYMMETRIC = Coding(128, 127, 1e-10)
AFTER_GELU = Coding(16, 239, _LEAST_GELU / 16)


@dataclass(frozen=True, eq=False)
class Product:
    """A product with constant weights, as it stands in a graph.

    Attributes:
        node: MatMul or Gemm.
        weights: fp32 `(K, N)`.
        bias: Gemm's third input; None where there is none. What follows a MatMul stays as it is.
        part: The part of the model it belongs to.
    """

    node: ir.Node
    weights: Array
    bias: ir.Value | None
    part: str


@dataclass(frozen=True, eq=False)
class Table:
    """A table of embeddings, as it stands in a graph.

    Attributes:
        node: Gather.
        weights: fp32 `(rows, width)`, or with more dimensions before the width.
        name: What the table is called.
    """

    node: ir.Node
    weights: Array
    name: str


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows as bytes: `(M, K)` uint8, their scales `(M, 1)`, and how they were made."""

    codes: ir.Value
    scales: ir.Value
    coding: Coding


def part_of(name: str) -> str:
    """Name the part of a model that a parameter belongs to.

    >>> part_of("bert.encoder.layer.3.output.dense.weight"), part_of("classifier.weight")
    ('layer 3', 'head')
    >>> part_of("bert.embeddings.word_embeddings.weight")
    'embeddings'
    """
    found = _LAYER.search(name)
    if found:
        return f"layer {found.group(1)}"
    return "embeddings" if "embedding" in name else HEAD


def products(model: ir.Model) -> Iterator[Product]:
    """Find the products with constant weights, in the order of the graph; the head and tiny ones are left out."""
    for node in model.graph:
        if node.op_type not in {"MatMul", "Gemm"}:
            continue
        weights = node.inputs[1]
        if weights is None or weights.const_value is None or len(weights.const_value.shape) != 2:
            continue
        values = weights.const_value.numpy()
        if node.op_type == "Gemm" and _number(node, "transB"):
            values = values.T
        if values.shape[1] < FEWEST or values.dtype != np.float32:
            continue
        bias = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
        part = part_of(weights.name or "")
        if part != HEAD:
            yield Product(node, values, bias, part)


def tables(model: ir.Model) -> Iterator[Table]:
    """Find the tables of embeddings, and those of distances (`export.distances`); tiny ones are left out."""
    for node in model.graph:
        weights = node.inputs[0] if node.op_type == "Gather" else None
        if weights is None or weights.const_value is None:
            continue
        values, axis = weights.const_value.numpy(), _number(node, "axis")
        if values.ndim < 2 or values.dtype != np.float32 or axis >= values.ndim - 1:
            continue
        if values.shape[axis] >= FEWEST <= values.shape[-1]:
            yield Table(node, values, weights.name or "table")


def values_of_tokens(model: ir.Model) -> set[ir.Value]:
    """Find values that have a row for each token, `(batch, tokens, width)`, as far as the graph tells."""
    found: set[ir.Value] = set()
    for node in model.graph:
        if _is_of_tokens(node, found, set(model.graph.inputs)):
            found.update(node.outputs)
    return found


def _is_of_tokens(node: ir.Node, found: set[ir.Value], inputs: set[ir.Value]) -> bool:
    first, kind = node.inputs[0] if node.inputs else None, node.op_type
    if kind == "Gather":
        return node.inputs[1] in inputs and not _number(node, "axis")
    if kind in _ALONG:
        return first in found
    if kind in _BESIDE:
        return any(each in found for each in node.inputs)
    if kind == "MatMul":
        weights = node.inputs[1]
        return first in found and weights is not None and weights.const_value is not None
    return kind == "Reshape" and _is_token_shape(node.inputs[1], inputs)


def _is_token_shape(shape: ir.Value | None, inputs: set[ir.Value]) -> bool:
    """Whether a shape is made of an input's batch and tokens, and one more number."""
    node = None if shape is None else shape.producer()
    if node is None or node.op_type != "Concat" or len(node.inputs) != 3:
        return False
    batch, tokens = (each.producer() if each is not None else None for each in node.inputs[:2])
    return all(
        each is not None
        and each.op_type == "Shape"
        and each.inputs[0] in inputs
        and (_number(each, "start"), _number(each, "end")) == (place, place + 1)
        for place, each in enumerate((batch, tokens))
    )


class Quantizer:
    """Rewrites the products of one graph."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._constants: dict[str, ir.Value] = {}
        self._sizes = _Sizes(model, self._constant)

    def rewrite(self, sharing: Sequence[Product], *, one_a_token: bool) -> None:
        """Put integers in the place of all products of one value.

        Args:
            sharing: The products.
            one_a_token: True where the value has a row for each token, `(batch, tokens, K)`.
        """
        made: list[ir.Node] = []
        x = sharing[0].node.inputs[0]
        assert x is not None
        divisors = smoothing(x, [product.weights for product in sharing])
        rows = self._coded(x, sharing[0].weights.shape[0], divisors, made, one_a_token=one_a_token)
        self._model.graph.insert_before(_first(self._model.graph, sharing), made)
        for product in sharing:
            weights = product.weights if divisors is None else product.weights * divisors[:, None]
            self._rewrite(x, product, rows, weights, one_a_token=one_a_token)

    def _rewrite(self, x: ir.Value, product: Product, rows: _Rows, weights: Array, *, one_a_token: bool) -> None:
        node = product.node
        made: list[ir.Node] = []
        y = self._multiplied(rows, weights, made)
        # Gemm's input has two dimensions already; others get back those they had.
        if node.op_type != "Gemm":
            width = product.weights.shape[1]
            shape = self._sizes.of_tokens(width) if one_a_token else self._sizes.like(x, width, made)
            y = _add(made, "Reshape", [y, shape])
        if product.bias is not None:
            y = _add(made, "Add", [y, product.bias])
        self._replace(node, y, made)

    def look_up(self, table: Table) -> None:
        """Put integers, with a scale for each row, in the place of a table of embeddings."""
        flat = table.weights.reshape(-1, table.weights.shape[-1])
        codes, scales = quantize_channels(flat.T)
        name, ids, axis = f"int8.{table.name}", table.node.inputs[1], _number(table.node, "axis")
        assert ids is not None
        made: list[ir.Node] = []
        stored = self._constant(f"{name}.codes", np.ascontiguousarray(codes.T).reshape(table.weights.shape))
        factors = self._constant(f"{name}.scales", scales.reshape(*table.weights.shape[:-1], 1))
        found, sizes = (_add(made, "Gather", [each, ids], axis=axis) for each in (stored, factors))
        self._replace(table.node, _add(made, "Mul", [_add(made, "Cast", [found], to=_FLOAT), sizes]), made)

    def _replace(self, node: ir.Node, value: ir.Value, made: list[ir.Node]) -> None:
        import onnx_ir as ir

        out = node.outputs[0]
        value.shape, value.type = out.shape, out.type
        self._model.graph.insert_after(node, made)
        ir.convenience.replace_all_uses_with(out, value, replace_graph_outputs=True)
        self._model.graph.remove(node, safe=True)

    def _coded(
        self, x: ir.Value, width: int, divisors: Array | None, made: list[ir.Node], *, one_a_token: bool
    ) -> _Rows:
        """Turn rows into bytes, once for all products of them."""
        coding = AFTER_GELU if _comes_from_gelu(x) else SYMMETRIC
        flat = _add(made, "Reshape", [x, self._constant(f"int8.rows.{width}", np.array([-1, width]))])
        if divisors is not None:
            name = f"int8.smoothing.{len(self._constants)}"
            flat = _add(made, "Mul", [flat, self._constant(name, (1 / divisors).astype(np.float32))])
        axis = self._constant("int8.axis", np.array([1]))
        size = flat if coding.one_sided else _add(made, "Abs", [flat])
        most = _add(made, "ReduceMax", [size, axis], keepdims=1)
        share = self._constant(f"int8.share.{coding.steps}", np.array(1 / coding.steps, np.float32))
        floor = self._constant(f"int8.floor.{coding.steps}", np.array(coding.floor, np.float32))
        scales = _add(made, "Max", [_add(made, "Mul", [most, share]), floor])
        each = _add(made, "Squeeze", [scales, axis])
        zero = self._constant(f"int8.zero.{coding.zero}", np.array(coding.zero, np.uint8))
        if one_a_token:
            zeros = self._sizes.for_tokens(zero)
        else:
            zeros = _add(made, "Expand", [zero, _add(made, "Shape", [each])])
        codes = _add(made, "QuantizeLinear", [flat, each, zeros], axis=0)
        return _Rows(codes, scales, coding)

    def _multiplied(self, rows: _Rows, weights: Array, made: list[ir.Node]) -> ir.Value:
        codes, per_channel = quantize_channels(weights)
        name = f"int8.product.{len(self._constants)}"
        inputs = [
            rows.codes,
            self._constant(f"{name}.weight", codes),
            self._constant("int8.one", np.array(1, np.float32)),
            self._constant(f"{name}.scale", per_channel),
            self._constant(f"int8.zero.{rows.coding.zero}", np.array(rows.coding.zero, np.uint8)),
        ]
        return _add(made, "Mul", [_add(made, "MatMulIntegerToFloat", inputs, domain=_CONTRIB), rows.scales])

    def _constant(self, name: str, value: Array) -> ir.Value:
        if name not in self._constants:
            import onnx_ir as ir

            made = ir.val(name, const_value=ir.tensor(value, name=name))
            self._model.graph.initializers.add(made)
            self._constants[name] = made
        return self._constants[name]


class _Sizes:
    """Shapes that depend on the size of a batch: those that all tokens have in common are computed once."""

    def __init__(self, model: ir.Model, constant: Callable[[str, Array], ir.Value]) -> None:
        self._graph = model.graph
        self._first = model.graph[0]
        self._constant = constant
        self._found: dict[str, ir.Value] = {}

    def of_tokens(self, width: int) -> ir.Value:
        """Give the shape `(batch, tokens, width)`."""
        return self._once(f"shape {width}", "Concat", [self._grid(), self._width(width)], axis=0)

    def for_tokens(self, number: ir.Value) -> ir.Value:
        """Give a number for each token of a batch, `(batch x tokens,)`."""
        rows = self._constant("int8.tokens", np.array([-1]))
        flat = self._once("tokens", "Reshape", [self._graph.inputs[0], rows])
        count = self._once("count", "Shape", [flat])
        return self._once(f"each {number.name}", "Expand", [number, count])

    def like(self, x: ir.Value, width: int, made: list[ir.Node]) -> ir.Value:
        """Give the shape of another value, with another width."""
        leading = _add(made, "Shape", [x], start=0, end=-1)
        return _add(made, "Concat", [leading, self._width(width)], axis=0)

    def _grid(self) -> ir.Value:
        return self._once("grid", "Shape", [self._graph.inputs[0]])

    def _width(self, width: int) -> ir.Value:
        return self._constant(f"int8.width.{width}", np.array([width]))

    def _once(self, key: str, kind: str, inputs: list[ir.Value], **attributes: Any) -> ir.Value:
        if key not in self._found:
            made: list[ir.Node] = []
            self._found[key] = _add(made, kind, inputs, **attributes)
            self._graph.insert_before(self._first, made)
        return self._found[key]


def smoothing(x: ir.Value, weights: Sequence[Array]) -> Array | None:
    """Find by what each channel of a norm's output is divided before it is coded, float64 `(K,)`.

    Args:
        x: What is multiplied.
        weights: All that it is multiplied with, `(K, N)` each.

    Returns:
        None where `x` does not come from a norm whose gain is constant.
    """
    sizes = _norm_sizes(x)
    if sizes is None or sizes.shape != weights[0].shape[:1]:
        return None
    # The geometric mean of all that share the codes; with the strongest of them the others got no better.
    strengths = np.exp(np.mean([np.log(_strengths(each)) for each in weights], axis=0))
    found = np.sqrt(np.maximum(sizes, _LEAST * sizes.max()) / strengths)
    return np.asarray(found / np.exp(np.log(found).mean()))


def _strengths(weights: Array) -> Array:
    """Give the root mean square of each channel's weights, in terms of that of all, float64 `(K,)`."""
    squares = (weights.astype(np.float64) ** 2).mean(axis=1)
    return np.asarray(np.sqrt(np.maximum(squares / max(squares.mean(), 1e-30), _LEAST**2)))


def _norm_sizes(x: ir.Value) -> Array | None:
    """Say how large the channels of a norm's output get, float64 `(K,)`: offset and three times the gain."""
    node = x.producer()
    while node is not None and node.op_type in _RESHAPING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type not in _NORMS:
        return None
    found = [each.const_value.numpy() for each in node.inputs[1:] if each is not None and each.const_value is not None]
    if len(found) != len(node.inputs) - 1 or not found:
        return None
    gain, *offset = (np.abs(each.astype(np.float64)) for each in found)
    return np.asarray(_DEVIATIONS * gain + sum(offset))


def quantize_channels(weights: Array) -> tuple[Array, Array]:
    """Turn weights into integers, with a scale for each output channel.

    Args:
        weights: fp32 `(K, N)`.

    Returns:
        int8 `(K, N)` within ±127, and fp32 `(N,)`; a channel of zeros has the scale 1.
    """
    scales = np.abs(weights).max(axis=0) / 127
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.round(weights / scales).clip(-127, 127).astype(np.int8), scales


def _first(graph: ir.Graph, sharing: Sequence[Product]) -> ir.Node:
    """Find the first of these products in the graph."""
    nodes = {product.node for product in sharing}
    return next(node for node in graph if node in nodes)


def _number(node: ir.Node, name: str) -> int:
    """Read a whole number of a node's attributes; 0 where it has none, as all of ONNX's have it."""
    found: int = node.attributes.get_int(name, 0)
    return found


def _comes_from_gelu(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == "Gelu"


def _add(made: list[ir.Node], kind: str, inputs: list[ir.Value], *, domain: str = "", **attributes: Any) -> ir.Value:
    import onnx_ir as ir

    node = ir.node(kind, inputs, attributes=attributes or None, domain=domain)
    made.append(node)
    return node.outputs[0]


def quantized(proto: onnx.ModelProto, *, fp32_parts: Iterable[str] = ()) -> onnx.ModelProto:
    """Rewrite a graph to INT8.

    Args:
        proto: An fp32 graph whose weights have the names of the model's parameters.
        fp32_parts: Parts of the model that are left as they are; names as `parts` gives them.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = ir.from_proto(proto)
    kept, quantizer = frozenset(fp32_parts), Quantizer(model)
    shared: dict[ir.Value, list[Product]] = {}
    for product in products(model):
        x = product.node.inputs[0]
        if x is not None and product.part not in kept:
            shared.setdefault(x, []).append(product)
    with_tokens = values_of_tokens(model)
    for x, sharing in shared.items():
        quantizer.rewrite(sharing, one_a_token=x in with_tokens)
    for table in list(tables(model)):
        if part_of(table.name) not in kept:
            quantizer.look_up(table)
    model.opset_imports.setdefault(_CONTRIB, 1)
    RemoveUnusedNodesPass()(model)
    return ir.to_proto(model)


def parts(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Name the parts of a model that have something to quantise: its tables, then its products by the graph's order."""
    import onnx_ir as ir

    model = ir.from_proto(proto)
    found = [*(part_of(table.name) for table in tables(model)), *(product.part for product in products(model))]
    return tuple(dict.fromkeys(found))
