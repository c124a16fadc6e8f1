"""A temperature in the head: every program that loads the model gives the mended probabilities."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from bertsmith.tasks.single_label import SingleLabel
from bertsmith.training.mean_layer import add_mean_layer
from bertsmith.training.temperature import fold
from tests.conftest import toy_rows
from tests.training.families import tiny
from tests.training.steps import rows_of

TEXTS = [text for text, _ in toy_rows(3)]


def answers(model: torch.nn.Module, tokenizer: transformers.PreTrainedTokenizerBase, folder: Path) -> torch.Tensor:
    """Save the model and ask it through transformers' pipeline, float64 `(texts, labels)`."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pipe = transformers.pipeline(
        "text-classification", model=str(folder), tokenizer=str(folder), device="cpu", top_k=None
    )
    found = [{each["label"]: each["score"] for each in answer} for answer in pipe(TEXTS)]
    return torch.tensor([[each[f"LABEL_{place}"] for place in range(3)] for each in found], dtype=torch.float64)


def mended(model: torch.nn.Module, tokenizer: transformers.PreTrainedTokenizerBase, temperature: float) -> torch.Tensor:
    """Divide the logits by hand."""
    with torch.inference_mode():
        logits = torch.cat([model.eval()(**tokenizer(text, return_tensors="pt")).logits for text in TEXTS])
    return torch.softmax(logits.double() / temperature, dim=1)


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> transformers.PreTrainedTokenizerBase:
    found = transformers.AutoTokenizer.from_pretrained(tiny_encoder)
    found.model_input_names = ["input_ids", "attention_mask"]
    return found


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "albert", "modernbert", "deberta-v2"])
def test_pipeline_divides_logits(family: str, tokenizer, tmp_path: Path) -> None:
    """Transformers' pipeline answers softmax(logits / T) after folding, for heads of every shape."""
    model = tiny(family, vocab_size=200, pad_token_id=0)
    expected = mended(model, tokenizer, 2.5)
    fold(model, 3, 2.5)
    torch.testing.assert_close(answers(model, tokenizer, tmp_path), expected, atol=1e-6, rtol=0)


def test_pipeline_divides_logits_above_a_mean_layer(tokenizer, tiny_encoder: Path, tmp_path: Path) -> None:
    """So it is with the mean layer of few-shot models."""
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_encoder, num_labels=3)
    assert add_mean_layer(model, rows_of(tiny_encoder, SingleLabel(), toy_rows(8)).encoded)
    expected = mended(model, tokenizer, 0.4)
    fold(model, 3, 0.4)
    torch.testing.assert_close(answers(model, tokenizer, tmp_path), expected, atol=1e-6, rtol=0)


def test_only_the_last_layer_changes() -> None:
    """Weight and bias of the head's last layer are divided, and nothing else; T = 1 changes no bit."""
    model = tiny("bert")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fold(model, 3, 1.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    fold(model, 3, 2.0)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    torch.testing.assert_close(model.classifier.bias, before["classifier.bias"] / 2)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_no_such_temperature(temperature: float) -> None:
    """A temperature that would turn answers around, or end them, is refused."""
    with pytest.raises(ValueError, match=rf"^a temperature must be above 0\. Got {temperature} instead\.$"):
        fold(tiny("bert"), 3, temperature)
