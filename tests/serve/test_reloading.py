"""What lies on the disk anew is noticed whatever file it is, and taken once it is whole."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bertsmith.serve import reloading
from bertsmith.serve.asked import Refused
from bertsmith.serve.models import Models
from bertsmith.serve.stamps import stamp, stamps
from tests.serve.own_loop import in_own_loop
from tests.serve.slow_engine import WAIT_S

EVERY_S = 0.02


@dataclass
class Reloaded:
    """Models that count their reloads."""

    folders: dict[str, Path]
    refused: Refused | None = None
    taken: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.folders)

    def get(self, name: str) -> Any:
        """Say where one lies."""
        return SimpleNamespace(name=name, folder=self.folders[name], version="2")

    async def reload(self, name: str = "") -> list[Any]:
        """Note what was asked."""
        self.taken.append(name)
        if self.refused is not None:
            raise self.refused
        return [self.get(each) for each in ([name] if name else self.names)]


@pytest.fixture
def models(tmp_path: Path) -> Reloaded:
    """Two models, of a file each."""
    for name in ("a", "b"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "bertsmith.json").write_text("{}")
        (tmp_path / name / "model" / "manifest.json").write_text("1")
    return Reloaded({name: tmp_path / name for name in ("a", "b")})


async def taken(models: Reloaded, count: int) -> list[str]:
    end = asyncio.get_running_loop().time() + WAIT_S
    while len(models.taken) < count:
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(EVERY_S)
    await asyncio.sleep(5 * EVERY_S)
    return models.taken


@pytest.mark.parametrize(
    "changed", ["manifest.json", "onnx/int8/manifest.json", "onnx/int8/export.json", "model.safetensors"]
)
def test_any_file_of_a_bundle_is_noticed(models: Reloaded, changed: str) -> None:
    """A new export is as good a reason as new weights; the other model is left alone; and each change counts once."""

    async def test() -> None:
        watching = asyncio.create_task(reloading.watch(cast("Models", models), every_s=EVERY_S))
        await asyncio.sleep(3 * EVERY_S)
        assert models.taken == []
        file = models.folders["b"] / "model" / changed
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("new")
        assert await taken(models, 1) == ["b"]
        watching.cancel()

    in_own_loop(test())


def test_what_was_refused_is_tried_again_once_it_changes(models: Reloaded, caplog: pytest.LogCaptureFixture) -> None:
    """Half of a bundle is said once in the log, and the rest of it is taken."""
    models.refused = Refused(409, "reload refused", "a is damaged.")

    async def test() -> None:
        watching = asyncio.create_task(reloading.watch(cast("Models", models), every_s=EVERY_S))
        await asyncio.sleep(0)
        (models.folders["a"] / "model" / "manifest.json").write_text("half")
        assert await taken(models, 1) == ["a"]
        (models.folders["a"] / "model" / "manifest.json").write_text("whole")
        assert await taken(models, 2) == ["a", "a"]
        watching.cancel()

    in_own_loop(test())
    assert caplog.messages == ["reload refused: a is damaged."] * 2


def test_a_folder_that_goes_away_is_no_change(models: Reloaded) -> None:
    """The model answers on; it is loaded once the folder is there again."""

    async def test() -> None:
        watching = asyncio.create_task(reloading.watch(cast("Models", models), every_s=EVERY_S))
        await asyncio.sleep(0)
        folder = models.folders["a"]
        folder.rename(folder.with_name("away"))
        await asyncio.sleep(5 * EVERY_S)
        assert models.taken == []
        (folder.with_name("away") / "model" / "manifest.json").write_text("new")
        folder.with_name("away").rename(folder)
        assert await taken(models, 1) == ["a"]
        watching.cancel()

    in_own_loop(test())


def test_a_hang_up_is_taken_in_the_main_thread_alone(models: Reloaded) -> None:
    """In another one the signal is as it was."""
    before = signal.getsignal(signal.SIGHUP)

    async def test() -> None:
        assert threading.current_thread() is not threading.main_thread()
        async with reloading.reloading(cast("Models", models), watched=False):
            assert signal.getsignal(signal.SIGHUP) is before

    in_own_loop(test())
    assert signal.getsignal(signal.SIGHUP) is before


def test_a_stamp_tells_a_file_from_another_of_its_size(tmp_path: Path) -> None:
    """One that is replaced by a rename, as every file of ours is, has another stamp even where time stood still."""
    file, other = tmp_path / "a", tmp_path / "b"
    for each in (file, other):
        each.write_text("same")
        os.utime(each, ns=(7, 7))
    before = stamp(file)
    other.rename(file)
    assert stamp(file) != before
    assert stamp(tmp_path / "none") is None
    assert (stamps(tmp_path), stamps(tmp_path / "none")) == ({"a": stamp(file)}, {})
