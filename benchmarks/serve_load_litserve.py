"""A peer of `serve_load.py`, run by the Python of its own environment: LitServe with batching, and a pipeline.

    python serve_load_litserve.py MODEL PORT [BATCH] [SECONDS]

As LitServe's documentation has it: a batch is full at max_batch_size (64), or goes after batch_timeout (0.005 s). The
pipeline is given the batch's size, since it would answer a list one by one.
"""

# No `from __future__ import annotations`: LitServe looks at the type of `request` at run time.
import sys
from typing import Any

import litserve as ls  # type: ignore[import-not-found]
from transformers import pipeline


class ClassifierAPI(ls.LitAPI):  # type: ignore[misc]
    """A text-classification pipeline."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model = pipeline("text-classification", model=sys.argv[1], device=device)

    def decode_request(self, request: dict[str, Any]) -> str:
        """Read a request."""
        return str(request["text"])

    def predict(self, texts: list[str]) -> Any:
        """Answer a batch."""
        return self.model(texts, batch_size=len(texts))

    def encode_response(self, output: Any) -> Any:
        """Write an answer."""
        return output


if __name__ == "__main__":
    batch, seconds = int((sys.argv[3:] or ["64"])[0]), float((sys.argv[4:] or ["0.005"])[0])
    api = ClassifierAPI(max_batch_size=batch, batch_timeout=seconds)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
