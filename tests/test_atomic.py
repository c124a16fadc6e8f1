"""Files that are whole or not there, and locks that go with their process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open

from bertsmith.atomic import holding, write_arrays

HOLDER = """
import sys
from pathlib import Path
from bertsmith.atomic import holding
with holding(Path(sys.argv[1])) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def test_arrays_come_back_as_they_were(tmp_path):
    """Values, types and shapes stay, of arrays whose memory is in another order too; texts are in the header."""
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    arrays = {"turned": table.T, "every other": table[:, ::2], "none": np.zeros((0, 4), np.int64), "one": np.array(7)}
    write_arrays(tmp_path / "a.safetensors", arrays, about={"each": "text"})
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as stored:
        assert stored.metadata() == {"each": "text"}
        found = {name: stored.get_tensor(name) for name in arrays}
        assert sorted(stored.keys()) == sorted(arrays)
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)


def test_arrays_may_be_read_by_whom_the_umask_allows(tmp_path):
    """Files of safetensors itself are for their owner alone; who serves a model is another user."""
    before = os.umask(0o027)
    try:
        write_arrays(tmp_path / "a.safetensors", {"a": np.zeros(1)}, about={})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


def test_arrays_that_cannot_be_written_leave_the_old_file(tmp_path):
    """What safetensors refuses leaves what was there, and nothing beside it."""
    file = tmp_path / "a.safetensors"
    write_arrays(file, {"a": np.zeros(1)}, about={})
    before = file.read_bytes()
    with pytest.raises(Exception, match="datetime64"):
        write_arrays(file, {"a": np.array(["2026-11-22"], "datetime64[D]")}, about={})
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", ["folder", "file", "new file"])
def test_one_process_at_a_time_holds_a_place(tmp_path, kind):
    """Another process and this one are told no; killed, it holds nothing any more."""
    place = tmp_path / "place"
    if kind == "folder":
        place.mkdir()
    elif kind == "file":
        place.write_text("stays", encoding="utf-8")
    command = [sys.executable, "-c", HOLDER, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with holding(place) as held:
            assert not held
        other.kill()
    with holding(place) as held, holding(place) as twice:
        assert (held, twice) == (True, False)
    with holding(place) as held:
        assert held
    if kind == "file":
        assert place.read_text(encoding="utf-8") == "stays"


def test_an_error_inside_frees_the_place(tmp_path):
    """What fails while it is held is raised as it is, and the next one is let in."""
    with pytest.raises(BlockingIOError, match="of the block"), holding(tmp_path):
        raise BlockingIOError("of the block")
    with holding(tmp_path) as held:
        assert held


def test_a_place_that_cannot_be_made_is_an_error(tmp_path):
    """It is not said to be held by another."""
    with pytest.raises(FileNotFoundError), holding(tmp_path / "none" / "file"):
        raise AssertionError("not reached")


def test_where_there_are_no_locks_all_are_let_in(tmp_path, monkeypatch):
    """On Windows nothing is opened, which could not be done with a folder, and nothing is made."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fcntl" else found(name))
    with holding(tmp_path / "none" / "file") as held, holding(tmp_path / "none" / "file") as twice:
        assert (held, twice) == (True, True)
    assert list(tmp_path.iterdir()) == []
