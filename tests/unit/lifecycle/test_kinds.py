"""What jobs of nodes refuse, what they say is in their way, what becomes of them when operators think again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dwd.base.errors import Conflict, InvalidArgument, NotFound, SafetyRefused
from dwd.base.ids import GroupId, NodeId
from dwd.jobs.kinds import JobKind
from dwd.meta.core.control.commands import SetNodeStanding, SetSetting
from dwd.meta.core.control.job_commands import AskJob
from dwd.meta.core.control.job_rows import JobRow, JobState, JobWish
from dwd.meta.core.control.rows import DeviceState, Liveness, NodeStanding
from dwd.meta.core.pins import Pin, encode_pin, setting_of
from dwd.raft.core.types import MemberRole
from tests.twins.job_cluster import JobCluster
from tests.twins.virtual_time import run_mortally
from tests.unit.lifecycle.world import World, kinds, row_of, world_of

DRAINING = NodeStanding.DRAINING


def on_cluster(test: Callable[[JobCluster, World], Awaitable[None]], nodes: int = 6) -> None:
    async def body() -> None:
        cluster = JobCluster(kinds, nodes=nodes)
        await test(cluster, world_of(cluster))

    run_mortally(body())


def kind_of(cluster: JobCluster, name: str) -> JobKind:
    return next(kind for kind in kinds(cluster.nodes[NodeId(1)]) if kind.name == name)


async def start(cluster: JobCluster, name: str, *, force: bool = False, **arguments: str) -> Any:
    plan = await kind_of(cluster, name).plan(arguments, force=force)
    return cluster.create(name, arguments, plan)


async def until_blocked(cluster: JobCluster, job: Any, words: str) -> JobRow:
    import asyncio  # noqa: PLC0415 - of the virtual loop

    async with asyncio.timeout(600):
        while words not in cluster.job(job).blocker:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(1)
    return cluster.job(job)


def stand(world: World, node: int, standing: NodeStanding) -> None:
    world.apply(SetNodeStanding(node=NodeId(node), standing=standing))


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("node.drain", {"node": "n9"}, "node.not_found"),
        ("node.drain", {}, "node.not_named"),
        ("node.undrain", {"node": "n5"}, "node.not_draining"),
        ("node.remove", {"node": "n5"}, "node.not_drained"),
        ("node.replace", {"node": "n5", "successor": "n5"}, "node.replaces_itself"),
        ("node.replace", {"node": "n5", "successor": "n4"}, "node.successor_unfit"),
    ],
)
def test_a_plan_is_refused_when_it_makes_no_sense(name: str, arguments: dict[str, str], code: str) -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        stand(world, 4, DRAINING)
        with pytest.raises((Conflict, InvalidArgument, NotFound, SafetyRefused)) as refused:
            await kind_of(cluster, name).plan(arguments, force=False)
        assert refused.value.code == code

    on_cluster(body)


def test_a_drain_is_refused_when_less_is_survived_and_forced_with_the_reason_as_a_warning() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        world.profile = "rs-4-2"
        drain = kind_of(cluster, "node.drain")
        with pytest.raises(SafetyRefused) as refused:
            await drain.plan({"node": "n5"}, force=False)
        assert refused.value.code == "node.unsafe"
        assert "rs-4-2" in refused.value.message
        assert "--force" in refused.value.hint
        forced = await drain.plan({"node": "n5"}, force=True)
        assert any(line.startswith("forced: rs-4-2") for line in forced.warnings)

    on_cluster(body)


def test_a_drain_is_refused_when_the_others_have_too_little_room() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        world.room = 1
        with pytest.raises(SafetyRefused, match="has room for"):
            await kind_of(cluster, "node.drain").plan({"node": "n5"}, force=False)

    on_cluster(body)


def test_a_drain_is_refused_even_by_force_when_an_operator_pinned_the_node() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        pin = Pin(group=GroupId(1), roles={NodeId(n): MemberRole.VOTER for n in (1, 2, 5)})
        world.apply(SetSetting(name=setting_of(GroupId(1)), value=encode_pin(pin)))
        with pytest.raises(SafetyRefused, match="pinned"):
            await kind_of(cluster, "node.drain").plan({"node": "n5"}, force=True)

    on_cluster(body)


def test_another_job_of_the_same_node_is_refused_while_one_is_under_way() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        world.stuck = True
        await start(cluster, "node.drain", node="n5")
        for name, arguments in (
            ("node.remove", {"node": "n5"}), ("node.undrain", {"node": "n5"}),
            ("node.replace", {"node": "n5", "successor": "n6"}), ("node.replace", {"node": "n1", "successor": "n5"}),
        ):  # fmt: skip
            with pytest.raises(Conflict) as refused:
                await kind_of(cluster, name).plan(arguments, force=True)
            assert refused.value.code == "node.job_under_way"
        assert await kind_of(cluster, "node.drain").plan({"node": "n5"}, force=False), "the same is no other"

    on_cluster(body)


def test_a_second_drain_is_judged_by_what_the_first_left_when_both_were_planned_at_once() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        first = await start(cluster, "node.drain", node="n5")
        second = await start(cluster, "node.drain", node="n4")
        rows = [await cluster.over(first), await cluster.over(second)]
        failed = [row for row in rows if row.state is JobState.FAILED]
        assert failed, "four would be left: fewer voters than five"
        assert {row.error_code for row in failed} == {"node.unsafe"}
        for row, number in zip(rows, (5, 4), strict=True):
            node = row_of(cluster, number)
            assert node is not None
            assert (node.standing is NodeStanding.ACTIVE) == (row.state is JobState.FAILED)

    on_cluster(body)


def test_blockers_name_the_node_that_is_down_and_that_there_is_no_room() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        world.stuck = True
        job = await start(cluster, "node.drain", node="n5")
        await until_blocked(cluster, job, "still a member")
        for members in list(world.members.values())[1:]:
            members.discard(NodeId(5))
        world.room = 0
        await until_blocked(cluster, job, "no device has room")
        cluster.judge(NodeId(5), Liveness.DOWN)
        row = await until_blocked(cluster, job, "node n5 is down")
        assert (row.done, row.total) == (0, world.bytes[NodeId(5)])
        world.stuck = False
        assert (await cluster.over(job)).state is JobState.DONE

    on_cluster(body)


def test_a_blocker_names_the_groups_that_the_node_is_still_a_member_of() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        world.stuck = True
        job = await start(cluster, "node.drain", node="n5")
        await until_blocked(cluster, job, "n5 is still a member of group 1, group 2")
        for members in world.members.values():
            members.clear()
        await until_blocked(cluster, job, "without a leader: control, group 1, group 2")

    on_cluster(body)


def test_the_node_takes_votes_and_data_again_when_its_drain_is_cancelled() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        world.stuck = True
        job = await start(cluster, "node.drain", node="n5")
        await until_blocked(cluster, job, "n5")
        world.apply(AskJob(job=job, wish=JobWish.CANCEL))
        assert (await cluster.over(job)).state is JobState.CANCELLED
        row = row_of(cluster, 5)
        assert row is not None
        assert row.standing is NodeStanding.ACTIVE

    on_cluster(body)


def test_a_drain_fails_when_somebody_takes_the_node_back() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        world.stuck = True
        job = await start(cluster, "node.drain", node="n5")
        await until_blocked(cluster, job, "still a member")
        stand(world, 5, NodeStanding.ACTIVE)
        world.members[GroupId(1)].discard(NodeId(5))
        world.members[GroupId(2)].discard(NodeId(5))
        world.members[GroupId(0)].discard(NodeId(5))
        row = await cluster.over(job)
        assert (row.state, row.error_code) == (JobState.FAILED, "node.taken_back")

    on_cluster(body)


def test_devices_are_lost_when_a_node_is_dead_and_retired_when_it_is_drained() -> None:
    async def body(cluster: JobCluster, world: World) -> None:
        seen: dict[int, set[DeviceState]] = {4: set(), 5: set()}

        def look(*_: object) -> None:
            for row in world.topology().devices:
                if row.node in seen:
                    seen[row.node].add(row.state)

        cluster.hook = look
        cluster.judge(NodeId(5), Liveness.DOWN)
        dead = await start(cluster, "node.remove", node="n5")
        assert (await cluster.over(dead)).state is JobState.DONE
        drain = await start(cluster, "node.drain", node="n4", force=True)
        assert (await cluster.over(drain)).state is JobState.DONE
        remove = await start(cluster, "node.remove", node="n4")
        assert (await cluster.over(remove)).state is JobState.DONE
        assert (DeviceState.LOST in seen[5], DeviceState.RETIRED in seen[5]) == (True, False)
        assert (DeviceState.LOST in seen[4], DeviceState.RETIRED in seen[4]) == (False, True)

    on_cluster(body)
