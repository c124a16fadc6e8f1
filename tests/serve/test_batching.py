"""Batching: what is accepted is answered, everybody has a turn, and the answer to a text is the same under load."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.serve.asked import Asked, Refused
from bertsmith.serve.batching import Batcher
from bertsmith.serve.fair_queue import FairQueue
from bertsmith.serve.limits import Limits, check
from bertsmith.serve.model import LoadSettings, load_model
from bertsmith.serve.room import BatchSettings
from bertsmith.serve.tickets import Ticket, settle_all
from tests.conftest import toy_rows
from tests.inference.exports import bundle_with_exports
from tests.serve.own_loop import in_own_loop
from tests.serve.slow_engine import WAIT_S, SlowEngine, slow_model


class Diary:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.rows = 0

    def queued(self, model: str, tokens: int, requests: int) -> None:
        """Keep the tokens."""
        self.tokens.append(tokens)

    def computed(self, model: str, rows: int, tokens: int, seconds: float) -> None:
        """Count the rows."""
        self.rows += rows


@asynccontextmanager
async def batching(batch: BatchSettings | None = None, **how: Any) -> Any:
    """A batcher with a slow engine, stopped at the end."""
    model, engine = slow_model(**how)
    diary = Diary()
    batcher = Batcher(model, batch, watcher=diary).start()
    try:
        yield batcher, engine, diary
    finally:
        engine.gate.set()
        batcher.close()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    in_own_loop(test())


async def hold(batcher: Batcher, engine: SlowEngine) -> asyncio.Task[Any]:
    """Shut the gate, and let one request wait at it, so that all that follows is queued."""
    engine.gate.clear()
    task = asyncio.create_task(batcher.ask(Asked(("good",))))
    await asyncio.to_thread(engine.begun.acquire, timeout=WAIT_S)
    return task


async def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


async def refused(asking: Coroutine[Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        await asking
    return caught.value


COSTS = st.lists(st.integers(1, 20), min_size=1, max_size=12)


@given(st.dictionaries(st.integers(0, 9), COSTS, max_size=6), st.integers(1, 60), st.sets(st.integers(0, 9)))
@settings(max_examples=150, deadline=None)
def test_the_queue_gives_each_piece_once_in_order_and_keeps_its_account(
    asked: dict[int, list[int]], budget: int, dropped: set[int]
) -> None:
    """Every piece comes once, a request's in their order, no batch over budget, and the cost is that of what waits."""
    queue: FairQueue[int, tuple[int, int]] = FairQueue()
    for key, costs in asked.items():
        queue.add(key, list(enumerate(costs)), costs)
    for key in dropped:
        assert queue.drop(key) == sum(asked.get(key, []))
    waiting = {key: costs for key, costs in asked.items() if key not in dropped}
    found: dict[int, list[tuple[int, int]]] = {}
    while len(queue):
        assert queue.cost == sum(map(sum, waiting.values())) - sum(cost for each in found.values() for _, cost in each)
        taken = queue.take(budget)
        pieces = [piece for _, mine in taken for piece in mine]
        assert pieces
        assert sum(cost for _, cost in pieces) <= budget or len(pieces) == 1
        for key, mine in taken:
            found.setdefault(key, []).extend(mine)
    assert found == {key: list(enumerate(costs)) for key, costs in waiting.items()}
    assert queue.cost == 0


