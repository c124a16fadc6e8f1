"""Several workers agree: all take what is new, or none does, whoever crashes, is slow, or says no meanwhile."""

from __future__ import annotations

import asyncio
import multiprocessing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertsmith.serve.asked import Asked, Refused
from bertsmith.serve.models import Models
from bertsmith.serve.together import Agreement, Decide, Member, Outcome, Prepare, Ready, Vote, Wish
from tests.serve.own_loop import in_own_loop
from tests.serve.slow_engine import slow_model

BAD = Refused(409, "reload refused", "m is damaged.")


class Told:
    """A worker as the supervisor sees it: it keeps what it is told."""

    def __init__(self, version: str = "1") -> None:
        self.heard: list[Any] = []
        self.version = version

    def send(self, message: Any, /) -> None:
        """Keep it."""
        self.heard.append(message)

    @property
    def outcomes(self) -> list[str | None]:
        """What it was told of its wishes: None where they came true."""
        return [
            None if each.refused is None else each.refused.detail for each in self.heard if isinstance(each, Outcome)
        ]

    def decisions(self) -> list[bool]:
        """What it was told to take or to leave."""
        return [each.take for each in self.heard if isinstance(each, Decide)]


def agreement(*workers: Told, now: list[float] | None = None) -> Agreement:
    clock = [0.0] if now is None else now
    found = Agreement(clock=lambda: clock[0], patience_s=10)
    for each in workers:
        found.joined(each, {"m": each.version})
    return found


def turn(worker: Told) -> int:
    return next(each.turn for each in reversed(worker.heard) if isinstance(each, Prepare))


def test_all_take_what_all_could_load() -> None:
    """The worker that was asked answers once each has it in its place, and not before."""
    first, second = Told(), Told()
    all_ = agreement(first, second)
    all_.wished(Wish(7, "m"), by=first)
    assert first.heard == second.heard == [Prepare(1, "m")]
    all_.voted(first, Vote(1, {"m": "2"}))
    assert first.decisions() == []
    all_.voted(second, Vote(1, {"m": "2"}))
    assert first.decisions() == second.decisions() == [True]
    all_.voted(second, Vote(1, {"m": "2"}))
    assert first.outcomes == []
    all_.voted(first, Vote(1, {"m": "2"}))
    assert (first.heard[-1], second.outcomes, all_.seconds_left) == (Outcome(7, None), [], None)


@pytest.mark.parametrize(
    ("votes", "why"),
    [
        ((Vote(1, {"m": "2"}), Vote(1, {}, BAD)), "m is damaged."),
        ((Vote(1, {"m": "2"}), Vote(1, {"m": "3"})), "The files changed while they were loaded. Try again."),
    ],
)
def test_where_one_cannot_none_does(votes: tuple[Vote, Vote], why: str) -> None:
    """All give up what they loaded, and who asked is told why."""
    workers = Told(), Told()
    all_ = agreement(*workers)
    all_.wished(Wish(1, ""), by=workers[0])
    for worker, vote in zip(workers, votes, strict=True):
        all_.voted(worker, vote)
    assert [each.decisions() for each in workers] == [[False], [False]]
    assert workers[0].outcomes == [why]


def test_nobody_waits_for_a_worker_that_is_gone_or_slow() -> None:
    """The others take without the one that crashed; one that takes too long lets all leave it."""
    now = [0.0]
    first, second = Told(), Told()
    all_ = agreement(first, second, now=now)
    all_.wished(Wish(1, ""), by=first)
    now[0] = 9.0
    all_.expire()
    assert (all_.seconds_left, first.outcomes) == (1.0, [])
    now[0] = 10.0
    all_.expire()
    assert first.outcomes == ["2 of 2 workers did not answer within 10 s."]
    all_.wished(Wish(2, ""), by=first)
    all_.voted(first, Vote(turn(first), {"m": "2"}))
    all_.left(second)
    assert first.decisions() == [False, True]
    all_.voted(first, Vote(turn(first), {"m": "2"}))
    assert first.outcomes[1:] == [None]


