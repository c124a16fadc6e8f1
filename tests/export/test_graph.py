"""A model as an ONNX graph: the form that can be rewritten, the answers of torch, nothing that depends on the batch."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import DebertaV2Config, MPNetConfig
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Model
from transformers.models.mpnet.modeling_mpnet import MPNetModel

from bertsmith.errors import ExportError
from bertsmith.export.checking import check, made_up, usual_shapes
from bertsmith.export.distances import by_pair, distances_looked_up
from bertsmith.export.graph import build
from bertsmith.export.wrapping import attend, attention_written_out, wrapped
from bertsmith.inference.first_token import leave_out_other_tokens
from bertsmith.inference.torch_engine import known_inputs
from tests.export.learned import learned, of_class

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPES = usual_shapes(60)


@pytest.fixture(scope="module")
def bert():
    """A BERT that has learned, without the other tokens in its last layer, and its graph."""
    model = learned("bert")
    assert leave_out_other_tokens(model)
    return model, build(model, inputs=known_inputs(model), head_inputs=True)


def test_a_bert_answers_as_torch_and_alone_as_in_a_batch(bert):
    """A trained BERT's graph gives torch's logits and head inputs, for texts of one token and of the most."""
    model, proto = bert
    assert 0 < check(proto, model, SHAPES) < 1e-5


def test_the_graph_is_plain_and_its_weights_have_the_names_of_parameters(bert):
    """Products with weights are MatMul with `(in, out)` under the parameter's name; norms and GELU are one node each."""
    model, proto = bert
    onnx.checker.check_model(proto, full_check=True)
    kinds = [node.op_type for node in proto.graph.node]
    weights = {each.name: numpy_helper.to_array(each) for each in proto.graph.initializer}
    parameters = dict(model.named_parameters())
    products = [node.input[1] for node in proto.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    linear = [f"{name}.weight" for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    assert sorted(products) == sorted(linear)
    for name in products:
        np.testing.assert_array_equal(weights[name], parameters[name].detach().numpy().T)
    assert not {"Gemm", "If", "Loop", "Scan", "Erf", "ReduceMean"} & set(kinds)
    assert [kinds.count(each) for each in ("LayerNormalization", "Gelu", "Softmax")] == [3, 1, 1]
    shapes = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {
        "input_ids": ["batch", "tokens"],
        "attention_mask": ["batch", "tokens"],
        "token_type_ids": ["batch", "tokens"],
        "logits": ["batch", 3],
        "head_inputs": ["batch", 32],
    }


def test_a_model_is_left_as_it_was(bert):
    """Exporting changes neither the kind of attention, nor the mode, nor the parameters and buffers of a model."""
    model, _ = bert
    model.train()
    before = set(model.state_dict()), set(dict(model.named_buffers())), model.config._attn_implementation
    with wrapped(model, inputs=["input_ids", "attention_mask"], head_inputs=True):
        assert not model.training
    assert (set(model.state_dict()), set(dict(model.named_buffers())), model.config._attn_implementation) == before
    assert model.training
    model.eval()


def test_start_and_end_of_an_answer_come_stacked_for_every_token():
    """A head on every token gives `(batch, tokens, outputs)`; an answer's start and end are the two outputs."""
    model = of_class("AutoModelForQuestionAnswering")
    proto = build(model, inputs=known_inputs(model), head_inputs=False)
    assert [each.name for each in proto.graph.output] == ["logits"]
    check(proto, model, SHAPES)
    batch = made_up(model, [7, 3], seed=0)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(each) for name, each in batch.items()})
    found = session.run(None, batch)[0]
    np.testing.assert_allclose(found[0, :, 0], wanted.start_logits[0], atol=1e-5)
    np.testing.assert_allclose(found[0, :, 1], wanted.end_logits[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("AutoModelForTokenClassification", {"num_labels": 5}),
        ("AutoModelForSequenceClassification", {"num_labels": 1}),
        ("AutoModelForSequenceClassification", {"num_labels": 4, "problem_type": "multi_label_classification"}),
    ],
)
def test_every_head_exports(name, changes):
    """Tags, numbers and sets of labels export as classes do."""
    model = of_class(name, **changes)
    leave_out_other_tokens(model)
    check(build(model, inputs=known_inputs(model), head_inputs=False), model, SHAPES)


