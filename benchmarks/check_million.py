"""How long `bertsmith check` takes for a million rows, and how much memory.

    python benchmarks/check_million.py                 the command, in a process of its own
    python benchmarks/check_million.py --stages        stage by stage in this process
    python benchmarks/check_million.py --rows 100000

Rows are made up from a seed: words with Zipf's frequencies, about 50 a text, 12 labels with words of their
own, 3 % copies, 2 % near copies, 0.2 % copies with another label. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

SEED = 17
VOCABULARY = 200_000
LABELS = 12
ROWS_AT_A_TIME = 50_000
BUDGET_SECONDS, BUDGET_GIB = 300, 4


def main() -> None:
    """Make the file, check it, print what it took."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "million.csv"
        write_rows(file, options.rows)
        print(f"{options.rows:,} rows, {file.stat().st_size / 2**20:,.0f} MiB of CSV")
        took = _stages(file) if options.stages else _command(file)
    took |= {"rows": options.rows}
    for name, value in took.items():
        print(f"{name:<24}{value:>14,.2f}" if isinstance(value, float) else f"{name:<24}{value!s:>14}")
    print(f"{'budget':<24}{f'{BUDGET_SECONDS} s, {BUDGET_GIB} GiB':>14}")
    print(json.dumps(took))


def write_rows(file: Path, rows: int) -> None:
    """Write `rows` labelled texts as CSV, the same for the same number."""
    random = np.random.default_rng(SEED)
    words = _vocabulary(random)
    schema = pa.schema({"id": pa.int64(), "text": pa.string(), "label": pa.string()})
    with pa.csv.CSVWriter(file, schema) as writer:
        for begin in range(0, rows, ROWS_AT_A_TIME):
            count = min(ROWS_AT_A_TIME, rows - begin)
            labels = random.integers(0, LABELS, count)
            texts = _repeated(random, _texts(random, words, labels), labels)
            names = pa.array([f"topic {each}" for each in range(LABELS)])
            columns = [pa.array(np.arange(begin, begin + count)), texts, names.take(pa.array(labels))]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _vocabulary(random: np.random.Generator) -> pa.Array:
    """Make words of 1 to 5 syllables: frequent ones short, as in real language."""
    syllables = [a + b for a in (*"bcdfghklmnprstvw", "st", "tr", "pl") for b in "aeiou"]
    distinct: dict[str, None] = {}
    while len(distinct) < VOCABULARY:
        size = min(5, 1 + len(distinct).bit_length() // 5 + int(random.integers(0, 2)))
        distinct["".join(random.choice(syllables, size))] = None
    return pa.array(distinct)


def _texts(random: np.random.Generator, words: pa.Array, labels: np.ndarray[Any, Any]) -> pa.Array:
    """Draw about 50 words a text by Zipf's law; one in ten is from the 50 words of its label."""
    lengths = np.clip(random.gamma(4, 12.5, len(labels)), 3, 400).astype(np.int64)
    weights = 1 / np.arange(1, VOCABULARY + 1)
    drawn = np.searchsorted(np.cumsum(weights) / weights.sum(), random.random(int(lengths.sum())))
    own = random.random(len(drawn)) < 0.1
    drawn[own] = 1000 + 50 * np.repeat(labels, lengths)[own] + random.integers(0, 50, int(own.sum()))
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(ends), words.take(pa.array(drawn))), " ")


def _repeated(random: np.random.Generator, texts: pa.Array, labels: np.ndarray[Any, Any]) -> pa.Array:
    """Replace rows by copies: 3 % with their label, 2 % with a word more, 0.2 % with any label."""
    source = np.arange(len(texts))
    kind = random.random(len(texts))
    chosen = np.flatnonzero(kind < 0.052)
    source[chosen] = random.integers(0, len(texts), len(chosen))
    kept = np.flatnonzero((kind >= 0.002) & (kind < 0.052))
    labels[kept] = labels[source[kept]]
    more = pa.array(np.where((kind >= 0.032) & (kind < 0.052), " again", ""))
    return pc.binary_join_element_wise(texts.take(pa.array(source)), more, "")


def _command(file: Path) -> dict[str, Any]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "bertsmith", "check", str(file), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode not in {0, 1}:
        sys.exit(f"bertsmith check ended with {done.returncode}:\n{done.stderr[-2000:]}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {"seconds": round(seconds, 1), "peak_gib": round(peak, 2), "exit": done.returncode}


def _stages(file: Path) -> dict[str, Any]:
    from bertsmith import encoders, threads
    from bertsmith.data.check import check, choose_max_length, measure_lengths
    from bertsmith.data.near_duplicates import group_texts
    from bertsmith.data.read import read
    from bertsmith.recipe import Recipe
    from bertsmith.tasks.single_label import SingleLabel

    threads.limit_libraries(threads.allowed())
    took: dict[str, Any] = {}

    def timed(name: str, stage: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = stage()
        took[name] = round(time.perf_counter() - began, 1)
        took[f"{name}_peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
        return result

    examples = timed("read", lambda: read(str(file), Recipe().read))
    encoder = encoders.find("minilm")
    groups = timed("groups", lambda: group_texts(examples, seed=SEED))
    lengths = timed("lengths", lambda: measure_lengths(examples, encoder.tokenizer()))
    longest = choose_max_length(lengths.tokens, limit=encoder.max_tokens)
    keywords = {
        "task": SingleLabel(),
        "lengths": lengths,
        "max_length": longest,
        "groups": groups,
        "encoder": encoder,
    }
    findings = timed("check", lambda: check(examples, **keywords))
    for finding in findings.items:
        print(f"  {finding.severity:<8}{finding.kind:<20}{finding.message}")
    return took


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--stages", action="store_true", help="stage by stage, in this process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
