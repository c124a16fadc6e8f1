"""Every task exports, in fp32 and in INT8, from its own rows, and the exports answer as the model does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bertsmith
from bertsmith.export.export import export
from bertsmith.inference.loading import load
from tests.test_tasks_learn import CASES, RANDOM, inputs


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_task_exports(name: str, tiny_encoder: Path, tmp_path: Path, one_thread: None) -> None:
    """Both kinds are accepted, are loaded when asked for, and give nearly the answers of torch."""
    rows, settings = CASES[name]
    data = tmp_path / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(480, seed=3)), encoding="utf-8")
    run = bertsmith.train(data, out=tmp_path / "run", encoder=str(tiny_encoder), **{**RANDOM, **settings}).path
    texts, pairs = inputs(rows(40, seed=9))
    torch = [each.as_json() for each in load(run, engine="torch", threads=1).predict(texts, pairs)]
    for engine, int8 in (("onnx", False), ("onnx-int8", True)):
        found = export(run, int8=int8, threads_wanted=1)
        assert found.accepted, found.figures["reason"]
        answers = [each.as_json() for each in load(run, engine=engine, threads=1).predict(texts, pairs)]
        assert [sorted(each) for each in answers] == [sorted(each) for each in torch]
        keys = [key for key in ("guess", "labels", "tags", "answer") if key in torch[0]]
        alike = [all(a[key] == b[key] for key in keys) for a, b in zip(answers, torch, strict=True)]
        assert sum(alike) >= (36 if int8 else 40)
        # The newest export is the one that answers.
        assert load(run, threads=1).engine.name == engine