def test_one_wish_comes_after_the_other() -> None:
    """What was wished meanwhile begins once the first is over, and a worker that is gone is told nothing."""
    first, second = Told(), Told()
    all_ = agreement(first, second)
    for number, worker in enumerate((first, second, second), 1):
        all_.wished(Wish(number, ""), by=worker)
    all_.voted(first, Vote(1, {}, BAD))
    all_.voted(second, Vote(1, {}, BAD))
    assert (first.outcomes, turn(second)) == (["m is damaged."], 2)
    all_.left(second)
    all_.voted(first, Vote(2, {}, BAD))
    assert (second.outcomes, all_.seconds_left) == ([], None)


def test_a_new_worker_with_other_files_lets_all_take_them() -> None:
    """One that was started again loaded what lies there now: two versions at one address would be two servers."""
    first, second = Told(), Told()
    all_ = agreement(first, second)
    assert first.heard == []
    all_.left(second)
    third = Told("2")
    all_.joined(third, {"m": "2"})
    assert first.heard == third.heard == [Prepare(1, "")]


def test_without_any_worker_there_is_no_waiting() -> None:
    """Who asks while all are gone is told so at once."""
    gone = Told()
    agreement().wished(Wish(1, ""), by=gone)
    assert gone.outcomes == ["No worker is left that could load it."]


@settings(deadline=None)
@given(st.data())
def test_whatever_happens_each_wish_has_one_outcome_and_all_that_are_left_decide_the_same(data: st.DataObject) -> None:
    """In any order of votes, crashes and wishes, every worker that stays has taken and left the same turns."""
    workers = [Told() for _ in range(data.draw(st.integers(1, 4)))]
    all_ = agreement(*workers)
    staying, wishes = list(workers), 0
    for _ in range(data.draw(st.integers(1, 25))):
        action = data.draw(st.sampled_from(["wish", "vote", "vote", "vote", "refuse", "leave"]))
        worker = data.draw(st.sampled_from(staying))
        if action == "wish":
            wishes += 1
            all_.wished(Wish(wishes, ""), by=staying[0])
        elif action == "leave" and len(staying) > 1 and worker is not staying[0]:
            staying.remove(worker)
            all_.left(worker)
        elif any(isinstance(each, Prepare) for each in worker.heard):
            all_.voted(worker, Vote(turn(worker), {"m": "2"}, BAD if action == "refuse" else None))
    while all_.seconds_left is not None:
        for each in staying:
            all_.voted(each, Vote(turn(each), {"m": "2"}))
    assert len(staying[0].outcomes) == wishes
    assert [each.decisions() for each in staying] == [staying[0].decisions()] * len(staying)


def test_a_worker_loads_waits_and_takes() -> None:
    """It answers with the old one until it is told to take the new one; a reload asked of it is a wish to all."""

    async def test() -> None:
        ours, theirs = multiprocessing.Pipe()
        models = Models([slow_model()[0]], load=lambda folder: slow_model(version="2")[0])
        member = Member(theirs, models)
        models.start()
        member.begin()

        async def heard() -> Any:
            return await asyncio.to_thread(ours.recv)

        assert await heard() == Ready({"slow": "1"})
        waits = asyncio.create_task(models.reload())
        assert await heard() == Wish(1, "")
        ours.send(Prepare(4, ""))
        assert await heard() == Vote(4, {"slow": "2"})
        assert (await models.ask(Asked(("good",)))).version == "1"
        ours.send(Decide(4, take=True))
        assert await heard() == Vote(4, {"slow": "2"})
        ours.send(Outcome(1, None))
        assert [each.version for each in await waits] == ["2"]
        refused = asyncio.create_task(models.reload("slow"))
        assert await heard() == Wish(2, "slow")
        ours.send(Outcome(2, BAD))
        with pytest.raises(Refused) as error:
            await refused
        assert (error.value.status, error.value.detail) == (409, "m is damaged.")
        ours.send(Prepare(5, "nobody"))
        vote = await heard()
        assert vote.refused.detail == "There is no model 'nobody' here. There is: slow."
        waits = asyncio.create_task(models.reload())
        assert await heard() == Wish(3, "")
        member.end()
        with pytest.raises(Refused) as error:
            await waits
        assert error.value.detail == "This server is about to stop."
        ours.close()
        models.close()

    in_own_loop(test())
