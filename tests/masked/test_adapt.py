"""adapt: the encoder learns the texts, and what comes out is a whole encoder for everything else."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bertsmith import encoders
from bertsmith.atomic import sha256
from bertsmith.errors import EncoderError, UsageError
from bertsmith.masked import learning
from bertsmith.masked.adapt import Settings, adapt, mask_token
from bertsmith.masked.learning import HELD_OUT, Material, perplexity
from bertsmith.masked.masking import Masking
from bertsmith.masked.model import load, masked_logits, prepare_fresh_head
from bertsmith.masked.windows import make_windows
from tests.masked.conftest import toy_texts


@pytest.fixture(scope="module")
def masked(tiny_encoder):
    return load(encoders.find(str(tiny_encoder)))


@pytest.fixture(scope="module")
def material(tiny_encoder) -> Material:
    encoder = encoders.find(str(tiny_encoder))
    windows = make_windows(encoder.tokenizer(), toy_texts(20, seed=5), max_length=16, special=frozenset(range(5)))
    return Material(windows, Masking(0.3, 4, np.arange(5, 60, dtype=np.int32), 1), 0)


def weights(folder) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_perplexity_falls(adapted):
    """The head learns, then the encoder learns more; the texts become several times as predictable."""
    assert adapted.fresh_head
    assert adapted.head is not None
    assert adapted.head < adapted.before
    assert adapted.after < 0.3 * adapted.head
    assert (adapted.texts, adapted.held_out) == (152, 8)


def test_cross_entropy_is_that_of_transformers(masked, material):
    """The loss over a batch is transformers' own loss for masked words; so is the perplexity."""
    import torch
    from torch.nn import functional

    model = masked.model.eval()
    batch = material.batch(np.arange(len(material.windows)), epoch=HELD_OUT)
    inputs = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
    places, gold = torch.from_numpy(batch.places), torch.from_numpy(batch.gold)
    labels = torch.full(inputs["input_ids"].shape, -100)
    labels.view(-1)[places] = gold
    with torch.inference_mode():
        theirs = model(**inputs, labels=labels)
        ours = masked_logits(model, inputs, places)
    assert float(functional.cross_entropy(ours, gold)) == pytest.approx(float(theirs.loss), abs=1e-5)
    assert torch.allclose(ours, theirs.logits.flatten(0, 1)[places], atol=1e-5)
    assert perplexity(model, material) == pytest.approx(math.exp(float(theirs.loss)), rel=1e-5)


def test_the_same_again(settings, adapted, tmp_path):
    """The same texts, settings and seed give the same weights, bit for bit."""
    again = adapt(toy_texts(160), out=tmp_path / "again", settings=settings, device="cpu", threads_wanted=1)
    assert (again.before, again.head, again.after) == (adapted.before, adapted.head, adapted.after)
    assert sha256(again.folder / "model.safetensors") == sha256(adapted.folder / "model.safetensors")


def test_the_head_alone_learns_first(tiny_encoder, material):
    """While the fresh head learns, no weight of the encoder changes, the shared word embeddings included."""
    import torch

    from bertsmith.listener import Silent

    fresh = load(encoders.find(str(tiny_encoder)))
    before = {name: value.clone() for name, value in fresh.model.base_model.state_dict().items()}
    stage = learning.Stage("head", 1, 1e-2, 4)
    learning.learn(fresh.model, fresh.head_parameters(), material, stage, seed=1, bf16=False, listener=Silent())
    assert all(torch.equal(value, before[name]) for name, value in fresh.model.base_model.state_dict().items())
    assert not torch.equal(fresh.model.cls.predictions.bias, torch.zeros_like(fresh.model.cls.predictions.bias))
    assert all(each.requires_grad for each in fresh.model.parameters())


