"""A run's place on disk: nothing of the user's is ever deleted, nothing is half written."""

from __future__ import annotations

import json

import pytest

from bertsmith import atomic, run_folder
from bertsmith.errors import UsageError


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    """Not even with force."""
    (tmp_path / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UsageError) as caught:
            run_folder.create(tmp_path, force=force)
        assert str(caught.value) == (
            f"{tmp_path}: exists and is no run of bertsmith, so nothing is written there.\n"
            "  Choose another --out, or an empty folder."
        )
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_run_is_replaced_only_with_force(tmp_path):
    """A finished or unfinished run stands in the way until --force."""
    run = run_folder.create(tmp_path / "run", force=False)
    run.recipe.write_text("x = 1")
    with pytest.raises(UsageError) as caught:
        run_folder.create(run.path, force=False)
    assert str(caught.value) == (
        f"{run.path}: holds an unfinished run.\n  Go on with it: bertsmith train --resume {run.path}. "
        "Or replace it with --force."
    )
    run.finish()
    with pytest.raises(UsageError, match="holds a finished run"):
        run_folder.check_free(run.path, force=False)
    run_folder.create(run.path, force=True)
    assert list(run.path.iterdir()) == []


def test_a_file_stands_in_the_way(tmp_path):
    """--out may not be a file."""
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="exists and is no run of bertsmith"):
        run_folder.check_free(tmp_path / "run", force=True)


def test_only_a_whole_run_opens(tmp_path):
    """Missing, foreign and unfinished folders each say what they are."""
    with pytest.raises(UsageError, match="no such run folder"):
        run_folder.open_run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="this is no run of bertsmith"):
        run_folder.open_run(tmp_path)
    run = run_folder.create(tmp_path / "run", force=False)
    run.recipe.write_text("")
    with pytest.raises(UsageError, match="the run did not come to its end"):
        run_folder.open_run(run.path)
    run.finish()
    assert run_folder.open_run(run.path) == run


def test_the_manifest_lists_every_file_with_its_hash(tmp_path):
    """Sizes and sha256 of all files, the scratch folder gone."""
    import hashlib

    run = run_folder.create(tmp_path / "run", force=False)
    run.recipe.write_text("a")
    run.scratch.mkdir()
    (run.scratch / "big").write_text("b")
    run.finish()
    files = json.loads(run.manifest.read_text())["files"]
    assert files == {"recipe.toml": {"bytes": 1, "sha256": hashlib.sha256(b"a").hexdigest()}}
    assert not run.scratch.exists()


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    """Whatever happens while writing, the old content stays and no litter is left."""
    path = tmp_path / "scores.json"
    atomic.write_json(path, {"old": 1})

    def write_and_break() -> None:
        with atomic.replacing(path) as temporary:
            temporary.write_text("{half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_break()
    with pytest.raises(ValueError, match="Out of range float values"):
        atomic.write_json(path, {"new": float("nan")})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["scores.json"]
