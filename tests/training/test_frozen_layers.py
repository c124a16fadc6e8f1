"""Training from the outputs of frozen layers is training with these layers in eval mode."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from bertsmith.encoded import Encoded
from bertsmith.inference.first_token import first_token_only
from bertsmith.inference.outputs import head_outputs
from bertsmith.inference.torch_engine import to_inputs
from bertsmith.listener import Silent
from bertsmith.recipe import Recipe
from bertsmith.training.anatomy import Anatomy
from bertsmith.training.frozen_layers import Cached, Store, run_once
from bertsmith.training.strategies import Strategy
from tests.training.families import FAMILIES, LAYERS, tiny

NUMBERED = [family for family in FAMILIES if family != "albert"]
PLACES = [("bert", 1), *((family, layers) for family in NUMBERED for layers in (2, LAYERS))]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models are so small that a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warned: list[str] = []

    def tell(self, stage: str, text: str, *, aside: str = "") -> None:
        """Keep it."""
        self.told.append(text)

    def warn(self, text: str) -> None:
        """Keep it."""
        self.warned.append(text)


def encoded_of(rows: int, *, seed: int = 0, picks: bool = False) -> Encoded:
    """Rows of one window each, of 3 to 12 random tokens; every second token is a unit where there are picks."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 13, rows)
    columns = {
        "input_ids": pa.array([random.integers(3, 100, length) for length in lengths], pa.list_(pa.int32())),
        "token_type_ids": pa.array([[0] * length for length in lengths], pa.list_(pa.int8())),
        "row": pa.array(np.arange(rows)),
    }
    if picks:
        places = [list(range(1, length, 2)) for length in lengths]
        columns |= {name: pa.array(places, pa.list_(pa.int32())) for name in ("picks", "starts", "ends")}
    return Encoded(pa.table(columns), np.zeros(rows, np.int32), 16, 0)


def cached(model, folder: Path, encoded: Encoded, below: int, **changes) -> Cached:
    store = Store(folder, **{"kind": "fp32", "most": 1e9, **changes})
    found = run_once(model, {"train": encoded}, frozen_below=below, store=store, listener=Silent())
    assert found is not None
    return found


def with_states(kept: Cached, model, encoded: Encoded, windows) -> dict[str, torch.Tensor]:
    """Inputs of windows, and their states."""
    inputs = inputs_of(model, encoded, windows)
    return {**inputs, "states": kept.sides["train"].states(np.asarray(windows), inputs["input_ids"].shape[1])}


def inputs_of(model, encoded: Encoded, windows) -> dict[str, torch.Tensor]:
    return to_inputs(model, encoded.pad_windows(windows), torch.device("cpu"))


def gradients(model) -> torch.Tensor:
    return torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None])


@pytest.mark.parametrize(("family", "layers"), PLACES)
def test_logits_and_gradients_are_those_of_the_whole_model(tmp_path, family, layers):
    """From states, a batch gives what it gives in one go, forward and backward, for any number of frozen layers."""
    model, encoded = tiny(family), encoded_of(20)
    Strategy.of(Recipe.of(freeze=f"embeddings, 0-{layers - 1}"), model).prepare(model).eval()
    kept = cached(model, tmp_path, encoded, layers + 1)
    windows, labels = [7, 3, 11, 0], torch.tensor([0, 1, 2, 0])
    whole = model(**inputs_of(model, encoded, windows), labels=labels)
    whole.loss.backward()
    expected = gradients(model)
    model.zero_grad()
    with kept.feeding(model):
        fed = model(**with_states(kept, model, encoded, windows), labels=labels)
    fed.loss.backward()
    assert (fed.logits - whole.logits).abs().max() < 1e-5
    assert expected.abs().max() > 1e-3
    assert (gradients(model) - expected).abs().max() < 1e-5


def test_one_set_of_weights_run_several_times_can_be_frozen_as_a_whole(tmp_path):
    """ALBERT under a head that is trained alone answers from its states."""
    model, encoded = tiny("albert").eval(), encoded_of(10)
    kept = cached(model, tmp_path, encoded, 2)
    with torch.no_grad(), kept.feeding(model):
        fed = model(**with_states(kept, model, encoded, [4, 2])).logits
        whole = model(**inputs_of(model, encoded, [4, 2])).logits
    assert (fed - whole).abs().max() < 1e-5


@pytest.mark.parametrize("layers", [2, LAYERS])
def test_heads_on_every_token_get_every_token(tmp_path, layers):
    """A model of tags gives the logits of all words from states, also where all layers are frozen."""
    config = tiny("bert").config
    torch.manual_seed(0)
    model = transformers.BertForTokenClassification(config).eval()
    encoded = encoded_of(12, picks=True)
    kept = cached(model, tmp_path, encoded, layers + 1)
    padded = encoded.pad_windows([5, 1, 8])
    with torch.no_grad(), kept.feeding(model):
        fed = head_outputs(model(**with_states(kept, model, encoded, [5, 1, 8])))
        whole = head_outputs(model(**inputs_of(model, encoded, [5, 1, 8])))
    units = padded["pick_window"], padded["pick_token"]
    assert (fed[units] - whole[units]).abs().max() < 1e-5


