"""A peer of `serve_load.py`, run by the Python of its own environment: FastAPI and a pipeline as tutorials write them.

    python serve_load_plain.py MODEL PORT [--async]

With `def`, FastAPI calls the pipeline in its pool of threads; with `async def` (--async), on the event loop. Tutorials
have both, so both are measured.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

model, port = sys.argv[1], int(sys.argv[2])
app = FastAPI()
classifier = pipeline("text-classification", model=model)


class TextInput(BaseModel):
    """What is asked."""

    text: str


if "--async" in sys.argv:

    @app.post("/predict")
    async def predict(given: TextInput) -> Any:
        """Answer a text."""
        return classifier(given.text)

else:

    @app.post("/predict")
    def predict(given: TextInput) -> Any:
        """Answer a text."""
        return classifier(given.text)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=port)