@given(st.lists(COSTS, min_size=2, max_size=6), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_no_request_has_a_second_turn_before_all_had_one(asked: list[list[int]], budget: int) -> None:
    """Until every request has had a piece taken, none has more than an equal share of a batch, or one piece, a batch."""
    queue: FairQueue[int, int] = FairQueue()
    for key, costs in enumerate(asked):
        queue.add(key, costs, costs)
    turns: Counter[int] = Counter()
    while len(turns) < len(asked):
        for key, mine in queue.take(budget):
            turns[key] += 1
            assert turns[key] == 1 or len(turns) == len(asked)
            assert len(mine) >= 1


def test_texts_are_answered_in_their_order() -> None:
    """A request of many texts in slices and batches comes back in the order it was asked in."""

    async def test() -> None:
        async with batching(BatchSettings(batch_tokens=32)) as (batcher, engine, diary):
            texts = tuple(" ".join(["good"] * (place % 7 + 1)) for place in range(300))
            served = await batcher.ask(Asked(texts))
            assert served.logits[:, 0].tolist() == [place % 7 + 1 for place in range(300)]
            assert [answer.label for answer in served.answers] == ["good"] * 300
            assert served.tokens == sum(place % 7 + 1 for place in range(300))
            assert diary.rows == 300
            assert max(map(sum, engine.batches)) <= 32
            assert (batcher.queue_tokens, diary.tokens[-1]) == (0, 0)

    run(test)


def test_a_single_text_waits_for_one_batch_of_a_large_request() -> None:
    """A text that comes behind 10 000 others is in the very next batch."""

    async def test() -> None:
        async with batching(BatchSettings(batch_tokens=64)) as (batcher, engine, _):
            first = await hold(batcher, engine)
            large = asyncio.create_task(batcher.ask(Asked(("good good",) * 10_000)))
            await until(lambda: len(batcher._texts) == 1)
            single = asyncio.create_task(batcher.ask(Asked(("bad bad bad",))))
            await until(lambda: len(batcher._texts) == 2)
            engine.gate.set()
            assert (await single).answers[0].label == "bad"
            with_three = next(place for place, batch in enumerate(engine.batches) if 3 in batch)
            assert with_three <= 2
            await first
            assert len(await large) == 10_000

    run(test)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    """What has no room is refused with 429 and a time, without waiting; afterwards there is room again."""

    async def test() -> None:
        async with batching(BatchSettings(max_queue_tokens=30)) as (batcher, engine, _):
            first = await hold(batcher, engine)
            waits = asyncio.create_task(batcher.ask(Asked(("good " * 15,))))
            await until(lambda: batcher.queue_tokens > 1)
            begun = time.perf_counter()
            found = await refused(batcher.ask(Asked(("good " * 12,))))
            assert time.perf_counter() - begun < 0.5
            assert (found.status, found.title, found.retry_after) == (429, "queue full", 1.0)
            assert found.detail == f"{batcher.queue_tokens} tokens wait, and 30 is the most that may. Ask again in 1 s."
            batcher.check_room()
            engine.gate.set()
            await asyncio.gather(first, waits)
            assert (await batcher.ask(Asked(("good " * 12,)))).answers[0].guess == "good"

    run(test)


def test_a_queue_that_is_too_long_in_seconds_refuses_once_the_speed_is_known() -> None:
    """Twenty batches tell how fast the engine is; before, nobody is refused by it; who takes its place knows it too."""

    async def test() -> None:
        async with batching(BatchSettings(max_wait_s=1e-9)) as (batcher, engine, _):
            first = await hold(batcher, engine)
            second = asyncio.create_task(batcher.ask(Asked(("good",))))
            await until(lambda: len(batcher._texts) == 1)
            engine.gate.set()
            await asyncio.gather(first, second)
            for _ in range(20):
                await batcher.ask(Asked(("good",)))
            first = await hold(batcher, engine)
            found = await refused(batcher.ask(Asked(("good",))))
            assert (found.status, found.title) == (429, "queue full")
            assert re.fullmatch(
                r"A request would wait for \d\.\d s, and 1e-09 s is the most that it may\. Ask again in 1 s\.",
                found.detail,
            )
            follower = Batcher(batcher.model, batcher.settings)
            assert (follower._room.is_measured, follower._room.rate) == (False, 0)
            follower.follow(batcher)
            assert (follower._room.is_measured, follower._room.rate) == (True, batcher._room.rate)
            engine.gate.set()
            await first

    run(test)


def test_many_answers_leave_the_loop_room() -> None:
    """Answers of one batch are handed out a few at a time: what else the loop has to do comes in between."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []
        futures = [loop.create_future() for _ in range(7)]
        tickets = [Ticket(["x"], None, future, loop) for future in futures]
        for future in futures:
            future.add_done_callback(lambda _: seen.append("answer"))

        def between() -> None:
            seen.append("other")
            if seen.count("answer") < 7:
                loop.call_soon(between)

        loop.call_soon(between)
        settle_all([(ticket, Refused(500, "a", "b")) for ticket in tickets])
        await asyncio.gather(*futures, return_exceptions=True)
        assert seen.count("answer") == 7
        begin, end = seen.index("answer"), len(seen) - seen[::-1].index("answer")
        assert seen[begin:end].count("other") >= 2

    run(test)


def test_a_request_larger_than_the_queue_is_told_to_come_in_parts() -> None:
    """No waiting would help it, so it is 413 and has no time to come back."""

    async def test() -> None:
        async with batching(BatchSettings(max_queue_tokens=20)) as (batcher, _, _):
            found = await refused(batcher.ask(Asked(("good",) * 100)))
            assert (found.status, found.retry_after) == (413, None)
            assert (
                found.detail == "The texts have about 300 tokens; 20 is the most of one request. Send them in several."
            )

    run(test)


def test_a_deadline_that_passes_in_the_queue_frees_the_place() -> None:
    """A request whose time ran out is told so, is never computed, and leaves nothing behind."""

    async def test() -> None:
        async with batching() as (batcher, engine, _):
            first = await hold(batcher, engine)
            found = await refused(batcher.ask(Asked(("bad " * 9,)), deadline=0.05))
            assert (found.status, found.title) == (504, "deadline passed")
            assert found.detail == (
                "There was no answer within 0.05 s, and the request was given up. Send fewer texts at a time, or ask "
                "again later."
            )
            assert batcher.queue_tokens == 1
            engine.gate.set()
            await first
            await batcher.ask(Asked(("x",)))
            assert [9] not in engine.batches

    run(test)


def test_a_client_that_leaves_gives_its_place_back() -> None:
    """Cancelled or gone, a request that waits is not computed and takes up no tokens."""

    async def test() -> None:
        async with batching() as (batcher, engine, _):
            first = await hold(batcher, engine)
            cancelled = asyncio.create_task(batcher.ask(Asked(("bad " * 9,))))
            gone = asyncio.create_task(batcher.ask(Asked(("bad " * 8,)), gone=lambda: True))
            await until(lambda: len(batcher._texts) == 2)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert len(batcher._texts) == 1
            engine.gate.set()
            assert (await refused(gone)).status == 499
            await first
            assert (batcher.queue_tokens, engine.batches) == (0, [[1]])

    run(test)


def test_a_full_queue_lets_those_go_whose_clients_left() -> None:
    """Before a request is refused for want of room, what nobody waits for any more is thrown out."""

    async def test() -> None:
        async with batching(BatchSettings(max_queue_tokens=30)) as (batcher, engine, _):
            first = await hold(batcher, engine)
            gone = asyncio.create_task(batcher.ask(Asked(("bad " * 20,)), gone=lambda: True))
            await until(lambda: len(batcher._texts) == 1)
            follows = asyncio.create_task(batcher.ask(Asked(("good " * 20,))))
            assert (await refused(gone)).status == 499
            engine.gate.set()
            assert (await follows).answers[0].label == "good"
            await first

    run(test)


def test_a_logit_that_is_no_number_is_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A model that gives NaN has failed; nobody is told a label."""

    async def test() -> None:
        async with batching() as (batcher, engine, _):
            engine.logits = lambda encoded, **_: np.full((len(encoded), 2), np.nan, np.float32)
            assert (await refused(batcher.ask(Asked(("good",))))).status == 500

    with caplog.at_level(logging.ERROR, "bertsmith.serve"):
        run(test)
    assert "a logit is not a number" in caplog.text


def test_an_engine_that_takes_calls_side_by_side_is_given_them() -> None:
    """While one batch is computed the next one is begun, and every answer is that of its text."""

    async def test() -> None:
        async with batching(BatchSettings(batch_tokens=8), calls=2) as (batcher, engine, _):
            first = await hold(batcher, engine)
            second = asyncio.create_task(batcher.ask(Asked(("bad bad",))))
            await until(lambda: engine.batches == [[1], [2]])
            engine.gate.set()
            assert [(await each).answers[0].label for each in (first, second)] == ["good", "bad"]

    run(test)


def test_an_engine_that_fails_fails_its_batch_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Those in the batch are told 500 without the reason, which is in the log; the next request is answered."""

    async def test() -> None:
        async with batching() as (batcher, _, _):
            found = await refused(batcher.ask(Asked(("poison",))))
            assert (found.status, found.title) == (500, "engine failed")
            assert found.detail == "The model could not answer. The server's log says why."
            assert (await batcher.ask(Asked(("bad",)))).answers[0].label == "bad"
            assert batcher.queue_tokens == 0

    with caplog.at_level(logging.ERROR, "bertsmith.serve"):
        run(test)
    assert caplog.messages == ["slow: the engine failed; requests that are told so: 1"]
    assert "poisoned" in caplog.text


def test_what_was_accepted_is_answered_after_the_end_was_told() -> None:
    """Once it drains, new requests are 503 with a time, the old ones are answered, and then it has ended."""

    async def test() -> None:
        async with batching() as (batcher, engine, _):
            first = await hold(batcher, engine)
            draining = asyncio.create_task(batcher.drain(WAIT_S))
            await asyncio.sleep(0)
            found = await refused(batcher.ask(Asked(("x",))))
            assert (found.status, found.retry_after) == (503, 1)
            assert found.detail == "This server is about to stop. Ask again; another one may answer."
            engine.gate.set()
            assert await draining
            assert (await first).answers[0].label == "good"

    run(test)


def test_a_drain_that_takes_too_long_ends_and_says_so() -> None:
    """After the grace, drain gives False, and closing refuses those that still wait."""

    async def test() -> None:
        async with batching() as (batcher, engine, _):
            first = await hold(batcher, engine)
            waits = asyncio.create_task(batcher.ask(Asked(("x x",))))
            await until(lambda: len(batcher._texts) == 1)
            assert not await batcher.drain(0.02)
            batcher.close()
            assert (await refused(waits)).status == 503
            first.cancel()

    run(test)


def test_words_are_explained_through_the_queue() -> None:
    """Each text with a word left out is a row of the queue; the word that makes the answer has the weight."""

    async def test() -> None:
        async with batching() as (batcher, _, diary):
            served = await batcher.ask(Asked(("x good x",), explain=True))
            (found,) = served.explanations
            assert (found.label, found.method) == ("good", "occlusion")
            assert [round(word.weight, 3) for word in found.words] == [0.0, 1.0, 0.0]
            assert diary.rows == 1 + 1 + 4

    run(test)


def test_half_a_character_is_answered() -> None:
    """JSON can say half a surrogate pair, which is no text; it is read as the replacement character."""

    async def test() -> None:
        async with batching() as (batcher, _, _):
            assert (await batcher.ask(Asked(("bad \ud800",)))).answers[0].label == "bad"

    run(test)


def test_a_text_with_too_many_tokens_is_named() -> None:
    """Where tokens are limited, the text that has too many is named by its number, and nothing is computed."""

    async def test() -> None:
        async with batching(BatchSettings(max_text_tokens=3)) as (batcher, engine, _):
            found = await refused(batcher.ask(Asked(("x", "x " * 80))))
            assert found.status == 413
            assert found.detail == "Text 2 has 80 tokens; 3 is the most it may have. Send it in parts."
            assert engine.batches == []

    run(test)


@pytest.mark.parametrize(
    ("asked", "pair", "status", "detail"),
    [
        (Asked(()), False, 422, "There is no text. A request has one text at least."),
        (Asked(("a",)), True, 422, "This model was trained on pairs of texts, and the second texts are missing."),
        (Asked(("a",), ("b",)), False, 422, "This model was trained on single texts, and takes no second texts."),
        (Asked(("a",), ()), True, 422, "There are 1 texts but 0 second texts; the numbers must be equal."),
        (Asked(("a",) * 4), False, 413, "There are 4 texts; 3 is the most of one request. Send them in several requests."),
        (Asked(("a",) * 3, explain=True), False, 413, "There are 3 texts to explain; 2 is the most of one request. Explain fewer at a time."),
        (Asked(("a", "ab" * 3)), False, 413, "Text 2 has 6 characters; 5 is the most it may have. Send it in parts."),
        (Asked(("a",), ("ab" * 3,)), True, 413, "Second text 1 has 6 characters; 5 is the most it may have. Send it in parts."),
    ],
)  # fmt: skip
def test_a_limit_says_what_was_found_and_what_may_be(asked: Asked, pair: bool, status: int, detail: str) -> None:
    """What is refused before it is worked on is refused with the numbers, and what to do."""
    with pytest.raises(Refused) as caught:
        check(asked, Limits(max_texts=3, max_characters=5, max_explained=2), pair=pair)
    assert (caught.value.status, caught.value.detail) == (status, detail)


@pytest.mark.parametrize(("engine", "off"), [("onnx", 0.0), ("onnx-int8", 0.0), ("torch", 1e-5)])
def test_the_answer_to_a_text_is_the_same_alone_and_under_load(
    tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory, engine: str, off: float, one_thread: None
) -> None:
    """Sixty clients at once and a large request get what each text gets alone: to the bit with an export."""
    folder = bundle_with_exports(tiny_encoder, tmp_path_factory.getbasetemp() / "exported" / "model")
    model = load_model(folder, LoadSettings(engine=engine, threads=1))
    texts = [text for text, _ in toy_rows(60)]
    alone = np.concatenate([model.predictor.ask(model.predictor.rows([text])).logits for text in texts])

    async def test() -> None:
        batcher = Batcher(model, BatchSettings(batch_tokens=256)).start()
        large, *single = await asyncio.gather(
            batcher.ask(Asked(tuple(texts))), *(batcher.ask(Asked((text,))) for text in texts)
        )
        for found in (large.logits, np.concatenate([each.logits for each in single])):
            assert np.abs(found - alone).max() <= off
        assert [each.label for each in large.answers] == [each.answers[0].label for each in single]
        batcher.close()

    run(test)
