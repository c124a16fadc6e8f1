"""What is trained is what the recipe says, in every family; the rest stays as it is, and does nothing at random."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Trainer

from bertsmith.errors import MissingExtraError, RecipeError
from bertsmith.recipe import Recipe
from bertsmith.training.anatomy import Anatomy
from bertsmith.training.strategies import Frozen, Strategy, parse_freeze
from tests.training.families import FAMILIES, batch, tiny


def recipe(**changes) -> Recipe:
    return Recipe.of(**{"epochs": 5, "learning_rate": 1e-3, **changes})


def prepared(model, **changes) -> Strategy:
    strategy = Strategy.of(recipe(**changes), model)
    strategy.prepare(model)
    return strategy


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models are so small that a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def step(model, strategy: Strategy, epoch: int = 0) -> None:
    """One step of AdamW with a high rate, as a training does it."""
    optimizer = torch.optim.AdamW(strategy.parameter_groups(model, learning_rate=0.01, weight_decay=0.1))
    strategy.begin_epoch(model, epoch)
    model.train()
    strategy.train_mode(model)
    torch.manual_seed(1)
    model(**batch(), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    optimizer.step()


def moved(model, before: dict[str, torch.Tensor]) -> set[int]:
    """Depths of which some parameter is not what it was."""
    depth_of = Anatomy.of(model).depth_of
    return {depth_of(name) for name, each in model.named_parameters() if not torch.equal(each, before[name])}


def copied(model) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


# Reading the setting.


@given(st.booleans(), st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)).map(sorted), max_size=4), st.data())
@settings(deadline=None)
def test_what_is_written_is_what_is_read(embeddings, ranges, data):
    """Words, numbers and ranges in any order and with any blanks name the layers that they name."""
    blank = st.sampled_from(["", " "])
    parts = ["embeddings"] * embeddings
    parts += [str(a) if a == b else f"{a}{data.draw(blank)}-{data.draw(blank)}{b}" for a, b in ranges]
    spec = ",".join(f"{data.draw(blank)}{part}{data.draw(blank)}" for part in data.draw(st.permutations(parts)))
    layers = {number for a, b in ranges for number in range(a, b + 1)}
    assert parse_freeze(spec, layers=24) == Frozen(embeddings, frozenset(layers))


KINDS = "'freeze' must be embeddings, numbers of layers or ranges of them, separated by commas. "
EXAMPLE = '\n  As in: freeze = "embeddings, 0-3".'


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("embedings, 0-3", f"{KINDS}Got 'embedings' in 'embedings, 0-3' instead. Did you mean embeddings?{EXAMPLE}"),
        ("0,,2", f"{KINDS}Got '' in '0,,2' instead.{EXAMPLE}"),
        ("-1", f"{KINDS}Got '-1' in '-1' instead.{EXAMPLE}"),
        ("²", f"{KINDS}Got '²' in '²' instead.{EXAMPLE}"),
        ("9" * 7, f"{KINDS}Got '9999999' in '9999999' instead.{EXAMPLE}"),
        (
            "embeddings, 4-6",
            "'freeze' names layer 6, which the encoder does not have.\n  It has 6 layers: 0 (the lowest) to 5.",
        ),
        ("5-2", "'freeze' has a range that runs backwards: '5-2'.\n  Did you mean 2-5?"),
    ],
)
def test_what_cannot_be_frozen_is_refused(spec, message):
    """The message says what was found and what may be said."""
    with pytest.raises(RecipeError) as caught:
        parse_freeze(spec, layers=6)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, 0),
        ({"freeze": "0-1"}, 0),
        ({"freeze": "embeddings"}, 1),
        ({"freeze": "embeddings, 0, 2"}, 2),
        ({"freeze": "embeddings, 0-1"}, 3),
        ({"freeze": "embeddings, 0-2"}, 4),
        ({"strategy": "head"}, 4),
        ({"strategy": "two-stage"}, 0),
        ({"strategy": "two-stage", "freeze": "embeddings, 0"}, 2),
        ({"strategy": "lora"}, 1),
        ({"strategy": "lora", "freeze": "0"}, 2),
    ],
)
def test_how_much_is_never_trained_from_the_bottom(changes, parts):
    """The embeddings count one, and so does each layer that follows without a gap."""
    assert Strategy.of(recipe(**changes), tiny("bert")).frozen_below == parts


# What is trained.


@pytest.mark.parametrize("family", FAMILIES)
def test_head_trains_what_lies_above_the_last_layer(family):
    """With the strategy head, a step moves the head and nothing else."""
    model = tiny(family)
    before = copied(model)
    step(model, prepared(model, strategy="head"))
    assert moved(model, before) == {Anatomy.of(model).top}


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "albert"])
def test_frozen_parts_stay_as_they_are(family):
    """With embeddings and two of three layers frozen, a step moves the third layer and the head."""
    model = tiny(family)
    before = copied(model)
    step(model, prepared(model, freeze="embeddings, 0-1"))
    assert moved(model, before) == {3, 4}


@pytest.mark.parametrize(
    ("unfreeze", "epochs"),
    [
        ("at-once", [{7}, {0, 1, 2, 4, 5, 6, 7}, {0, 1, 2, 4, 5, 6, 7}]),
        ("top-first", [{7}, {5, 6, 7}, {4, 5, 6, 7}, {0, 1, 2, 4, 5, 6, 7}, {0, 1, 2, 4, 5, 6, 7}]),
    ],
)
def test_two_stage_trains_the_head_first(unfreeze, epochs):
    """Then all, or a third of the layers more each epoch; what is frozen stays frozen."""
    model = tiny("bert", num_hidden_layers=6)
    strategy = prepared(model, strategy="two-stage", unfreeze=unfreeze, freeze="2")
    for epoch, depths in enumerate(epochs):
        before = copied(model)
        step(model, strategy, epoch)
        assert moved(model, before) == depths


def test_an_epoch_is_the_same_whatever_came_before():
    """A run that is resumed in epoch 1 trains what the run that came there trained."""
    models = [tiny("bert"), tiny("bert")]
    strategies = [prepared(model, strategy="two-stage", unfreeze="top-first") for model in models]
    for epoch in (0, 3, 1):
        strategies[0].begin_epoch(models[0], epoch)
    strategies[1].begin_epoch(models[1], 1)
    marks = [[each.requires_grad for each in model.parameters()] for model in models]
    assert marks[0] == marks[1]
    assert len(set(marks[0])) == 2


def test_what_the_model_never_trains_is_never_trained():
    """Positions that come without gradient, as fixed sinusoids do, are given to no optimizer and in no epoch."""
    model = tiny("distilbert")
    positions = model.distilbert.embeddings.position_embeddings.weight.requires_grad_(False)
    strategy = prepared(model, strategy="two-stage")
    strategy.begin_epoch(model, 1)
    assert not positions.requires_grad
    groups = strategy.parameter_groups(model, learning_rate=1e-3, weight_decay=0.1)
    assert not any(each is positions for group in groups for each in group["params"])
    strategy.finish(model)
    assert not positions.requires_grad


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_encoder_does_nothing_at_random(family):
    """In training, the encoder under a head that is trained alone gives the same each time, dropout or not."""
    model = tiny(family, dropout=0.5)
    strategy = prepared(model, strategy="head")
    seen: list[torch.Tensor] = []
    top = model.get_submodule(Anatomy.of(model).layers[-1])
    hook = lambda _, __, output: seen.append(output if isinstance(output, torch.Tensor) else output[0])  # noqa: E731
    top.register_forward_hook(hook)
    model.train()
    model(**batch())
    model(**batch())
    assert not torch.equal(seen[-1], seen[len(seen) // 2 - 1])
    seen.clear()
    strategy.train_mode(model)
    model(**batch())
    model(**batch())
    assert torch.equal(seen[-1], seen[len(seen) // 2 - 1])


def test_what_is_trained_keeps_its_dropout():
    """With the lower layers frozen, the upper ones and the head stay in training mode."""
    model = tiny("bert", dropout=0.5)
    strategy = prepared(model, freeze="embeddings, 0-1")
    strategy.begin_epoch(model, 0)
    model.train()
    strategy.train_mode(model)
    off = {name for name, module in model.named_modules() if not module.training}
    lower = ("bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1")
    assert off == {name for name, _ in model.named_modules() if name.startswith(lower)}


# Learning rates.


@pytest.mark.parametrize("family", FAMILIES)
def test_without_decay_the_groups_are_those_of_transformers(family, tmp_path):
    """The same parameters in the same two groups as the Trainer makes."""
    model = tiny(family)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, learning_rate=1e-3, weight_decay=0.1, report_to=[]
    )
    theirs = Trainer(model, arguments).create_optimizer().param_groups
    ours = prepared(model).parameter_groups(model, learning_rate=1e-3, weight_decay=0.1)
    assert [[id(each) for each in group["params"]] for group in ours] == [
        [id(each) for each in group["params"]] for group in theirs
    ]
    assert [(group["lr"], group["weight_decay"]) for group in ours] == [(1e-3, 0.1), (1e-3, 0.0)]


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_decay_slows_each_layer_below_the_head(family):
    """The rate of a depth is the head's times the decay for each step down; every parameter is in one group."""
    model = tiny(family)
    anatomy = Anatomy.of(model)
    groups = prepared(model, layer_decay=0.5).parameter_groups(model, learning_rate=1.0, weight_decay=0.1)
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates)
    expected = {id(each): 0.5 ** (anatomy.top - anatomy.depth_of(name)) for name, each in model.named_parameters()}
    assert rates == expected


