"""The ONNX engine: torch's answers, the same bits in any company, and safe among threads and processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import WORDS, toy_rows
from tests.inference.exports import TOLERANCE, bundle_with_exports

from bertsmith import threads
from bertsmith.errors import BundleError
from bertsmith.inference import onnx_engine
from bertsmith.inference.exported import Export, Probes
from bertsmith.inference.loading import load
from bertsmith.inference.onnx_engine import OnnxEngine, open_export, open_session

TEXTS = [text for text, _ in toy_rows(30)] + ["", "good", "Grüße 😀", "bad " * 60]
texts = st.lists(
    st.lists(st.sampled_from([*WORDS, "xyz", "!", "ä"]), max_size=60).map(" ".join), min_size=1, max_size=12
)


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    """A bundle with both exports."""
    return bundle_with_exports(tiny_encoder, tmp_path_factory.getbasetemp() / "exported" / "model")


@pytest.fixture(scope="module")
def opened(folder):
    """Predictors by engine and threads, each opened once."""
    return {(engine, number): load(folder, engine=engine, threads=number)
            for engine in ("onnx", "onnx-int8") for number in (1, 2)}  # fmt: skip


def test_it_gives_what_torch_gives(folder, opened):
    """Logits and what goes into the head agree with torch's within 1e-5, foreignness within 1e-3."""
    torch_gives = load(folder, engine="torch")
    encoded = torch_gives.encode(TEXTS)
    wanted, found = torch_gives.engine.logits_and_inputs(encoded), opened["onnx", 2].engine.logits_and_inputs(encoded)
    assert np.abs(found.logits - wanted.logits).max() < 1e-5
    assert np.abs(found.inputs - wanted.inputs).max() < 1e-5
    rows = torch_gives.rows(TEXTS)
    np.testing.assert_allclose(opened["onnx", 2].ask(rows).foreignness, torch_gives.ask(rows).foreignness, atol=1e-3)


@settings(deadline=None, max_examples=10)
@given(texts, st.randoms(use_true_random=False), st.sampled_from([1, 64, 100_000]))
def test_an_answer_is_the_same_to_the_last_bit_in_any_company(opened, asked, order, budget):
    """Whatever the batch, its padding and its order: logits, inputs of the head and foreignness do not change a bit."""
    places = list(range(len(asked)))
    order.shuffle(places)
    for predictor in opened.values():
        together = predictor.engine.logits_and_inputs(predictor.encode(asked), budget=budget)
        shuffled = predictor.ask(predictor.rows([asked[place] for place in places]))
        alone = [predictor.ask(predictor.rows([text])) for text in asked]
        logits = np.concatenate([each.logits for each in alone])
        assert np.array_equal(together.logits, logits)
        assert np.array_equal(shuffled.logits, logits[places])
        foreign = np.concatenate([each.foreignness for each in alone])
        assert np.array_equal(shuffled.foreignness, foreign[places])
        assert np.array_equal(predictor.scope.scores(together), foreign)
        assert np.array_equal(shuffled.probabilities, np.concatenate([each.probabilities for each in alone])[places])


def test_no_rows_no_logits(opened):
    """Of nothing comes an array of no rows, as wide as ever."""
    predictor = opened["onnx", 1]
    assert predictor.logits([]).shape == (0, 3)
    assert predictor.predict([]) == []


def test_eight_threads_at_once_answer_as_one(opened):
    """One predictor asked from eight threads gives every one of them what it gives by itself."""
    predictor = opened["onnx-int8", 2]
    parts = [TEXTS[place::8] for place in range(8)] * 4
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(predictor.logits, parts))
    assert all(np.array_equal(one, predictor.logits(part)) for one, part in zip(found, parts, strict=True))


def test_it_can_be_sent_to_another_process(opened):
    """Pickled, and in a process that was spawned, it answers the same."""
    predictor = opened["onnx", 1]
    wanted = predictor.logits(TEXTS)
    again = pickle.loads(pickle.dumps(predictor))
    assert np.array_equal(again.logits(TEXTS), wanted)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(predictor.logits, TEXTS).result(timeout=120), wanted)


FORKS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from bertsmith import threads
from bertsmith.inference.loading import load
if sys.argv[2] == "limited":
    threads.limit_libraries(2)
