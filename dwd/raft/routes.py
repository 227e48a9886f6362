"""Where the other replicas of a group live: by the configuration, and by where their messages came from."""

from __future__ import annotations

from collections.abc import Sequence

from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.raft.core.messages import Message
from dwd.raft.core.types import Configuration, Member
from dwd.raft.leadership import NO_NODE
from dwd.raft.transport import Absence, Absent, Parcel, Transport


class Routes:
    """Of one replica."""

    def __init__(self, group: GroupId, transport: Transport) -> None:
        self._group = group
        self._transport = transport
        self._nodes: dict[ReplicaId, NodeId] = {}

    def follow(self, configuration: Configuration) -> None:
        for member in configuration.members:
            self._nodes[member.replica] = member.node

    def heard(self, replica: ReplicaId, node: NodeId) -> None:
        self._nodes[replica] = node

    def node_of(self, replica: ReplicaId) -> NodeId:
        """0 when it is not known."""
        return self._nodes.get(replica, NO_NODE)

    def leads_to(self, member: Member, node: NodeId) -> bool:
        return self._nodes.get(member.replica, member.node) == node

    def send(self, messages: Sequence[Message]) -> None:
        by_node: dict[NodeId, list[Message]] = {}
        for message in messages:
            node = self._nodes.get(message.target)
            if node is not None:
                by_node.setdefault(node, []).append(message)
        for node, parcels in by_node.items():
            self._transport.send(node, self._group, parcels)

    def refuse(self, node: NodeId, parcel: Parcel) -> None:
        """Another replica is meant: one that lived here before. Answers to an answer are never given."""
        if not isinstance(parcel, Absent):
            absent = Absent(source=parcel.target, target=parcel.source, reason=Absence.UNKNOWN)
            self._transport.send(node, self._group, [absent])
