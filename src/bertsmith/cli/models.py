"""bertsmith models."""

from __future__ import annotations

import sys
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from bertsmith import threads
from bertsmith.cli.console import print_json
from bertsmith.encoders import KNOWN, KnownEncoder
from bertsmith.flops import estimate_seconds, probe_gemm

_TOKENS = 64
_ROWS = 1000


def models(*, json: Annotated[bool, Parameter(negative=(), help="Print one JSON object a line.")] = False) -> int:
    """List known encoders: size, speed on this machine, when to take which.

    Any other encoder on the Hub, or a folder of your own, works as well.
    """
    peak = probe_gemm() * threads.allowed()
    rows = [(each, _speed(each, peak)) for each in KNOWN.values()]
    if json:
        for each, speed in rows:
            print_json(
                {
                    "name": each.name,
                    "parameters_millions": each.parameters,
                    "layers": each.layers,
                    "hidden": each.hidden,
                    "learning_rate": each.learning_rate,
                    "training_rows_per_second": round(speed, 1),
                    "note": each.note,
                }
            )
        return 0
    width = max(len(each.name) for each, _ in rows)
    sys.stdout.write(f"{'encoder':<{width}}  params  layers  rows/s here*  learning rate  when to take it\n")
    for each, speed in rows:
        sys.stdout.write(
            f"{each.name:<{width}}  {each.parameters:>4.0f} M  {each.layers:>6}  {speed:>12.1f}  "
            f"{each.learning_rate:>13g}  {each.note}\n"
        )
    sys.stdout.write(
        f"\n* an estimate: training, {_TOKENS} tokens a row, on this machine's CPU. "
        "Any encoder on the Hub or in a folder works: --encoder NAME_OR_FOLDER.\n"
        "  They choose: labels, numbers, spans. Decoders such as GPT-2 can be used so too. Text is not generated:\n"
        "  for that take a decoder with transformers (to try), TRL (to fine-tune), vLLM (to serve).\n"
    )
    return 0


def _speed(encoder: KnownEncoder, peak: float) -> float:
    config = {
        "num_hidden_layers": encoder.layers,
        "hidden_size": encoder.hidden,
        "intermediate_size": encoder.inner,
        "model_type": encoder.family,
    }
    return _ROWS / estimate_seconds(config, np.full(_ROWS, _TOKENS), epochs=1, peak=peak)
