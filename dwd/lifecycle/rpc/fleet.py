"""The groups and devices of all nodes, asked over gRPC: what `dwctl raft status` and `cluster status` show."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from dwd.base.errors import DwError
from dwd.base.ids import DeviceId, GroupId, NodeId, ReplicaId, parse_hex_id
from dwd.lifecycle.core.facts import GroupFacts, Space
from dwd.meta.core.control.rows import Liveness
from dwd.meta.view import ControlView
from dwd.pb.admin.v1 import admin_pb2, admin_pb2_grpc, consensus_pb2, consensus_pb2_grpc
from dwd.raft.core.types import Configuration, Member, MemberRole
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels

GROUPS_SECONDS = 10.0
NODE_SECONDS = 3.0
ASKED_AT_ONCE = 16
SOUND = frozenset({"leader", "replicate", "probe", "snapshot"})
"""States of members whose replica answers and is not broken."""


class GrpcFleet:
    """`dwd.lifecycle.ports.Fleet`. Groups are asked of this node, over the wire as of any other."""

    def __init__(self, node: NodeId, channels: Channels, view: ControlView) -> None:
        self._node = node
        self._channels = channels
        self._view = view

    async def groups(self) -> tuple[GroupFacts, ...]:
        stub = consensus_pb2_grpc.ConsensusStub(self._channels.to(self._node))
        request = consensus_pb2.RaftStatusRequest()
        reply = await call(stub.RaftStatus, request, seconds=GROUPS_SECONDS, mutation=False)
        return tuple(_group(group) for group in reply.groups)

    async def spaces(self) -> Mapping[DeviceId, Space]:
        nodes = iter([row.node for row in self._view.topology().nodes if row.liveness is Liveness.UP])
        found: dict[DeviceId, Space] = {}

        async def ask() -> None:
            for node in nodes:
                try:
                    stub = admin_pb2_grpc.AdminStub(self._channels.to(node))
                    request = admin_pb2.NodeStatusRequest()
                    reply = await call(stub.NodeStatus, request, seconds=NODE_SECONDS, mutation=False)
                except DwError:
                    continue
                for device in reply.devices:
                    if device.total_bytes:
                        space = Space(free=device.free_bytes, total=device.total_bytes)
                        found[DeviceId(parse_hex_id(device.id))] = space

        await asyncio.gather(*(ask() for _ in range(ASKED_AT_ONCE)))
        return found


def _group(told: consensus_pb2.RaftGroup) -> GroupFacts:
    members = tuple(
        Member(
            node=NodeId(parse_hex_id(member.node)),
            replica=ReplicaId(parse_hex_id(member.replica)),
            role=MemberRole[member.role.upper()],
            priority=member.priority,
        )
        for member in told.members
    )
    return GroupFacts(
        group=GroupId(told.group),
        leader=NodeId(parse_hex_id(told.leader)) if told.leader else NodeId(0),
        configuration=Configuration(members=members),
        working=frozenset(NodeId(parse_hex_id(m.node)) for m in told.members if m.state in SOUND),
        pinned=told.membership == "pinned",
    )
