"""What a run says of itself is never worth the run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from bertsmith import assessing
from bertsmith.errors import DataError


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("not enough memory"), DataError("no words")]
)
def test_a_text_that_cannot_be_explained_costs_nothing_but_its_marks(monkeypatch, error):
    """Where torch runs out of memory over one text, the other ones are marked and the run goes on."""

    def explained(predictor, text, *, pair, label):
        if text == "too long":
            raise error
        return SimpleNamespace(spans=lambda: [[0, len(text), 0.5]])

    monkeypatch.setattr(assessing, "explain", explained)
    worst = [{"text": text, "guess": "good"} for text in ("too long", "short")]
    assessing.marked_words({"worst": worst}, SimpleNamespace(has_scores=True))
    assert worst == [
        {"text": "too long", "guess": "good"},
        {"text": "short", "guess": "good", "words": [[0, 5, 0.5]]},
    ]
