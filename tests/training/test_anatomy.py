"""Embeddings, layers and heads are found in every family of encoders."""

from __future__ import annotations

import pytest
import torch
import transformers

from bertsmith.errors import EncoderError
from bertsmith.training.anatomy import Anatomy
from tests.training.families import FAMILIES, LAYERS, batch, tiny


def called(model) -> list[str]:
    """Names of the modules with parameters of their own, in the order in which a text reaches them."""
    order: list[str] = []
    for name, module in model.named_modules():
        if list(module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    with torch.no_grad():
        model.eval()(**batch())
    return order


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_is_the_order_in_which_a_text_goes_through_the_model(family):
    """No module is reached before one of a lower depth, every layer is reached, and the head is last."""
    model = tiny(family)
    anatomy = Anatomy.of(model)
    depths = [anatomy.depth_of(name) for name in called(model)]
    assert depths == sorted(depths)
    assert set(depths) == set(range(anatomy.top + 1))


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_those_of_the_config(family):
    """There are as many layers as the config says, but for the family whose layers share their weights."""
    anatomy = Anatomy.of(tiny(family))
    assert anatomy.runs == LAYERS
    assert anatomy.shared == (family == "albert")
    assert len(anatomy.layers) == (1 if anatomy.shared else LAYERS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_embeddings_hold_the_table_of_tokens(family):
    """The module that is named has transformers' input embeddings in it, and no layer."""
    model = tiny(family)
    found = model.get_submodule(Anatomy.of(model).embeddings)
    assert any(module is model.get_input_embeddings() for module in found.modules())
    assert not any(isinstance(module, torch.nn.ModuleList) for module in found.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_with_weights_or_dropout_has_one_depth(family):
    """Put into eval mode depth by depth, all modules that do something are in eval mode."""
    model = tiny(family).train()
    parts = Anatomy.of(model).modules(model)
    assert len({id(module) for part in parts for module in part}) == sum(len(part) for part in parts)
    for module in (module for part in parts for module in part):
        module.training = False
    left = [
        name for name, module in model.named_modules() if module.training and not any(True for _ in module.children())
    ]
    assert left == []


def test_the_pooler_counts_as_head():
    """What lies above BERT's last layer has the depth of the classifier."""
    anatomy = Anatomy.of(tiny("bert"))
    names = ("bert.embeddings.LayerNorm.bias", "bert.encoder.layer.2.output.dense.bias", "bert.pooler.dense.weight")
    assert [anatomy.depth_of(name) for name in (*names, "classifier.weight")] == [0, 3, 4, 4]


def test_layer_one_is_not_layer_ten():
    """Names are compared part by part."""
    anatomy = Anatomy.of(tiny("bert", num_hidden_layers=11))
    assert anatomy.depth_of("bert.encoder.layer.10.output.dense.bias") == 11


def test_a_model_of_two_stacks_is_refused():
    """An encoder with a decoder has no single bottom and top."""
    config = transformers.BartConfig(
        d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=50, max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.BartForSequenceClassification(config)
    with pytest.raises(EncoderError) as caught:
        Anatomy.of(model)
    assert str(caught.value) == (
        "BartForSequenceClassification has 2 stacks of 2 layers, so its layers cannot be told apart. "
        "One is needed to freeze layers, to give them learning rates of their own, or to train parts of them.\n"
        '  Use strategy = "full" without freeze and layer_decay.'
    )
