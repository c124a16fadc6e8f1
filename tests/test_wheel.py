"""What ships: the wheel is built, installed into an environment of its own, and used from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.cli.finished import QUICK, flags
from tests.conftest import toy_rows

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def shipped(wheel, tmp_path_factory) -> Path:
    """The `bin` of an environment that has the wheel, and this environment's packages for what it needs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    [site] = folder.glob("lib/python*/site-packages")
    install = ("install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), *install],
        check=True,
        capture_output=True,
    )
    # A line that is only a path adds a folder without running its own .pth files: the editable install stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def call(shipped: Path, *command: object, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(shipped / str(command[0])), *map(str, command[1:])], cwd=cwd, env={**env, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_its_licence(wheel):
    """Every module of the source, the mark of its types, nothing of the tests."""
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "bertsmith").rglob("*.py")}
    assert modules <= names
    assert {name.split("/")[0] for name in names} == {"bertsmith", "bertsmith-0.1.0.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_is_what_is_used(shipped, tmp_path):
    """The package is imported from the environment, not from the source tree."""
    where = call(shipped, "python", "-c", "import bertsmith; print(bertsmith.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(shipped.parent)
    assert not Path(where).is_relative_to(ROOT)
    assert call(shipped, "bertsmith", "--version", cwd=tmp_path) == "0.1.0\n"


def test_the_wheel_checks_trains_evaluates_and_predicts(shipped, tmp_path, tiny_encoder):
    """The main job, from an empty folder, with the wheel alone."""
    lines = [f"{text},{label}\n" for text, label in toy_rows(150)]
    (tmp_path / "reviews.csv").write_text("text,label\n" + "".join(lines))
    checked = json.loads(
        call(shipped, "bertsmith", "check", "reviews.csv", "--encoder", tiny_encoder, "--json", cwd=tmp_path)
    )
    assert checked["passed"]
    train = (
        "bertsmith",
        "train",
        "reviews.csv",
        "--out",
        "runs/reviews",
        "--encoder",
        tiny_encoder,
        "--json",
        *flags(QUICK),
    )
    scores = json.loads(call(shipped, *train, cwd=tmp_path))
    assert scores["test"]["rows"] > 0
    shown = json.loads(call(shipped, "bertsmith", "evaluate", "runs/reviews", "--json", cwd=tmp_path))
    assert shown["test"] == scores["test"]
    answer = json.loads(call(shipped, "bertsmith", "predict", "runs/reviews", "good food", "--json", cwd=tmp_path))
    assert answer["label"] in scores["labels"]
