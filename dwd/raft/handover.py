"""Waiting for leadership to arrive somewhere else. Whoever asked for a transfer learns who leads then, or that nobody
took over in time and this node leads on.

Source: Ongaro's thesis, 3.10. The core gives a transfer up by itself; here is only who waits for it.
"""

from __future__ import annotations

import asyncio

from dwd.base.errors import DeadlineExceeded, DwError, NotFound, SafetyRefused
from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.raft.core.node import Node
from dwd.raft.core.status import NodeStatus, ProgressState
from dwd.raft.core.types import NO_REPLICA, MemberRole, Role


class Handover:
    """Of one replica."""

    def __init__(self, group: GroupId) -> None:
        self._group = group
        self._waiting: list[tuple[float, asyncio.Future[NodeId]]] = []

    def begin(self, core: Node, to: NodeId | None, deadline: float, future: asyncio.Future[NodeId]) -> None:
        """Raises what `Node.transfer_leadership` raises, and SafetyRefused if no voter is fit."""
        status = core.status()
        if status.role is not Role.LEADER:
            target = NO_REPLICA
        else:
            target = _fittest(status) if to is None else _replica_on(status, to)
        core.transfer_leadership(target)
        self._waiting.append((deadline, future))

    def leads(self, node: NodeId) -> None:
        """Another node leads now."""
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_result(node)

    def tick(self, now: float, core: Node) -> None:
        """Tell those whose time is over, or whose transfer this replica gave up: it leads on."""
        if not self._waiting:
            return
        status = core.status()
        over = status.role is Role.LEADER and status.transferring == NO_REPLICA
        for deadline, future in self._waiting:
            if (over or deadline <= now) and not future.done():
                future.set_exception(_late(self._group))
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]
        if not self._waiting and status.role is Role.LEADER:
            core.transfer_leadership(status.replica)

    def close(self, error: DwError) -> None:
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(error)


def _replica_on(status: NodeStatus, node: NodeId) -> ReplicaId:
    member = status.configuration.on_node(node)
    if member is None:
        raise NotFound("raft.no_member", "this node has no replica of the group")
    return member.replica


def _fittest(status: NodeStatus) -> ReplicaId:
    """The voter that is furthest, of those the highest priority."""
    peers = {peer.replica: peer for peer in status.peers}
    fit = [
        (peers[member.replica].match, member.priority, member.replica)
        for member in status.configuration.voters()
        if member.role is MemberRole.VOTER
        and member.priority > 0
        and member.replica in peers
        and peers[member.replica].recent_active
        and not peers[member.replica].reluctant
        and peers[member.replica].state is not ProgressState.SNAPSHOT
    ]
    if not fit:
        raise SafetyRefused("raft.no_heir", "no other voter of the group answers that could lead")
    return max(fit)[2]


def _late(group: GroupId) -> DeadlineExceeded:
    return DeadlineExceeded(
        "raft.transfer_late", "nobody took leadership over in time", hint="try again, or to another node", group=group
    )
