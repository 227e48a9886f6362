"""What jobs of devices and of scrubbing refuse, what they wait for, what becomes of them when operators think again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from dwd.base.errors import Conflict, InvalidArgument, NotFound, SafetyRefused, Unavailable
from dwd.base.ids import NodeId
from dwd.blocks.core.placement import plan_layout
from dwd.jobs.kinds import JobKind
from dwd.lifecycle import device_drain
from dwd.meta.core.control.commands import ApplyLayout, SetDeviceDraining
from dwd.meta.core.control.job_commands import AskJob
from dwd.meta.core.control.job_rows import JobState, JobWish
from dwd.meta.core.control.rows import DeviceState
from tests.twins.job_cluster import JobCluster
from tests.twins.virtual_time import run_mortally
from tests.unit.lifecycle.device_world import PARTITIONS, DeviceWorld, device_on, kinds, named, until, world_of

NODES = 4
Test = Callable[[JobCluster, DeviceWorld], Awaitable[None]]


@pytest.fixture(autouse=True)
def small_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_drain, "plan_layout", partial(plan_layout, partitions=PARTITIONS))


def on_cluster(test: Test, nodes: int = NODES) -> None:
    async def body() -> None:
        cluster = JobCluster(kinds, nodes=nodes)
        await test(cluster, world_of(cluster))

    run_mortally(body())


def kind_of(cluster: JobCluster, name: str) -> JobKind:
    return next(kind for kind in kinds(cluster.nodes[NodeId(1)]) if kind.name == name)


async def start(cluster: JobCluster, name: str, *, force: bool = False, **arguments: str) -> Any:
    plan = await kind_of(cluster, name).plan(arguments, force=force)
    return cluster.create(name, arguments, plan)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "code"),
    [
        ("device.drain", {"device": "ffff"}, NotFound, "device.not_found"),
        ("device.undrain", {"device": "ffff"}, NotFound, "device.not_found"),
        ("device.retire", {"device": "ffff"}, NotFound, "device.not_found"),
        ("scrub", {"device": "ffff"}, NotFound, "device.not_found"),
        ("scrub", {"node": "n9"}, NotFound, "node.not_found"),
        ("device.drain", {}, InvalidArgument, "device.arguments"),
        ("device.drain", {"device": named(4), "node": "n4"}, InvalidArgument, "device.arguments"),
        ("device.retire", {"device": "0000"}, InvalidArgument, "device.ambiguous"),
        ("device.undrain", {"device": named(4)}, Conflict, "device.not_draining"),
        ("scrub", {"device": named(4), "node": "n4"}, InvalidArgument, "scrub.arguments"),
        ("scrub", {"speed": "fast"}, InvalidArgument, "scrub.arguments"),
        ("device.drain", {"device": named(3)}, Conflict, "device.gone"),
        ("scrub", {"device": named(3)}, Conflict, "device.gone"),
        ("device.retire", {"device": named(3)}, Conflict, "device.retired"),
    ],
)
def test_a_plan_is_refused_when_it_makes_no_sense(
    name: str, arguments: dict[str, str], error: type[Exception], code: str
) -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        world.lose(3)
        await cluster.over(await start(cluster, "device.retire", device=named(3)))
        with pytest.raises(error) as refused:
            await kind_of(cluster, name).plan(arguments, force=False)
        assert refused.value.code == code  # type: ignore[attr-defined]

    on_cluster(body)


def test_a_device_is_found_by_the_beginning_of_its_id_in_capitals_too() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        plan = await kind_of(cluster, "device.drain").plan({"device": named(4).upper()}, force=False)
        assert named(4) in plan.lines[0]
        assert plan.total == world.held_by(4) * 1_000

    on_cluster(body)


def test_a_drain_is_refused_when_the_others_have_no_room_and_forced_with_a_warning() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        world.room = 1
        with pytest.raises(SafetyRefused) as refused:
            await kind_of(cluster, "device.drain").plan({"device": named(4)}, force=False)
        assert refused.value.code == "device.no_room"
        assert (await kind_of(cluster, "device.drain").plan({"device": named(4)}, force=True)).warnings

    on_cluster(body)


def test_a_drain_is_refused_even_by_force_when_no_other_device_takes_data() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        for node in (1, 2, 3):
            world.drain(node)
        with pytest.raises(SafetyRefused) as refused:
            await kind_of(cluster, "device.drain").plan({"device": named(4)}, force=True)
        assert refused.value.code == "device.no_other"

    on_cluster(body)


def test_a_drain_says_what_is_in_its_way_when_nothing_moves_and_is_not_done_before() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        world.stuck = True
        job = await start(cluster, "device.drain", device=named(4))
        await until(cluster, job, "dwctl heal status")
        row = cluster.job(job)
        assert (row.state, row.done) == (JobState.RUNNING, 0)
        world.stuck = False
        assert (await cluster.over(job)).state is JobState.DONE
        assert world.held_by(4) == 0

    on_cluster(body)


def test_a_drain_ends_when_an_operator_applies_a_layout_with_the_device_before_its_own() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        world.leave_layouts_to_operators()
        job = await start(cluster, "device.drain", device=named(4))
        raced: list[str] = []

        def race(_node: object, command: object, when: str) -> None:
            if isinstance(command, ApplyLayout) and when == "before" and not raced:
                raced.append("once")
                world.place(also=[device_on(4)])

        cluster.hook = race
        assert (await cluster.over(job, seconds=300)).state is JobState.DONE
        assert raced
        assert device_on(4) not in {placed.device for placed in world.blocks.layout().devices}

    on_cluster(body)


def test_a_drain_fails_when_somebody_takes_the_device_back() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        world.stuck = True
        job = await start(cluster, "device.drain", device=named(4))
        await until(cluster, job, "dwctl heal status")
        await cluster.over(await start(cluster, "device.undrain", device=named(4)))
        row = await cluster.over(job, seconds=300)
        assert (row.state, row.error_code) == (JobState.FAILED, "device.taken_back")

    on_cluster(body)


def test_data_comes_to_the_device_again_when_its_drain_is_cancelled() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        world.stuck = True
        job = await start(cluster, "device.drain", device=named(4))
        await until(cluster, job, "dwctl heal status")
        assert world.row(4).draining
        world.apply(AskJob(job=job, wish=JobWish.CANCEL))
        assert (await cluster.over(job)).state is JobState.CANCELLED
        assert not world.row(4).draining
        await asyncio.sleep(5)
        assert device_on(4) in {placed.device for placed in world.blocks.layout().devices}

    on_cluster(body)


def test_retire_is_refused_unless_the_device_is_empty_or_lost() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        retire = kind_of(cluster, "device.retire")
        with pytest.raises(SafetyRefused) as refused:
            await retire.plan({"device": named(4)}, force=False)
        assert refused.value.code == "device.holds_data"
        assert named(4) in refused.value.hint
        world.stuck = True
        world.drain(4)
        world.place()
        with pytest.raises(SafetyRefused):
            await retire.plan({"device": named(4)}, force=False)
        world.move(1_000)
        assert not (await retire.plan({"device": named(4)}, force=False)).warnings
        world.apply(SetDeviceDraining(device=device_on(4), draining=False))
        with pytest.raises(SafetyRefused) as refused:
            await retire.plan({"device": named(4)}, force=False)
        assert refused.value.code == "device.in_use", "it is empty, and about to be filled"

    on_cluster(body)


def test_a_device_that_holds_data_is_retired_by_force_and_what_is_given_up_is_said() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        held = world.held_by(4)
        plan = await kind_of(cluster, "device.retire").plan({"device": named(4)}, force=True)
        assert f"{held} blocks have" in plan.warnings[0]
        job = cluster.create("device.retire", {"device": named(4)}, plan)
        assert (await cluster.over(job)).state is JobState.DONE
        assert world.row(4).state is DeviceState.RETIRED

    on_cluster(body)


def test_a_device_stays_when_it_was_taken_back_between_the_plan_of_its_retirement_and_the_job() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        world.empty(4)
        world.stuck = True
        plan = await kind_of(cluster, "device.retire").plan({"device": named(4)}, force=False)
        world.apply(SetDeviceDraining(device=device_on(4), draining=False))
        row = await cluster.over(cluster.create("device.retire", {"device": named(4)}, plan))
        assert (row.state, row.error_code) == (JobState.FAILED, "device.in_use")
        assert world.row(4).state is DeviceState.ACTIVE

    on_cluster(body)


def test_a_scrub_leaves_out_devices_that_cannot_be_read_and_is_refused_when_none_can() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        world.away.add(NodeId(4))
        plan = await kind_of(cluster, "scrub").plan({}, force=False)
        assert plan.total == 3_000
        assert named(4) in plan.warnings[0]
        with pytest.raises(Unavailable, match="none of the devices"):
            await kind_of(cluster, "scrub").plan({"node": "n4"}, force=False)

    on_cluster(body)


def test_a_scrub_waits_for_a_device_whose_node_takes_no_orders_or_does_not_answer() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        job = await start(cluster, "scrub", node="n4")
        world.silent.add(NodeId(4))
        await until(cluster, job, f"{named(4)} of n4 does not answer")
        world.away.add(NodeId(4))
        world.silent.clear()
        await asyncio.sleep(5)
        assert "does not answer" in cluster.job(job).blocker
        world.away.clear()
        assert (await cluster.over(job, seconds=60)).state is JobState.DONE
        assert world.begun == [(device_on(4), f"job-{job}", False)], "no other device, as fast as clients allow"

    on_cluster(body)


def test_a_scrub_ends_without_a_device_that_is_given_up_meanwhile() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        job = await start(cluster, "scrub")
        world.away.add(NodeId(4))
        await until(cluster, job, "does not answer")
        world.lose(4)
        row = await cluster.over(job, seconds=60)
        assert row.state is JobState.DONE
        assert row.result.endswith("1 devices were given up meanwhile")

    on_cluster(body)


def test_every_node_is_told_when_a_scrub_is_cancelled_though_one_does_not_hear() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        job = await start(cluster, "scrub")
        await asyncio.sleep(1.5)
        world.silent.add(NodeId(2))
        world.apply(AskJob(job=job, wish=JobWish.CANCEL))
        assert (await cluster.over(job, seconds=60)).state is JobState.CANCELLED
        assert sorted(world.dropped) == [(NodeId(node), f"job-{job}") for node in (1, 3, 4)]

    on_cluster(body)


def test_scrubs_of_the_same_device_take_turns_when_two_are_asked_for() -> None:
    async def body(cluster: JobCluster, world: DeviceWorld) -> None:
        first = await start(cluster, "scrub")
        second = await start(cluster, "scrub", node="n4")
        await until(cluster, second, f"job j{first}")
        for job in (first, second):
            assert (await cluster.over(job, seconds=60)).state is JobState.DONE
        passes = [order for device, order, _ in world.begun if device == device_on(4)]
        assert passes == [f"job-{first}", f"job-{second}"], "neither began anew because of the other"

    on_cluster(body)