def test_a_graph_that_answers_otherwise_is_refused(bert):
    """A value that is no number is found, and the error says where and what was expected."""
    model, proto = bert
    broken = onnx.ModelProto.FromString(proto.SerializeToString())
    bias = next(each for each in broken.graph.initializer if each.name == "classifier.bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([0, math.nan, 0], np.float32), bias.name))
    with pytest.raises(ExportError) as caught:
        check(broken, model, [(3, 2)])
    assert str(caught.value) == (
        "the export of BertForSequenceClassification, a batch of texts of 3 and 2 tokens, 1 thread: 'logits' is nan of "
        "its largest value away from torch's; at most 0.0001 was expected.\n"
        "  Use --engine torch, and tell us: this is a fault of bertsmith or of torch's exporter."
    )


def test_a_graph_whose_answer_depends_on_the_batch_is_refused(bert):
    """An answer that other texts change is found, though it is not compared with torch's."""
    model, _ = bert
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ids", "none"], ["nothing"]),
        helper.make_node("ReduceSum", ["nothing", "axis"], ["zeros"], keepdims=1),
        helper.make_node("Add", ["zeros", "wide"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(np.float32(0), "none"), numpy_helper.from_array(np.array([1]), "axis")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(ExportError) as caught:
        check(proto, model, [(4,), (4, 2)], close=None)
    assert str(caught.value) == (
        "the export of BertForSequenceClassification, a batch of texts of 4 and 2 tokens, 1 thread: 'logits' of text 1 "
        "is 1 off from what it is alone; the same to the last bit was expected.\n"
        "  Use --engine torch, and tell us: this is a fault of bertsmith or of ONNX Runtime."
    )


def test_made_up_texts_hold_no_padding_token():
    """RoBERTa does not count the places of padding tokens, so a text with one inside would be another text."""
    model = of_class("AutoModelForSequenceClassification", pad_token_id=7)
    batch = made_up(model, [50, 20], seed=1)
    assert ((batch["input_ids"] == 7) == (batch["attention_mask"] == 0)).all()
    assert batch["input_ids"].max() < 100


def test_attention_written_out_is_torchs_own():
    """One query row or many, the result is that of torch's scaled product."""
    generator = torch.Generator().manual_seed(0)
    for queries in (1, 5):
        query = torch.randn(2, 3, queries, 8, generator=generator)
        key, value = (torch.randn(2, 3, 5, 8, generator=generator) for _ in range(2))
        bias = torch.zeros(2, 1, 1, 5)
        bias[1, ..., 3:] = torch.finfo(torch.float32).min
        wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        found, _ = attend(torch.nn.Module(), query, key, value, bias)
        torch.testing.assert_close(found, wanted.transpose(1, 2))


def test_values_by_pair_are_those_of_their_distance():
    """Entry (i, j) is row i's value at distance i - j, from one token on."""
    for tokens in (1, 2, 5):
        distances = torch.arange(tokens - 1, -tokens - 1, -1).float()
        rows = torch.arange(tokens).float()[:, None] * 100 + distances
        found = by_pair(rows.expand(2, 3, -1, -1).contiguous())
        wanted = torch.tensor([[100.0 * i + i - j for j in range(tokens)] for i in range(tokens)])
        torch.testing.assert_close(found, wanted.expand(2, 3, -1, -1))


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}


@pytest.mark.parametrize(
    "model",
    [
        DebertaV2Model(
            DebertaV2Config(
                **SIZES, relative_attention=True, position_buckets=256, max_relative_positions=-1, share_att_key=True,
                pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm", position_biased_input=False,
            )
        ),
        DebertaV2Model(
            DebertaV2Config(
                **SIZES, relative_attention=True, max_relative_positions=40, pos_att_type=["p2c", "c2p"],
                max_position_embeddings=300,
            )
        ),
        MPNetModel(MPNetConfig(**SIZES, max_position_embeddings=514)),
    ],
    ids=["deberta-v3", "deberta-v2", "mpnet"],
)  # fmt: skip
def test_distances_that_are_looked_up_are_those_of_the_model(model):
    """With the sizes of the published models, every distance up to the longest text has its own bucket's value."""
    torch.manual_seed(0)
    model.eval()
    for each in model.parameters():
        torch.nn.init.normal_(each, std=0.3)
    longest = min(model.config.max_position_embeddings, 512)
    ids = torch.randint(2, 50, (1, longest))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        wanted = model(input_ids=ids, attention_mask=mask)[0]
        with attention_written_out(model), distances_looked_up(model):
            found = model(input_ids=ids, attention_mask=mask)[0]
        again = model(input_ids=ids, attention_mask=mask)[0]
    assert float((found - wanted).abs().max()) < 1e-4
    assert torch.equal(again, wanted)
