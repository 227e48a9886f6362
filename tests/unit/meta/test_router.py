"""The router alone: scripted local groups and peers, real time only for the pauses between attempts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import (
    Busy,
    Corrupt,
    DeadlineExceeded,
    DwError,
    NotFound,
    NotLeader,
    OutcomeUnknown,
    StorageFailed,
    Unavailable,
)
from dwd.base.ids import GroupId, LogIndex, NodeId, Stamp
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.queries import HeadObject, ObjectAnswer
from dwd.meta.proposer import Proposer
from dwd.meta.router import LOCAL_SECONDS, Router
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.tasks import Tasks

GROUP = GroupId(1)
CLOCK = SystemClock()
HERE, OTHER = NodeId(1), NodeId(2)
DONE = Receipt(index=LogIndex(5), stamp=Stamp(1))
FOUND = ObjectAnswer(object=None)
HEAD: Any = SimpleNamespace()


class Script:
    """Gives one thing after another; the last one for ever. Notes who was asked."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.asked: list[NodeId] = []

    async def next(self, node: NodeId) -> Any:
        self.asked.append(node)
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return step


def router(script: Script, *, local: bool = True) -> Router:
    class Local:
        def holds(self, group: GroupId) -> bool:
            return local

        async def propose(self, group: GroupId, payload: bytes, *, deadline: float) -> Any:
            return await script.next(HERE)

        async def answer(self, group: GroupId, query: Any, *, deadline: float) -> Any:
            return await script.next(HERE)

    class Others:
        async def propose(self, node: NodeId, group: GroupId, payload: bytes, *, deadline: float) -> Any:
            return await script.next(node)

        async def answer(self, node: NodeId, group: GroupId, query: Any, *, deadline: float) -> Any:
            return await script.next(node)

    host = SimpleNamespace(leader_node=lambda _: HERE, watch=lambda *_: lambda: None)
    nodes = tuple(SimpleNamespace(node=n, liveness=Liveness.UP) for n in (HERE, OTHER))
    view = SimpleNamespace(topology_or_none=lambda: SimpleNamespace(nodes=nodes))
    made: Any = Router(
        node=HERE, host=host, local=Local(), peers=Others(), view=view, clock=CLOCK, rng=SystemRng()  # type: ignore[arg-type]
    )  # fmt: skip
    return made


def soon(seconds: float = 5.0) -> float:
    return CLOCK.monotonic() + seconds


@pytest.mark.parametrize(
    "refusal",
    [Busy("t.b", "full"), NotFound("t.n", "gone"), StorageFailed("t.s", "disk"), DwError("meta.unexpected", "bug")],
    ids=lambda error: type(error).__name__,
)
async def test_refusal_is_not_passed_on_when_an_earlier_attempt_may_have_taken_effect(refusal: DwError) -> None:
    script = Script(OutcomeUnknown("t.lost", "lost"), refusal, DONE)
    assert await router(script).propose(GROUP, b"x", deadline=soon()) == (DONE, True)
    script = Script(OutcomeUnknown("t.lost", "lost"), refusal)
    with pytest.raises(OutcomeUnknown):
        await router(script).propose(GROUP, b"x", deadline=soon(0.3))


async def test_refusal_is_passed_on_when_nothing_can_have_taken_effect() -> None:
    with pytest.raises(Busy):
        await router(Script(Unavailable("t.u", "down"), Busy("t.b", "full"))).propose(GROUP, b"x", deadline=soon())


async def test_nothing_was_changed_when_two_nodes_name_each_other_until_the_deadline() -> None:
    away = [NotLeader("raft.not_leader", "not me", leader_node=n) for n in (OTHER, HERE)]

    class Circle(Script):
        async def next(self, node: NodeId) -> Any:
            self.asked.append(node)
            raise away[0 if node == HERE else 1]

    script = Circle()
    with pytest.raises(Unavailable) as refused:
        await router(script).propose(GROUP, b"x", deadline=soon(0.4))
    assert refused.value.code == "meta.unavailable"
    assert len(script.asked) < 60, "it pauses between rounds"


@pytest.mark.parametrize("damage", [Corrupt("t.c", "rot"), StorageFailed("t.s", "gone")], ids=["corrupt", "failed"])
async def test_another_copy_answers_when_the_local_one_cannot_be_read(damage: DwError) -> None:
    script = Script(damage, FOUND)
    query = HeadObject(bucket="b", key="k")
    assert await router(script).answer(GROUP, query, deadline=soon()) is FOUND
    assert script.asked == [HERE, OTHER]


async def test_others_are_asked_first_for_a_while_when_the_local_copy_is_behind() -> None:
    script = Script(Unavailable("meta.behind", "behind"), FOUND)
    asking, query = router(script), HeadObject(bucket="b", key="k")
    for _ in range(3):
        assert await asking.answer(GROUP, query, deadline=soon()) is FOUND
    assert script.asked[:2] == [HERE, OTHER]
    assert script.asked[2:] == [HERE, HERE], "as the leader it is asked all the same"


async def test_local_copy_is_waited_for_briefly_when_others_can_be_asked() -> None:
    waits: list[float] = []

    class Behind(Script):
        async def next(self, node: NodeId) -> Any:
            if node == OTHER:
                return FOUND
            raise Unavailable("meta.behind", "behind")

    asking: Any = router(Behind())
    answer = asking._local.answer

    async def timed(group: GroupId, query: Any, *, deadline: float) -> Any:
        waits.append(deadline - CLOCK.monotonic())
        return await answer(group, query, deadline=deadline)

    asking._local.answer = timed
    assert await asking.answer(GROUP, HeadObject(bucket="b", key="k"), deadline=soon(60)) is FOUND
    assert waits[0] <= LOCAL_SECONDS


async def test_waiting_for_a_session_ends_at_the_callers_own_deadline() -> None:
    class Hanging(Script):
        async def next(self, node: NodeId) -> Any:
            await asyncio.sleep(60)

    proposer = Proposer(router(Hanging()), SystemRng(), CLOCK)
    tasks = Tasks("test", lambda name, error: None)
    patient = tasks.spawn(proposer.propose(GROUP, HEAD, deadline=soon(60)), name="patient")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        with pytest.raises(DeadlineExceeded):
            await proposer.propose(GROUP, HEAD, deadline=soon(0.1))
    await tasks.close()
    assert patient.cancelled()


async def test_nobody_waits_for_a_leader_when_the_node_stops() -> None:
    asking = router(Script(NotLeader("x", "nobody leads", leader_node=0)))
    tasks = Tasks("test", lambda name, error: None)
    waiting = [
        tasks.spawn(asking.propose(GROUP, b"", deadline=soon(60)), name="propose"),
        tasks.spawn(asking.answer(GROUP, HeadObject(bucket="b", key="k"), deadline=soon(60)), name="answer"),
    ]
    await asyncio.sleep(0)
    asking.leave(0.1)
    async with asyncio.timeout(5):
        for task in waiting:
            with pytest.raises(Unavailable):
                await task
    await tasks.close()
