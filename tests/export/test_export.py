"""export, from a run to a model that answers with it: accepted, repaired, refused; rows that are gone; killed half-way."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer

from bertsmith import bundle
from bertsmith.data.encode import TokenEncoder
from bertsmith.deciding import redecide
from bertsmith.errors import DataError, ExportError, RecipeError, UsageError
from bertsmith.export import write
from bertsmith.export.export import Exported, export
from bertsmith.export.probes import make, tolerances
from bertsmith.export.rows import judging_rows
from bertsmith.export.write import staging
from bertsmith.inference.exported import FOLDER, Probes, find
from bertsmith.inference.loading import load
from bertsmith.listener import Silent
from bertsmith.recipe import Recipe
from bertsmith.run_folder import RunFolder
from tests.cli.finished import finished_run
from tests.export.made import as_made_before, copied_run, noisy


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.warned: list[str] = []

    def tell(self, stage: str, text: str, *, aside: str = "") -> None:
        """Remember a line."""
        self.told.append((stage, text))

    def warn(self, text: str) -> None:
        """Remember a warning."""
        self.warned.append(text)

    def work(self, stage: str, total: int | None) -> Any:
        """Count nothing."""
        return Silent().work(stage, total)


@pytest.fixture
def run(tiny_encoder: Path, toy_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """A run of its own, whose graph was made before."""
    copy = copied_run(tiny_encoder, toy_csv, tmp_path)
    monkeypatch.setattr(
        "bertsmith.export.graph.build", as_made_before(finished_run(tiny_encoder, toy_csv).path / "model")
    )
    return copy


def exported(run: Path, **settings: Any) -> Exported:
    return export(run, threads_wanted=1, **settings)


def spoiling(monkeypatch: pytest.MonkeyPatch, **parts: float) -> None:
    """Let INT8 spoil these parts by so much, and no other."""
    named = {name.replace("_", " "): amount for name, amount in parts.items()}
    monkeypatch.setattr("bertsmith.export.int8.quantized", noisy(named))


def test_an_fp32_export_answers_as_torch_does_and_is_taken_from_then_on(run, toy_csv):
    """It is accepted with every figure; `auto` takes it, and its labels and scores are those of torch."""
    found = exported(run)
    assert found.accepted
    assert found.folder == run / "model" / "onnx" / "fp32"
    stored = json.loads((found.folder / "export.json").read_text(encoding="utf-8"))
    assert stored == found.figures
    assert list(stored) == [
        "format", "kind", "accepted", "reason", "created", "weights", "versions", "machine", "inputs", "outputs",
        "graph", "fp32_parts", "tried", "gate", "seconds", "decision", "decide", "scope", "probes",
    ]  # fmt: skip
    assert list(stored["gate"]) == [
        "rows", "agreement", "disagreeing", "units", "probability", "logit", "metric", "allow_drop", "allowed_drop",
        "least_agreement", "latency_ms", "throughput", "bytes",
    ]  # fmt: skip
    assert stored["gate"]["rows"] == {"validation": 40, "calibration": 40}
    assert (stored["gate"]["agreement"], stored["gate"]["metric"]["difference"]) == (1.0, 0.0)
    assert stored["probes"]["number"] == 64
    assert stored["graph"]["first_token"] is True
    assert sorted(file.name for file in found.folder.parent.iterdir()) == ["fp32"]
    bundle.verify(found.folder)
    texts = [text for text, _ in list(map(lambda line: line.rsplit(",", 1), toy_csv.read_text().splitlines()[1:60]))]
    ours, torch = load(run, threads=1), load(run, engine="torch", threads=1)
    assert (ours.engine.name, torch.engine.name) == ("onnx", "torch")
    answers = zip(ours.predict(texts), torch.predict(texts), strict=True)
    assert all(a.guess == b.guess and abs(a.score - b.score) < 1e-4 for a, b in answers)


def test_what_int8_spoils_is_repaired_by_leaving_it_in_fp32(run, monkeypatch):
    """Where one part is too sensitive, that part stays fp32, and the figures of both attempts are kept."""
    spoiling(monkeypatch, layer_0=0.0, layer_1=3.0, head=0.001)
    monkeypatch.setattr("bertsmith.export.candidates.fp32_share", lambda *_: 0.3)
    heard = Heard()
    found = exported(run, int8=True, listener=heard)
    assert found.accepted
    assert found.figures["fp32_parts"] == ["layer 1"]
    assert [each["fp32_parts"] for each in found.figures["tried"]] == [[], ["layer 1"]]
    assert [each["accepted"] for each in found.figures["tried"]] == [False, True]
    assert find(run / "model", "int8") is not None
    gates = [text for stage, text in heard.told if stage == "gate"]
    assert [text.partition("; in fp32 are ")[2] for text in gates] == ["", "layer 1 (30% of the weights)"]


def test_what_cannot_be_repaired_is_refused_and_leaves_its_figures(run, monkeypatch):
    """No graph is left, export.json has the reason, the error says it, and the model goes on with torch."""
    spoiling(monkeypatch, embeddings=9.0, layer_0=9.0, layer_1=9.0, head=9.0)
    found = exported(run, int8=True)
    assert not found.accepted
    assert found.folder is not None
    assert sorted(file.name for file in found.folder.iterdir()) == ["export.json", "manifest.json"]
    assert json.loads((found.folder / "export.json").read_text(encoding="utf-8"))["reason"] == found.figures["reason"]
    with pytest.raises(ExportError) as caught:
        found.require_accepted(Path("RUN"))
    assert str(caught.value) == (
        f"RUN: the int8 export is refused: {found.figures['reason']}.\n"
        "  bertsmith export RUN makes one in fp32, which answers the same; --allow-drop lets the metric drop by more."
    )
    assert load(run, threads=1).engine.name == "torch"


def test_a_refused_export_leaves_the_accepted_one_alone(run, monkeypatch):
    """The file of the accepted export is the same afterwards, and it is said that it stays."""
    spoiling(monkeypatch)
    first = exported(run, int8=True)
    before = {file.name: file.read_bytes() for file in first.folder.iterdir()} if first.folder else {}
    spoiling(monkeypatch, embeddings=9.0, layer_0=9.0, layer_1=9.0, head=9.0)
    second = exported(run, int8=True)
    assert (first.accepted, second.accepted, second.folder) == (True, False, None)
    place = run / "model" / "onnx" / "int8"
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    with pytest.raises(ExportError) as caught:
        second.require_accepted(Path("RUN"))
    assert caught.value.message.endswith(". The accepted int8 export that is there stays.")


@pytest.mark.parametrize("drop", [-0.1, 1.5, float("nan")])
def test_a_drop_is_a_share(run, drop):
    """What is no number from 0 to 1 is refused before anything is loaded."""
    with pytest.raises(RecipeError) as caught:
        exported(run, allow_drop=drop)
    assert str(caught.value) == f"'--allow-drop' must be a number from 0 to 1. Got {drop:g} instead."


# --- the rows ------------------------------------------------------------------------------------------------------


def test_rows_have_the_sides_that_they_had_in_training(run):
    """The rows of each side are those of split.parquet, with the targets that the model knows."""
    judging = judged(run)
    stored = pq.read_table(run / "predictions.parquet").to_pylist()
    for side in ("validation", "calibration", "test"):
        wanted = [(row["row"], row["gold"], row["text"]) for row in stored if row["side"] == side]
        examples = judging.sides[side].examples
        columns = (examples.column(name).to_pylist() for name in ("row", "label", "text"))
        assert list(zip(*columns, strict=True)) == wanted


def judged(run: Path, *, data: Path | None = None, heard: Heard | None = None) -> Any:
    opened = RunFolder(run)
    predictor, recipe = load(run, engine="torch", threads=1), Recipe.load(opened.recipe)
    return judging_rows(opened, predictor, recipe=recipe, data=data, listener=heard or Heard())


def elsewhere(run: Path, data: Path) -> None:
    """Let a run have learned from a file of this name."""
    recipe = Recipe.load(run / "recipe.toml").changed({"data": str(data)})
    (run / "recipe.toml").write_text(recipe.dumps(), encoding="utf-8")


def test_data_that_are_gone_are_replaced_by_the_texts_of_the_run(run, tmp_path):
    """The texts that the run keeps give the same token ids and targets, and a warning says so."""
    wanted = judged(run)
    gone = tmp_path / "gone.csv"
    elsewhere(run, gone)
    heard = Heard()
    found = judged(run, heard=heard)
    assert heard.warned == [f"{gone}: does not exist. The texts that the run keeps are used in their place."]
    for side, rows in wanted.sides.items():
        assert found.sides[side].encoded.table.equals(rows.encoded.table)
        assert found.sides[side].targets.tolist() == rows.targets.tolist()
    assert found.source == str(run / "predictions.parquet")


def test_data_that_lie_elsewhere_now_can_be_named(run, toy_csv, tmp_path):
    """DATA takes the place of a file that was moved; another file is refused."""
    elsewhere(run, tmp_path / "gone.csv")
    moved = shutil.copy(toy_csv, tmp_path / "moved.csv")
    heard = Heard()
    assert judged(run, data=moved, heard=heard).source == str(moved)
    assert heard.warned == []
    moved.write_text(moved.read_text(encoding="utf-8").replace("lovely", "awful"), encoding="utf-8")
    with pytest.raises(DataError, match=f"^{moved}: changed since {run} began: its fingerprint is "):
        judged(run, data=moved)


def test_without_data_and_texts_it_says_what_to_name(run, tmp_path):
    """A run with --no-texts whose data are gone cannot be judged; the error names the argument."""
    gone = tmp_path / "gone.csv"
    elsewhere(run, gone)
    table = pq.read_table(run / "predictions.parquet").drop_columns(["text"])
    pq.write_table(table, run / "predictions.parquet")
    with pytest.raises(DataError) as caught:
        judged(run)
    assert str(caught.value) == (
        f"{gone}: does not exist. The run keeps no texts (--no-texts) that could take their place.\n"
        f"  Say where the data lie now: bertsmith export {run} DATA"
    )


def test_without_rows_to_judge_by_there_is_no_export(run, monkeypatch):
    """A run without validation and calibration rows is told how to get some."""
    table = pq.read_table(run / "split.parquet")
    train = table.set_column(table.column_names.index("side"), "side", [["train"] * len(table)])
    pq.write_table(train, run / "split.parquet")
    with pytest.raises(DataError) as caught:
        exported(run)
    assert str(caught.value) == (
        f"{run}: there are no validation and no calibration rows that an export could be judged by.\n"
        "  Train again with such rows: --shares leaves some."
    )


# --- thresholds ----------------------------------------------------------------------------------------------------


def test_thresholds_chosen_again_on_the_same_logits_are_the_same(run):
    """Torch's own thresholds come out again when torch is taken for the export: scope, acceptance and what it measures."""
    judging, recipe = judged(run), Recipe.load(run / "recipe.toml")
    predictor = load(run, engine="torch", threads=1)
    again = redecide(
        predictor, judging.sides, judging.foreign, together=judging.together, settings=recipe.decide,
        seed=recipe.run.seed,
    )  # fmt: skip
    stored = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    assert again.predictor.info.decision == predictor.info.decision
    assert again.acceptance(judging.sides["test"])["threshold"] == stored["decide"]["threshold"]
    assert again.acceptance(judging.sides["test"])["test"] == stored["decide"]["test"]
    assert again.predictor.scope.threshold == predictor.scope.threshold


