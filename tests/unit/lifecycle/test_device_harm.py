"""Whatever happens to the node that runs a job of devices or of scrubbing: it ends once, and what it promised is so."""

from __future__ import annotations

from functools import partial

import pytest

from dwd.base.ids import NodeId
from dwd.blocks.core.placement import plan_layout
from dwd.lifecycle import device_drain
from dwd.meta.core.control.commands import ApplyLayout
from dwd.meta.core.control.job_commands import AskJob
from dwd.meta.core.control.job_rows import JobRow, JobState, JobWish
from dwd.meta.core.control.rows import DeviceState
from tests.job_harness.harness import Scenario, survive
from tests.twins.job_cluster import JobCluster
from tests.unit.lifecycle.device_world import PARTITIONS, device_on, kinds, named, world_of

LEAVING, NODES = 4, 4
CANCEL_AFTER_SECONDS = 3.5


@pytest.fixture(autouse=True)
def small_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few partitions: a layout is made in each of many runs."""
    monkeypatch.setattr(device_drain, "plan_layout", partial(plan_layout, partitions=PARTITIONS))


def ready(cluster: JobCluster) -> None:
    assert world_of(cluster).held_by(LEAVING) > 0, "there is something to move"


def by_hand(cluster: JobCluster) -> None:
    ready(cluster)
    world_of(cluster).leave_layouts_to_operators()


def drained(cluster: JobCluster) -> None:
    world_of(cluster).empty(LEAVING)


def lost(cluster: JobCluster) -> None:
    world_of(cluster).lose(LEAVING)


def cancelled_soon(cluster: JobCluster) -> None:
    world = world_of(cluster)
    world.stuck = True

    def cancel() -> None:
        for row in cluster.nodes[NodeId(1)].live_jobs():
            world.apply(AskJob(job=row.job, wish=JobWish.CANCEL))

    cluster.loop.call_later(CANCEL_AFTER_SECONDS, cancel)


def is_empty(cluster: JobCluster, row: JobRow) -> None:
    world = world_of(cluster)
    assert world.row(LEAVING).draining
    assert world.held_by(LEAVING) == 0
    assert device_on(LEAVING) not in {placed.device for placed in world.blocks.layout().devices}
    assert row.done == row.total > 0
    assert "may be retired" in row.result


def is_empty_by_one_layout(cluster: JobCluster, row: JobRow) -> None:
    is_empty(cluster, row)
    assert sum(isinstance(accepted.command, ApplyLayout) for accepted in cluster.log) == 2, "the first, and its own"


def is_back(cluster: JobCluster, row: JobRow) -> None:
    assert not world_of(cluster).row(LEAVING).draining
    assert row.state is JobState.CANCELLED or "takes data again" in row.result


def is_retired(cluster: JobCluster, row: JobRow) -> None:
    assert world_of(cluster).row(LEAVING).state is DeviceState.RETIRED
    assert "left the cluster" in row.result


def is_read(cluster: JobCluster, row: JobRow) -> None:
    world = world_of(cluster)
    wanted = [(device_on(node), f"job-{row.job}", True) for node in range(1, NODES + 1)]
    assert sorted(world.begun) == wanted, "each device once, however often it was ordered"
    assert row.done == row.total == 1_000 * NODES
    assert row.result == f"{10 * NODES} fragments verified, 3.9 KiB; {NODES} bad"


def scenario(kind: str, **rest: object) -> Scenario:
    facts = {"kinds": kinds, "kind": kind, "nodes": NODES, "arguments": {"device": named(LEAVING)}}
    return Scenario(**(facts | rest))  # type: ignore[arg-type]


def test_device_drain_ends_once_and_leaves_the_device_empty_when_its_runner_dies_or_sleeps() -> None:
    assert survive(scenario("device.drain", prepare=ready, check=is_empty)) > 10


def test_device_drain_makes_one_layout_itself_when_layouts_are_left_to_operators() -> None:
    assert survive(scenario("device.drain", prepare=by_hand, check=is_empty_by_one_layout)) > 10


def test_device_drain_gives_the_device_back_when_it_is_cancelled_and_its_runner_dies_or_sleeps() -> None:
    ends = JobState.CANCELLED
    assert survive(scenario("device.drain", prepare=cancelled_soon, check=is_back, ends=ends)) > 10


def test_device_undrain_ends_once_when_its_runner_dies_or_sleeps() -> None:
    assert survive(scenario("device.undrain", prepare=drained, check=is_back)) > 4


def test_device_retire_of_an_empty_device_ends_once_when_its_runner_dies_or_sleeps() -> None:
    assert survive(scenario("device.retire", prepare=drained, check=is_retired)) > 4


def test_device_retire_of_a_lost_device_ends_once_when_its_runner_dies_or_sleeps() -> None:
    assert survive(scenario("device.retire", prepare=lost, check=is_retired)) > 4


def test_scrub_reads_every_device_once_when_its_runner_dies_or_sleeps() -> None:
    assert survive(scenario("scrub", arguments={"speed": "full"}, prepare=ready, check=is_read)) > 10