def test_a_fresh_head_begins_with_word_frequencies(tiny_encoder):
    """Before it learns, its answers are near the frequencies, so that its perplexity is below the vocabulary."""
    import torch

    fresh = load(encoders.find(str(tiny_encoder)))
    counts = torch.zeros(fresh.model.config.vocab_size)
    counts[7], counts[9] = 300, 100
    prepare_fresh_head(fresh, counts)
    inputs = {"input_ids": torch.tensor([[2, 4, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}
    with torch.inference_mode():
        shares = masked_logits(fresh.model.eval(), inputs, torch.tensor([1])).softmax(-1)[0]
    assert shares[7] == pytest.approx(0.66, abs=0.1)
    assert shares[9] == pytest.approx(0.22, abs=0.1)


def test_what_comes_out_is_a_whole_encoder(adapted, tiny_encoder):
    """As an encoder, as a classifier and for masked words it loads whole; only a classifier's head is new."""
    import torch
    from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

    folder = str(adapted.folder)
    _, plain = AutoModel.from_pretrained(folder, output_loading_info=True)
    classifier, told = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    named, again = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert plain["missing_keys"] == again["missing_keys"] == set()
    assert told["missing_keys"] == {"classifier.weight", "classifier.bias"}
    old, new = weights(tiny_encoder), weights(adapted.folder)
    assert torch.equal(classifier.bert.pooler.dense.weight, old["pooler.dense.weight"])
    assert torch.equal(classifier.bert.pooler.dense.bias, old["pooler.dense.bias"])
    for name, value in named.base_model.state_dict().items():
        assert torch.equal(value, classifier.bert.state_dict()[name]), name
    layer = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(old[layer], new[f"bert.{layer}"])
    assert {value.dtype for value in new.values()} == {torch.float32}


def test_tokenizer_and_config_are_the_encoders(adapted, tiny_encoder):
    """Tokenizer files are the same bytes; of the config only the class's name differs."""
    names = [path.name for path in tiny_encoder.glob("tokenizer*")]
    assert names
    for name in names:
        assert sha256(adapted.folder / name) == sha256(tiny_encoder / name)
    old, new = (
        json.loads((each / "config.json").read_text(encoding="utf-8")) for each in (tiny_encoder, adapted.folder)
    )
    assert {name for name in new if old.get(name) != new[name]} == {"architectures"}
    assert encoders.find(str(adapted.folder)).max_tokens == encoders.find(str(tiny_encoder)).max_tokens


def test_the_record_says_what_was_done(adapted, tiny_encoder, settings):
    """adapt.json has figures, settings, versions and what was begun with; no pickle and nothing else is left."""
    record = json.loads((adapted.folder / "adapt.json").read_text(encoding="utf-8"))
    assert {name: record[name] for name in adapted.as_json()} == adapted.as_json()
    assert record["encoder_sha256"] == {"model.safetensors": sha256(tiny_encoder / "model.safetensors")}
    assert record["settings"]["learning_rate"] == settings.learning_rate
    assert {"python", "torch", "transformers"} <= set(record["versions"])
    assert {path.suffix for path in adapted.folder.iterdir()} == {".json", ".safetensors"}
    assert [path.name for path in adapted.folder.parent.iterdir()] == ["ours"]


def test_an_adapted_encoder_is_adapted_further(adapted, tmp_path):
    """Its head is no longer fresh, so it begins where it stopped; the pooler is kept again."""
    import torch

    settings = Settings(encoder=str(adapted.folder), epochs=1, max_length=32, batch_size=16, learning_rate=1e-5)
    further = adapt(toy_texts(160), out=tmp_path / "further", settings=settings, device="cpu", threads_wanted=1)
    assert not further.fresh_head
    assert further.head is None
    assert further.before == pytest.approx(adapted.after, rel=1e-5)
    old, new = weights(adapted.folder), weights(further.folder)
    assert old.keys() == new.keys()
    assert torch.equal(old["bert.pooler.dense.weight"], new["bert.pooler.dense.weight"])


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "electra"])
def test_other_families_learn_too(tiny_encoder, tmp_path, kind):
    """Encoders of other families keep all their weights, and only a fresh head is new."""
    import torch
    from transformers import AutoConfig, AutoModel

    sizes = {
        "roberta": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 66},
        "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 64},
        "electra": {"hidden_size": 16, "embedding_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64},
    }[kind]  # fmt: skip
    vocabulary = encoders.find(str(tiny_encoder)).tokenizer().get_vocab_size()
    torch.manual_seed(0)
    folder = tmp_path / kind
    AutoModel.from_config(AutoConfig.for_model(kind, vocab_size=vocabulary, pad_token_id=0, **sizes)).save_pretrained(
        folder
    )
    for file in tiny_encoder.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    settings = Settings(encoder=str(folder), epochs=2, max_length=32, learning_rate=5e-3, batch_size=8)
    done = adapt(toy_texts(60), out=tmp_path / "out", settings=settings, device="cpu", threads_wanted=1)
    assert done.fresh_head
    assert done.after < done.before
    _, told = AutoModel.from_pretrained(str(done.folder), output_loading_info=True)
    assert told["missing_keys"] == set()


def test_training_takes_it(adapted, toy_csv, tmp_path):
    """`train --encoder FOLDER` fine-tunes it as any encoder."""
    import bertsmith
    from tests.cli.finished import QUICK

    run = bertsmith.train(toy_csv, out=tmp_path / "run", encoder=str(adapted.folder), **QUICK)
    assert bertsmith.load(run.path).predict(["good food"])[0].label in {"positive", "negative", "neutral"}


def test_settings_out_of_range(tmp_path):
    """All wrong settings are named at once, before anything is read or written."""
    wrong = Settings(encoder="", epochs=0, max_length=7, learning_rate=1.0, batch_size=0, mask_share=0.0, held_out=0.6, head_epochs=-1, seed=-1)  # fmt: skip
    with pytest.raises(UsageError) as caught:
        adapt("missing.txt", out=tmp_path / "out", settings=wrong)
    assert str(caught.value) == (
        "'--encoder' must be a name or a folder. Got '' instead.\n"
        "'--epochs' must be a whole number from 1. Got 0 instead.\n"
        "'--max-length' must be a whole number from 8. Got 7 instead.\n"
        "'--learning-rate' must be a number in (0, 1). Got 1.0 instead.\n"
        "'--batch-size' must be a whole number from 1. Got 0 instead.\n"
        "'--mask-share' must be a number in (0, 1). Got 0.0 instead.\n"
        "'--held-out' must be a number in (0, 0.5]. Got 0.6 instead.\n"
        "'--head-epochs' must be a whole number from 0. Got -1 instead.\n"
        "'--seed' must be a whole number from 0. Got -1 instead."
    )
    assert list(tmp_path.iterdir()) == []


def test_places_that_are_taken(adapted, settings, tmp_path):
    """Only an adapted encoder is ever replaced, and only with --force."""
    other, file = tmp_path / "other", tmp_path / "file"
    other.mkdir()
    (other / "mine.txt").write_text("mine", encoding="utf-8")
    file.write_text("mine", encoding="utf-8")
    cases = {
        other: f"{other}: exists and holds no adapted encoder, so nothing is written there.\n  Choose another --out, or an empty folder.",
        file: f"{file}: is a file; the adapted encoder is a folder.\n  Choose another --out.",
        adapted.folder: f"{adapted.folder}: holds an adapted encoder.\n  Choose another --out, or replace it with --force.",
    }
    for path, said in cases.items():
        for force in (False,) if path == adapted.folder else (False, True):
            with pytest.raises(UsageError) as caught:
                adapt(["a", "b"], out=path, settings=settings, force=force)
            assert str(caught.value) == said
    assert (other / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_force_replaces_and_a_failure_does_not(adapted, settings, tmp_path, monkeypatch):
    """A new encoder takes the old one's place whole; when writing fails the old one still stands."""
    import shutil

    from bertsmith.masked import folders

    place = tmp_path / "ours"
    shutil.copytree(adapted.folder, place)
    quick = Settings(encoder=settings.encoder, epochs=1, max_length=16)
    with monkeypatch.context() as patched:
        patched.setattr(folders, "write_record", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            adapt(toy_texts(20), out=place, settings=quick, force=True, device="cpu", threads_wanted=1)
    assert sha256(place / "model.safetensors") == sha256(adapted.folder / "model.safetensors")
    (place / "left.txt").write_text("old", encoding="utf-8")
    done = adapt(toy_texts(20), out=place, settings=quick, force=True, device="cpu", threads_wanted=1)
    assert json.loads((place / "adapt.json").read_text(encoding="utf-8"))["texts"] == done.texts == 19
    assert not (place / "left.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_encoders_that_cannot_learn(tiny_encoder, tmp_path, settings):
    """No mask token, too long windows, an unknown script, a kind without such a model: each is said."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in tiny_encoder.iterdir():
        (bare / file.name).write_bytes(file.read_bytes())
    config = json.loads((bare / "config.json").read_text(encoding="utf-8"))
    (bare / "config.json").write_text(json.dumps(config | {"model_type": "clip"}), encoding="utf-8")
    with pytest.raises(EncoderError, match=r"bare: transformers cannot load it as a model of masked words: "):
        load(encoders.find(str(bare)))
    (bare / "config.json").write_text(json.dumps(config), encoding="utf-8")
    stored = json.loads((bare / "tokenizer_config.json").read_text(encoding="utf-8"))
    (bare / "tokenizer_config.json").write_text(json.dumps(stored | {"mask_token": None, "tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")  # fmt: skip
    (bare / "special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(EncoderError) as caught:
        mask_token(encoders.find(str(bare)))
    assert str(caught.value) == (
        f"{bare}: its tokenizer has no mask token, so it never learned masked words.\n"
        "  Take an encoder of the BERT family, such as minilm or bert-base-uncased."
    )
    with pytest.raises(UsageError) as short:
        adapt(["a", "b"], out=tmp_path / "out", settings=Settings(encoder=str(tiny_encoder), max_length=65))
    assert (
        str(short.value)
        == f"'--max-length' must be a whole number from 4 to 64, which is what {tiny_encoder} takes. Got 65 instead."
    )
    with pytest.raises(EncoderError) as script:
        adapt(["你好", "世界"], out=tmp_path / "out", settings=settings, device="cpu", threads_wanted=1)
    assert str(script.value) == (
        f"{tiny_encoder}: its tokenizer knows no word of the texts to learn from.\n"
        "  Is it an encoder for this language and script?"
    )


def test_an_incomplete_encoder_is_refused(tiny_encoder, tmp_path):
    """Weights of the encoder itself are never made up."""
    from safetensors.torch import save_file

    folder = tmp_path / "part"
    folder.mkdir()
    for file in tiny_encoder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    some = {name: value for name, value in weights(tiny_encoder).items() if "layer.1.output" not in name}
    save_file(some, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError) as caught:
        load(encoders.find(str(folder)))
    assert str(caught.value) == (
        f"{folder}: 4 weights of the encoder are missing, such as bert.encoder.layer.1.output.LayerNorm.bias.\n"
        "  Copy or fetch the encoder again."
    )


def test_a_loss_that_is_no_number_stops(settings, tmp_path, monkeypatch):
    """A run that has blown up ends at once, with what to do."""
    from bertsmith.errors import BertsmithError

    monkeypatch.setattr(learning, "_step", lambda *_, **__: float("nan"))
    with pytest.raises(BertsmithError) as caught:
        adapt(toy_texts(20), out=tmp_path / "out", settings=settings, device="cpu", threads_wanted=1)
    assert str(caught.value) == (
        "training blew up: at step 1 the loss is nan; it must be a finite number.\n"
        "  Lower --learning-rate (5e-5 is safe for most encoders)."
    )
    assert list(tmp_path.iterdir()) == []
