"""Memory of `bertsmith predict --in FILE` over 200 000 rows: it must stay flat.

A small model is trained first (or RUN given), a CSV of seeded made-up rows is written, and the peak memory of the
process that answers a tenth of the rows is compared with that of the process that answers all.

    python benchmarks/predict_memory.py [--rows 200000] [--run RUN]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from measuring import machine, say

WORDS = [
    *(
        "the",
        "film",
        "room",
        "food",
        "shop",
        "app",
        "was",
        "is",
        "good",
        "bad",
        "slow",
        "great",
        "late",
        "cold",
        "warm",
    ),
    *("staff", "price", "service", "we", "it", "not", "very", "and", "but", "loved", "hated", "again", "never", "fine"),
]
PEAK = """
import resource, sys
from bertsmith.cli.boundary import run
code = run(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(code)
"""


def write_rows(path: Path, rows: int) -> None:
    """Write rows of 3 to 9 words."""
    generator = random.Random(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "text"])
        for number in range(rows):
            writer.writerow([number, " ".join(generator.choices(WORDS, k=generator.randint(3, 9)))])


def predict(run: str, source: Path, target: Path) -> dict[str, float]:
    """Answer a file in a process of its own; return its seconds and peak memory in MiB."""
    begin = time.perf_counter()
    arguments = ["predict", run, "--in", str(source), "--out", str(target)]
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True)
    peak = next(line for line in done.stdout.splitlines() if line.startswith("PEAK"))
    return {"seconds": round(time.perf_counter() - begin, 1), "peak_mib": float(peak.split()[1])}


def main() -> None:
    """Measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--run", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = options.run or str(folder / "run")
        if not options.run:
            reviews = Path(__file__).parents[1] / "examples" / "reviews.csv"
            command = [
                sys.executable,
                "-m",
                "bertsmith",
                "train",
                str(reviews),
                "--out",
                run,
                "--epochs",
                "1",
                "--json",
            ]
            subprocess.run(command, check=True, capture_output=True)
        results = []
        for rows in (options.rows // 10, options.rows):
            source, target = folder / f"{rows}.csv", folder / f"{rows}-answers.csv"
            write_rows(source, rows)
            results.append({"rows": rows, **predict(run, source, target)})
            results[-1]["rows_per_second"] = round(rows / results[-1]["seconds"], 1)
            with target.open(encoding="utf-8", newline="") as file:
                assert sum(1 for _ in csv.reader(file)) == rows + 1
            say(results[-1])
    growth = results[1]["peak_mib"] / results[0]["peak_mib"] - 1
    say({"growth of peak memory for ten times the rows": f"{growth:.1%}"})
    print(json.dumps({"benchmark": "predict_memory", "machine": machine(), "growth": growth, "results": results}))


if __name__ == "__main__":
    main()
