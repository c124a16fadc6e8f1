"""One text answered with an export loads what that needs, and none of what takes longer than the answer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.inference.exports import bundle_with_exports

pytestmark = pytest.mark.slow
HEAVY = (
    "torch", "transformers", "onnx", "sklearn", "scipy", "pandas", "polars", "matplotlib", "datasets", "optuna", "pydantic",
    "tomlkit", "charset_normalizer", "huggingface_hub", "captum", "ray",
)  # fmt: skip
SCRIPT = """
import sys
from bertsmith.cli import boundary
code = boundary.run(sys.argv[2:])
print(sorted(set(sys.argv[1].split(",")) & sys.modules.keys()), code)
"""


def test_answering_a_text_with_an_export_loads_little(tiny_encoder, tmp_path_factory):
    """`bertsmith predict RUN TEXT` imports neither torch nor scipy nor pandas, installed as they are."""
    folder = bundle_with_exports(tiny_encoder, tmp_path_factory.getbasetemp() / "exported" / "model")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ",".join(HEAVY), "predict", str(folder), "good film"],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert len(done.stdout.splitlines()) == 2
