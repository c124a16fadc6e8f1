"""SetFit's side of `few_shot.py`, run by the Python of SetFit's own environment; knows nothing of bertsmith.

Reads a job a line from standard input: encoder, rows and test (lists of [text, number of the label]), seed, threads,
num_iterations and max_steps (null: SetFit's defaults). Answers each with a line of JSON: accuracy, seconds,
cpu_seconds.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"


def trained(job: dict[str, Any], folder: str) -> dict[str, float]:
    """Train and score once."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    texts, labels = zip(*job["rows"], strict=True)
    settings = {name: job[name] for name in ("num_iterations", "max_steps") if job[name] is not None}
    begin, cpu = time.perf_counter(), time.process_time()
    model = SetFitModel.from_pretrained(job["encoder"])
    arguments = TrainingArguments(output_dir=folder, report_to="none", save_strategy="no", seed=job["seed"], **settings)
    rows = Dataset.from_dict({"text": list(texts), "label": list(labels)})
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    found = model.predict([text for text, _ in job["test"]], as_numpy=True)
    right = sum(int(guess) == label for guess, (_, label) in zip(found, job["test"], strict=True))
    return {"accuracy": right / len(job["test"]), "seconds": seconds, "cpu_seconds": cpu}


def main() -> None:
    """Answer jobs until there are no more."""
    import torch

    warnings.filterwarnings("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # SetFit prints; the answers are to stay alone
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            job = json.loads(line)
            torch.set_num_threads(job["threads"])
            print(json.dumps(trained(job, folder)), file=answers, flush=True)


if __name__ == "__main__":
    main()