# Low-rank updates.


@pytest.mark.parametrize("family", FAMILIES)
def test_low_rank_updates_begin_as_nothing_and_end_in_the_weights(family, tmp_path):
    """Adapted, the model answers as before; trained and merged, as it did when trained, and so does its reload."""
    model = tiny(family).eval()
    names, before = list(model.state_dict()), copied(model)
    with torch.no_grad():
        plain = model(**batch()).logits
        strategy = prepared(model, strategy="lora", lora_rank=4)
        assert torch.equal(model(**batch()).logits, plain)
    step(model, strategy)
    with torch.no_grad():
        trained = model.eval()(**batch()).logits
        merged = strategy.finish(model)
        assert (merged(**batch()).logits - trained).abs().max() < 1e-5
    assert (trained - plain).abs().max() > 1e-3
    assert list(model.state_dict()) == names
    assert moved(model, before) == set(range(1, strategy.anatomy.top + 1))
    merged.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert (again(**batch()).logits - trained).abs().max() < 1e-5


def test_low_rank_updates_stand_beside_every_matrix_of_the_layers_that_are_trained():
    """Six matrices a layer in BERT; frozen layers get none, and the matrices themselves are not trained."""
    model = tiny("bert")
    prepared(model, strategy="lora", lora_rank=4, freeze="0")
    trained = {name: each.shape for name, each in model.named_parameters() if each.requires_grad}
    adapters = {name for name in trained if ".lora_" in name}
    assert len(adapters) == 2 * 6 * 2
    assert all(name.startswith(("bert.encoder.layer.1.", "bert.encoder.layer.2.")) for name in adapters)
    assert {trained[name][0] for name in adapters if ".lora_A." in name} == {4}
    assert set(trained) - adapters == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_low_rank_updates_start_from_the_seed_of_the_run():
    """The same seed gives the same start, whatever was drawn before; what is drawn after does not change."""
    starts, after = [], []
    for seed, drawn in ((3, 0), (3, 5), (4, 0)):
        model = tiny("bert")
        torch.manual_seed(0)
        torch.rand(drawn)
        state = torch.get_rng_state()
        prepared(model, strategy="lora", seed=seed)
        after.append(torch.equal(torch.get_rng_state(), state))
        starts.append(torch.cat([each.flatten() for name, each in model.named_parameters() if "lora_A" in name]))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert after == [True, True, True]


