"""A job on Ray: whoever dies, every shard is answered once."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from bertsmith.errors import BertsmithError, DataError, MissingExtraError, UsageError
from bertsmith.inference.loading import load
from bertsmith.listener import Progress, Silent
from bertsmith.recipe import Read
from bertsmith.scoring import ray_engine
from bertsmith.scoring.job import Failed, Job, Shard, ShardDone, begin, model_of, plan
from bertsmith.scoring.ray_crew import Crew, Refused
from bertsmith.scoring.ray_engine import Size, size_for
from bertsmith.scoring.shards import score_shard
from tests.cli.finished import finished_run
from tests.conftest import toy_rows

SHARDS = 8


class Hears(Silent):
    """Keeps what was warned of, and calls back at progress."""

    def __init__(self, at_progress: Callable[[], None] = lambda: None) -> None:
        self.warned: list[str] = []
        self._at_progress = at_progress

    def warn(self, text: str) -> None:  # noqa: D102
        self.warned.append(text)

    def work(self, stage: str, total: int | None) -> AbstractContextManager[Progress]:  # noqa: D102
        hears = self

        class Calls:
            def advance(self, amount: int, note: str = "") -> None:
                hears._at_progress()

        return contextlib.nullcontext(Calls())


def shard(name: str) -> Shard:
    return Shard(name, f"in/{name}", f"out/{name}", f"out/quarantine/{name}.jsonl", 10, "1")


@pytest.mark.parametrize(
    ("found", "asked", "expected"),
    [
        ([{"CPU": 2.0}], {}, Size(1, 2)),
        ([{"CPU": 2.0}], {"workers": 2}, Size(2, 1)),
        ([{"CPU": 16.0}, {"CPU": 8.0}], {}, Size(6, 4)),
        # A head that is given no work says so with no CPUs.
        ([{"memory": 1e9}, {"CPU": 3.0}, {"CPU": 8.0}], {}, Size(3, 3)),
        ([{"CPU": 16.0}], {"threads": 1}, Size(16, 1)),
        ([{"CPU": 4.0}], {"workers": 9, "threads": 2}, Size(9, 2)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0}], {"gpus": 1}, Size(2, 4, 1)),
        ([{"CPU": 2.0}], {"threads": 8}, Size(1, 8)),
    ],
)
def test_the_size_of_a_crew(found: list[dict[str, float]], asked: dict[str, int], expected: Size):
    """As many workers of up to four threads as the machines have room for, or what was asked for."""
    assert size_for(found, **{"workers": None, "threads": None, **asked}) == expected


@pytest.mark.parametrize(
    "error",
    [DataError("a.csv: no rows.", tip="Is it the right file?"), MissingExtraError("predicting", "train", "torch")],
)
def test_an_error_crosses_from_a_worker(error: BertsmithError):
    """An error that a worker hands over is raised again as it was: kind, words and exit code."""
    again = pickle.loads(pickle.dumps(Refused.of(error))).error()
    assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    """Where Ray is not installed, the error names the extra."""
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    job = Job(run="run", out="out", shards=(), model={}, settings=Read())
    with pytest.raises(MissingExtraError) as caught:
        ray_engine.run_job(job, [shard("a.csv")], listener=Silent())
    assert str(caught.value) == (
        "--cluster ray needs the package 'ray', which is not installed.\n"
        "  Install it with: pip install 'bertsmith[ray]'"
    )


def test_a_worker_that_does_not_see_the_folder_refuses(tmp_path: Path):
    """Where the folder of the answers is another one than the driver's, a worker says so before it loads the model."""
    job = Job(run="run", out=str(tmp_path), shards=(), model={"engine": "torch"}, settings=Read())
    refused = ray_engine.Worker(job, threads=1, device="cpu").load()
    assert refused == Refused(
        UsageError,
        f"{tmp_path}: the machine {platform.node()} has not the folder of the job.",
        "Every machine needs the same folder at this path; or give a URL.",
    )


