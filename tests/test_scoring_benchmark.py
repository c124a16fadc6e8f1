"""The benchmark of scoring: what it makes of seconds, labels and texts."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.flops import forward_flops


@pytest.fixture
def scoring(monkeypatch):
    """The benchmark's module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module("scoring")


@pytest.fixture
def sides(scoring):
    """The module of its sides."""
    return scoring.scoring_sides


def rounds(*seconds):
    """Rounds of so many seconds, each with twice as many of the processor."""
    return [{"seconds": each, "processor": 2 * each} for each in seconds]


def write_figures(run, kind, *, reason):
    """Write what is read of an export's figures."""
    folder = run / "model" / "onnx" / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "export.json").write_text(json.dumps({"accepted": not reason, "reason": reason}), encoding="utf-8")


class FakeChild:
    """A side that notes what it is asked."""

    def __init__(self, name, heard):
        self._name, self._heard = name, heard

    def ask(self, question, texts=()):
        """Note the question, and answer something."""
        self._heard.append((self._name, question, list(texts)))
        return [0.001] * len(texts) if question == "each_alone" else {"seconds": 1.0, "processor": 1.0}


@given(lengths=st.lists(st.integers(1, 50), max_size=40), size=st.integers(1, 9))
def test_batches_of_peers_hold_every_row_once(lengths, size):
    """Batches of the peers hold every row once, longest first, and no more rows than asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
        batches = list(importlib.import_module("scoring_sides").sorted_batches(lengths, size))
    order = [int(row) for batch in batches for row in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths, reverse=True)
    assert all(len(batch) == size for batch in batches[:-1])


def test_rows_are_padded_with_zeros(sides):
    """A batch of the peers has its rows from the left, zeros after them, as int64."""
    padded = sides.padded_rows([[5, 6, 7], [8], [9, 1]])
    assert padded.tolist() == [[5, 6, 7], [8, 0, 0], [9, 1, 0]]
    assert padded.dtype == np.int64


def test_labels_are_compared_over_the_rows_a_side_answered(scoring):
    """Agreement and accuracy are of the rows that a side answered; the change is ours minus torch's."""
    gold = ["a", "b"] * 50
    torch = ["a", "b"] * 45 + ["b", "a"] * 5
    worse = ["b", "b", *torch[2:80]]
    found = scoring.compared(worse, torch, gold)
    change = found.pop("change")
    assert found == {"rows": 80, "agreement": 79 / 80, "accuracy": 79 / 80}
    assert change[0] == round(-1 / 80, 5)
    assert change[1] < change[0] < change[2] == 0


def test_no_changed_answer_is_no_change(scoring):
    """Where all labels are torch's, accuracy changes by nothing, whatever is right."""
    assert scoring.compared(["a", "b"], ["a", "b"], ["a", "a"])["change"] == [0.0, 0.0, 0.0]


def test_the_line_of_a_side_has_medians_and_the_ratios_of_each_round(scoring):
    """Speed is the median round's; a ratio is the median of the rounds' ratios, not the ratio of medians."""
    found = {
        "onnx-int8": {"rate": rounds(1.0, 2.0, 1.0), "each_alone": [[0.001], [0.002], [0.001]]},
        "pipeline": {"rate": rounds(12.0, 8.0, 30.0), "each_alone": [[0.010, 0.020], [0.010, 0.010], [0.009, 0.009]]},
    }
    assert scoring.speed("imdb", "pipeline", found, 60) == {
        "set": "imdb",
        "side": "pipeline",
        "docs_per_second": 5.0,
        "processor_ms_per_doc": 400.0,
        "ms_p50": 10.0,
        "ms_p95": 17.5,
        "int8_times": 12.0,
        "rounds": [12.0, 4.0, 30.0],
        "at_least": 5.0,
        "int8_alone_times": 9.0,
        "alone_at_least": 5.0,
    }


def test_int8_has_no_ratio_to_itself(scoring):
    """The line of INT8 itself has its speed alone, and that of a side beside no INT8 as well."""
    line = {"set": "sst2", "side": "onnx-int8", "docs_per_second": 10.0, "processor_ms_per_doc": 200.0}
    assert scoring.speed("sst2", "onnx-int8", {"onnx-int8": {"rate": rounds(1.0)}}, 10) == line
    assert scoring.speed("sst2", "torch", {"torch": {"rate": rounds(1.0)}}, 10) == line | {"side": "torch"}


def test_utilisation_is_work_over_what_the_peak_would_do(scoring):
    """Utilisation is the operations of a round over those that the peak makes in its median seconds."""
    found = {"rate_wide": rounds(4.0, 2.0, 3.0), "engine_rate_wide": rounds(2.0, 2.0, 2.0)}
    assert scoring.utilisation("onnx-int8", found, 6e9, 4e9) == {
        "side": "onnx-int8",
        "tokens": 128,
        "peak_gflops": 4,
        "utilisation": 0.5,
        "without_tokenization": 0.75,
    }


