"""Whatever happens to the node that runs a job of nodes: the job ends once, and what it promised is so."""

from __future__ import annotations

from dwd.base.ids import CONTROL_GROUP, NodeId
from dwd.meta.core.control.commands import SetNodeStanding
from dwd.meta.core.control.job_rows import JobRow
from dwd.meta.core.control.rows import Liveness, NodeStanding
from tests.job_harness.harness import Scenario, survive
from tests.twins.job_cluster import JobCluster
from tests.unit.lifecycle.world import kinds, row_of, world_of

LEAVING, SUCCESSOR = 5, 6
NODES = 6


def drained(cluster: JobCluster, row: JobRow) -> None:
    world, node = world_of(cluster), row_of(cluster, LEAVING)
    assert node is not None
    assert node.standing is NodeStanding.DRAINED
    assert world.bytes[NodeId(LEAVING)] == 0
    assert [g for g, members in world.members.items() if LEAVING in members] == [CONTROL_GROUP]
    assert "may be removed" in row.result


def removed(cluster: JobCluster, row: JobRow) -> None:
    world = world_of(cluster)
    assert row_of(cluster, LEAVING) is None
    assert world.bytes[NodeId(LEAVING)] == 0
    assert not any(LEAVING in members for members in world.members.values())
    topology = world.topology()
    assert [gone.node for gone in topology.removed] == [LEAVING]
    assert not any(device.node == LEAVING for device in topology.devices)
    assert "removed" in row.result


def active(cluster: JobCluster, row: JobRow) -> None:
    node = row_of(cluster, LEAVING)
    assert node is not None
    assert node.standing is NodeStanding.ACTIVE
    assert "active" in row.result


def is_drained(cluster: JobCluster) -> None:
    world = world_of(cluster)
    for standing in (NodeStanding.DRAINING, NodeStanding.DRAINED):
        world.apply(SetNodeStanding(node=NodeId(LEAVING), standing=standing))
    for _ in range(10):
        world.move_votes()
        world.move_data()


def is_dead(cluster: JobCluster) -> None:
    _ = world_of(cluster)
    cluster.judge(NodeId(LEAVING), Liveness.DOWN)
    cluster.kill(NodeId(LEAVING))


def test_drain_ends_once_and_holds_what_it_promised_when_its_runner_dies_or_sleeps() -> None:
    scenario = Scenario(
        kinds=kinds, kind="node.drain", arguments={"node": "n5"}, prepare=lambda c: void(world_of(c)), check=drained,
        nodes=NODES,
    )  # fmt: skip
    assert survive(scenario) > 20


def test_undrain_ends_once_when_its_runner_dies_or_sleeps() -> None:
    scenario = Scenario(
        kinds=kinds, kind="node.undrain", arguments={"node": "n5"}, prepare=is_drained, check=active, nodes=NODES
    )
    assert survive(scenario) > 10


def test_remove_of_a_drained_node_ends_once_when_its_runner_dies_or_sleeps() -> None:
    scenario = Scenario(
        kinds=kinds, kind="node.remove", arguments={"node": "n5"}, prepare=is_drained, check=removed, nodes=NODES
    )
    assert survive(scenario) > 20


def test_remove_of_a_dead_node_ends_once_when_its_runner_dies_or_sleeps() -> None:
    scenario = Scenario(
        kinds=kinds, kind="node.remove", arguments={"node": "n5"}, prepare=is_dead, check=removed, nodes=NODES
    )
    assert survive(scenario) > 20


def test_replace_ends_once_when_its_runner_dies_or_sleeps() -> None:
    scenario = Scenario(
        kinds=kinds, kind="node.replace", arguments={"node": "n5", "successor": "n6"},
        prepare=lambda c: void(world_of(c)), check=removed, nodes=NODES,
    )  # fmt: skip
    assert survive(scenario) > 20


def void(_world: object) -> None:
    """The world is there."""
