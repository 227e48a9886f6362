"""A cluster in memory whose votes and data move a little each time somebody looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dwd.base.ids import CONTROL_GROUP, DeviceId, GroupId, LayoutEpoch, NodeId, ReplicaId
from dwd.blocks.core.layout import Layout, encode_layout
from dwd.blocks.core.movement import Load
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.topology import layout_devices
from dwd.blocks.whereabouts import Remaining
from dwd.jobs.kinds import JobKind
from dwd.lifecycle.core.facts import Facts, GroupFacts, Space
from dwd.lifecycle.drain import DrainKind, UndrainKind
from dwd.lifecycle.gather import Survey
from dwd.lifecycle.remove import RemoveKind
from dwd.lifecycle.replace import ReplaceKind
from dwd.meta.core.control.commands import AddDevice, ApplyLayout
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import DeviceState, Liveness, NodeRow, NodeStanding
from dwd.node.topology import ControlTopology
from dwd.raft.core.types import Configuration, Member, MemberRole
from tests.twins.job_cluster import JobCluster, JobNode

T = TypeVar("T")

BYTES = 1 << 20
NOBODY = NodeId(0)
FINAL = (DeviceState.LOST, DeviceState.RETIRED)


class World:
    """Every node has a device and, of each group, a replica. `stuck`: nothing moves."""

    def __init__(self, cluster: JobCluster) -> None:
        self.cluster = cluster
        self.stuck = False
        self.profile = "replica-3"
        self.room = 1 << 40
        self.bytes = dict.fromkeys(cluster.nodes, 2 * BYTES)
        self.members = {group: set(cluster.nodes) for group in cluster.machines}
        for node in cluster.nodes:
            self.apply(AddDevice(device=DeviceId(100 + node), node=node, weight=10, capacity_bytes=1 << 40))
        self.place()

    def apply(self, command: Any) -> None:
        self.cluster.apply(NOBODY, CONTROL_GROUP, command, None)

    def topology(self) -> Topology:
        return next(iter(self.cluster.nodes.values())).topology()

    def place(self) -> None:
        """What the layout worker does."""
        blocks = ControlTopology(NodeId(1), next(iter(self.cluster.nodes.values())))  # type: ignore[arg-type]
        wanted = layout_devices(list(blocks.devices().values()))
        newest = self.topology().layout
        epoch = LayoutEpoch(1 if newest is None else newest.epoch + 1)
        present = None if newest is None else blocks.layout()
        if present is None or {d.device for d in present.devices} != {d.device for d in wanted}:
            layout = plan_layout(wanted, epoch=epoch, previous=present, partitions=16)
            self.apply(ApplyLayout(epoch=epoch, layout=encode_layout(layout)))

    def leaving(self, node: NodeId) -> bool:
        row = self.topology().node(node)
        return row is None or row.standing is not NodeStanding.ACTIVE

    def move_votes(self) -> None:
        for node in self.cluster.nodes:
            if self.leaving(node) and not self.stuck:
                holding = [g for g in sorted(self.members) if node in self.members[g] and self._may_go(g, node)]
                for group in holding[:1]:
                    self.members[group].discard(node)

    def _may_go(self, group: GroupId, node: NodeId) -> bool:
        return group != CONTROL_GROUP or self.topology().node(node) is None

    def move_data(self) -> None:
        self.place()
        for node in self.cluster.nodes:
            if self.leaving(node) and not self.stuck:
                self.bytes[node] = max(0, self.bytes[node] - BYTES)

    def facts_of(self, group: GroupId) -> GroupFacts:
        members = [
            Member(node=node, replica=ReplicaId(10 + node), role=self._role(group, node))
            for node in sorted(self.members[group])
        ]
        up = {row.node for row in self.topology().nodes if row.liveness is Liveness.UP}
        leader = min((m.node for m in members if m.role is MemberRole.VOTER and m.node in up), default=NOBODY)
        return GroupFacts(
            group=group, leader=leader, configuration=Configuration(members=tuple(members)),
            working=frozenset(m.node for m in members if m.node in up),
        )  # fmt: skip

    def _role(self, group: GroupId, node: NodeId) -> MemberRole:
        listens = group == CONTROL_GROUP and self.leaving(node)
        return MemberRole.LEARNER if listens else MemberRole.VOTER


class WorldSurvey(Survey):
    """Over one node's view; also its fleet."""

    def __init__(self, node: JobNode, world: World) -> None:
        meta: Any = node
        super().__init__(meta=meta, topology=ControlTopology(node.id, meta), fleet=self, clock=node.clock)
        self.world = world

    async def groups(self) -> tuple[GroupFacts, ...]:
        self.world.move_votes()
        return tuple(self.world.facts_of(group) for group in sorted(self.world.members))

    async def spaces(self) -> Mapping[DeviceId, Space]:
        room = self.world.room
        return {row.device: Space(free=room, total=1 << 40) for row in self.world.topology().devices}

    async def remaining(self, node: NodeId) -> Remaining:
        self.world.move_data()
        left = self.world.bytes[node]
        return Remaining(blocks=left // BYTES, bytes=left)

    async def facts(self, node: NodeId) -> Facts:
        left = self.world.bytes[node]
        return Facts(
            topology=self.world.topology(),
            devices=tuple(self.topology.devices().values()),
            layout=self.layout(),
            groups=tuple(self.world.facts_of(group) for group in sorted(self.world.members)),
            spaces=await self.spaces(),
            loads=(Load(profile=parse_profile(self.world.profile), data_bytes=8 * BYTES),),
            held_blocks=left // BYTES,
            held_bytes=left,
        )

    async def aside(self, work: Callable[[], T]) -> T:
        return work()

    def layout(self) -> Layout | None:
        self.world.place()
        return super().layout()


_worlds: dict[int, World] = {}


def world_of(cluster: JobCluster) -> World:
    """The cluster's one world."""
    found = _worlds.get(id(cluster))
    if found is None or found.cluster is not cluster:
        _worlds.clear()
        found = _worlds[id(cluster)] = World(cluster)
    return found


class LateWorld:
    """A survey whose world is made once the cluster is complete: kinds are made node by node before that."""

    def __init__(self, node: JobNode) -> None:
        self._node = node
        self._survey: WorldSurvey | None = None
        self.clock = node.clock

    def __getattr__(self, name: str) -> Any:
        if self._survey is None:
            self._survey = WorldSurvey(self._node, world_of(self._node.cluster))
        return getattr(self._survey, name)


def kinds(node: JobNode) -> list[JobKind]:
    survey: Any = LateWorld(node)
    return [DrainKind(survey), UndrainKind(survey), RemoveKind(survey), ReplaceKind(survey)]


def row_of(cluster: JobCluster, number: int) -> NodeRow | None:
    return world_of(cluster).topology().node(NodeId(number))
