"""INT8 products: what they come to, beside the same sums in exact integers, and beside fp32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy.special import erf

from bertsmith.export.int8 import part_of, parts, quantize_channels, quantized

onnxruntime = pytest.importorskip("onnxruntime")
K, N = 48, 40


def graph(
    weights: dict[str, np.ndarray], *, gelu: bool = False, norm: np.ndarray | None = None, gemm: bool = False
) -> onnx.ModelProto:
    """One product (x W + b) for each of these weights, of one input that may come from a GELU or a norm."""
    nodes, made, x = [], {name: each for name, each in weights.items()}, "x"
    if norm is not None:
        made |= {"gain": norm[0], "offset": norm[1]}
        nodes.append(helper.make_node("LayerNormalization", [x, "gain", "offset"], ["normed"]))
        x = "normed"
    if gelu:
        nodes.append(helper.make_node("Gelu", [x], ["activated"]))
        x = "activated"
    outputs = []
    for place, name in enumerate(weights):
        bias = np.linspace(-1, 1, weights[name].shape[1], dtype=np.float32)
        made[f"{name}.bias"] = bias
        if gemm:
            nodes.append(helper.make_node("Gemm", [x, name, f"{name}.bias"], [f"y{place}"]))
        else:
            nodes += [
                helper.make_node("MatMul", [x, name], [f"product{place}"]),
                helper.make_node("Add", [f"product{place}", f"{name}.bias"], [f"y{place}"]),
            ]
        outputs.append(helper.make_tensor_value_info(f"y{place}", TensorProto.FLOAT, None))
    shape = ["rows", K] if gemm else ["batch", "tokens", K]
    made_of = [numpy_helper.from_array(each, name) for name, each in made.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, made_of),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )


def run(proto: onnx.ModelProto, x: np.ndarray, *, threads: int = 1) -> list[np.ndarray]:
    """Let ONNX Runtime run a graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def weights(seed: int, *, width: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, (K, width)).astype(np.float32)


def rows(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (*shape, K)).astype(np.float32)


def by_hand(x: np.ndarray, w: np.ndarray, *, zero: int = 128, steps: int = 127) -> np.ndarray:
    """The same sums in 64-bit integers and floats."""
    most = np.abs(x).max(-1, keepdims=True) if zero == 128 else x.max(-1, keepdims=True)
    scale = np.maximum(most / steps, 1e-10 if zero == 128 else 0.16997121 / 16)
    codes = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    integers, channels = quantize_channels(w)
    return codes @ integers.astype(np.float64) * channels * scale + np.linspace(-1, 1, w.shape[1])


@pytest.mark.parametrize("gemm", [False, True], ids=["matmul", "gemm"])
def test_products_are_the_exact_integer_sums(gemm):
    """Each row's bytes times each channel's, summed without loss, times both scales."""
    w, x = weights(1), rows(2, 6) if gemm else rows(2, 3, 5)
    (found,) = run(quantized(graph({"layer.0.dense.weight": w}, gemm=gemm)), x)
    assert found.shape == (*x.shape[:-1], N)
    # The scale is a float32 here and a float64 by hand, so that a value half-way between two bytes may go either way.
    assert np.abs(found - by_hand(x.astype(np.float64), w)).max() < 0.02
    assert np.mean(np.abs(found - by_hand(x.astype(np.float64), w)) > 1e-5) < 0.1


def test_products_are_close_to_fp32():
    """The error is about a hundredth of the result's spread."""
    proto, x = graph({"layer.0.dense.weight": weights(3)}), rows(4, 8, 16)
    (exact,), (found,) = run(proto, x), run(quantized(proto), x)
    assert (found - exact).std() < 0.015 * exact.std()


def test_after_a_gelu_the_error_of_the_bytes_halves():
    """Values that are never below -0.17 use nearly all of the bytes; the weights' own error is left out here."""
    w, x = weights(5), 2 * rows(6, 8, 16)
    activated = x * 0.5 * (1 + erf(x / np.sqrt(2)))
    integers, channels = quantize_channels(w)
    exact = activated @ (integers * channels).astype(np.float64) + np.linspace(-1, 1, N)
    (found,) = run(quantized(graph({"layer.0.output.weight": w}, gelu=True)), x)
    assert (found - exact).std() < 0.6 * (by_hand(activated, w) - exact).std()


