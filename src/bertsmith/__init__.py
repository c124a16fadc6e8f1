"""Fine-tune a BERT-family encoder on your own labelled text, know how good it is, and put it to work.

>>> import bertsmith
>>> run = bertsmith.train("reviews.csv", out="runs/reviews", epochs=3)  # doctest: +SKIP
>>> bertsmith.load("runs/reviews").predict(["Not bad, but not great either."])  # doctest: +SKIP
[Prediction(label='neutral', guess='neutral', score=0.93, unknown=False)]

Names are loaded when they are used: importing bertsmith loads neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertsmith.api import Run, check, load, train
    from bertsmith.errors import BertsmithError, DataError, UsageError
    from bertsmith.examples import Prediction
    from bertsmith.findings import Finding, Findings
    from bertsmith.recipe import Recipe

__version__ = "0.1.0"
__all__ = [
    "BertsmithError",
    "DataError",
    "Finding",
    "Findings",
    "Prediction",
    "Recipe",
    "Run",
    "UsageError",
    "check",
    "load",
    "train",
]
_HOMES = {
    "BertsmithError": "errors",
    "DataError": "errors",
    "UsageError": "errors",
    "Finding": "findings",
    "Findings": "findings",
    "Prediction": "examples",
    "Recipe": "recipe",
    "Run": "api",
    "check": "api",
    "load": "api",
    "train": "api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bertsmith' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bertsmith.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
