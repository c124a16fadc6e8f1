"""Models: found by name, answered for, and replaced while they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import pytest

from bertsmith.errors import BundleError, UsageError
from bertsmith.serve.asked import Asked, Refused
from bertsmith.serve.model import Model, name_of
from bertsmith.serve.models import Models
from bertsmith.serve.room import BatchSettings
from tests.serve.own_loop import in_own_loop
from tests.serve.slow_engine import WAIT_S, slow_model


async def refused(asking: Awaitable[object]) -> Refused:
    with pytest.raises(Refused) as caught:
        await asking
    return caught.value


def test_a_model_is_found_by_its_name() -> None:
    """The first answers where none is named; one that is not there is 404 with the names that are."""
    models = Models([slow_model(name="a")[0], slow_model(name="b")[0]])
    assert (models.names, models.default, models.get().name, models.get("b").name) == (("a", "b"), "a", "a", "b")
    with pytest.raises(Refused) as caught:
        models.get("c")
    assert (caught.value.status, caught.value.detail) == (404, "There is no model 'c' here. There is: a, b.")
    models.close()


def test_two_models_of_one_name_are_refused() -> None:
    """A client could not say which it means."""
    with pytest.raises(UsageError) as caught:
        Models([slow_model(name="a")[0], slow_model(name="a")[0]])
    assert str(caught.value) == ("2 models would be called 'a': a, a.\n  Rename a folder: a model is called after it.")
    with pytest.raises(UsageError) as none:
        Models([])
    assert str(none.value) == "there is no model to serve.\n  Name a run: bertsmith serve RUN"


def test_a_reload_swaps_under_load_and_loses_nothing() -> None:
    """What the old model accepted, the old one answers; what comes later, the new one."""

    async def test() -> None:
        old, engine = slow_model(version="1")
        models = Models([old], load=lambda folder: slow_model(version="2")[0])
        models.start()
        engine.gate.clear()
        waits = [asyncio.create_task(models.ask(Asked(("good",)))) for _ in range(5)]
        await asyncio.to_thread(engine.begun.acquire, timeout=WAIT_S)
        assert [each.version for each in await models.reload()] == ["2"]
        assert (await models.ask(Asked(("bad",)))).version == "2"
        engine.gate.set()
        assert [(each.version, each.answers[0].label) for each in await asyncio.gather(*waits)] == [("1", "good")] * 5
        assert await models.drain(WAIT_S)
        models.close()

    in_own_loop(test())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (BundleError("m/model.onnx: changed after training.", tip="Copy it."), "m/model.onnx: changed after training.\n  Copy it."),
        (ValueError("no head"), "ValueError: no head"),
    ],
)  # fmt: skip
def test_a_bundle_that_cannot_be_loaded_changes_nothing(error: Exception, why: str) -> None:
    """The reload is refused with the reason, and the old model answers on."""

    def load(folder: Path) -> Model:
        raise error

    async def test() -> None:
        models = Models([slow_model()[0]], load=load)
        models.start()
        found = await refused(models.reload())
        assert (found.status, found.title) == (409, "reload refused")
        assert found.detail == f"slow was not loaded again, and answers as before. {why}"
        assert (await models.ask(Asked(("good",)))).version == "1"
        models.close()

    in_own_loop(test())


def test_of_several_models_all_are_reloaded_or_none() -> None:
    """Where the second cannot be loaded, the first stays as it was too."""

    def load(folder: Path) -> Model:
        if folder == Path("b"):
            raise BundleError("b: damaged.")
        return slow_model(name="a", version="2")[0]

    async def test() -> None:
        models = Models([slow_model(name="a")[0], slow_model(name="b")[0]], load=load)
        models.start()
        assert (await refused(models.reload())).status == 409
        assert models.get("a").version == "1"
        assert [each.version for each in await models.reload("a")] == ["2"]
        models.close()

    in_own_loop(test())


def test_what_is_prepared_answers_only_once_it_is_taken() -> None:
    """Until then the old one answers; what is left changes nothing, and the next one may prepare."""

    async def test() -> None:
        told: list[str] = []
        versions = iter("23")
        models = Models([slow_model()[0]], load=lambda folder: slow_model(version=next(versions))[0])
        models.tell(lambda model: told.append(model.version))
        models.start()
        first = await models.prepare()
        waits = asyncio.create_task(models.prepare("slow"))
        assert (await models.ask(Asked(("good",)))).version == "1"
        first.leave()
        second = await waits
        assert (first.versions, second.versions, told) == ({"slow": "2"}, {"slow": "3"}, [])
        second.take()
        assert ((await models.ask(Asked(("good",)))).version, told) == ("3", ["3"])
        models.close()

    in_own_loop(test())


def test_nothing_is_taken_by_a_server_that_stops() -> None:
    """What was prepared is given up, and whoever wanted it is told."""

    async def test() -> None:
        models = Models([slow_model()[0]], load=lambda folder: slow_model(version="2")[0])
        models.start()
        prepared = await models.prepare()
        assert await models.drain(WAIT_S)
        with pytest.raises(Refused) as caught:
            prepared.take()
        assert (caught.value.status, caught.value.detail) == (409, "This server is about to stop.")
        assert models.get().version == "1"
        models.close()

    in_own_loop(test())


def test_the_probe_is_a_real_answer_even_where_the_queue_is_full() -> None:
    """A busy server is ready: its own probe has room; one that stops is not."""

    async def test() -> None:
        model, engine = slow_model()
        models = Models([model], BatchSettings(max_queue_tokens=1))
        models.start()
        served = await models.probe()
        assert len(served.answers) == 1
        assert await models.probe() is served
        assert len(engine.batches) == 1
        await models.drain(WAIT_S)
        assert (await refused(models.probe())).status == 503
        models.close()

    in_own_loop(test())


def test_a_model_is_called_after_its_run() -> None:
    """Whether the run or the bundle in it is given."""
    assert [name_of(Path(each)) for each in ("runs/reviews", "runs/reviews/model", "runs/reviews/")] == ["reviews"] * 3