def test_large_channels_of_a_norm_do_no_harm():
    """With three channels thirty times as large as the others the error is a third of what one scale gives."""
    gain = np.ones(K, np.float32)
    gain[[1, 7, 20]] = 30
    norm = np.stack([gain, np.zeros(K, np.float32)])
    w = weights(8)
    w[[1, 7, 20]] /= 30
    proto, x = graph({"layer.0.dense.weight": w}, norm=norm), rows(9, 8, 16)
    (exact,), (found,) = run(proto, x), run(quantized(proto), x)
    normed = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True) * gain
    unsmoothed = by_hand(normed.astype(np.float64), w)
    assert (found - exact).std() < (unsmoothed - exact).std() / 3


def test_products_of_one_value_share_its_bytes():
    """Queries, keys and values are coded once."""
    named = {f"layer.0.attention.{name}.weight": weights(seed) for seed, name in enumerate(("query", "key", "value"))}
    found = quantized(graph(named))
    assert [node.op_type for node in found.graph.node].count("QuantizeLinear") == 1
    assert [node.op_type for node in found.graph.node].count("MatMulIntegerToFloat") == 3


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 9),
    tokens=st.integers(1, 9),
    outlier=st.sampled_from([1.0, 100.0, 1e6]),
    threads=st.sampled_from([1, 2]),
)
def test_rows_do_not_know_of_each_other(seed, batch, tokens, outlier, threads):
    """Beside any outlier, in any batch, each row is bitwise what it is alone."""
    x = rows(seed, batch, tokens)
    x[-1] *= outlier
    proto = quantized(graph({"layer.0.dense.weight": weights(7)}))
    (together,) = run(proto, x, threads=threads)
    for place in range(batch):
        (alone,) = run(proto, x[place : place + 1], threads=threads)
        assert np.array_equal(alone[0], together[place])


def test_rows_of_zeros_and_channels_of_zeros_stay_finite():
    """Nothing is divided by zero."""
    w = weights(10)
    w[:, 4] = 0
    (found,) = run(quantized(graph({"layer.0.dense.weight": w})), np.zeros((1, 2, K), np.float32))
    assert np.allclose(found, np.linspace(-1, 1, N))


def test_parts_can_stay_as_they_are():
    """A part that is named stays fp32, to the last bit; the head always does, and what is tiny."""
    named = {"layer.0.dense.weight": weights(1), "layer.1.dense.weight": weights(2), "classifier.weight": weights(3)}
    proto, x = graph(named), rows(4, 2, 3)
    assert parts(proto) == ("layer 0", "layer 1")
    exact, found = run(proto, x), run(quantized(proto, fp32_parts=["layer 1"]), x)
    assert [np.array_equal(*each) for each in zip(exact, found, strict=True)] == [False, True, True]
    assert parts(graph({"layer.0.dense.weight": weights(1, width=31)})) == ()


@pytest.mark.parametrize(("shape", "axis"), [((500, 64), 0), ((3, 50, 64), 1)], ids=["words", "distances"])
def test_tables_hold_bytes(shape, axis):
    """A table has one scale a row, whatever it is looked up by; what is found is off by at most half a step."""
    table = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    table[..., 3, :] = 0
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gather", ["embeddings.word.weight", "ids"], ["y"], axis=axis)],
            "g",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "tokens"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(table, "embeddings.word.weight")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    small = quantized(proto)
    assert parts(proto) == ("embeddings",)
    assert small.ByteSize() < 0.3 * proto.ByteSize()
    ids = np.array([[0, 3, 49], [7, 7, 8]])
    session = onnxruntime.InferenceSession(small.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"ids": ids})
    exact = np.take(table, ids, axis=axis)
    assert found.shape == exact.shape
    assert (np.abs(found - exact) <= np.abs(exact).max(-1, keepdims=True) / 254 + 1e-6).all()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("bert.encoder.layer.11.output.dense.weight", "layer 11"),
        ("distilbert.transformer.layer.0.ffn.lin1.weight", "layer 0"),
        ("model.layers.4.mlp.Wi.weight", "layer 4"),
        ("albert.encoder.embedding_hidden_mapping_in.weight", "embeddings"),
        ("roberta.embeddings.position_embeddings.weight", "embeddings"),
        ("bert.pooler.dense.weight", "head"),
        ("classifier.out_proj.weight", "head"),
    ],
)
def test_parameters_belong_to_parts(name, part):
    """By the names that transformers gives them."""
    assert part_of(name) == part