predictor = load(Path(sys.argv[1]), engine="onnx", threads=2)
texts = ["good film", "bad food"] * 40
wanted = predictor.logits(texts)
for leave in (os._exit, sys.exit):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        leave(0 if np.array_equal(predictor.logits(texts), wanted) else 3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
print(np.array_equal(predictor.logits(texts), wanted), os.environ.get("TOKENIZERS_PARALLELISM"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(("how", "said"), [("limited", "true"), ("as it is", "None")])
def test_a_forked_process_answers_and_ends(folder, how, said):
    """It makes a session of its own, tokenizes without the pool that it lost, says nothing, and ends either way."""
    env = {
        name: value for name, value in os.environ.items() if name not in {"TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS"}
    }
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(folder), how],
        capture_output=True,
        text=True,
        timeout=200,
        env=env,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"0\n0\nTrue {said}\n", "")


def test_it_takes_as_many_threads_as_it_may(folder, monkeypatch):
    """Without a number, those of this process; each batch of several has one, and ONNX Runtime none of its own."""
    monkeypatch.setattr(threads, "allowed", lambda: 3)
    engine = OnnxEngine(folder / "onnx" / "fp32" / "model.onnx")
    assert engine.threads == 3
    assert open_session(folder / "onnx" / "fp32" / "model.onnx", 3).get_session_options().intra_op_num_threads == 3


def test_batches_run_side_by_side(folder, opened, monkeypatch):
    """Many rows are shared out, one batch a thread; long texts that come one by one get a session with all threads."""
    sessions: list[int] = []
    monkeypatch.setattr(onnx_engine, "open_session", lambda *each: sessions.append(each[1]) or open_session(*each))
    engine = OnnxEngine(folder / "onnx" / "fp32" / "model.onnx", threads=2)
    encoded = opened["onnx", 2].encode(TEXTS)
    many = encoded.take(np.arange(len(encoded)).repeat(200))
    together = engine.logits(many)
    assert sessions == [1]
    one = encoded.take([0])
    alone = [engine.logits(one) for _ in range(22)]
    assert sessions == [1]
    monkeypatch.setattr(onnx_engine, "_LONG", 1)
    alone.append(engine.logits(one))
    assert sessions == [1, 2]
    assert all(np.array_equal(each[0], together[0]) for each in alone)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux lists the threads of a process")
def test_onnx_runtime_reports_to_nobody():
    """The thread that would send what is loaded to the runtime's maker is never there."""
    script = (
        "import os; from bertsmith.quiet import onnx_runtime; onnx_runtime(); "
        "print(len(os.listdir('/proc/self/task')), os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    env = {name: value for name, value in os.environ.items() if name not in {"ORT_DISABLE_TELEMETRY", "CI"}}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**env, "OPENBLAS_NUM_THREADS": "1"},
        check=True,
    )
    assert done.stdout == "1 1\n"


@pytest.fixture
def copy(folder, tmp_path):
    """The fp32 export in a folder that may be spoilt."""
    shutil.copytree(folder / "onnx" / "fp32", tmp_path / "fp32")
    return Export(tmp_path / "fp32", "fp32", json.loads((tmp_path / "fp32" / "export.json").read_text()))


@pytest.mark.parametrize(("off", "said"), [(2 * TOLERANCE, "0.002"), (float("nan"), "nan")])
def test_an_export_that_answers_differently_here_is_refused(copy, off, said):
    """One logit of one probe beyond the tolerance, or none at all, and it is not used."""
    probes = Probes.load(copy.folder / "probes.safetensors")
    last = probes.logits[-1] + np.array([0, 0, off], np.float32)
    replace(probes, logits=(*probes.logits[:-1], last)).save(copy.folder / "probes.safetensors")
    with pytest.raises(BundleError) as caught:
        open_export(copy, threads=1)
    assert str(caught.value) == (
        f"{copy.folder}: answers differently on this CPU: a logit of its probes is off by {said}, and 0.001 is the most "
        "it may be. It was accepted on: a CPU of ours.\n  Export again on this machine, or use --engine torch."
    )


def test_an_export_that_is_usually_off_is_refused(copy):
    """Every probe off by less than the farthest may be, and all by more than is usual: the integers saturate."""
    figures = copy.figures | {"probes": {"number": 8, "tolerance": 1.0, "usual": 0.01}}
    probes = Probes.load(copy.folder / "probes.safetensors")
    replace(probes, logits=tuple(each + np.float32(0.5) for each in probes.logits)).save(
        copy.folder / "probes.safetensors"
    )
    with pytest.raises(BundleError) as caught:
        open_export(replace(copy, figures=figures), threads=1)
    assert str(caught.value) == (
        f"{copy.folder}: answers differently on this CPU: the farthest logits of its probes are on average off by 0.5, "
        "and 0.01 is the most it may be. It was accepted on: a CPU of ours.\n"
        "  Export again on this machine, or use --engine torch."
    )


def test_within_the_tolerance_it_is_used(copy):
    """Half the tolerance is no reason to refuse."""
    probes = Probes.load(copy.folder / "probes.safetensors")
    replace(probes, logits=tuple(each + np.float32(TOLERANCE / 2) for each in probes.logits)).save(
        copy.folder / "probes.safetensors"
    )
    assert open_export(copy, threads=1).name == "onnx"


def test_a_graph_that_cannot_be_run_is_said(tmp_path):
    """What is no ONNX file names itself and the runtime."""
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError) as caught:
        OnnxEngine(tmp_path / "model.onnx")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'model.onnx'}: ONNX Runtime ")
    assert message.endswith("\n  Export again.")


MEMORY = """
import random, sys
from pathlib import Path
from bertsmith.inference.loading import load
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
generator = random.Random(0)
letters = "abcdefghijklmnopqrstuvwxyz"
def text():
    return " ".join("".join(generator.choices(letters, k=generator.randint(1, 4))) for _ in range(generator.randint(0, 40)))
predictor = load(Path(sys.argv[1]), engine=sys.argv[2], threads=2)
for part in range(50):
    predictor.predict([text() for _ in range(2000)])
    if part == 4:
        warm = resident()
print(resident() / warm)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="only Linux says what a process holds")
@pytest.mark.parametrize("engine", ["onnx", "onnx-int8"])
def test_memory_stays_flat_over_100_000_texts(folder, engine):
    """After the first tenth, ever new texts of every length add at most a twentieth to what the process holds."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder), engine], capture_output=True, text=True, timeout=500, check=True
    )
    assert float(done.stdout) <= 1.05