# What is refused, and what is not.


def test_lora_says_what_to_install(monkeypatch):
    """Without peft, the message names the extra; other strategies do not need it."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    Strategy.of(recipe(strategy="head"), tiny("bert"))
    with pytest.raises(MissingExtraError) as caught:
        Strategy.of(recipe(strategy="lora"), tiny("bert"))
    assert str(caught.value) == (
        "the strategy lora needs the package 'peft', which is not installed.\n"
        "  Install it with: pip install 'bertsmith[lora]'"
    )


def test_one_epoch_is_too_few_for_two_stages():
    """Nothing but the head would be trained, and that has a name of its own."""
    with pytest.raises(RecipeError) as caught:
        Strategy.of(recipe(strategy="two-stage", epochs=1), tiny("bert"))
    assert str(caught.value) == (
        "'epochs' must be at least 2 with the strategy two-stage: in the first, only the head is trained. "
        "Got 1 instead."
    )


def test_layers_of_one_set_of_weights_cannot_be_frozen_by_number():
    """ALBERT runs one layer several times; its embeddings can be frozen."""
    assert Strategy.of(recipe(freeze="embeddings"), tiny("albert")).frozen_below == 1
    with pytest.raises(RecipeError) as caught:
        Strategy.of(recipe(freeze="embeddings, 0"), tiny("albert"))
    assert str(caught.value) == (
        "'freeze' names layers, but all 3 layers of this encoder are one set of weights, run several times. "
        "They cannot be frozen one by one.\n"
        '  Use freeze = "embeddings", or strategy = "head" to freeze the whole encoder.'
    )


def test_a_model_of_unknown_parts_can_be_trained_in_full():
    """Where nothing is asked of single parts, these need not be found: all is trained, in the Trainer's groups."""
    config = transformers.BartConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=50, max_position_embeddings=16,
    )  # fmt: skip
    model = transformers.BartForSequenceClassification(config)
    strategy = prepared(model)
    groups = strategy.parameter_groups(model, learning_rate=1e-3, weight_decay=0.1)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert strategy.frozen_below == 0
    strategy.begin_epoch(model, 0)
    model.train()
    strategy.train_mode(model)
    assert all(module.training for module in model.modules())
    assert all(each.requires_grad for each in model.parameters())


@pytest.mark.parametrize("name", ["head", "two-stage", "lora"])
def test_a_finished_model_is_as_transformers_makes_it(name):
    """All of its parameters can be trained again, and nothing is left behind on it."""
    fresh, model = tiny("bert"), tiny("bert")
    step(model, strategy := prepared(model, strategy=name))
    strategy.finish(model)
    assert all(each.requires_grad for each in model.parameters())
    assert vars(model).keys() == vars(fresh).keys()
    assert [type(module) for module in model.modules()] == [type(module) for module in fresh.modules()]