# --- probes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [True, False])
def test_probes_are_ordinary_tokens_between_the_special_ones(tiny_encoder, segments):
    """They have lengths from one word to the longest, no special token inside, and pairs where there are segments."""
    tokens = TokenEncoder(Tokenizer.from_file(str(tiny_encoder / "tokenizer.json")), max_length=40, pad_id=0)
    probes = make(tokens, segments=segments)
    lengths = [len(ids) for ids in probes.ids]
    assert (len(probes), min(lengths), max(lengths)) == (64, 3, 40)
    assert all(ids.shape == types.shape for ids, types in zip(probes.ids, probes.types, strict=True))
    name = tokens.tokenizer.id_to_token
    for place, (ids, types) in enumerate(zip(probes.ids, probes.types, strict=True)):
        pair = segments and place % 2 == 1
        special = [name(number) for number in ids.tolist() if name(number).startswith("[")]
        assert special == ["[CLS]", *["[SEP]"] * (2 if pair else 1)]
        assert (name(int(ids[0])), name(int(ids[-1]))) == ("[CLS]", "[SEP]")
        assert types.max() == int(pair)
    again = make(tokens, segments=segments)
    assert all(np.array_equal(a, b) for a, b in zip(probes.ids, again.ids, strict=True))


def test_the_tolerance_is_the_distance_to_torch_and_never_nothing():
    """The farthest logit of all, and of each on average; at least a thousandth, or as much of large logits."""
    ids = (np.array([1]), np.array([2]))

    def of(first: list[float], second: list[float]) -> Probes:
        return Probes(ids, ids, (np.array(first, np.float32), np.array(second, np.float32)))

    found = tolerances(of([1.5, 2.0], [3.0, 1.0]), of([1.0, 2.25], [3.0, 1.25]))
    assert found == {"tolerance": 0.5, "usual": 0.375}
    same = of([1.0, 2.0], [3.0, 1.0])
    assert tolerances(same, same) == {"tolerance": 1e-3, "usual": 1e-3}
    large = of([100.0, 2.0], [3.0, 1.0])
    assert tolerances(large, large) == {"tolerance": pytest.approx(1e-2), "usual": pytest.approx(1e-2)}


