"""The Keras example: the tutorials' model gives what ours gives."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras")
# Keras hands torch tensors to numpy in a way that numpy 2 will refuse one day.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
EXAMPLE = Path(__file__).parents[1] / "examples" / "keras_head.py"
TEXTS = ["The battery died after a week.", "Exactly what I was looking for.", "It is a chair.", ""]


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("keras_head", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["keras_head"] = module
    spec.loader.exec_module(module)
    return module


def test_its_probabilities_are_ours_for_equal_weights():
    """With the same head weights the Keras model and our classifier give the same probabilities."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from bertsmith.encoders import find

    keras_head = example()
    torch.manual_seed(0)
    ours = AutoModelForSequenceClassification.from_pretrained(find("minilm").folder, num_labels=3, dtype=torch.float32)
    ours.eval()
    theirs = keras_head.build(3)
    inputs = keras_head.tokenize(TEXTS)
    theirs.head.set_weights([ours.classifier.weight.detach().numpy().T, ours.classifier.bias.detach().numpy()])

    found = theirs.predict(inputs, verbose=0)
    with torch.inference_mode():
        expected = ours(**{name: torch.tensor(values) for name, values in inputs.items()}).logits.softmax(-1)

    np.testing.assert_allclose(np.asarray(found), expected.numpy(), atol=1e-6)


def test_it_learns():
    """Training on one-hot labels with the categorical cross-entropy lowers the loss."""
    keras_head = example()
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras_head.tokenize(TEXTS[:2] * 2)
    one_hot = keras.utils.to_categorical([0, 1] * 2, 2)
    model = keras_head.build(2)

    history = model.fit(inputs, one_hot, epochs=6, batch_size=4, verbose=0).history["loss"]

    assert history[-1] < 0.8 * history[0]
