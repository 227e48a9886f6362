"""What a plan about nodes is made from: the cluster as it was seen at one moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dwd.base.errors import NotFound
from dwd.base.ids import CONTROL_GROUP, DeviceId, GroupId, NodeId, hex_id
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.movement import Load
from dwd.blocks.topology import DeviceView
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import Liveness, NodeRow
from dwd.raft.core.types import Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFacts:
    """`working`: members whose replica answers and is sound, as leader and nodes see it. `leader`: 0 for none."""

    group: GroupId
    leader: NodeId
    configuration: Configuration
    working: frozenset[NodeId]
    pinned: bool = False

    @property
    def name(self) -> str:
        return "control" if self.group == CONTROL_GROUP else f"group {self.group}"

    @property
    def voters(self) -> frozenset[NodeId]:
        return frozenset(member.node for member in self.configuration.voters())


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Of a device, in bytes. `free` is what may still be written: the reserve is taken off."""

    free: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """`spaces` lacks devices whose nodes did not answer; `held_*`: what rows place on the devices of the node in
    question.
    """

    topology: Topology
    devices: tuple[DeviceView, ...]
    layout: Layout | None
    groups: tuple[GroupFacts, ...]
    spaces: Mapping[DeviceId, Space]
    loads: tuple[Load, ...]
    held_blocks: int
    held_bytes: int

    def name_of(self, node: NodeId) -> str:
        row = self.topology.node(node)
        return hex_id(node) if row is None else row.name

    def devices_of(self, node: NodeId) -> tuple[DeviceView, ...]:
        return tuple(view for view in self.devices if view.node == node)

    def up(self, nodes: Collection[NodeId]) -> frozenset[NodeId]:
        """Those of them that are."""
        return frozenset(row.node for row in self.topology.nodes if row.liveness is Liveness.UP).intersection(nodes)


def node_named(topology: Topology, wanted: str) -> NodeRow:
    """By name or id. Raises NotFound."""
    for row in topology.nodes:
        if wanted and wanted in {row.name, hex_id(row.node)}:
            return row
    removed = next((row for row in topology.removed if wanted in {row.name, hex_id(row.node)}), None)
    raise NotFound(
        "node.not_found",
        f"node {wanted[:63]} was removed" if removed is not None else f"no node {wanted[:63]!r}",
        hint="`dwctl node list` shows them",
    )
