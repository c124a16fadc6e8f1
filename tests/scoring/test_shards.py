"""Jobs: shard in, shard out; killed at any moment, begun again, and the same bytes in the end."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertsmith.errors import DataError, UsageError
from bertsmith.listener import Silent
from bertsmith.recipe import Read
from bertsmith.scoring import places
from bertsmith.scoring.job import Job, Shard, answers_name, begin, missing, plan
from bertsmith.scoring.shards import Pace, run_job, score_shard
from tests.scoring.test_files import Stub

MODEL = {"engine": "onnx", "weights": "w"}


def job(source: object, out: object, **changed: object) -> Job:
    given = {"model": MODEL, "settings": Read(), **changed}
    return Job("run", str(out), plan(str(source), str(out)), **given)


def run(source: object, out: object, **changed: object) -> tuple[Job, object]:
    made = job(source, out, **changed)
    return made, run_job(Stub(), made, begin(made), listener=Silent())


def tree(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, hidden files and the record of the job left out."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(found.items()) if name not in {".lock", "job.json"}}


@pytest.fixture
def source(tmp_path):
    """Four shards of two formats, one in a folder below, one with bad rows; and what is no data."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for number in range(2):
        rows = [f"{number}{place},{'x' * (place % 7)}{number}" for place in range(30)]
        (folder / f"part-{number}.csv").write_text("\n".join(["id,text", *rows, ""]))
    (folder / "bad.csv").write_text("id,text\n1,ab\n2,a,b\n3,abc\n")
    (folder / "sub" / "c.jsonl").write_text('{"text": "ab"}\n{"text": "abc"}\n')
    (folder / "_SUCCESS").write_text("")
    (folder / "notes.md").write_text("no data")
    return folder


def test_shard_in_shard_out(source, tmp_path):
    """Each file has its answers under its own name; hidden files and other endings are none."""
    _, done = run(source, tmp_path / "out")
    assert list(tree(tmp_path / "out")) == [
        "bad.csv", "part-0.csv", "part-1.csv", "quarantine/bad.csv.jsonl", "sub/c.jsonl",
    ]  # fmt: skip
    assert (tmp_path / "out" / "sub" / "c.jsonl").read_text().splitlines()[1] == (
        '{"text": "abc", "label": "odd", "guess": "odd", "score": 0.9933071490757153, "unknown": false}'
    )
    assert {each.name: (each.rows, each.bad) for each in done.done} == {
        "bad.csv": (2, 1), "part-0.csv": (30, 0), "part-1.csv": (30, 0), "sub/c.jsonl": (2, 0),
    }  # fmt: skip
    assert [json.loads(line) for line in (tmp_path / "out/quarantine/bad.csv.jsonl").read_text().splitlines()] == [
        {"row": 2, "line": 3, "reason": "3 cells found, 2 expected (id, text).", "raw": "2,a,b"}
    ]


def test_only_what_is_missing_is_done(source, tmp_path):
    """Done shards stay untouched, a removed one comes back with the same bytes, a new input is added."""
    run(source, tmp_path / "out")
    before = tree(tmp_path / "out")
    (tmp_path / "out" / "part-1.csv").unlink()
    (source / "new.csv").write_text("text\nab\n")
    kept = (tmp_path / "out" / "part-0.csv").stat().st_mtime_ns
    _, done = run(source, tmp_path / "out")
    assert [each.name for each in done.done] == ["new.csv", "part-1.csv"]
    assert {name: data for name, data in tree(tmp_path / "out").items() if name != "new.csv"} == before
    assert (tmp_path / "out" / "part-0.csv").stat().st_mtime_ns == kept


def test_an_input_that_changed_is_answered_again(source, tmp_path):
    """The answers to what is no more there go, with their quarantine."""
    run(source, tmp_path / "out")
    (source / "bad.csv").write_text("id,text\n1,ab\n")
    _, done = run(source, tmp_path / "out")
    assert [each.name for each in done.done] == ["bad.csv"]
    assert "quarantine/bad.csv.jsonl" not in tree(tmp_path / "out")


def test_another_job_is_refused_unless_forced(source, tmp_path):
    """Answers of two models never lie side by side; --force replaces all of the older ones."""
    out = tmp_path / "out"
    run(source, out)
    other = {"model": MODEL | {"weights": "v"}, "scores": True}
    with pytest.raises(UsageError) as caught:
        begin(job(source, out, **other))
    assert str(caught.value) == (
        f"{out}: the answers of another job are there (another model, engine or threshold, another --scores).\n"
        "  Choose another --out, or replace them all with --force."
    )
    (source / "part-1.csv").unlink()
    forced = job(source, out, **other)
    assert begin(forced, force=True) == forced.shards
    assert tree(out) == {}


