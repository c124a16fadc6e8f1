"""One pass for logits and what the head made them of: the head's own layer leads from one to the other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    RobertaConfig,
)

from bertsmith.encoded import Encoded
from bertsmith.errors import EncoderError
from bertsmith.inference.first_token import leave_out_other_tokens
from bertsmith.inference.head import catching_inputs, head_layer
from bertsmith.inference.torch_engine import logits, logits_and_inputs

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "num_labels": 3, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "distilbert": DistilBertConfig(
        vocab_size=90, dim=32, n_layers=2, n_heads=4, hidden_dim=64, num_labels=3, pad_token_id=0
    ),
    "modernbert": ModernBertConfig(**SIZES, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2),
    "gpt2": GPT2Config(
        vocab_size=90, n_embd=32, n_layer=2, n_head=4, num_labels=3, pad_token_id=0, bos_token_id=1, eos_token_id=2
    ),
}


def rows(owners: list[int], *, pooling: str = "mean", picks: bool = False) -> Encoded:
    """Windows of 4 to 9 tokens; with picks, the second and third token of each are units."""
    generator = np.random.default_rng(2)
    ids = [[int(each) for each in generator.integers(5, 90, generator.integers(4, 10))] for _ in owners]
    columns = {
        "input_ids": pa.array(ids, pa.list_(pa.int32())),
        "token_type_ids": pa.array([[0] * len(each) for each in ids], pa.list_(pa.int8())),
        "row": pa.array(owners, pa.int64()),
    }
    if picks:
        columns["picks"] = pa.array([[1, 2]] * len(ids), pa.list_(pa.int32()))
    return Encoded(pa.table(columns), np.zeros(owners[-1] + 1 if owners else 0, np.int32), 16, 0, pooling)


def made(auto, config):
    torch.manual_seed(0)
    return auto.from_config(config).eval()


def applied(model, inputs: np.ndarray) -> np.ndarray:
    """What the head's last layer makes of its inputs."""
    with torch.no_grad():
        return head_layer(model, model.config.num_labels)(torch.from_numpy(inputs)).numpy()


@pytest.mark.parametrize("family", CONFIGS)
def test_the_head_makes_the_logits_of_the_inputs(family):
    """For texts of one window and of several, in every family, decoders too; logits are those of `logits`."""
    model = made(AutoModelForSequenceClassification, CONFIGS[family])
    encoded, told = rows([0, 0, 0, 1, 2, 2, 3]), []
    found = logits_and_inputs(model, encoded, budget=20, done=told.append)
    np.testing.assert_array_equal(found.logits, logits(model, encoded, budget=20))
    assert found.inputs.shape == (4, 32)
    assert found.inputs.dtype == np.float32
    np.testing.assert_allclose(applied(model, found.inputs), found.logits, atol=1e-5)
    assert sum(told) == 7
    with torch.no_grad():
        assert not head_layer(model, 3)._forward_pre_hooks


def test_inputs_are_means_where_logits_are_not():
    """With pooling max the greatest logit of the windows counts, and the inputs are those of pooling mean."""
    model = made(AutoModelForSequenceClassification, CONFIGS["bert"])
    highest, mean = (logits_and_inputs(model, rows([0, 0, 1], pooling=pooling)) for pooling in ("max", "mean"))
    np.testing.assert_array_equal(highest.inputs, mean.inputs)
    assert (highest.logits[0] >= mean.logits[0]).all()
    assert (highest.logits[0] > mean.logits[0]).any()


@pytest.mark.parametrize("auto", [AutoModelForTokenClassification, AutoModelForQuestionAnswering])
def test_units_that_are_tokens_have_inputs_too(auto):
    """Heads on every token give an input for each unit, in the units' order."""
    config = BertConfig(**{**SIZES, "num_labels": 2})
    model, encoded = made(auto, config), rows([0, 1, 1, 2], picks=True)
    found = logits_and_inputs(model, encoded, budget=8)
    assert found.inputs.shape == (8, 32)
    np.testing.assert_allclose(applied(model, found.inputs), found.logits, atol=1e-5)


def test_a_last_layer_for_the_first_token_changes_nothing():
    """With the shortcut that Predictors take, logits and inputs are the same within 1e-5."""
    model, encoded = made(AutoModelForSequenceClassification, CONFIGS["roberta"]), rows([0, 1, 1, 2])
    plain = logits_and_inputs(model, encoded)
    assert leave_out_other_tokens(model)
    short = logits_and_inputs(model, encoded)
    np.testing.assert_allclose(short.logits, plain.logits, atol=1e-5)
    np.testing.assert_allclose(short.inputs, plain.inputs, atol=1e-5)


def test_no_rows_no_answers():
    """Nothing in, nothing out."""
    found = logits_and_inputs(made(AutoModelForSequenceClassification, CONFIGS["bert"]), rows([]))
    assert found.logits.shape == (0, 3)
    assert found.inputs.shape[0] == 0


def test_the_hook_goes_even_after_an_error():
    """Whatever happens inside, the model is left without a hook."""
    model = made(AutoModelForSequenceClassification, CONFIGS["bert"])

    def broken() -> None:
        with catching_inputs(model) as caught:
            model(torch.ones((2, 4), dtype=torch.int64))
            assert caught[0].shape == (2, 32)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match=r"^stop$"):
        broken()
    assert not model.classifier._forward_pre_hooks


def test_a_model_without_a_head_is_refused():
    """A bare encoder has no layer with that many outputs."""
    with pytest.raises(EncoderError) as caught:
        head_layer(made(AutoModelForSequenceClassification, CONFIGS["bert"]).bert, 3)
    assert str(caught.value) == (
        "BertModel has no linear layer with 3 outputs, so its head cannot be found.\n  Use --head-start random."
    )
