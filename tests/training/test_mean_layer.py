"""The mean layer: an ordinary layer whose first token is the mean over the text's tokens, as torch computes it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, layer_norm
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from bertsmith.tasks.single_label import SingleLabel
from bertsmith.tasks.token_labels import TokenLabels
from bertsmith.training import mean_layer
from bertsmith.training.frozen_features import frozen_features
from bertsmith.training.mean_layer import (
    SLOPE,
    add_mean_layer,
    centred,
    normed_means,
    passing_parameters,
    set_centre,
)
from tests.conftest import toy_rows
from tests.training.steps import rows_of

SMALL = {
    "vocab_size": 200,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


def made(family: str):
    """Make a classifier of three labels with random weights, in eval mode."""
    torch.manual_seed(1)
    if family == "bert":
        return BertForSequenceClassification(BertConfig(**SMALL, num_labels=3)).eval()
    if family == "roberta":
        return RobertaForSequenceClassification(RobertaConfig(**SMALL, num_labels=3, pad_token_id=0)).eval()
    if family == "electra":
        return ElectraForSequenceClassification(ElectraConfig(**SMALL, embedding_size=32, num_labels=3)).eval()
    small = {"vocab_size": 200, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
    return DistilBertForSequenceClassification(DistilBertConfig(**small, num_labels=3)).eval()


@pytest.fixture(scope="module")
def rows(tiny_encoder):
    """Rows of lengths from 6 to 14 tokens; a text may be longer than its neighbours."""
    return rows_of(tiny_encoder, SingleLabel(), [{"text": text, "label": label} for text, label in toy_rows(40)])


def states(model, rows):
    """Run the encoder as plain transformers does, a text at a time, so that nothing is padded."""
    found = []
    with torch.no_grad():
        for row in range(len(rows)):
            ids = torch.from_numpy(rows.encoded.pad([row])["input_ids"])
            found.append(model.base_model(input_ids=ids)[0][0])
    return found


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_head_gets_the_mean_over_the_texts_tokens(family, rows):
    """Whatever is padded beside it, the head's input is the torch mean over a text's own tokens, normed."""
    model = made(family)
    wanted = torch.stack([layer_norm(each.mean(0), (32,)) for each in states(model, rows)])
    assert add_mean_layer(model, rows.encoded)
    found = normed_means(frozen_features(model, rows.encoded, outputs=3).head)
    assert cosine_similarity(torch.from_numpy(found), wanted, dim=1).min() > 1 - 1e-4
    assert found == pytest.approx(wanted.numpy(), abs=0.05)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_centre_is_taken_off_and_the_rest_is_normed_again(family, rows):
    """With a centre the head's input is tanh(0.1 x norm(norm(mean) - centre)), as numpy computes it too."""
    model = made(family)
    means = torch.stack([layer_norm(each.mean(0), (32,)) for each in states(model, rows)])
    add_mean_layer(model, rows.encoded)
    centre = means.mean(0)
    set_centre(model, centre.numpy())
    found = frozen_features(model, rows.encoded, outputs=3).head
    wanted = torch.tanh(SLOPE * layer_norm(means - centre, (32,)))
    assert cosine_similarity(torch.from_numpy(found), wanted, dim=1).min() > 1 - 1e-3
    assert centred(means.double().numpy(), centre.numpy()) == pytest.approx(wanted.numpy(), abs=1e-4)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_plain_transformers_loads_it(family, rows, tmp_path):
    """Saved and loaded by transformers alone the model has one layer more and gives the same logits, bit for bit."""
    model = made(family)
    add_mean_layer(model, rows.encoded)
    set_centre(model, np.linspace(-1, 1, 32))
    model.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    ids = torch.from_numpy(rows.encoded.pad(range(8))["input_ids"])
    mask = (ids != 0).long()
    assert again.config.num_hidden_layers == 3
    with torch.no_grad():
        assert torch.equal(again(ids, attention_mask=mask).logits, model(ids, attention_mask=mask).logits)


@pytest.mark.parametrize("family", ["distilbert", "electra"])
def test_other_families_are_left_alone(family, rows):
    """A model whose head or layers are built otherwise gets no layer, and no weight of it changes."""
    model = made(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not add_mean_layer(model, rows.encoded)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_heads_on_every_token_are_left_alone(tiny_encoder):
    """Where units are words there is no mean to read."""
    data = [{"tokens": ["good", "film"], "tags": ["O", "B-X"]}, {"tokens": ["bad", "plot"], "tags": ["O", "O"]}]
    words = rows_of(tiny_encoder, TokenLabels(), data)
    model = made("bert")
    assert not add_mean_layer(model, words.encoded)
    assert model.config.num_hidden_layers == len(model.bert.encoder.layer) == 2


def test_a_layer_that_fails_its_check_is_taken_off_again(rows, monkeypatch):
    """The model then is as it was: weights, pooler, number of layers."""
    model = made("bert")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(mean_layer, "LOUD", 0.0)
    assert not add_mean_layer(model, rows.encoded)
    after = model.state_dict()
    assert model.config.num_hidden_layers == 2
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_what_only_passes_on_is_the_layer_and_the_dense_part_above_it(family, rows):
    """The parameters that hand the mean on are those of the new layer and of the pooler; the last linear one is not."""
    model = made(family)
    add_mean_layer(model, rows.encoded)
    passing = {id(each) for each in passing_parameters(model)}
    found = {name for name, each in model.named_parameters() if id(each) in passing}
    dense = "bert.pooler.dense" if family == "bert" else "classifier.dense"
    layer = {name for name, _ in model.named_parameters() if f"{family}.encoder.layer.2." in name}
    assert found == layer | {f"{dense}.weight", f"{dense}.bias"}
    assert len(layer) == 16
