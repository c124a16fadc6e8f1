"""Where words go: results to stdout, progress and warnings to stderr, one JSON object with --json, help without torch."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time

import pytest

from bertsmith.cli.flags import as_flag
from bertsmith.recipe import settings
from tests.cli.finished import QUICK, execute, finished_run, flags, say

BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in {packages!r} else real(name, package)
from bertsmith.cli import main
main()
"""
TRAIN_FLAGS = [
    "--out",
    "--text",
    "--label",
    "--text-pair",
    "--validation",
    "--test",
    "--shares",
    "--encoder",
    "--epochs",
    "--batch-size",
    "--accumulate",
    "--learning-rate",
    "--warmup",
    "--weight-decay",
    "--dropout",
    "--max-length",
    "--padding",
    "--metric",
    "--patience",
    "--head-start",
    "--seed",
    "--device",
    "--threads",
    "--recipe",
    "--no-texts",
    "--force",
    "--group",
    "--time",
    "--encoding",
    "--task",
    "--levels",
    "--labels-separator",
    "--annotators",
    "--long",
    "--stride",
    "--pooling",
    "--long-budget",
    "--dataset",
    "--json",
]


@pytest.fixture(scope="module")
def run(tiny_encoder, toy_csv):
    return finished_run(tiny_encoder, toy_csv)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Fit to learn from, with warnings: the same text twice, a label in two spellings."""
    path = tmp_path_factory.mktemp("data") / "odd.csv"
    from tests.conftest import toy_rows

    rows = toy_rows(120)
    rows += rows[60:72]
    lines = [f"{text},{label.title() if place < 12 else label}\n" for place, (text, label) in enumerate(rows)]
    path.write_text("text,label\n" + "".join(lines))
    return path


def test_train_with_json_prints_one_object(data, tiny_encoder, tmp_path, capsys):
    """On stdout is scores.json as one line; stages and warnings are on stderr, in plain lines without colours."""
    said = say(capsys, "train", data, "--out", tmp_path / "run", "--encoder", tiny_encoder, "--json", *flags(QUICK))
    assert said.code == 0
    assert said.out.count("\n") == 1
    assert json.loads(said.out) == json.loads((tmp_path / "run" / "scores.json").read_text())
    stages = [line.split()[0] for line in said.err.splitlines() if not line.startswith((" ", "warning"))]
    assert list(dict.fromkeys(stages)) == [
        "read", "task", "check", "split", "encode", "baselines", "model", "fit", "evaluate", "calibrate", "decide", "scope",
        "suspects", "verdict", "seconds", "run",
    ]  # fmt: skip
    assert "\nwarning   " in said.err
    assert "\x1b" not in said.err + said.out


def test_train_without_json_tells_stages_on_stdout(data, tiny_encoder, tmp_path):
    """In a process of its own: stages on stdout, warnings and nothing else on stderr; no bars, no colours, no reports."""
    said = execute(["train", data, "--out", "run", "--encoder", tiny_encoder, *flags(QUICK)], cwd=tmp_path)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == f"read      132 rows, 6 labels: {lines[0].partition(': ')[2]}"
    assert lines[-1] == '          try it: bertsmith predict run "your text"'
    assert said.err
    assert all(line.startswith("warning   ") for line in said.err.splitlines())
    assert "\x1b" not in said.err + said.out


@pytest.mark.parametrize("colour", [True, False])
def test_no_color_is_honoured(colour):
    """On a terminal an error is red; with NO_COLOR set it is plain."""
    import pty

    parent, child = pty.openpty()
    env = {**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, "TERM": "xterm"}
    env |= {} if colour else {"NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bertsmith", "train"], stderr=child, stdout=child, env=env, check=False
    )
    os.close(child)
    told = os.read(parent, 10_000).decode()
    os.close(parent)
    assert done.returncode == 2
    assert ("\x1b[31m" in told) is colour
    assert "--out is missing: it says where the run is written." in told


def test_check_with_json_prints_one_object(data, tiny_encoder, capsys):
    """findings[] with kind, severity, count, rows, message, remedy; stage lines on stderr."""
    said = say(capsys, "check", data, "--encoder", tiny_encoder, "--json")
    found = json.loads(said.out)
    assert said.code == 0
    assert said.out.count("\n") == 1
    assert set(found) == {"source", "rows", "labels", "split", "max_length", "passed", "findings"}
    assert (found["source"], found["rows"], found["passed"]) == (str(data), 132, True)
    assert all(set(each) == {"kind", "severity", "count", "rows", "message", "remedy"} for each in found["findings"])
    kinds = {each["kind"]: each for each in found["findings"]}
    assert kinds["labels-alike"]["severity"] == "warning"
    assert all(re.fullmatch(r".+:\d+", row) for row in kinds["labels-alike"]["rows"])
    order = ["error", "warning", "note"]
    places = [order.index(each["severity"]) for each in found["findings"]]
    assert places == sorted(places)
    assert {line.split()[0] for line in said.err.splitlines() if not line.startswith(" ")} == {
        "read", "task", "split",
    }  # fmt: skip


def test_check_lists_each_finding_once(data, tiny_encoder, capsys):
    """For people: every finding with its rows and its remedy, once, and a verdict at the end."""
    found = json.loads(say(capsys, "check", data, "--encoder", tiny_encoder, "--json").out)["findings"]
    said = say(capsys, "check", data, "--encoder", tiny_encoder)
    assert (said.code, said.err) == (0, "")
    for each in found:
        assert said.out.count(f"{each['severity']:<8}{each['kind']}\n  {each['message']}\n") == 1
        assert said.out.count(each["message"]) == 1
        assert f"  → {each['remedy']}\n" in said.out
    counts = [sum(each["severity"] == severity for each in found) for severity in ("error", "warning", "note")]
    told = [
        f"{count} {name}{'' if count == 1 else 's'}"
        for count, name in zip(counts, ("error", "warning", "note"), strict=True)
    ]
    assert said.out.endswith(f"\nFit to learn from: {', '.join(told)}.\n")


def test_show_tokens_shows_what_the_model_sees(tiny_encoder, capsys):
    """Pieces, ids, special tokens and their places in the text, as the tokenizers library gives them."""
    from tokenizers import Tokenizer

    said = say(capsys, "check", "--show-tokens", "-good film", "--encoder", tiny_encoder, "--json")
    found = json.loads(said.out)
    truth = Tokenizer.from_file(str(tiny_encoder / "tokenizer.json")).encode("-good film")
    assert (said.code, said.err) == (0, "")
    assert (found["text"], found["pieces"], found["ids"]) == ("-good film", truth.tokens, truth.ids)
    assert [tuple(each) for each in found["offsets"]] == truth.offsets


def test_models_prints_one_object_a_line(capsys):
    """Every known encoder with its size, speed here and when to take it."""
    from bertsmith.encoders import KNOWN

    said = say(capsys, "models", "--json")
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [each["name"] for each in lines] == list(KNOWN)
    assert all(each["training_rows_per_second"] > 0 for each in lines)
    assert all(each["note"] in say(capsys, "models").out for each in lines)


def test_closed_pipes_are_no_error(run, toy_csv):
    """`| head -1` ends the command without a traceback."""
    command = [sys.executable, "-m", "bertsmith", "predict", str(run.path), "--in", str(toy_csv)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("code", ["import bertsmith", "import bertsmith.cli", "from bertsmith.cli import main; main(['--help'])",
                                  "from bertsmith.cli import main; main(['train', '--help'])"])  # fmt: skip
def test_importing_and_help_load_no_heavy_library(code):
    """Neither torch nor transformers nor pandas is loaded, nor scikit-learn."""
    script = (
        f"import sys, atexit\natexit.register(lambda: print(sorted({{'torch', 'transformers', 'pandas', 'sklearn', 'datasets'}}"
        f" & sys.modules.keys())))\n{code}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_help_is_fast():
    """The median of five is far below a second (0.4 s on an idle machine)."""
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        assert execute(["--help"]).code == 0
        seconds.append(time.perf_counter() - begin)
    assert statistics.median(seconds) < 1.0


def test_train_help_lists_every_flag_and_its_default(capsys):
    """All flags are there, each setting with its help and its default."""
    told = say(capsys, "train", "--help").out
    plain = " ".join(re.sub(r"[│╭╮╰╯─]", " ", told).split())
    assert [flag for flag in TRAIN_FLAGS if not re.search(rf"{flag}\b(?!-)", plain)] == []
    for each in settings().values():
        if each.is_flag:
            assert re.search(rf"{as_flag(each.name)}\b(?!-)", plain), each.name
            default = ("no", "yes")[each.default] if isinstance(each.default, bool) else each.shown_default
            shown = each.help.replace("`", "") + (f" [{default}]" if default else "")
            assert shown in plain, each.name


@pytest.mark.parametrize("flag", ["--version"])
def test_version_is_the_packages(capsys, flag):
    """--version prints the version alone."""
    from bertsmith import __version__

    assert say(capsys, flag).out == f"{__version__}\n"


def without(packages: set[str], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process where some packages are not installed."""
    script = BLOCK.format(packages=packages)
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_check_needs_neither_torch_nor_transformers(data, tiny_encoder):
    """The base install checks data, tokens and cost included."""
    done = without(
        {"torch", "transformers", "accelerate", "datasets"}, "check", data, "--encoder", tiny_encoder, "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["passed"]
    assert {"cost", "labels-alike"} <= {each["kind"] for each in found["findings"]}


@pytest.mark.parametrize("package", ["torch", "transformers", "accelerate"])
def test_training_without_the_extra_names_its_command(data, tiny_encoder, tmp_path, package):
    """What is missing and how to get it, with exit code 2, no traceback and nothing written."""
    done = without({package}, "train", data, "--out", tmp_path / "new", "--encoder", tiny_encoder)
    assert done.stderr == missing("training", package)
    assert (done.returncode, done.stdout) == (2, "")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_predicting_without_the_extra_names_its_command(run, package):
    """The same for predict."""
    done = without({package}, "predict", run.path, "good food")
    assert done.stderr == missing("predicting", package)
    assert (done.returncode, done.stdout) == (2, "")


def missing(what: str, package: str) -> str:
    return (
        f"ERROR  {what} needs the package '{package}', which is not installed.\n"
        "TIP    Install it with: pip install 'bertsmith[train]'\n"
    )