@pytest.fixture(scope="module")
def on_ray() -> Iterator[None]:
    """A Ray of this machine's own, with room for two workers of one thread."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertsmith.threads.allowed", lambda: 2)
        with ray_engine.connected():
            yield


def crew_of(kind: type, names: list[str], *arguments: Any, hears: Hears | None = None) -> Crew:
    """Two workers of a kind, which is defined in a function so that Ray sends all of it."""
    import ray

    hire = ray.remote(kind).options(num_cpus=1)
    return Crew(
        [shard(name) for name in names], most=2, hire=lambda: hire.remote(*arguments), listener=hears or Hears()
    )


def done_of(crew: Crew) -> list[tuple[str, ShardDone | None]]:
    return sorted(((each.name, found) for each, found in crew.work()), key=lambda pair: pair[0])


@pytest.mark.slow
def test_a_shard_that_kills_its_workers_is_set_aside(on_ray: None):
    """A shard of which three workers died is named with the reason, and all others are answered once."""

    class Mortal:
        def load(self) -> None:
            return None

        def score(self, each: Shard) -> ShardDone:
            if each.name == "b":
                os.kill(os.getpid(), signal.SIGKILL)
            return ShardDone(each.name, 1, 0, 0, 0, 0.0)

    hears = Hears()
    crew = crew_of(Mortal, ["a", "b", "c", "d"], hears=hears)
    expected = [(name, None if name == "b" else ShardDone(name, 1, 0, 0, 0, 0.0)) for name in "abcd"]
    assert done_of(crew) == expected
    assert [each.name for each in crew.failed] == ["b"]
    # What Ray says of a death is its own.
    assert crew.failed[0].reason.startswith("in/b: 3 workers died of it. The last: The actor is dead because")
    assert len(hears.warned) == 2
    for said in hears.warned:
        assert said.startswith("in/b: its worker died; another takes it. The actor is dead because")


@pytest.mark.slow
def test_workers_without_room_are_not_waited_for(on_ray: None):
    """Workers that the cluster has no room for keep nobody: the others do all shards, and the job ends."""

    class Steady:
        def load(self) -> None:
            return None

        def score(self, each: Shard) -> ShardDone:
            return ShardDone(each.name, 1, 0, 0, 0, 0.0)

    import ray

    kind, names = ray.remote(Steady), ["a", "b", "c", "d", "e"]
    needs = iter([1, 10_000, 1, 10_000])
    crew = Crew(
        [shard(name) for name in names],
        most=4,
        hire=lambda: kind.options(num_cpus=next(needs)).remote(),
        listener=Hears(),
    )
    assert done_of(crew) == [(name, ShardDone(name, 1, 0, 0, 0, 0.0)) for name in names]


@pytest.mark.slow
def test_what_goes_wrong_once_is_tried_again(on_ray: None, tmp_path: Path):
    """A shard at which a worker failed once, for no fault of the user's, is answered by the second try."""

    class Clumsy:
        def __init__(self, seen: Path) -> None:
            self.seen = seen

        def load(self) -> None:
            return None

        def score(self, each: Shard) -> ShardDone:
            if each.name == "b" and not self.seen.exists():
                self.seen.touch()
                raise OSError("the share was away")
            return ShardDone(each.name, 1, 0, 0, 0, 0.0)

    hears = Hears()
    crew = crew_of(Clumsy, ["a", "b"], tmp_path / "seen", hears=hears)
    assert done_of(crew) == [(name, ShardDone(name, 1, 0, 0, 0, 0.0)) for name in "ab"]
    assert crew.failed == []
    assert hears.warned == ["in/b: its worker failed; it is tried again. OSError: the share was away"]


@pytest.mark.slow
def test_a_file_that_is_broken_is_not_tried_again(on_ray: None, tmp_path: Path):
    """What a worker refuses, it refuses once; the shard is named with the whole text, and the others are answered."""

    class Picky:
        def __init__(self, log: Path) -> None:
            self.log = log

        def load(self) -> None:
            return None

        def score(self, each: Shard) -> ShardDone | Refused:
            with self.log.open("a") as file:
                file.write(each.name)
            if each.name == "b":
                return Refused(DataError, "in/b: no rows, only column names.", "Is it the right file?")
            return ShardDone(each.name, 1, 0, 0, 0, 0.0)

    crew = crew_of(Picky, ["a", "b", "c"], tmp_path / "log")
    assert [name for name, found in done_of(crew) if found] == ["a", "c"]
    assert crew.failed == [Failed("b", "in/b: no rows, only column names.\n  Is it the right file?")]
    assert sorted((tmp_path / "log").read_text()) == ["a", "b", "c"]


@pytest.mark.slow
def test_a_worker_that_cannot_have_the_model_ends_the_job(on_ray: None):
    """What a worker says of the model is raised as it is, before any shard is handed out."""

    class Empty:
        def load(self) -> Refused:
            return Refused(DataError, "run: not here.", "Share it.")

        def score(self, each: Shard) -> ShardDone:
            raise AssertionError

    with pytest.raises(DataError) as caught:
        done_of(crew_of(Empty, ["a", "b"]))
    assert str(caught.value) == "run: not here.\n  Share it."


@pytest.mark.slow
def test_workers_that_never_start_end_the_job(on_ray: None):
    """Three workers in a row that die before they have the model are enough; the reason is told."""

    class Stillborn:
        def load(self) -> None:
            raise ImportError("No module named 'bertsmith'")

        def score(self, each: Shard) -> ShardDone:
            raise AssertionError

    hears = Hears()
    with pytest.raises(BertsmithError) as caught:
        done_of(crew_of(Stillborn, ["a", "b", "c", "d"], hears=hears))
    assert str(caught.value) == (
        "3 workers in a row ended before they had loaded the model. The last: ImportError: No module named 'bertsmith'\n"
        "  Is bertsmith installed on every machine, and enough memory free?"
    )
    assert (
        hears.warned
        == [
            "a worker ended before it had loaded the model; another is started. ImportError: No module named 'bertsmith'"
        ]
        * 2
    )