def test_files_that_no_job_wrote_are_not_taken_for_answers(source, tmp_path):
    """A folder with a file of a shard's name but no record of a job is refused; --force replaces that file."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-0.csv").write_text("mine")
    with pytest.raises(UsageError) as caught:
        begin(job(source, out))
    assert str(caught.value) == (
        f"{out}: part-0.csv is there, and no job wrote it.\n  Choose another --out, or replace it with --force."
    )
    begin(job(source, out), force=True)
    assert tree(out) == {}


def test_a_broken_file_stops_no_other(source, tmp_path):
    """A file that is broken as a whole is named in the end, all others are answered, and it is tried again."""
    (source / "a.csv.gz").write_bytes(gzip.compress(b"text\nab\n")[:-9])
    (source / "p.parquet").write_bytes(b"PAR1 no")
    _, done = run(source, tmp_path / "out")
    assert [each.name for each in done.failed] == ["a.csv.gz", "p.parquet"]
    assert done.failed[0].reason == (
        f"{source / 'a.csv.gz'}: the gzip file is cut off or damaged.\n  Copy or download it again."
    )
    assert len(done.done) == 4
    (source / "a.csv.gz").write_bytes(gzip.compress(b"text\nab\n"))
    _, done = run(source, tmp_path / "out")
    assert [each.name for each in done.done] == ["a.csv.gz"]
    assert gzip.decompress((tmp_path / "out/a.csv.gz").read_bytes()).decode().splitlines()[1].startswith('"ab","even"')


def test_empty_parts_have_empty_answers(tmp_path):
    """Files without rows, as other programs write them, are done and not errors."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, text in {"a.csv": "", "b.csv": "text\n", "c.jsonl": "", "e.csv": "text\n\0\n"}.items():
        (folder / name).write_text(text)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), folder / "d.parquet")
    _, done = run(folder, tmp_path / "out")
    assert [(each.name, each.rows, each.bad) for each in done.done] == [
        ("a.csv", 0, 0), ("b.csv", 0, 0), ("c.jsonl", 0, 0), ("d.parquet", 0, 0), ("e.csv", 0, 1),
    ]  # fmt: skip
    assert (tmp_path / "out" / "b.csv").read_text() == '"text","label","guess","score","unknown"\n'
    assert pq.read_table(tmp_path / "out" / "d.parquet").column_names == ["text", "label", "guess", "score", "unknown"]


def test_killed_at_any_moment_nothing_is_lost_or_doubled(tmp_path):
    """Twelve SIGKILLs at random moments: the answers are those of a run that nobody disturbed, byte for byte."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(8):
        rows = [f"{place},{'x' * (place % 11)}{number}{place}" for place in range(40)]
        rows[number] = "broken,row,here"
        (folder / f"part-{number}.csv").write_text("\n".join(["id,text", *rows, ""]))
    run(folder, tmp_path / "calm")
    done = subprocess.run(
        [sys.executable, "-m", "tests.scoring.killing", str(folder), str(tmp_path / "out"), "12", "1"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert int(done.stdout) >= 10
    found = tree(tmp_path / "out")
    assert len(found) == 16
    assert found == tree(tmp_path / "calm")


def test_leftovers_of_a_killed_process_go(source, tmp_path):
    """Temporary files and folders beside the answers are removed when the job is begun again, and no others."""
    out = tmp_path / "out"
    out.mkdir()
    (out / ".part-0.csv.ab12_x9z.csv").write_text("half")
    (out / ".part-1.csv.ab12_x9z.rows").mkdir()
    (out / ".job.json.ab12_x9z.json").write_text("half")
    (out / ".mine").write_text("kept")
    begin(job(source, out))
    assert sorted(each.name for each in out.iterdir()) == [".mine", "job.json"]


def test_the_quarantine_is_there_before_the_answers(source, tmp_path, monkeypatch):
    """Should the process die between the two, the shard counts as not done."""
    seen = []
    replace = Path.replace

    def replaced(self, target):
        seen.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replaced)
    made = job(source, tmp_path / "out")
    score_shard(Stub(), made, next(each for each in made.shards if each.name == "bad.csv"))
    assert seen == ["bad.csv.jsonl", "bad.csv"]


def test_urls_go_in_and_out(source, tmp_path):
    """A store behind a URL gives the same answers as the files of this machine, resumes, and keeps no leftovers."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(source), "/jobs/in", recursive=True)
    made, _ = run("memory://jobs/in", "memory://jobs/out")
    run(source, tmp_path / "calm")
    found = {name.removeprefix("/jobs/out/"): memory.cat(name) for name in memory.find("/jobs/out")}
    assert {name: data for name, data in found.items() if name != "job.json"} == tree(tmp_path / "calm")
    assert missing(made) == ()
    memory.rm("/jobs/out/part-0.csv")
    again = job("memory://jobs/in/*.csv", "memory://jobs/out")
    assert [each.name for each in begin(again)] == ["part-0.csv"]
    local = job(f"file://{source}", f"file://{tmp_path}/there")
    assert run_job(Stub(), local, begin(local), listener=Silent()).total("rows") == 64
    assert tree(tmp_path / "there") == tree(tmp_path / "calm")
    with pytest.raises(DataError) as caught:
        places.remove("memory://jobs/none") or score_shard(
            Stub(), made, Shard("n.csv", "memory://jobs/n.csv", "memory://jobs/out/n.csv", "memory://q", 0, "")
        )
    assert str(caught.value) == "memory://jobs/n.csv: does not exist."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none-*.csv", "{in}/none-*.csv: no file has such a name.\n  Put the pattern in quotes: --in 'part-*.csv'."),
        ("none.csv", "{in}/none.csv: does not exist.\n  Is it in another folder?"),
        ("*", "{in}/_SUCCESS: the ending is not known.\n  What can be read: {formats}."),
    ],
)
def test_what_cannot_be_a_job_is_said(source, tmp_path, given, message):
    """No such files, or files that cannot be read, are said before anything is written."""
    from bertsmith.data.files import FORMATS

    with pytest.raises(UsageError) as caught:
        plan(f"{source}/{given}", str(tmp_path / "out"))
    assert str(caught.value) == message.replace("{in}", str(source)).replace("{formats}", FORMATS)


