"""predict --in FILES --out DIR: many files at once, from the command line."""

from __future__ import annotations

import json

import pytest

from tests.cli.finished import Said, finished_run, say
from tests.conftest import toy_rows

TEXTS = [text for text, _ in toy_rows(12, seed=5)]


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv)


@pytest.fixture
def folder(tmp_path):
    """Two files of six rows; a text of the first comes again in the second."""
    for number in range(2):
        rows = TEXTS[6 * number : 6 * number + 5] + TEXTS[:1]
        (tmp_path / f"part-{number}.csv").write_text("\n".join(["text", *rows, ""]))
    return tmp_path


def test_many_files_and_then_none(run, folder, capsys):
    """Every file has the answers that it has alone; a second call has nothing to do; --json counts."""
    out = folder / "out"
    pattern = f"{folder}/part-*.csv"
    said = say(capsys, "predict", run.path, "--in", pattern, "--out", out, "--engine", "torch")
    assert said.code == 0, said.err
    assert said.out == f"predict   12 rows of 2 files; 1 had a text that was answered before  ({out})\n"
    say(capsys, "predict", run.path, "--in", folder / "part-1.csv", "--out", folder / "one.csv", "--engine", "torch")
    assert (out / "part-1.csv").read_bytes() == (folder / "one.csv").read_bytes()
    said = say(capsys, "predict", run.path, "--in", pattern, "--out", out, "--engine", "torch", "--json")
    assert said.err == f"predict   2 of 2 files were answered before  ({out})\npredict   0 rows of 0 files  ({out})\n"
    assert json.loads(said.out) == {
        "rows": 0, "cut": 0, "repeated": 0, "bad": 0, "out": str(out), "engine": "torch",
        "files": {"all": 2, "before": 2, "now": 0}, "failed": [],
    }  # fmt: skip


def test_another_threshold_is_another_job(run, folder, capsys):
    """Answers with and without scores do not lie side by side; --force replaces them."""
    line = ("predict", run.path, "--in", folder / "part-?.csv", "--out", folder / "out", "--engine", "torch")
    assert say(capsys, *line).code == 0
    assert say(capsys, *line, "--scores") == Said(
        2, "",
        f"ERROR  {folder / 'out'}: the answers of another job are there (another --scores).\n"
        "TIP    Choose another --out, or replace them all with --force.\n",
    )  # fmt: skip
    assert say(capsys, *line, "--scores", "--force").code == 0
    assert "score:positive" in (folder / "out" / "part-0.csv").read_text().splitlines()[0]


def test_files_that_cannot_be_read_end_with_one(run, folder, capsys):
    """The others are answered, bad rows are counted, and the broken file is named."""
    (folder / "part-2.csv").write_text('text\n"a" b\ngood food\n')
    (folder / "part-3.parquet").write_bytes(b"no")
    said = say(capsys, "predict", run.path, "--in", folder, "--out", folder / "out", "--engine", "torch")
    assert said == Said(
        1,
        "predict   13 rows of 3 files; 1 had a text that was answered before; 1 row could not be read (in quarantine/)"
        f"  ({folder / 'out'})\n",
        f"ERROR  {folder / 'out'}: 1 of 4 files could not be answered:\n"
        f"         {folder / 'part-3.parquet'}: no whole Parquet file: Parquet file size is 2 bytes, smaller than the "
        "minimum file footer (8 bytes).\n"
        "TIP    Mend them and run the same command again: only they are done then.\n",
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--out", "{folder}/a.csv"),
            "--in {folder} names several files, so --out must be a folder. Got {folder}/a.csv.",
        ),
        (("--out", "{folder}/o", "--rung", "tfidf"), "--rung answers one file at a time."),
        (("--out", "{folder}/o", "--quarantine", "q"), "--quarantine is for one file."),
        (("--out", "{folder}/o", "--workers", "2"), "--workers needs --cluster ray."),
    ],
)
def test_flags_that_do_not_fit_are_said_first(run, folder, capsys, flags, message):
    """Before a model is loaded, and nothing is written."""
    before = sorted(folder.iterdir())
    said = say(capsys, "predict", run.path, "--in", folder, *(each.replace("{folder}", str(folder)) for each in flags))
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[0] == "ERROR  " + message.replace("{folder}", str(folder))
    assert sorted(folder.iterdir()) == before


def test_one_file_with_a_quarantine_and_safe_cells(run, tmp_path, capsys):
    """The rows that cannot be read go to the file that was named; the others are answered, none runs as a formula."""
    (tmp_path / "in.csv").write_text("id,text\n=1,good food\n2,a,b\n")
    said = say(
        capsys, "predict", run.path, "--in", tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--engine", "torch",
        "--quarantine", tmp_path / "bad.jsonl", "--spreadsheet-safe",
    )  # fmt: skip
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith(f"; 1 row could not be read ({tmp_path / 'bad.jsonl'})  ({tmp_path / 'out.csv'})\n")
    assert json.loads((tmp_path / "bad.jsonl").read_text())["row"] == 2
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith('"\'=1","good food",')


def test_flags_of_many_files_are_not_for_one(run, folder, capsys):
    """--force and --cluster say so where one file is given."""
    for flags, name in ((("--force",), "--force"), (("--cluster", "ray"), "--cluster")):
        said = say(capsys, "predict", run.path, "--in", folder / "part-0.csv", "--out", folder / "x.csv", *flags)
        assert said == Said(
            2, "", f"ERROR  {name} is for several files. Got the one file {folder / 'part-0.csv'}.\n"
        )  # fmt: skip


def test_urls_of_single_files(run, folder, capsys):
    """What lies behind a URL is fetched, and the answers are put behind one."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put_file(str(folder / "part-0.csv"), "/one/in.csv")
    said = say(
        capsys, "predict", run.path, "--in", "memory://one/in.csv", "--out", "memory://one/out.csv", "--engine", "torch"
    )
    assert (said.code, said.err) == (0, "")
    say(capsys, "predict", run.path, "--in", folder / "part-0.csv", "--out", folder / "out.csv", "--engine", "torch")
    assert memory.cat("/one/out.csv") == (folder / "out.csv").read_bytes()
    assert say(capsys, "predict", run.path, "--in", "memory://one/no.csv", "--out", "memory://one/out.csv") == Said(
        1, "", "ERROR  memory://one/no.csv: does not exist.\n"
    )