@pytest.mark.parametrize("layers", [2, LAYERS])
def test_a_last_layer_for_the_first_token_goes_with_it(tmp_path, layers):
    """Where the last layer runs for the first token only, states are had and fed all the same."""
    model, encoded = tiny("bert").eval(), encoded_of(12)
    inputs = inputs_of(model, encoded, [5, 1, 8])
    with torch.no_grad():
        whole = model(**inputs).logits
        with first_token_only(model) as shortened:
            kept = cached(model, tmp_path, encoded, layers + 1)
            with kept.feeding(model):
                fed = model(**with_states(kept, model, encoded, [5, 1, 8])).logits
    assert shortened
    assert (fed - whole).abs().max() < 1e-5


def test_the_frozen_layers_are_not_run(tmp_path):
    """With states no frozen layer computes anything; without them, all do."""
    model, encoded = tiny("bert").eval(), encoded_of(10)
    kept = cached(model, tmp_path, encoded, 3)
    ran: list[str] = []
    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad(), kept.feeding(model):
        model(**with_states(kept, model, encoded, [1, 2]))
        assert {Anatomy.of(model).depth_of(name) for name in ran} == {3, 4}
        ran.clear()
        model(**inputs_of(model, encoded, [1, 2]))
        assert {Anatomy.of(model).depth_of(name) for name in ran} == {0, 1, 2, 3, 4}


def curve(model, encoded: Encoded, strategy: Strategy, kept: Cached | None) -> list[float]:
    """Losses of twelve steps of AdamW, as a training does them."""
    groups = strategy.parameter_groups(model, learning_rate=3e-3, weight_decay=0.01)
    optimizer = torch.optim.AdamW(groups)
    labels = np.random.default_rng(3).integers(0, 3, len(encoded))
    losses = []
    torch.manual_seed(5)
    strategy.begin_epoch(model, 0)
    for windows in np.random.default_rng(4).permutation(np.repeat(np.arange(24), 4)).reshape(12, 8):
        model.train()
        strategy.train_mode(model)
        inputs = inputs_of(model, encoded, windows) if kept is None else with_states(kept, model, encoded, windows)
        loss = model(**inputs, labels=torch.from_numpy(labels[windows])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("changes", [{"freeze": "embeddings, 0-1"}, {"strategy": "head"}])
@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_the_loss_curve_is_that_of_frozen_layers_in_eval_mode(tmp_path, family, changes):
    """With dropout on, twelve steps from states have the losses of twelve steps without, within 1e-5."""
    encoded, curves = encoded_of(24), []
    for use in (False, True):
        model = tiny(family, dropout=0.2)
        strategy = Strategy.of(Recipe.of(**changes), model)
        strategy.prepare(model)
        kept = cached(model, tmp_path, encoded, strategy.frozen_below) if use else None
        if kept is None:
            curves.append(curve(model, encoded, strategy, None))
            continue
        with kept.feeding(model):
            curves.append(curve(model, encoded, strategy, kept))
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)
    assert max(curves[0]) - min(curves[0]) > 0.05


@pytest.mark.parametrize(
    ("family", "changes", "first_only"),
    [(family, {}, family != "gpt2") for family in FAMILIES] + [("modernbert", {"classifier_pooling": "mean"}, False)],
)
def test_where_only_the_first_token_is_read_only_its_state_is_kept(tmp_path, family, changes, first_only):
    """Under a frozen encoder a window takes one state, but for heads that read the last token or the mean of all."""
    model, encoded = tiny(family, **changes), encoded_of(12)
    kept = cached(model, tmp_path, encoded, Anatomy.of(model).top)
    states = kept.sides["train"]
    assert states.first_only == first_only
    count = 12 if first_only else int(encoded.window_lengths.sum())
    assert states.path.stat().st_size == count * 32 * 4
    assert states.states(np.array([1, 2]), 13).shape == (2, 1 if first_only else 13, 32)


def test_states_are_what_the_last_frozen_layer_gives(tmp_path):
    """Window by window, in any order, up to rounding; zeros stand after a window's end."""
    model, encoded = tiny("bert").eval(), encoded_of(12)
    states = cached(model, tmp_path, encoded, 3).sides["train"]
    given: list[torch.Tensor] = []
    model.bert.encoder.layer[1].register_forward_hook(lambda _, __, output: given.append(output))
    for window in (9, 0, 4):
        with torch.no_grad():
            model(**inputs_of(model, encoded, [window]))
        found, length = states.states(np.array([window]), 13), int(encoded.window_lengths[window])
        assert found.dtype == torch.float32
        assert (found[:, :length] - given.pop()).abs().max() < 1e-5
        assert not found[:, length:].any()


def test_bf16_takes_half_the_room_and_rounds(tmp_path):
    """The states are those of fp32, rounded to bfloat16, in half as many bytes."""
    model, encoded = tiny("bert"), encoded_of(12)
    full = cached(model, tmp_path / "full", encoded, 3).sides["train"]
    half = cached(model, tmp_path / "half", encoded, 3, kind="bf16").sides["train"]
    assert 2 * half.path.stat().st_size == full.path.stat().st_size
    windows = np.array([3, 1, 2])
    assert torch.equal(half.states(windows, 12), full.states(windows, 12).bfloat16().float())