def test_answers_never_take_the_place_of_what_was_read(source, tmp_path):
    """The input folder as output is refused, two files of one answer too, and answers below the input are no input."""
    with pytest.raises(UsageError) as caught:
        plan(str(source), str(source))
    assert str(caught.value) == (
        f"{source / 'bad.csv'}: its answers would take its place.\n  Choose another folder for --out."
    )
    (source / "a.json").write_text('[{"text": "a"}]')
    (source / "a.jsonl").write_text('{"text": "a"}')
    with pytest.raises(UsageError) as caught:
        plan(str(source), str(tmp_path / "out"))
    assert str(caught.value) == (
        f"{source / 'a.jsonl'}: its answers would go to a.jsonl, as those of {source / 'a.json'}.\n"
        "  Rename one of the files, or give them one at a time."
    )
    (source / "a.json").unlink()
    names = [each.name for each in plan(str(source), str(source / "answers"))]
    run(source, source / "answers")
    assert [each.name for each in plan(str(source), str(source / "answers"))] == names


def test_names_keep_what_can_be_written():
    """Formats that are read but not written become JSON lines; what is packed stays packed."""
    names = ["a.csv", "b.tsv.gz", "c.parquet", "d.ndjson", "e.json.gz", "f.conllu"]
    assert [answers_name(name) for name in names] == [
        "a.csv", "b.tsv.gz", "c.parquet", "d.ndjson", "e.jsonl.gz", "f.jsonl",
    ]  # fmt: skip


def test_a_job_has_one_process(tmp_path):
    """A second process that is started by mistake is refused while the first one works."""
    with places.alone(str(tmp_path)), pytest.raises(UsageError) as caught, places.alone(str(tmp_path)):
        pass
    assert str(caught.value) == f"{tmp_path}: another process works at this job.\n  Wait until it has ended."


def test_progress_says_rows_a_second_and_the_time_left(monkeypatch):
    """By the bytes that are done: a quarter of them in ten seconds leaves thirty."""
    now = iter([0.0, 10.0, 10.0, 20.0])
    monkeypatch.setattr("bertsmith.scoring.shards.time", type("T", (), {"monotonic": staticmethod(lambda: next(now))}))
    told = []
    progress = type("P", (), {"advance": lambda self, amount, note="": told.append((amount, note))})()
    shards = [Shard(name, name, name, name, 100, "") for name in "ab"]
    pace = Pace(shards, progress)
    pace.begin(shards[0])
    pace.told(500, 50)
    pace.end()
    pace.finished(shards[1], 300)
    assert told == [
        (500, "0 of 2 files · 50 rows/s · about 30 s left"),
        (0, "1 of 2 files · 50 rows/s · about 10 s left"),
        (300, "2 of 2 files · 40 rows/s · about 0.0 s left"),
    ]


MEASURE = """
import resource, sys
from pathlib import Path
from bertsmith.listener import Silent
from tests.scoring.test_shards import Stub, begin, job
from bertsmith.scoring.shards import run_job
def peak(source):
    made = job(source, sys.argv[1] + "/out-" + Path(source).name)
    run_job(Stub(), made, begin(made), listener=Silent())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
small = peak(sys.argv[1] + "/small")
print(peak(sys.argv[1] + "/large") - small)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, ending):
    """A file of 380 MB needs at most 100 MB more than one of 95 MB: memory is bounded by bytes, not by rows."""
    for name, rows in (("small", 48_000), ("large", 192_000)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / f"a.{ending}"
        texts = (f"{place} " + "lorem ipsum " * 166 for place in range(rows))
        if ending == "parquet":
            pq.write_table(pa.table({"text": list(texts)}), path, use_dictionary=False, compression="none")
        else:
            with path.open("w") as file:
                file.write("text\n" if ending == "csv" else "")
                file.writelines(f"{text}\n" if ending == "csv" else json.dumps({"text": text}) + "\n" for text in texts)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert float(done.stdout) < 100, done.stdout