@pytest.fixture(scope="module")
def shards_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight files of toy texts, no two of the same length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("shards")
    for place in range(SHARDS):
        texts = [text for text, _ in toy_rows(100 + 10 * place, seed=place)]
        pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), folder / f"part-{place}.parquet")
    return folder


@pytest.fixture(scope="module")
def run(tiny_encoder: Path, toy_csv: Path) -> Path:
    return finished_run(tiny_encoder, toy_csv).path


def job_of(run: Path, source: Path, out: Path) -> Job:
    predictor = load(run, device="cpu", threads=1)
    shards = plan(f"{source}/part-*.parquet", str(out))
    return Job(str(run), str(out), shards, model_of(predictor, run), Read())


@pytest.fixture(scope="module")
def alone(run: Path, shards_in: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process answers."""
    out = tmp_path_factory.mktemp("alone") / "answers"
    job = job_of(run, shards_in, out)
    predictor = load(run, device="cpu", threads=1)
    for each in begin(job):
        score_shard(predictor, job, each)
    return files_of(out)


def files_of(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_killed_worker_loses_and_doubles_nothing(
    on_ray: None, run: Path, shards_in: Path, alone: dict[str, bytes], tmp_path: Path
):
    """A worker that is killed half-way is replaced, and the answers are those of one process, to the byte."""
    import ray

    out = tmp_path / "answers"
    job = job_of(run, shards_in, out)
    killed: list[int] = []

    def kill_one() -> None:
        if len(names_in(out)) >= SHARDS // 2 and not killed:
            killed.extend(workers_of(os.getpid())[:1])
            os.kill(killed[0], signal.SIGKILL)

    done = ray_engine.run_job(job, begin(job), workers=2, threads=1, device="cpu", listener=Hears(kill_one))
    assert killed
    assert ray.is_initialized()
    assert done.failed == ()
    assert {each.name: each.rows for each in done.done} == {
        f"part-{place}.parquet": 100 + 10 * place for place in range(SHARDS)
    }
    assert files_of(out) == alone


def workers_of(process: int) -> list[int]:
    """Processes of workers that descend from a process; Ray names them after their class."""
    parents, names = {}, {}
    for each in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            names[int(each.name)] = (each / "cmdline").read_bytes()
            parents[int(each.name)] = int((each / "stat").read_text().rpartition(")")[2].split()[1])

    def descends(child: int) -> bool:
        return child == process or (child in parents and descends(parents[child]))

    return [child for child, name in names.items() if name.startswith(b"ray::Worker") and descends(child)]


DRIVER = """
import pickle, sys
from pathlib import Path
from bertsmith.listener import Silent
from bertsmith.scoring.job import begin
from bertsmith.scoring.ray_engine import run_job
if __name__ == "__main__":
    job = pickle.loads(Path(sys.argv[1]).read_bytes())
    done = run_job(job, begin(job), workers=2, threads=1, device="cpu", listener=Silent())
    Path(sys.argv[2]).write_text(" ".join(each.name for each in done.done))
"""


@pytest.mark.slow
def test_a_killed_driver_is_gone_on_with(run: Path, shards_in: Path, alone: dict[str, bytes], tmp_path: Path):
    """A driver that is killed half-way leaves whole shards only, and the next does the rest."""
    pytest.importorskip("ray")
    out = tmp_path / "answers"
    job = job_of(run, shards_in, out)
    (tmp_path / "job").write_bytes(pickle.dumps(job))
    command = [sys.executable, "-c", DRIVER, str(tmp_path / "job"), str(tmp_path / "done")]
    with subprocess.Popen(command) as first:
        until(lambda: len(names_in(out)) >= SHARDS // 2, alive=first)
        first.kill()
    left = set(alone) - names_in(out)
    assert 0 < len(left) < SHARDS
    subprocess.run(command, check=True, timeout=280)
    assert set((tmp_path / "done").read_text().split()) <= left
    assert files_of(out) == alone


def names_in(out: Path) -> set[str]:
    return {path.name for path in out.glob("part-*")}


def until(met: Callable[[], bool], *, alive: subprocess.Popen[bytes], most: float = 280.0) -> None:
    end = time.monotonic() + most
    while not met():
        assert alive.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


def test_workers_are_told_of_places_that_mean_the_same_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A path is made whole before a worker sees it; a URL stays as it is."""
    monkeypatch.chdir(tmp_path)
    places = [Shard(**{**dataclasses.asdict(shard("a.csv")), "source": "s3://bucket/a.csv"}), shard("b.csv")]
    assert [each.source for each in map(ray_engine.absolute, places)] == ["s3://bucket/a.csv", f"{tmp_path}/in/b.csv"]