def test_frozen_layers_run_in_the_precision_of_the_training(tmp_path):
    """With autocast, states are what the layer gives in bf16 autocast."""
    model, encoded = tiny("bert").eval(), encoded_of(1)
    states = cached(model, tmp_path, encoded, 3, autocast=True).sides["train"]
    given: list[torch.Tensor] = []
    model.bert.encoder.layer[1].register_forward_hook(lambda _, __, output: given.append(output))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(**inputs_of(model, encoded, [0]))
    assert torch.equal(states.states(np.array([0]), int(encoded.window_lengths[0])), given[0].float())
    with torch.no_grad():
        model(**inputs_of(model, encoded, [0]))
    assert not torch.equal(given[0].float(), given[1])


def test_the_model_is_left_as_it_was(tmp_path):
    """Its mode, the names and values of its weights, its hooks and its forwards; names also while it is fed."""
    model, encoded = tiny("bert").train(), encoded_of(12)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    own = {name: vars(module).keys() for name, module in model.named_modules()}
    kept = cached(model, tmp_path, encoded, 3)
    with kept.feeding(model):
        assert list(model.state_dict()) == list(before)
        model(**with_states(kept, model, encoded, [1]))
    assert model.training
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert {name: vars(module).keys() for name, module in model.named_modules()} == own
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    kept.remove()
    assert list(tmp_path.iterdir()) == []


def test_every_side_has_its_own_file_and_the_size_is_told(tmp_path):
    """Sides without rows have none."""
    model, heard = tiny("bert"), Heard()
    sides = {"train": encoded_of(20), "validation": encoded_of(5, seed=1), "none": encoded_of(20).take([])}
    store = Store(tmp_path / "states", "fp32", 1e9)
    kept = run_once(model, sides, frozen_below=3, store=store, listener=heard)
    assert kept is not None
    tokens = {name: int(side.window_lengths.sum()) for name, side in sides.items()}
    assert {name: side.path.stat().st_size for name, side in kept.sides.items()} == {
        "train": tokens["train"] * 128, "validation": tokens["validation"] * 128,
    }  # fmt: skip
    assert heard.told == ["2 frozen layers run once; the outputs take 0.0 MiB on disk"]
    assert heard.warned == []


@pytest.mark.parametrize("below", [0, 1])
def test_without_a_frozen_layer_there_is_nothing_to_keep(tmp_path, below):
    """Nothing is written and nothing is said."""
    heard, store = Heard(), Store(tmp_path, "fp32", 1e9)
    assert run_once(tiny("bert"), {"train": encoded_of(5)}, frozen_below=below, store=store, listener=heard) is None
    assert (heard.told, heard.warned, list(tmp_path.iterdir())) == ([], [], [])


def refused(folder: Path, *, family: str = "bert", below: int = 3, most: float = 1e9, **changes) -> list[str]:
    """Ask for states that cannot be had; return what is said."""
    heard, store = Heard(), Store(folder, "fp32", most)
    sides = {"validation": encoded_of(5, seed=1), "train": encoded_of(4000)}
    found = run_once(tiny(family, **changes), sides, frozen_below=below, store=store, listener=heard)
    assert found is None
    return heard.warned


def test_above_the_limit_nothing_is_kept(tmp_path):
    """It says how much it would take and how much it may; nothing is written."""
    assert refused(tmp_path, most=2**20) == [
        "the outputs of the frozen layers would take 3.7 MiB, more than the 1.0 MiB that are allowed: these layers run "
        "in every epoch."
    ]
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_on_the_disk_is_not_begun(tmp_path, monkeypatch):
    """The free room is looked at before anything is written."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**20}))
    assert refused(tmp_path) == [
        "the outputs of the frozen layers would take 3.7 MiB, more than the 1.0 MiB that are free on the disk: these "
        "layers run in every epoch."
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_ends_in_a_message(tmp_path):
    """Files that cannot grow leave no file behind, those of sides that were done included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        warned = refused(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert warned == [
        f"{tmp_path}: the outputs of the frozen layers cannot be kept there: File too large. These layers run in "
        "every epoch."
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_ends_in_a_message(tmp_path):
    """A file stands in its place."""
    folder = tmp_path / "states"
    folder.write_text("", encoding="utf-8")
    assert refused(folder) == [
        f"{folder}: the outputs of the frozen layers cannot be kept there: File exists. These layers run in every epoch."
    ]


def test_a_model_that_cannot_be_entered_there_is_found_out(tmp_path):
    """DeBERTa's convolution after the first layer belongs to no layer: fed after it, the model would run it again."""
    assert refused(tmp_path, family="deberta-v2", below=2, conv_kernel_size=3, conv_act="gelu") == [
        "DebertaV2ForSequenceClassification does not answer from the outputs of its frozen layers as it does in one "
        "go, so these layers run in every epoch."
    ]
    assert list(tmp_path.iterdir()) == []