@pytest.mark.parametrize("first_token", [True, False])
def test_work_counts_only_what_the_graph_computes(scoring, tmp_path, first_token):
    """The last layer's other tokens are counted for a graph that computes them, and for no other."""
    config = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16, "id2label": {"0": "a", "1": "b"}}
    export = tmp_path / "model" / "onnx" / "int8"
    export.mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (export / "export.json").write_text(json.dumps({"graph": {"first_token": first_token}}))
    whole = 3 * float(forward_flops(config, 128))
    assert scoring.work(tmp_path, "ort-int8", 3) == whole
    assert scoring.work(tmp_path, "onnx-int8", 3) == 3 * float(forward_flops(config, 128, first_token=first_token))
    assert (scoring.work(tmp_path, "onnx-int8", 3) < whole) == first_token


def test_cut_texts_have_exactly_so_many_tokens(scoring, tiny_encoder):
    """Longer texts are cut to exactly so many tokens; shorter ones are left out."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tiny_encoder))
    texts = ["the food was very good and fresh", "the soup", "we broken app was not slow", "food, food food food!"]
    cut = scoring.cut(tokenizer, texts, 6)
    assert cut == ["the food was very", "we broken app was", "food, food food"]
    assert [len(ids) for ids in tokenizer(cut)["input_ids"]] == [6, 6, 6]


def test_the_sides_take_turns(scoring):
    """Every round asks every side the same texts, and begins with another side than the last."""
    heard = []
    children = {name: FakeChild(name, heard) for name in ("pipeline", "pipeline-64", "onnx-int8")}
    texts = scoring.Texts(["one", "two"], [], [f"short {place}" for place in range(60)], [])
    found = scoring.race(children, texts, rounds=3)
    warmed, timed = heard[:3], [(name, given) for name, question, given in heard[3:] if question == "rate"]
    assert [name for name, _, _ in warmed] == list(children)
    assert [name for name, _ in timed] == [
        *("pipeline", "pipeline-64", "onnx-int8"),
        *("pipeline-64", "onnx-int8", "pipeline"),
        *("onnx-int8", "pipeline", "pipeline-64"),
    ]
    assert all(given == ["one", "two"] for _, given in timed)
    alone = {name: [given for who, asked, given in heard if (who, asked) == (name, "each_alone")] for name in children}
    assert alone["pipeline"] == alone["onnx-int8"]
    assert alone["pipeline-64"] == []
    assert alone["pipeline"][1][:21] == [*texts.short[40:], "short 0"]
    assert {name: {question: len(each) for question, each in rounds.items()} for name, rounds in found.items()} == {
        "pipeline": {"rate": 3, "each_alone": 3},
        "pipeline-64": {"rate": 3},
        "onnx-int8": {"rate": 3, "each_alone": 3},
    }


def test_texts_of_128_tokens_are_asked_of_the_sides_that_utilisation_is_told_of(scoring):
    """INT8 sides answer the texts of 128 tokens, ours without tokenization too; the peak is asked for itself only."""
    texts = scoring.Texts(["text"], [], ["short"], ["wide"])
    assert list(scoring.asked("ort-int8", texts, 0)) == ["rate", "each_alone", "rate_wide"]
    assert list(scoring.asked("onnx-int8", texts, 0)) == ["rate", "each_alone", "rate_wide", "engine_rate_wide"]
    assert list(scoring.asked("pipeline", texts, 0)) == ["rate", "each_alone"]
    assert scoring.asked("peak", texts, 0) == {"peak": []}


def test_a_side_whose_export_is_refused_is_left_out(scoring, monkeypatch, tmp_path, capsys):
    """Exports that are missing are made, once; the side of one that was refused is left out and the reason said."""
    called = []

    def exporting(*words):
        called.append(words)
        if "--int8" not in words:
            write_figures(tmp_path, "fp32", reason="")
        return subprocess.CompletedProcess(words, 0, "", "ERROR  no rows to judge by\n")

    monkeypatch.setattr(scoring, "command", exporting)
    assert scoring.exported(tmp_path, ["pipeline", "torch", "onnx", "onnx-int8"]) == ["pipeline", "torch", "onnx"]
    assert called == [("export", str(tmp_path)), ("export", str(tmp_path), "--int8")]
    assert capsys.readouterr().out == "side onnx-int8  left out ERROR  no rows to judge by\n"
    write_figures(tmp_path, "int8", reason="too few labels agree")
    assert scoring.exported(tmp_path, ["onnx", "onnx-int8"]) == ["onnx"]
    assert capsys.readouterr().out == "side onnx-int8  left out too few labels agree\n"
    write_figures(tmp_path, "int8", reason="")
    assert scoring.exported(tmp_path, ["onnx", "onnx-int8"]) == ["onnx", "onnx-int8"]
    assert len(called) == 2


def test_a_side_that_breaks_is_named(scoring, sides, tmp_path):
    """A side whose process ends in an error stops the benchmark with its name."""
    setting = sides.Setting(tmp_path / "none", tmp_path, ("a",), 8, 4, 1)
    with pytest.raises(SystemExit) as raised:
        scoring.Child("ort-fp32", setting)
    assert str(raised.value) == "the side ort-fp32 ended; its error stands above."