# --- on disk -------------------------------------------------------------------------------------------------------


def test_two_exports_of_a_model_at_once_are_refused(tmp_path):
    """The second one is told that the first is under way; when that ends, the place is free and nothing is left."""
    with staging(tmp_path, "int8"), pytest.raises(UsageError) as caught, staging(tmp_path, "fp32"):
        raise AssertionError("not reached")
    assert str(caught.value) == (
        f"{tmp_path / FOLDER}: another export of this model is under way.\n  Wait for its end."
    )
    with staging(tmp_path, "fp32"):
        pass
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from bertsmith.export import write
from bertsmith.inference.exported import Probes
if {fallback}:
    write._exchange = lambda *_: False
one = np.array([1])
for number in range(10_000):
    with write.staging(Path({model!r}), "int8") as made:
        (made / "model.onnx").write_text(str(number) * 200_000)
        write.commit(made, Path({model!r}), "int8", figures={{"number": number}}, probes=Probes((one,), (one,), (one,)))
    print(number, flush=True)
"""


@pytest.mark.parametrize("fallback", [False, True])
def test_killed_at_any_moment_the_old_export_or_the_new_one_is_there(tmp_path, fallback):
    """After SIGKILL the export is whole and of one piece; what was left behind goes with the next."""
    place = tmp_path / FOLDER / "int8"
    generator = np.random.default_rng(fallback)
    for _ in range(3):
        script = WRITER.format(model=str(tmp_path), fallback=fallback)
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline()
            time.sleep(generator.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
        with staging(tmp_path, "int8"):
            bundle.verify(place)
            number = json.loads((place / "export.json").read_text(encoding="utf-8"))["number"]
            assert (place / "model.onnx").read_text(encoding="utf-8") == str(number) * 200_000
        assert [each.name for each in place.parent.iterdir()] == ["int8"]


def test_without_an_exchange_the_old_export_comes_back(tmp_path, monkeypatch):
    """Where folders cannot be exchanged and the process dies between two renames, the next export puts the old one back."""
    old = tmp_path / FOLDER / ".old.int8"
    old.mkdir(parents=True)
    (old / "manifest.json").write_text("{}", encoding="utf-8")
    with staging(tmp_path, "fp32"):
        assert (tmp_path / FOLDER / "int8" / "manifest.json").is_file()
    assert [each.name for each in (tmp_path / FOLDER).iterdir()] == ["int8"]


def test_large_weights_lie_in_a_file_of_their_own(tmp_path, monkeypatch):
    """Above what one protobuf holds, weights go beside the graph, and a second graph does not append to the first."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    monkeypatch.setattr(write, "_ONE_FILE", 1000)
    weights = numpy_helper.from_array(np.zeros((64, 64), np.float32), "w")
    graph = helper.make_graph([], "g", [], [], [weights])
    for _ in range(2):
        write.save_graph(helper.make_model(graph), tmp_path / "model.onnx")
        assert (tmp_path / "model.onnx.data").stat().st_size == 64 * 64 * 4
    assert numpy_helper.to_array(onnx.load(tmp_path / "model.onnx").graph.initializer[0]).shape == (64, 64)
