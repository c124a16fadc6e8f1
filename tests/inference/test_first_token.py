"""A last layer for the first token alone: the same logits, the same gradients, the same distribution of dropout."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from bertsmith.inference.first_token import FAMILIES, first_token_only

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "num_labels": 3,
}  # fmt: skip
SMALL = {"vocab_size": 90, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "num_labels": 3}
KNOWN = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "xlm-roberta": XLMRobertaConfig(**SIZES),
    "camembert": CamembertConfig(**SIZES),
    "electra": ElectraConfig(**SIZES, embedding_size=16),
    "ernie": ErnieConfig(**SIZES),
    "distilbert": DistilBertConfig(**SMALL),
}
OTHERS = {
    "albert": AlbertConfig(**SIZES, embedding_size=16),
    "mpnet": MPNetConfig(**SIZES),
    "deberta-v2": DebertaV2Config(**SIZES, pooler_hidden_size=32),
    "modernbert": ModernBertConfig(**SIZES, pad_token_id=0, cls_token_id=1, sep_token_id=2),
}


def made(config, attention: str | None = "sdpa"):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)  # None: its own
    for each in model.parameters():  # nothing at rest at zero or one, or a wrong bias would not show
        torch.nn.init.normal_(each, std=0.2)
    return model.eval()


def batch(padded: bool = True) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 90, (4, 11), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 4:], mask[2, 9:] = 0, 0
        ids[mask == 0] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 1, 2, 1])}


def learned(model, inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    output = model(**inputs)
    output.loss.backward()
    return output.logits.detach(), {name: each.grad.clone() for name, each in model.named_parameters()}


def test_the_list_of_families_is_tested_whole():
    """Every family on the list is held against plain transformers below."""
    assert set(KNOWN) == FAMILIES


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", KNOWN)
def test_logits_and_gradients_are_those_of_the_plain_model(family, attention):
    """Padded or not, every logit and the gradient of every parameter is the plain model's."""
    model = made(KNOWN[family], attention)
    for inputs in (batch(), batch(padded=False)):
        logits, gradients = learned(model, inputs)
        with first_token_only(model) as done:
            assert done
            assert model.base_model(**{k: inputs[k] for k in ("input_ids", "attention_mask")})[0].shape == (4, 1, 32)
            found, short = learned(model, inputs)
        torch.testing.assert_close(found, logits, rtol=0, atol=1e-5)
        largest = max(float(each.abs().max()) for each in gradients.values())
        for name, gradient in gradients.items():
            assert (short[name] - gradient).abs().max() < 1e-5 * largest, name
    assert torch.equal(learned(model, inputs)[0], logits)


def test_dropout_has_the_same_distribution():
    """In training mode the logits vary as the plain model's do: mean and spread of 4,000 draws are within chance."""
    model = made(KNOWN["bert"])
    one = {name: value[:1].expand(4000, -1) for name, value in batch().items() if name != "labels"}

    def draws() -> torch.Tensor:
        torch.manual_seed(1)
        model.train()
        with torch.no_grad():
            return model(**one).logits

    plain = draws()
    with first_token_only(model) as done:
        assert done
        assert model.training
        short = draws()
    error = (plain.var(0) / 2000).sqrt()
    assert ((short.mean(0) - plain.mean(0)).abs() < 4.5 * error).all()
    assert (short.std(0) / plain.std(0) - 1).abs().max() < 4.5 / 4000**0.5
    assert plain.std(0).min() > 0.01


def test_attention_dropout_alone_is_applied():
    """Dropout inside attention falls on the first token's weights as well, and only in training mode."""
    model = made(BertConfig(**SIZES, hidden_dropout_prob=0.0, classifier_dropout=0.0, attention_probs_dropout_prob=0.5))
    with first_token_only(model) as done:
        assert done
        inputs = {name: value for name, value in batch().items() if name != "labels"}
        assert torch.equal(model(**inputs).logits, model(**inputs).logits)
        model.bert.encoder.layer[-1].train()
        assert not torch.equal(model(**inputs).logits, model(**inputs).logits)


@pytest.mark.parametrize("family", OTHERS)
def test_other_families_stay_as_they_are(family):
    """A family that is not on the list is left alone, and answers as before."""
    model = made(OTHERS[family], None)
    with first_token_only(model) as done:
        assert done is False
        assert model.base_model(batch()["input_ids"])[0].shape[1] == 11


def test_other_heads_stay_as_they_are():
    """A head on every token needs every token."""
    model = AutoModelForTokenClassification.from_config(KNOWN["bert"]).eval()
    with first_token_only(model) as done:
        assert done is False
        assert model(batch()["input_ids"]).logits.shape == (4, 11, 3)


def mean_head(model):
    """Make the head read the mean over tokens, as a user's own class might."""
    model.bert.pooler.register_forward_pre_hook(lambda _, inputs: (inputs[0].mean(1, keepdim=True),))


def chunked(model):
    """Cut the feed-forward into chunks of tokens."""
    model.config.chunk_size_feed_forward = 1


@pytest.mark.parametrize("spoil", [mean_head, chunked])
def test_a_model_that_does_otherwise_is_noticed(spoil):
    """Where logits would not be the same, it is not done and the model answers as before."""
    model = made(BertConfig(**SIZES))
    spoil(model)
    wanted = model(**batch()).logits
    with first_token_only(model) as done:
        assert done is False
        assert torch.equal(model(**batch()).logits, wanted)


def test_wrong_gradients_are_noticed(monkeypatch):
    """Logits that agree are not enough: a detached part shows in the gradients."""
    model = made(KNOWN["bert"])
    monkeypatch.setattr(type(model.bert.encoder.layer[-1]), "feed_forward_chunk", half_detached)
    with first_token_only(model) as done:
        assert done is False


def half_detached(layer, states):
    if states.shape[1] == 1:
        states = states.detach()
    return layer.output(layer.intermediate(states), states)


def test_leaves_no_trace_even_after_an_error(tmp_path):
    """Names, modes and random numbers are untouched inside and after, whatever happens."""
    model = made(KNOWN["distilbert"])
    model.train()
    model.distilbert.transformer.layer[0].eval()
    modes = [each.training for each in model.modules()]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    names = list(model.state_dict())

    def broken() -> None:
        with first_token_only(model) as done:
            assert done
            assert list(model.state_dict()) == names
            assert [each.training for each in model.modules()] == modes
            assert torch.equal(torch.get_rng_state(), state)
            assert all(each.grad is None for each in model.parameters())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match=r"^stop$"):
        broken()
    assert "forward" not in vars(model.distilbert.transformer.layer[-1])
    assert [each.training for each in model.modules()] == modes


def test_frozen_models_are_checked_by_their_logits():
    """A model without anything to learn, as one that serves, is sped up as well."""
    model = made(KNOWN["roberta"]).requires_grad_(False)
    wanted = model(**batch()).logits
    with first_token_only(model) as done, torch.inference_mode():
        assert done
        torch.testing.assert_close(model(**batch()).logits, wanted, rtol=0, atol=1e-5)
